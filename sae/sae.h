/* sae.h — a sparse autoencoder or transcoder: parameters, encode, decode, and the files it lives in.
 *
 * Row vectors:  z = norm(x) or x;   pre = (z - a b_dec) W_enc^T + b_enc with a = apply_b_dec_to_input;   f = activation(pre);
 * x_hat = norm^-1(f W_dec + b_dec) + x W_skip^T. A transcoder does not take its output back through the norm.
 * In memory one row of a matrix is one latent: W_enc [d_sae, d_in], W_dec [d_sae, d_out]. float32 storage and dot products.
 * On disk: any of the formats in sae/formats/, which fold into the weights what can be folded exactly. sae_save writes
 * SAELens' folder (W_enc [d_in, d_sae]), so SAE.load_from_disk reads it; what is ours sits under cfg.json's "metadata".
 * Threads: const sae may be shared. Errors: ERR_FORMAT, ERR_UNSUPPORTED (unknown keys or architecture), ERR_MISMATCH, ERR_NOMEM.
 */
#ifndef SAE_SAE_H
#define SAE_SAE_H

#include "core/ctx.h"
#include "core/file.h"
#include "sae/normalize.h"
#include "sae/sparse.h"

typedef struct sae_variant sae_variant; /* sae/variants/variants.h: one row per way to choose the latents that fire */

typedef struct sae_config {
    const sae_variant *variant;
    int64_t d_in, d_sae;
    int64_t d_out; /* 0: d_in */
    int64_t k;     /* 0 where the variant has none */
    bool apply_b_dec_to_input;
    bool transcoder;      /* x_hat stands for other rows than x: those of hook_out */
    bool skip;            /* has W_skip; transcoders only */
    const sae_norm *norm; /* NULL: rows are used as they are */
    char hook_name[64];
    char hook_out[64]; /* transcoders only; "" when unknown */
    char model_name[128];
    char model_sha256[SHA256_HEX];       /* "" when the file does not say */
    int64_t context, seed, trained_rows; /* 0 when unknown */
    int64_t skip_first;                  /* positions at the head of a document it was not trained on */
    double max_norm;                     /* rows longer than this it was not trained on; 0: none were left out */
} sae_config;

typedef struct sae {
    sae_config cfg;
    float *W_enc;            /* [d_sae, d_in] */
    float *W_dec;            /* [d_sae, d_out] */
    float *b_enc;            /* [d_sae]; gated: of the magnitudes, b_mag */
    float *b_dec;            /* [d_out] */
    float *threshold;        /* [d_sae], jumprelu only, else NULL */
    float *b_gate, *r_mag;   /* [d_sae], gated only, else NULL */
    float *W_skip;           /* [d_out, d_in], cfg.skip only, else NULL */
    char sha256[SHA256_HEX]; /* of the weights file; "" before it is saved or loaded */
    const char *note;        /* what a reader should know about these weights, a sentence; NULL: nothing */
} sae;

err_code sae_new(const sae_config *cfg, sae **out, err *e); /* zero parameters; free with sae_free */
void sae_free(sae *s);                                      /* accepts NULL */

/* What some files leave to the reader's knowledge. 0: not given. */
typedef struct sae_given {
    int64_t k;
    double scaling_factor;
} sae_given;

/* path: a folder or a file of any format in sae/formats/formats.h. ERR_MISMATCH when what is given contradicts the files. */
err_code sae_load(const char *path, sae **out, err *e);
err_code sae_load_given(const char *path, const sae_given *given, sae **out, err *e);

err_code sae_save(sae *s, const char *folder, err *e);          /* SAELens; fills sha256 */
err_code sae_save_sparsify(sae *s, const char *folder, err *e); /* topk and groupmax; fills sha256 */

err_code sae_encode(const ctx *c, const sae *s, const float *x /* [n, d_in] */, int64_t n, sparse_acts *out, err *e);

/* x_hat of the rows x whose latents are f. */
err_code sae_reconstruct(const ctx *c, const sae *s, const sparse_acts *f, const float *x /* [n, d_in] */,
                         float *x_hat /* [n, d_out], no overlap */, err *e);

/* x_hat from the latents alone. ERR_UNSUPPORTED where it depends on x too: with a norm or a skip connection. */
err_code sae_decode(const ctx *c, const sae *s, const sparse_acts *f, float *x_hat /* [n, d_out] */, err *e);

/* How far f_i = 1 moves the row x: this times W_dec_i. 1 without a norm. */
float sae_row_scale(const sae *s, const float *x /* [d_in] */);

/* Whether the row is longer than any it was trained on is meant to be (max_norm): hooks leave such rows, sinks, as they are. */
bool sae_row_is_long(const sae *s, const float *x /* [d_in] */);

/* ERR_MISMATCH unless the SAE was made for these rows: d_in must agree, hook and model where both are known. */
err_code sae_check_fits(const sae *s, const char *hook_name, const char *model_sha256, int64_t d_model, err *e);

/* ERR_UNSUPPORTED for a transcoder: its x_hat cannot stand for x. */
err_code sae_check_autoencoder(const sae *s, err *e);

#endif
