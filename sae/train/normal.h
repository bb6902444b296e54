/* normal.h — rows as the trainer sees them, x' = (x - centre) scale, and the autoencoder of x' turned into one of x.
 *
 *   centre   the geometric median of the first rows of the stream, argmin_c sum ||x - c|| (Weiszfeld 1937)
 *   scale    so that the median of ||x'||^2 is d_in: a row has entries of about 1
 *
 * Medians, because a few rows of a model may be a hundred times as long as all others (attention sinks): one of them among
 * thousands would decide a mean.
 * Folding back, with c and s of the rows that are read, c_out and s_out of those that are reconstructed (the same two for an
 * autoencoder): f = f' / s_out in units of the rows, the decoder keeps its rows, and
 *
 *   W_enc = W_enc' s / s_out                                    b_dec = c_out + (b_dec' - s W_skip' c) / s_out
 *   b_enc = b_enc' / s_out, less W_enc c where b_dec, which holds c, is not subtracted from the rows
 *   W_skip = W_skip' s / s_out; thresholds and the gates' biases as b_enc
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

/* The autoencoder of the rows themselves. w: of the rows it reads, out: of those it reconstructs. Free with sae_free. */
err_code normal_fold(const row_normal *w, const row_normal *out, const sae *trained, sae **folded, err *e);

#endif
