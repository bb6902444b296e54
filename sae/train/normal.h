/* normal.h — rows as the trainer sees them, x' = (x - centre) scale, and the autoencoder of x' turned into one of x.
 *
 *   centre   the geometric median of the first rows of the stream, argmin_c sum ||x - c|| (Weiszfeld 1937)
 *   scale    so that the median of ||x'||^2 is d_in: a row has entries of about 1
 *
 * Medians, because a few rows of a model may be a hundred times as long as all others (attention sinks): one of them among
 * thousands would decide a mean.
 * With f = f' / scale, b_enc = b_enc' / scale, threshold likewise, and b_dec = centre + b_dec' / scale the reconstruction is
 * the same, the decoder keeps its rows of length 1, and f is in units of the rows themselves.
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

/* From n rows. ERR_FORMAT when most rows are the same: there is nothing to learn. */
err_code normal_measure(row_normal *w, const float *x /* [n, d] */, int64_t n, err *e);

void normal_apply(const ctx *c, const row_normal *w, float *x /* [n, d] */, int64_t n);

/* Fills b_enc, b_dec and threshold of `out` from those of the autoencoder of x'. Matrices are the same. */
void normal_fold(const row_normal *w, const sae *trained, sae *out);

#endif
