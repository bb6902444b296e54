/* normal.h — rows as the trainer sees them, x' = (x - centre) scale, so that E x' is about 0 and E ||x'||^2 = d_in; and the
 * autoencoder of x' turned into one of x.
 *
 * Taken from the first rows of the stream. With f = f' / scale, b_enc = b_enc' / scale, threshold likewise, and
 * b_dec = centre + b_dec' / scale the reconstruction is the same, the decoder keeps its rows of length 1, and f is in units of
 * the rows themselves.
 */
#ifndef SAE_TRAIN_NORMAL_H
#define SAE_TRAIN_NORMAL_H

#include "sae/sae.h"

typedef struct row_normal {
    int64_t d;
    float *centre; /* [d] */
    float scale;
} row_normal; /* zero-initialise */

err_code normal_init(row_normal *w, int64_t d, err *e);
void normal_release(row_normal *w);

/* From n rows [n, d]. ERR_FORMAT when all rows are the same: there is nothing to learn. */
err_code normal_measure(row_normal *w, const float *x, int64_t n, err *e);

void normal_apply(const ctx *c, const row_normal *w, float *x /* [n, d] */, int64_t n);

/* Fills b_enc, b_dec and threshold of `out` from those of the autoencoder of x'. Matrices are the same. */
void normal_fold(const row_normal *w, const sae *trained, sae *out);

#endif
