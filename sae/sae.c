#include "sae/sae.h"
#include "core/mem.h"
#include "sae/variants/variants.h"

#include <stdlib.h>
#include <string.h>

static err_code check_config(const sae_config *cfg, err *e) {
    if (cfg->d_in < 1 || cfg->d_sae < 1 || cfg->d_sae > UINT32_MAX)
        return err_set(e, ERR_FORMAT, "expected d_in and d_sae of at least 1, found %lld and %lld", (long long)cfg->d_in,
                       (long long)cfg->d_sae);
    if (cfg->variant->uses_k && (cfg->k < 1 || cfg->k > cfg->d_sae))
        return err_set(e, ERR_FORMAT, "k: expected 1 to d_sae = %lld, found %lld", (long long)cfg->d_sae, (long long)cfg->k);
    return ERR_OK;
}

err_code sae_new(const sae_config *cfg, sae **out, err *e) {
    err_code rc;
    sae *s = NULL;
    size_t n = (size_t)cfg->d_sae, d = (size_t)cfg->d_in, matrix;
    *out = NULL;
    TRY(check_config(cfg, e));
    if (!mem_mul(n, d, &matrix)) {
        rc = err_nomem(e, "autoencoder", n);
        goto done;
    }
    TRY(mem_new0(&s, 1, sizeof *s, "autoencoder", e));
    s->cfg = *cfg;
    TRY(mem_new0(&s->W_enc, matrix, sizeof *s->W_enc, "W_enc", e));
    TRY(mem_new0(&s->W_dec, matrix, sizeof *s->W_dec, "W_dec", e));
    TRY(mem_new0(&s->b_enc, n, sizeof *s->b_enc, "b_enc", e));
    TRY(mem_new0(&s->b_dec, d, sizeof *s->b_dec, "b_dec", e));
    if (cfg->variant->uses_threshold) TRY(mem_new0(&s->threshold, n, sizeof *s->threshold, "threshold", e));
    *out = s;
    s = NULL;
done:
    sae_free(s);
    return rc;
}

void sae_free(sae *s) {
    if (!s) return;
    free(s->W_enc);
    free(s->W_dec);
    free(s->b_enc);
    free(s->b_dec);
    free(s->threshold);
    free(s);
}

err_code sae_check_fits(const sae *s, const char *hook_name, const char *model_sha256, int64_t d_model, err *e) {
    const sae_config *cfg = &s->cfg;
    if (cfg->d_in != d_model)
        return err_set(e, ERR_MISMATCH, "the autoencoder reads rows of %lld values, these rows have %lld",
                       (long long)cfg->d_in, (long long)d_model);
    if (cfg->hook_name[0] && hook_name && hook_name[0] && strcmp(cfg->hook_name, hook_name) != 0)
        return err_set(e, ERR_MISMATCH, "the autoencoder was trained at %s, these rows are of %s", cfg->hook_name, hook_name);
    if (cfg->model_sha256[0] && model_sha256 && model_sha256[0] && strcmp(cfg->model_sha256, model_sha256) != 0)
        return err_set(e, ERR_MISMATCH, "the autoencoder was trained on model %s with sha256 %.12s.., this one is %.12s..",
                       cfg->model_name, cfg->model_sha256, model_sha256);
    return ERR_OK;
}
