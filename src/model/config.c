/* config.c — metadata of a GGUF file to a model_spec. Nothing that a file says is used before it was checked here. */
#include "core/strbuf.h"
#include "math/attention.h"
#include "model/arch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const tensor_names gguf_names = {
    .embedding = "token_embd",
    .final_norm = "output_norm",
    .head = "output",
    .rope_factors = "rope_freqs",
    .attn_norm = "blk.%d.attn_norm",
    .q = "blk.%d.attn_q",
    .k = "blk.%d.attn_k",
    .v = "blk.%d.attn_v",
    .attn_out = "blk.%d.attn_output",
    .mlp_norm = "blk.%d.ffn_norm",
    .gate = "blk.%d.ffn_gate",
    .up = "blk.%d.ffn_up",
    .down = "blk.%d.ffn_down",
};

/* Far above any model there is, and small enough that products of two stay small. */
enum { LAYERS_MAX = 4096, WIDTH_MAX = 1 << 20, VOCAB_MAX = 1 << 24, CONTEXT_MAX = INT32_MAX };

/* Where a value is looked up: "<architecture>.<key>". */
typedef struct config_source {
    const weights *w;
    const char *architecture;
} config_source;

enum { KEY_MAX = 128 };
typedef struct config_key {
    char name[KEY_MAX];
} config_key;

static config_key key_of(const config_source *c, const char *key) {
    config_key k;
    snprintf(k.name, sizeof k.name, "%s.%s", c->architecture, key);
    return k;
}

static err_code read_size(const config_source *c, const char *key, int64_t most, int64_t *out, err *e) {
    config_key k = key_of(c, key);
    err_code rc = weights_meta_int(c->w, k.name, out, e);
    if (rc != ERR_OK || (*out >= 1 && *out <= most)) return rc;
    return err_set(e, ERR_FORMAT, "%s: expected 1 to %lld, got %lld", k.name, (long long)most, (long long)*out);
}

static err_code read_size_or(const config_source *c, const char *key, int64_t fallback, int64_t most, int64_t *out, err *e) {
    *out = fallback;
    return weights_meta(c->w, key_of(c, key).name) ? read_size(c, key, most, out, e) : ERR_OK;
}

static err_code read_real_or(const config_source *c, const char *key, double fallback, double least, double *out, err *e) {
    config_key k = key_of(c, key);
    err_code rc = weights_meta_float_or(c->w, k.name, fallback, out, e);
    if (rc != ERR_OK || (isfinite(*out) && *out >= least)) return rc;
    return err_set(e, ERR_FORMAT, "%s: expected %g or more, got %g", k.name, least, *out);
}

static err_code read_heads(const config_source *c, model_spec *s, err *e) {
    model_config *m = &s->cfg;
    int64_t d_value = 0;
    err_code rc = ERR_OK;
    TRY(read_size(c, "attention.head_count", WIDTH_MAX, &m->n_heads, e));
    TRY(read_size_or(c, "attention.head_count_kv", m->n_heads, WIDTH_MAX, &m->n_kv_heads, e));
    if (m->n_heads % m->n_kv_heads)
        return err_set(e, ERR_FORMAT, "%lld query heads cannot share %lld key and value heads evenly", (long long)m->n_heads,
                       (long long)m->n_kv_heads);
    if (!weights_meta(c->w, key_of(c, "attention.key_length").name) && m->d_model % m->n_heads)
        return err_set(e, ERR_FORMAT,
                       "d_model %lld is no multiple of the %lld heads, and %s.attention.key_length is not given",
                       (long long)m->d_model, (long long)m->n_heads, c->architecture);
    TRY(read_size_or(c, "attention.key_length", m->d_model / m->n_heads, WIDTH_MAX, &m->d_head, e));
    TRY(read_size_or(c, "attention.value_length", m->d_head, WIDTH_MAX, &d_value, e));
    if (d_value != m->d_head || m->d_head > ATTENTION_HEAD_MAX)
        return err_set(e, ERR_UNSUPPORTED, "heads of %lld dimensions with values of %lld: expected the same, at most %d",
                       (long long)m->d_head, (long long)d_value, ATTENTION_HEAD_MAX);
done:
    return rc;
}

static err_code read_rope(const config_source *c, model_spec *s, err *e) {
    char *scaling = NULL;
    err_code rc = ERR_OK;
    TRY(read_real_or(c, "rope.freq_base", 10000, 1, &s->cfg.rope_base, e));
    TRY(read_size_or(c, "rope.dimension_count", s->cfg.d_head, s->cfg.d_head, &s->n_rotated, e));
    if (s->n_rotated % 2)
        TRY(err_set(e, ERR_FORMAT, "%s: expected an even number, got %lld", key_of(c, "rope.dimension_count").name,
                    (long long)s->n_rotated));
    s->rope_stretch = 1;
    TRY(weights_meta_string_or(c->w, key_of(c, "rope.scaling.type").name, "none", &scaling, e));
    if (!strcmp(scaling, "linear"))
        TRY(read_real_or(c, "rope.scaling.factor", 1, 1e-6, &s->rope_stretch, e));
    else if (strcmp(scaling, "none"))
        TRY(err_set(e, ERR_UNSUPPORTED, "rope scaling '%.40s': only none, linear and a rope_freqs tensor are known",
                    scaling));
done:
    free(scaling);
    return rc;
}

err_code config_from_gguf(const weights *w, const char *architecture, model_spec *s, err *e) {
    const config_source source = {.w = w, .architecture = architecture}, *c = &source;
    model_config *m = &s->cfg;
    const tensor_view *embedding = weights_find(w, "token_embd.weight");
    err_code rc = ERR_OK;
    m->architecture = architecture;
    TRY(read_size(c, "block_count", LAYERS_MAX, &m->n_layers, e));
    TRY(read_size(c, "embedding_length", WIDTH_MAX, &m->d_model, e));
    TRY(read_size(c, "feed_forward_length", WIDTH_MAX, &m->d_ff, e));
    TRY(read_size(c, "context_length", CONTEXT_MAX, &m->n_ctx, e));
    TRY(read_real_or(c, "attention.layer_norm_rms_epsilon", 1e-5, 0, &m->norm_eps, e));
    TRY(read_heads(c, s, e));
    TRY(read_rope(c, s, e));
    if (!embedding) return err_set(e, ERR_FORMAT, "there is no tensor token_embd.weight");
    m->n_vocab = embedding->n_dims == 2 ? embedding->shape[0] : 0;
    if (m->n_vocab < 1 || m->n_vocab > VOCAB_MAX)
        return err_set(e, ERR_FORMAT, "token_embd.weight: expected a matrix of up to %d rows", VOCAB_MAX);
    m->tied_embedding = !weights_find(w, "output.weight");
done:
    return rc;
}
