/* description.h — what a format's reader says of its files, and the one place that builds an autoencoder from that.
 *
 * A reader names the tensors and how they lie, and says what has to change in them; it computes nothing. sae_build then
 *   1. settles k and the scaling factor from the files and from what was given,
 *   2. compares sizes with the tensors before anything of that size is allocated, refuses tensors nobody named,
 *   3. reads them as float32, refusing integers and values that are not finite,
 *   4. folds, in this order:
 *        threshold_over_norm   threshold_i / ||W_dec_i||
 *        *_times               each array times its factor
 *        the scaling factor s  W_enc s, W_dec / s, b_dec / s:             rows are used as s x
 *        rescale               W_enc_i, b_enc_i times ||W_dec_i||, W_dec_i / ||W_dec_i||: f is in units of the decoder's length
 *        whitening             W_enc_i M^T, W_dec_i M^-1, b_dec M^-1 + m: rows are used as (x - m) M
 */
#ifndef SAE_FORMATS_DESCRIPTION_H
#define SAE_FORMATS_DESCRIPTION_H

#include "formats/weights.h"
#include "sae/sae.h"

enum { SAE_UNUSED_MAX = 8 };

typedef struct sae_description {
    sae_config cfg; /* d_in, d_sae 0: as W_enc says; d_out 0: d_in, a transcoder's as W_dec says; k is settled later */

    int64_t k;           /* what the files say, also where the variant has no use for it; 0: nothing */
    double scale;        /* the same for the scaling factor */
    bool needs_scale;    /* rows are scaled by a factor before use */
    const char *k_place; /* "its repository's name does": for the message when k is missing; may be NULL */

    /* Names of tensors; NULL: there is none, and the parameter is 0. */
    const char *W_enc, *W_dec, *b_enc, *b_dec, *threshold, *b_gate, *r_mag, *W_skip;
    bool encoder_by_latent; /* W_enc is [d_sae, d_in], else [d_in, d_sae] */
    bool decoder_by_latent; /* W_dec is [d_sae, d_out], else [d_out, d_sae] */
    bool skip_by_input;     /* W_skip is [d_in, d_out], else [d_out, d_in] */
    bool log_threshold;     /* the tensor holds logarithms */
    bool one_threshold;     /* threshold_value is every latent's */
    double threshold_value;
    const char *unused[SAE_UNUSED_MAX]; /* tensors and values that may be there: read by the reader, or changing nothing */

    bool threshold_over_norm, rescale;
    double W_enc_times, W_dec_times, b_enc_times, b_dec_times; /* 0: 1 */
    const weights *whitening;                                  /* "mean" [d], "matrix", "inverse_matrix" [d, d], or NULL */

    const char *note; /* sae.note */
} sae_description;

err_code sae_build(const sae_description *d, const weights *w, const sae_given *given, sae **out, err *e);

/* The only value of a tensor, and the whole number it must be. */
err_code weights_scalar(const weights *w, const char *name, double *out, err *e);
err_code weights_whole(const weights *w, const char *name, int64_t *out, err *e);

/* to [n_rows, n_cols] from [n_cols, n_rows] */
void matrix_transpose(const float *from, int64_t n_rows, int64_t n_cols, float *to);

#endif
