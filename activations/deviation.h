/* deviation.h — how far the rows of a model of another precision (model/model.h) are from those of float32.
 *
 * Of each row r at a hook, |r - r32| / |r32| in Euclidean lengths: the mean and the largest over the batch's positions
 * skip_first and later. Opens the model's file again as float32, runs the batch through both, and closes it.
 */
#ifndef ACTIVATIONS_DEVIATION_H
#define ACTIVATIONS_DEVIATION_H

#include "model/model.h"

typedef struct deviation {
    double mean, max;
} deviation;

err_code deviation_measure(const ctx *c, model *m, const model_batch *b, const hook_point *hooks, int n_hooks,
                           int64_t skip_first, deviation *out /* [n_hooks] */, err *e);

#endif
