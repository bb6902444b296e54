/* config.c — metadata of a file to a model_spec, in GGUF's words or in Hugging Face's. Nothing that a file says is used before
 * it was checked here. */
#include "core/strbuf.h"
#include "math/attention.h"
#include "model/arch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Far above any model there is, and small enough that products of two stay small. */
enum { WIDTH_MAX = 1 << 20, VOCAB_MAX = 1 << 24, CONTEXT_MAX = INT32_MAX };

static const tensor_names gguf_names = {
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

static const tensor_names folder_names = {
    .embedding = "model.embed_tokens",
    .final_norm = "model.norm",
    .head = "lm_head",
    .attn_norm = "model.layers.%d.input_layernorm",
    .q = "model.layers.%d.self_attn.q_proj",
    .k = "model.layers.%d.self_attn.k_proj",
    .v = "model.layers.%d.self_attn.v_proj",
    .attn_out = "model.layers.%d.self_attn.o_proj",
    .mlp_norm = "model.layers.%d.post_attention_layernorm",
    .gate = "model.layers.%d.mlp.gate_proj",
    .up = "model.layers.%d.mlp.up_proj",
    .down = "model.layers.%d.mlp.down_proj",
};

bool config_is_gguf(const weights *w) { return weights_meta(w, "general.architecture") != NULL; }

void config_llama_names(bool gguf, tensor_names *t) { *t = gguf ? gguf_names : folder_names; }

/* ---- single values ---- */

enum { KEY_MAX = 128 };
typedef struct key_text {
    char name[KEY_MAX];
} key_text;

/* The spelling that the file has, else the first. */
static key_text find_key(const weights *w, const char *architecture, config_key key) {
    bool gguf = config_is_gguf(w);
    const char *spellings = gguf ? key.gguf : key.folder;
    key_text first = {{0}}, k;
    for (const char *at = spellings; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL) {
        int len = (int)strcspn(at, "|");
        snprintf(k.name, sizeof k.name, "%s%s%.*s", gguf ? architecture : "", gguf ? "." : "", len, at);
        if (!first.name[0]) first = k;
        if (len && weights_meta(w, k.name)) return k;
    }
    return first;
}

static bool has_key(const weights *w, const char *architecture, config_key key) {
    return weights_meta(w, find_key(w, architecture, key).name) != NULL;
}

static err_code read_size(const weights *w, const char *architecture, config_key key, int64_t most, int64_t *out, err *e) {
    key_text k = find_key(w, architecture, key);
    err_code rc = weights_meta_int(w, k.name, out, e);
    if (rc != ERR_OK || (*out >= 1 && *out <= most)) return rc;
    return err_set(e, ERR_FORMAT, "%s: expected 1 to %lld, got %lld", k.name, (long long)most, (long long)*out);
}

err_code config_size_or(const weights *w, const char *architecture, config_key key, int64_t fallback, int64_t most,
                        int64_t *out, err *e) {
    *out = fallback;
    return has_key(w, architecture, key) ? read_size(w, architecture, key, most, out, e) : ERR_OK;
}

err_code config_real_or(const weights *w, const char *architecture, config_key key, double fallback, double least,
                        double *out, err *e) {
    key_text k = find_key(w, architecture, key);
    err_code rc = weights_meta_float_or(w, k.name, fallback, out, e);
    if (rc != ERR_OK || (isfinite(*out) && *out >= least)) return rc;
    return err_set(e, ERR_FORMAT, "%s: expected %g or more, got %g", k.name, least, *out);
}

err_code config_bool_or(const weights *w, const char *architecture, config_key key, bool fallback, bool *out, err *e) {
    return weights_meta_bool_or(w, find_key(w, architecture, key).name, fallback, out, e);
}

err_code config_expect_activation(const weights *w, const char *one, const char *other, err *e) {
    static const config_key key = {"", "hidden_activation|hidden_act|activation_function"};
    char *name = NULL;
    if (config_is_gguf(w)) return ERR_OK;
    err_code rc = weights_meta_string_or(w, find_key(w, "", key).name, one, &name, e);
    if (rc == ERR_OK && strcmp(name, one) && strcmp(name, other))
        rc = err_set(e, ERR_UNSUPPORTED, "activation '%.40s': expected '%s'", name, one);
    free(name);
    return rc;
}

/* ---- groups of values ---- */

#define KEY(gguf, folder) ((config_key){gguf, folder})

static err_code read_heads(const weights *w, const char *a, model_spec *s, err *e) {
    static const config_key key_length = {"attention.key_length", "head_dim"};
    model_config *m = &s->cfg;
    int64_t d_value = 0;
    err_code rc = ERR_OK;
    TRY(read_size(w, a, KEY("attention.head_count", "num_attention_heads|n_head"), WIDTH_MAX, &m->n_heads, e));
    TRY(config_size_or(w, a, KEY("attention.head_count_kv", "num_key_value_heads"), m->n_heads, WIDTH_MAX, &m->n_kv_heads,
                       e));
    if (m->n_heads % m->n_kv_heads)
        return err_set(e, ERR_FORMAT, "%lld query heads cannot share %lld key and value heads evenly", (long long)m->n_heads,
                       (long long)m->n_kv_heads);
    if (!has_key(w, a, key_length) && m->d_model % m->n_heads)
        return err_set(e, ERR_FORMAT, "d_model %lld is no multiple of the %lld heads, and %s is not given",
                       (long long)m->d_model, (long long)m->n_heads, find_key(w, a, key_length).name);
    TRY(config_size_or(w, a, key_length, m->d_model / m->n_heads, WIDTH_MAX, &m->d_head, e));
    TRY(config_size_or(w, a, KEY("attention.value_length", ""), m->d_head, WIDTH_MAX, &d_value, e));
    if (d_value != m->d_head || m->d_head > ATTENTION_HEAD_MAX)
        return err_set(e, ERR_UNSUPPORTED, "heads of %lld dimensions with values of %lld: expected the same, at most %d",
                       (long long)m->d_head, (long long)d_value, ATTENTION_HEAD_MAX);
    s->attention_scale = 1 / sqrt((double)m->d_head);
done:
    return rc;
}

/* GGUF gives the number of turned dimensions, folders their share of a head. */
static err_code read_rotated(const weights *w, const char *a, model_spec *s, err *e) {
    static const config_key count = {"rope.dimension_count", ""},
                            share = {"", "partial_rotary_factor|rotary_pct|rope_parameters.partial_rotary_factor"};
    double part;
    err_code rc = ERR_OK;
    TRY(config_real_or(w, a, share, 1, 0, &part, e));
    if (part > 1) TRY(err_set(e, ERR_FORMAT, "%s: expected 1 at most, got %g", find_key(w, a, share).name, part));
    TRY(config_size_or(w, a, count, (int64_t)(part * (double)s->cfg.d_head), s->cfg.d_head, &s->n_rotated, e));
    if (s->n_rotated % 2)
        TRY(err_set(e, ERR_FORMAT, "%s: expected an even number, got %lld",
                    find_key(w, a, config_is_gguf(w) ? count : share).name, (long long)s->n_rotated));
done:
    return rc;
}

/* Keys of a folder's rope: older files have rope_theta and rope_scaling, newer ones rope_parameters, which Gemma 3 gives for
 * each kind of layer. */
static err_code read_rope(const weights *w, const char *a, model_spec *s, err *e) {
    static const config_key kind = {"rope.scaling.type", "rope_scaling.rope_type|rope_scaling.type|rope_parameters.rope_type|"
                                                         "rope_parameters.full_attention.rope_type"};
    static const config_key factor = {"rope.scaling.factor", "rope_scaling.factor|rope_parameters.factor|"
                                                             "rope_parameters.full_attention.factor"};
    rope_spec *r = &s->rope;
    char *scaling = NULL;
    err_code rc = ERR_OK;
    *r = (rope_spec){.base = 1, .stretch = 1};
    if (s->names.positions) return ERR_OK; /* they are learned */
    TRY(config_real_or(w, a,
                       KEY("rope.freq_base", "rope_theta|rotary_emb_base|rope_parameters.rope_theta|"
                                             "rope_parameters.full_attention.rope_theta"),
                       10000, 1, &r->base, e));
    s->cfg.rope_base = r->base;
    TRY(read_rotated(w, a, s, e));
    TRY(weights_meta_string_or(w, find_key(w, a, kind).name, "none", &scaling, e));
    if (!strcmp(scaling, "linear")) {
        TRY(config_real_or(w, a, factor, 1, 1e-6, &r->stretch, e));
    } else if (!strcmp(scaling, "llama3") && !config_is_gguf(w)) {
        TRY(config_real_or(w, a, factor, 8, 1e-6, &r->llama3_factor, e));
        TRY(config_real_or(w, a, KEY("", "rope_scaling.low_freq_factor|rope_parameters.low_freq_factor"), 1, 1e-6,
                           &r->low_factor, e));
        TRY(config_real_or(w, a, KEY("", "rope_scaling.high_freq_factor|rope_parameters.high_freq_factor"), 4, 1e-6,
                           &r->high_factor, e));
        TRY(config_real_or(
            w, a, KEY("", "rope_scaling.original_max_position_embeddings|rope_parameters.original_max_position_embeddings"),
            8192, 1, &r->original_length, e));
        if (!(r->high_factor > r->low_factor))
            TRY(err_set(e, ERR_FORMAT, "rope scaling: expected a high_freq_factor above low_freq_factor %g, got %g",
                        r->low_factor, r->high_factor));
    } else if (strcmp(scaling, "none") && strcmp(scaling, "default")) {
        TRY(err_set(e, ERR_UNSUPPORTED,
                    "rope scaling '%.40s': only none, linear and llama3 (in GGUF: a rope_freqs tensor) are known", scaling));
    }
    s->local_rope = *r;
done:
    free(scaling);
    return rc;
}

/* The embedding says how many tokens there are. */
static err_code read_vocabulary(const weights *w, model_spec *s, err *e) {
    char name[KEY_MAX];
    bool tied;
    snprintf(name, sizeof name, "%s.weight", s->names.embedding);
    const tensor_view *embedding = weights_find(w, name);
    if (!embedding) return err_set(e, ERR_FORMAT, "there is no tensor %s", name);
    s->cfg.n_vocab = embedding->n_dims == 2 ? embedding->shape[0] : 0;
    if (s->cfg.n_vocab < 1 || s->cfg.n_vocab > VOCAB_MAX)
        return err_set(e, ERR_FORMAT, "%s: expected a matrix of up to %d rows", name, VOCAB_MAX);
    snprintf(name, sizeof name, "%s.weight", s->names.head);
    err_code rc = config_bool_or(w, s->cfg.architecture, KEY("", "tie_word_embeddings"), false, &tied, e);
    s->cfg.tied_embedding = tied || !weights_find(w, name);
    return rc;
}

err_code config_read(const weights *w, const char *a, model_spec *s, err *e) {
    model_config *m = &s->cfg;
    err_code rc = ERR_OK;
    s->gate = GATE_SILU;
    s->gated = true;
    s->embedding_scale = s->residual_scale = s->logit_scale = 1;
    m->architecture = a;
    TRY(read_size(w, a, KEY("block_count", "num_hidden_layers|n_layer"), LAYERS_MAX, &m->n_layers, e));
    TRY(read_size(w, a, KEY("embedding_length", "hidden_size|n_embd"), WIDTH_MAX, &m->d_model, e));
    TRY(config_size_or(w, a, KEY("feed_forward_length", "intermediate_size|n_inner"), 4 * m->d_model, 4 * WIDTH_MAX, &m->d_ff,
                       e));
    TRY(read_size(w, a, KEY("context_length", "max_position_embeddings|n_positions"), CONTEXT_MAX, &m->n_ctx, e));
    TRY(config_real_or(w, a,
                       KEY("attention.layer_norm_rms_epsilon|attention.layer_norm_epsilon",
                           "rms_norm_eps|layer_norm_eps|layer_norm_epsilon"),
                       1e-5, 0, &m->norm_eps, e));
    TRY(read_heads(w, a, s, e));
    TRY(read_rope(w, a, s, e));
    TRY(read_vocabulary(w, s, e));
done:
    return rc;
}

/* ---- blocks that differ ---- */

static bool text_is(const meta_value *v, const char *text) {
    return v->kind == META_STRING && v->string.len == strlen(text) && !memcmp(v->string.bytes, text, v->string.len);
}

/* Which layers slide, where the file says so for each: folders in words, GGUF files by true and false. NULL: it does not. */
static err_code find_layer_types(const weights *w, const char *a, const model_spec *s, const meta_value **out, err *e) {
    static const config_key key = {"attention.sliding_window_pattern", "layer_types"};
    key_text k = find_key(w, a, key);
    const meta_value *v = weights_meta(w, k.name);
    *out = v && v->kind == META_ARRAY ? v : NULL;
    if (!*out || v->array.count == s->cfg.n_layers) return ERR_OK;
    return err_set(e, ERR_FORMAT, "%s: expected one for each of the %lld layers, got %lld", k.name,
                   (long long)s->cfg.n_layers, (long long)v->array.count);
}

static err_code layer_slides(const meta_value *type, int64_t layer, bool *out, err *e) {
    *out = type->kind == META_BOOL ? type->boolean : text_is(type, "sliding_attention");
    if (*out || type->kind == META_BOOL || text_is(type, "full_attention")) return ERR_OK;
    return err_set(e, ERR_UNSUPPORTED,
                   "layer %lld is of a kind that is not known: expected sliding_attention or full_attention",
                   (long long)layer);
}

err_code config_windows(const weights *w, const char *a, int64_t period, model_spec *s, err *e) {
    static const config_key key = {"attention.sliding_window", "sliding_window"};
    const meta_value *types;
    int64_t none = 0;
    err_code rc = ERR_OK;
    if (!has_key(w, a, key)) return ERR_OK;
    TRY(weights_meta_int(w, find_key(w, a, key).name, &none, e));
    if (none == 0) return ERR_OK; /* how GGUF files say that there is none */
    TRY(config_size_or(w, a, key, 0, CONTEXT_MAX, &s->window, e));
    TRY(find_layer_types(w, a, s, &types, e));
    for (int64_t i = 0; i < s->cfg.n_layers; i++) {
        bool sliding = !period || (i + 1) % period != 0;
        if (types) TRY(layer_slides(types->array.items + i, i, &sliding, e));
        if (sliding) s->layers[i] |= LAYER_WINDOW;
    }
done:
    return rc;
}
