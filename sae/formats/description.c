#include "sae/formats/description.h"
#include "core/mem.h"
#include "math/blas.h"
#include "math/sparse.h"
#include "sae/variants/variants.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- what the files do not say ---- */

static err_code settle_k(const sae_description *d, const sae_given *given, sae_config *cfg, err *e) {
    const sae_variant *v = cfg->variant;
    if (d->k && given->k && d->k != given->k)
        return err_set(e, ERR_MISMATCH, "k: the files say %lld, given was %lld", (long long)d->k, (long long)given->k);
    int64_t k = d->k ? d->k : given->k;
    if (v->uses_k && !k)
        return err_set(e, ERR_FORMAT,
                       "the files do not say k, the number of latents that fire, which %s needs%s%s: give it "
                       "with --k",
                       v->name, d->k_place ? ", though " : "", d->k_place ? d->k_place : "");
    if (!v->uses_k && !d->k && given->k)
        return err_set(e, ERR_MISMATCH, "k was given, but these latents (%s) are not chosen by number", v->name);
    cfg->k = v->uses_k ? k : 0;
    return ERR_OK;
}

static err_code settle_scale(const sae_description *d, const sae_given *given, double *scale, err *e) {
    *scale = d->scale ? d->scale : given->scaling_factor;
    if (!d->needs_scale && given->scaling_factor)
        return err_set(e, ERR_MISMATCH, "a scaling factor was given, but this autoencoder takes rows as they are");
    if (d->scale && given->scaling_factor && fabs(d->scale - given->scaling_factor) > 1e-6 * fabs(d->scale))
        return err_set(e, ERR_MISMATCH, "scaling factor: the files say %g, given was %g", d->scale, given->scaling_factor);
    if (!d->needs_scale)
        *scale = 1;
    else if (!*scale)
        return err_set(e, ERR_FORMAT,
                       "rows are scaled before they are encoded, but the files do not say by which factor: give it with "
                       "--scaling-factor");
    if (!(*scale > 0) || !isfinite(*scale))
        return err_set(e, ERR_FORMAT, "scaling factor: expected a positive number, found %g", *scale);
    return ERR_OK;
}

/* ---- sizes and names ---- */

static err_code require_matrix(const weights *w, const char *name, const tensor_view **t, err *e) {
    *t = weights_find(w, name);
    if (!*t) return err_set(e, ERR_FORMAT, "tensor %s: expected a matrix, found none of this name", name);
    if ((*t)->n_dims == 2) return ERR_OK;
    return err_set(e, ERR_FORMAT, "tensor %s: expected a matrix, found %d dimensions", name, (*t)->n_dims);
}

static err_code settle_sizes(const sae_description *d, const weights *w, sae_config *cfg, err *e) {
    const tensor_view *encoder, *decoder;
    err_code rc;
    TRY(require_matrix(w, d->W_enc, &encoder, e));
    TRY(require_matrix(w, d->W_dec, &decoder, e));
    if (!cfg->d_in) cfg->d_in = encoder->shape[d->encoder_by_latent ? 1 : 0];
    if (!cfg->d_sae) cfg->d_sae = encoder->shape[d->encoder_by_latent ? 0 : 1];
    if (!cfg->d_out) cfg->d_out = cfg->transcoder ? decoder->shape[d->decoder_by_latent ? 1 : 0] : cfg->d_in;
    const int64_t by_latent[] = {cfg->d_sae, cfg->d_in, cfg->d_sae}, encoder_at = d->encoder_by_latent ? 0 : 1;
    TRY(weights_require(w, d->W_enc, 2, by_latent + encoder_at, &encoder, e));
    const int64_t shape[] = {cfg->d_sae, cfg->d_out, cfg->d_sae}, decoder_at = d->decoder_by_latent ? 0 : 1;
    TRY(weights_require(w, d->W_dec, 2, shape + decoder_at, &decoder, e));
done:
    return rc;
}

static bool is_unused(const sae_description *d, const char *name) {
    for (int i = 0; i < SAE_UNUSED_MAX; i++)
        if (d->unused[i] && !strcmp(d->unused[i], name)) return true;
    return false;
}

/* A tensor that the format does not have would be part of another function; so would a value among PyTorch's tensors. */
static err_code check_nothing_else(const sae_description *d, const weights *w, err *e) {
    const char *known[] = {d->W_enc, d->W_dec, d->b_enc, d->b_dec, d->threshold, d->b_gate, d->r_mag, d->W_skip};
    for (int64_t i = 0; i < weights_tensor_count(w); i++) {
        const char *name = weights_tensor_at(w, i)->name;
        bool found = is_unused(d, name);
        for (size_t k = 0; k < sizeof known / sizeof *known; k++) found |= known[k] && !strcmp(known[k], name);
        if (!found)
            return err_set(e, ERR_UNSUPPORTED,
                           "unknown tensor '%.60s' for %s, which may change what the autoencoder computes", name,
                           d->cfg.variant->name);
    }
    if (strncmp(weights_format(w), "PyTorch", 7) != 0) return ERR_OK;
    for (int64_t i = 0; i < weights_meta_count(w); i++)
        if (!is_unused(d, weights_meta_at(w, i)->key))
            return err_set(e, ERR_UNSUPPORTED, "unknown value '%.60s', which may change what the autoencoder computes",
                           weights_meta_at(w, i)->key);
    return ERR_OK;
}

/* ---- reading ---- */

static err_code read_values(const tensor_view *t, float *out, err *e) {
    const char *type = t->type->name;
    if (strcmp(type, "F32") != 0 && strcmp(type, "F16") != 0 && strcmp(type, "BF16") != 0 && strcmp(type, "F64") != 0)
        return err_set(e, ERR_UNSUPPORTED, "tensor %s: expected F32, F16, BF16 or F64, found %s", t->name, type);
    int64_t n = tensor_count(t);
    t->type->dequantize(t->data, n, out);
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(out[i])) return err_set(e, ERR_FORMAT, "tensor %s: value %lld is not finite", t->name, (long long)i);
    return ERR_OK;
}

static err_code read_vector(const weights *w, const char *name, int64_t n, float *out, err *e) {
    const tensor_view *t;
    if (!name) return ERR_OK;
    err_code rc = weights_require(w, name, 1, &n, &t, e);
    return rc ? rc : read_values(t, out, e);
}

void matrix_transpose(const float *from, int64_t n_rows, int64_t n_cols, float *to) {
    enum { SIDE = 32 }; /* squares that fit the cache */
    for (int64_t i = 0; i < n_rows; i += SIDE)
        for (int64_t j = 0; j < n_cols; j += SIDE)
            for (int64_t r = i; r < i + SIDE && r < n_rows; r++)
                for (int64_t q = j; q < j + SIDE && q < n_cols; q++) to[r * n_cols + q] = from[q * n_rows + r];
}

/* out [n_rows, n_cols]; the tensor is that, or the other way round. */
static err_code read_matrix(const weights *w, const char *name, int64_t n_rows, int64_t n_cols, bool other_way, float *out,
                            err *e) {
    const int64_t shape[] = {n_rows, n_cols, n_rows};
    const tensor_view *t;
    float *stored = NULL;
    err_code rc;
    TRY(weights_require(w, name, 2, shape + other_way, &t, e));
    if (!other_way) return read_values(t, out, e);
    TRY(mem_new(&stored, (size_t)n_rows, (size_t)n_cols * sizeof *stored, name, e));
    TRY(read_values(t, stored, e));
    matrix_transpose(stored, n_rows, n_cols, out);
done:
    free(stored);
    return rc;
}

static err_code read_threshold(const sae_description *d, const weights *w, sae *s, err *e) {
    int64_t n = s->cfg.d_sae;
    if (!s->threshold) return ERR_OK;
    for (int64_t i = 0; d->one_threshold && i < n; i++) s->threshold[i] = (float)d->threshold_value;
    err_code rc = d->one_threshold ? ERR_OK : read_vector(w, d->threshold, n, s->threshold, e);
    for (int64_t i = 0; !rc && d->log_threshold && i < n; i++) s->threshold[i] = expf(s->threshold[i]);
    return rc;
}

static err_code read_parameters(const sae_description *d, const weights *w, sae *s, err *e) {
    const sae_config *cfg = &s->cfg;
    int64_t n = cfg->d_sae;
    err_code rc;
    TRY(read_matrix(w, d->W_enc, n, cfg->d_in, !d->encoder_by_latent, s->W_enc, e));
    TRY(read_matrix(w, d->W_dec, n, cfg->d_out, !d->decoder_by_latent, s->W_dec, e));
    if (s->W_skip) TRY(read_matrix(w, d->W_skip, cfg->d_out, cfg->d_in, d->skip_by_input, s->W_skip, e));
    TRY(read_vector(w, d->b_enc, n, s->b_enc, e));
    TRY(read_vector(w, d->b_dec, cfg->d_out, s->b_dec, e));
    if (s->b_gate) TRY(read_vector(w, d->b_gate, n, s->b_gate, e));
    if (s->r_mag) TRY(read_vector(w, d->r_mag, n, s->r_mag, e));
    TRY(read_threshold(d, w, s, e));
done:
    return rc;
}

err_code weights_scalar(const weights *w, const char *name, double *out, err *e) {
    const tensor_view *t = weights_find(w, name);
    if (!t) return err_set(e, ERR_FORMAT, "tensor %s: expected one value, found none of this name", name);
    if (tensor_count(t) != 1)
        return err_set(e, ERR_FORMAT, "tensor %s: expected one value, found %lld", name, (long long)tensor_count(t));
    if (t->type->block_size != 1) return err_set(e, ERR_UNSUPPORTED, "tensor %s: expected plain numbers", name);
    float value;
    t->type->dequantize(t->data, 1, &value);
    *out = value;
    if (!isfinite(value)) return err_set(e, ERR_FORMAT, "tensor %s: expected a finite value", name);
    return ERR_OK;
}

err_code weights_whole(const weights *w, const char *name, int64_t *out, err *e) {
    enum { EXACT_MAX = 1 << 24 }; /* up to here a float32 holds every whole number */
    double value = 0;
    err_code rc = weights_scalar(w, name, &value, e);
    if (rc) return rc;
    if (value < 1 || value > EXACT_MAX || value != floor(value))
        return err_set(e, ERR_FORMAT, "tensor %s: expected a whole number from 1 to %d, found %g", name, EXACT_MAX, value);
    *out = (int64_t)value;
    return ERR_OK;
}

/* ---- folding ---- */

static float decoder_norm(const sae *s, int64_t i) {
    const sparse_kernels *k = sparse_kernels_for(CPU_PORTABLE); /* the same bits on every machine */
    const float *w = s->W_dec + i * s->cfg.d_out;
    return sqrtf(k->dot(w, w, s->cfg.d_out));
}

/* pre ||W_dec_i|| > threshold_i; a latent without a decoder never exceeds a positive one. */
static void fold_norm_into_threshold(sae *s) {
    for (int64_t i = 0; i < s->cfg.d_sae; i++) s->threshold[i] /= decoder_norm(s, i);
}

static void multiply(float *values, int64_t n, double factor) {
    for (int64_t i = 0; factor != 1 && i < n; i++) values[i] = (float)(values[i] * factor);
}

static void fold_factors(const sae_description *d, double scale, sae *s) {
    const sae_config *cfg = &s->cfg;
    multiply(s->W_enc, cfg->d_sae * cfg->d_in, (d->W_enc_times ? d->W_enc_times : 1) * scale);
    multiply(s->W_dec, cfg->d_sae * cfg->d_out, (d->W_dec_times ? d->W_dec_times : 1) / scale);
    multiply(s->b_enc, cfg->d_sae, d->b_enc_times ? d->b_enc_times : 1);
    multiply(s->b_dec, cfg->d_out, (d->b_dec_times ? d->b_dec_times : 1) / scale);
}

static void fold_decoder_norms(sae *s) {
    int64_t d = s->cfg.d_in, d_out = s->cfg.d_out;
    for (int64_t i = 0; i < s->cfg.d_sae; i++) {
        float norm = decoder_norm(s, i);
        for (int64_t j = 0; j < d; j++) s->W_enc[i * d + j] *= norm;
        for (int64_t j = 0; norm > 0 && j < d_out; j++) s->W_dec[i * d_out + j] /= norm;
        s->b_enc[i] *= norm;
    }
}

/* rows [n, d] <- rows m^T */
static err_code multiply_rows(float *rows, int64_t n, int64_t d, const float *m, err *e) {
    const ctx here = CTX_DEFAULTS;
    float *product;
    err_code rc = mem_new(&product, (size_t)n, (size_t)d * sizeof *product, "whitening", e);
    if (rc) return rc;
    blas_gemm_nt_serial(&here, n, d, d, rows, d, m, d, 0, product, d);
    memcpy(rows, product, (size_t)n * (size_t)d * sizeof *rows);
    free(product);
    return ERR_OK;
}

/* With b_dec subtracted, (x - m) M w - b_dec w = (x - (b_dec M^-1 + m)) M w; else b_enc takes - m M w. */
static err_code fold_whitening(const weights *w, sae *s, err *e) {
    int64_t d = s->cfg.d_in, n = s->cfg.d_sae;
    float *mean = NULL, *matrix = NULL, *inverse = NULL;
    err_code rc;
    TRY(mem_new(&mean, (size_t)d, sizeof *mean, "whitening", e));
    TRY(read_vector(w, "mean", d, mean, e));
    const int64_t square[] = {d, d};
    const tensor_view *t;
    TRY(weights_require(w, "matrix", 2, square, &t, e));
    TRY(mem_new(&matrix, (size_t)d, (size_t)d * sizeof *matrix, "whitening", e));
    TRY(mem_new(&inverse, (size_t)d, (size_t)d * sizeof *inverse, "whitening", e));
    TRY(read_values(t, matrix, e));
    TRY(read_matrix(w, "inverse_matrix", d, d, true, inverse, e)); /* its transpose */
    TRY(multiply_rows(s->W_enc, n, d, matrix, e));
    TRY(multiply_rows(s->W_dec, n, d, inverse, e));
    TRY(multiply_rows(s->b_dec, 1, d, inverse, e));
    for (int64_t j = 0; j < d; j++) s->b_dec[j] += mean[j];
    for (int64_t i = 0; !s->cfg.apply_b_dec_to_input && i < n; i++)
        for (int64_t j = 0; j < d; j++) s->b_enc[i] -= mean[j] * s->W_enc[i * d + j];
done:
    free(mean);
    free(matrix);
    free(inverse);
    return rc;
}

/* Finite parameters times finite factors need not be finite. */
static err_code check_finite(const sae *s, err *e) {
    const sae_config *cfg = &s->cfg;
    const struct {
        const char *name;
        const float *values;
        int64_t n;
    } arrays[] = {{"W_enc", s->W_enc, cfg->d_sae * cfg->d_in},
                  {"W_dec", s->W_dec, cfg->d_sae * cfg->d_out},
                  {"b_enc", s->b_enc, cfg->d_sae},
                  {"b_dec", s->b_dec, cfg->d_out}};
    for (size_t a = 0; a < sizeof arrays / sizeof *arrays; a++)
        for (int64_t i = 0; i < arrays[a].n; i++)
            if (!isfinite(arrays[a].values[i]))
                return err_set(e, ERR_FORMAT, "%s: value %lld, scaled as the files ask, is not finite", arrays[a].name,
                               (long long)i);
    return ERR_OK;
}

static err_code fold(const sae_description *d, double scale, sae *s, err *e) {
    if (d->threshold_over_norm) fold_norm_into_threshold(s);
    fold_factors(d, scale, s);
    if (d->rescale) fold_decoder_norms(s);
    err_code rc = d->whitening ? fold_whitening(d->whitening, s, e) : ERR_OK;
    if (rc) return err_prefix(e, rc, "%s", weights_path(d->whitening));
    return check_finite(s, e);
}

err_code sae_build(const sae_description *d, const weights *w, const sae_given *given, sae **out, err *e) {
    sae_config cfg = d->cfg;
    sae *s = NULL;
    double scale = 1;
    err_code rc;
    *out = NULL;
    TRY(settle_k(d, given, &cfg, e));
    TRY(settle_scale(d, given, &scale, e));
    TRY(settle_sizes(d, w, &cfg, e));
    TRY(check_nothing_else(d, w, e));
    TRY(sae_new(&cfg, &s, e));
    TRY(read_parameters(d, w, s, e));
    TRY(fold(d, scale, s, e));
    s->note = d->note;
    *out = s;
    s = NULL;
done:
    sae_free(s);
    return rc;
}
