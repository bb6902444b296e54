/* sae.h — a sparse autoencoder: parameters, encode, decode, and the folder it lives in.
 *
 * Row vectors: pre = (x - a b_dec) W_enc^T + b_enc with a = apply_b_dec_to_input, f = activation(pre), x_hat = f W_dec + b_dec.
 * In memory both matrices are [d_sae, d_in]: one row is one latent. float32 storage and dot products.
 * On disk: cfg.json + sae_weights.safetensors with SAELens' keys and shapes (W_enc [d_in, d_sae]), so SAE.load_from_disk reads
 * them; what is ours sits under cfg.json's "metadata". Constants (mean, scale) are folded into the weights before saving.
 * Threads: const sae may be shared. Errors: ERR_FORMAT, ERR_UNSUPPORTED (unknown keys or architecture), ERR_MISMATCH, ERR_NOMEM.
 */
#ifndef SAE_SAE_H
#define SAE_SAE_H

#include "core/ctx.h"
#include "core/file.h"
#include "sae/sparse.h"

typedef struct sae_variant sae_variant; /* sae/variants/variants.h: one row per architecture */

typedef struct sae_config {
    const sae_variant *variant;
    int64_t d_in, d_sae;
    int64_t k; /* topk only */
    bool apply_b_dec_to_input;
    char hook_name[64];
    char model_name[128];
    char model_sha256[SHA256_HEX];       /* "" when the file does not say */
    int64_t context, seed, trained_rows; /* 0 when unknown */
    int64_t skip_first;                  /* positions at the head of a document it was not trained on */
} sae_config;

typedef struct sae {
    sae_config cfg;
    float *W_enc;            /* [d_sae, d_in] */
    float *W_dec;            /* [d_sae, d_in] */
    float *b_enc;            /* [d_sae] */
    float *b_dec;            /* [d_in] */
    float *threshold;        /* [d_sae], jumprelu only, else NULL */
    char sha256[SHA256_HEX]; /* of the weights file; "" before it is saved or loaded */
} sae;

err_code sae_new(const sae_config *cfg, sae **out, err *e); /* zero parameters; free with sae_free */
void sae_free(sae *s);                                      /* accepts NULL */

err_code sae_load(const char *folder, sae **out, err *e);
err_code sae_save(sae *s, const char *folder, err *e); /* fills sha256 */

err_code sae_encode(const ctx *c, const sae *s, const float *x /* [n, d_in] */, int64_t n, sparse_acts *out, err *e);
err_code sae_decode(const ctx *c, const sae *s, const sparse_acts *f, float *x_hat /* [n, d_in] */, err *e);

/* ERR_MISMATCH unless the SAE was made for these rows: d_in must agree, hook and model where both are known. */
err_code sae_check_fits(const sae *s, const char *hook_name, const char *model_sha256, int64_t d_model, err *e);

#endif
