#include "sae/sae.h"
#include "core/mem.h"
#include "sae/variants/variants.h"

#include <stdlib.h>
#include <string.h>

static err_code check_config(const sae_config *cfg, err *e) {
    if (cfg->d_in < 1 || cfg->d_out < 1 || cfg->d_sae < 1 || cfg->d_sae > UINT32_MAX)
        return err_set(e, ERR_FORMAT, "expected d_in, d_sae and d_out of at least 1, found %lld, %lld and %lld",
                       (long long)cfg->d_in, (long long)cfg->d_sae, (long long)cfg->d_out);
    if (cfg->d_out != cfg->d_in && !cfg->transcoder)
        return err_set(e, ERR_FORMAT, "an autoencoder's d_out is its d_in, %lld, found %lld", (long long)cfg->d_in,
                       (long long)cfg->d_out);
    if (cfg->variant->uses_k && (cfg->k < 1 || cfg->k > cfg->d_sae))
        return err_set(e, ERR_FORMAT, "k: expected 1 to d_sae = %lld, found %lld", (long long)cfg->d_sae, (long long)cfg->k);
    return cfg->variant->check ? cfg->variant->check(cfg, e) : ERR_OK;
}

static err_code new_parameters(sae *s, err *e) {
    const sae_config *cfg = &s->cfg;
    size_t n = (size_t)cfg->d_sae, d = (size_t)cfg->d_in, d_out = (size_t)cfg->d_out, encoder, decoder, skip;
    err_code rc;
    if (!mem_mul(n, d, &encoder) || !mem_mul(n, d_out, &decoder) || !mem_mul(d_out, d, &skip))
        return err_nomem(e, "autoencoder", n);
    TRY(mem_new0(&s->W_enc, encoder, sizeof *s->W_enc, "W_enc", e));
    TRY(mem_new0(&s->W_dec, decoder, sizeof *s->W_dec, "W_dec", e));
    TRY(mem_new0(&s->b_enc, n, sizeof *s->b_enc, "b_enc", e));
    TRY(mem_new0(&s->b_dec, d_out, sizeof *s->b_dec, "b_dec", e));
    if (cfg->variant->uses_threshold) TRY(mem_new0(&s->threshold, n, sizeof *s->threshold, "threshold", e));
    if (cfg->variant->uses_gate) TRY(mem_new0(&s->b_gate, n, sizeof *s->b_gate, "b_gate", e));
    if (cfg->variant->uses_gate) TRY(mem_new0(&s->r_mag, n, sizeof *s->r_mag, "r_mag", e));
    if (cfg->skip) TRY(mem_new0(&s->W_skip, skip, sizeof *s->W_skip, "W_skip", e));
done:
    return rc;
}

err_code sae_new(const sae_config *cfg, sae **out, err *e) {
    err_code rc;
    sae *s = NULL;
    *out = NULL;
    TRY(mem_new0(&s, 1, sizeof *s, "autoencoder", e));
    s->cfg = *cfg;
    if (!s->cfg.d_out) s->cfg.d_out = cfg->d_in;
    TRY(check_config(&s->cfg, e));
    TRY(new_parameters(s, e));
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
    free(s->b_gate);
    free(s->r_mag);
    free(s->W_skip);
    free(s);
}

bool sae_row_is_long(const sae *s, const float *x) {
    double square = 0, most = s->cfg.max_norm * s->cfg.max_norm;
    if (!(most > 0)) return false;
    for (int64_t j = 0; j < s->cfg.d_in; j++) square += (double)x[j] * x[j];
    return square > most;
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

err_code sae_check_autoencoder(const sae *s, err *e) {
    if (!s->cfg.transcoder) return ERR_OK;
    return err_set(
        e, ERR_UNSUPPORTED,
        "a transcoder%s%s%s%s: what it computes stands for other rows than it reads, so it cannot replace or move them",
        s->cfg.hook_name[0] ? " from " : "", s->cfg.hook_name, s->cfg.hook_out[0] ? " to " : "", s->cfg.hook_out);
}
