/* adam.h — Adam (Kingma and Ba 2015, algorithm 1): eps outside the root, no weight decay. The update itself is a kernel
 * (math/sparse.h), called on one latent's rows at a time.
 */
#ifndef SAE_TRAIN_ADAM_H
#define SAE_TRAIN_ADAM_H

#include "math/sparse.h"

typedef struct adam_rules {
    double beta1, beta2, eps;
} adam_rules;

/* Step t, counted from 1, with its bias corrections. */
adam_step adam_step_at(const adam_rules *a, double lr, int64_t t);

#endif
