/* config_write.c — a model_spec to metadata, in GGUF's words or in Hugging Face's: what config.c reads, the other way. */
#include "model/arch.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define KEY(gguf, folder) ((config_key){gguf, folder})

/* ---- single values ---- */

enum { KEY_MAX = 128 };

/* The name of a key in this kind of file, "" for none. */
static void spell(const config_out *to, config_key key, char out[KEY_MAX]) {
    const char *at = to->gguf ? key.gguf : key.folder, *last = strrchr(at, '|');
    if (to->last_spelling && !to->gguf && last) at = last + 1;
    int len = (int)strcspn(at, "|");
    snprintf(out, KEY_MAX, "%s%s%.*s", to->gguf && len ? to->architecture : "", to->gguf && len ? "." : "", len, at);
}

err_code config_put_int(const config_out *to, config_key key, int64_t value, err *e) {
    char name[KEY_MAX];
    spell(to, key, name);
    return *name ? weights_set_int(to->w, name, value, e) : ERR_OK;
}

err_code config_put_real(const config_out *to, config_key key, double value, err *e) {
    char name[KEY_MAX];
    spell(to, key, name);
    return *name ? weights_set_real(to->w, name, to->gguf ? (double)(float)value : value, e) : ERR_OK;
}

err_code config_put_bool(const config_out *to, config_key key, bool value, err *e) {
    char name[KEY_MAX];
    spell(to, key, name);
    return *name ? weights_set_bool(to->w, name, value, e) : ERR_OK;
}

err_code config_put_text(const config_out *to, config_key key, const char *value, err *e) {
    char name[KEY_MAX];
    spell(to, key, name);
    return *name ? weights_set_text(to->w, name, value, strlen(value), e) : ERR_OK;
}

double config_rotated_share(const model_spec *s) {
    double d = (double)s->cfg.d_head, share = (double)s->n_rotated / d;
    return (int64_t)(share * d) == s->n_rotated ? share : nextafter(share, 2);
}

/* ---- blocks that differ ---- */

static bool slides(const model_spec *s, int64_t layer) { return (s->layers[layer] & LAYER_WINDOW) != 0; }

static bool has_period(const model_spec *s, int64_t period) {
    for (int64_t i = 0; i < s->cfg.n_layers; i++)
        if (slides(s, i) != (!period || (i + 1) % period != 0)) return false;
    return true;
}

/* Which layers slide, each by a word, or in GGUF by true or false. */
static err_code put_layer_types(const model_spec *s, const config_out *to, err *e) {
    static const char *const words[] = {"full_attention", "sliding_attention"};
    meta_value types = {.kind = META_ARRAY, .array = {.kind = to->gguf ? META_BOOL : META_STRING, .count = s->cfg.n_layers}};
    meta_value *items;
    char name[KEY_MAX];
    err_code rc = weights_items(to->w, s->cfg.n_layers, &items, e);
    if (rc) return rc;
    for (int64_t i = 0; i < s->cfg.n_layers; i++) {
        const char *word = words[slides(s, i)];
        items[i] = (meta_value){.kind = META_STRING, .string = {.bytes = word, .len = strlen(word)}};
        if (to->gguf) items[i] = (meta_value){.kind = META_BOOL, .boolean = slides(s, i)};
    }
    types.array.items = items;
    spell(to, KEY("attention.sliding_window_pattern", "layer_types"), name);
    return weights_add_meta(to->w, &types, name, strlen(name), e);
}

err_code config_put_windows(const model_spec *s, int64_t period, const config_out *to, err *e) {
    err_code rc = ERR_OK;
    int64_t found = period;
    if (!s->window) return ERR_OK;
    TRY(config_put_int(to, KEY("attention.sliding_window", "sliding_window"), s->window, e));
    if (to->gguf ? !has_period(s, period) : period > 0) TRY(put_layer_types(s, to, e));
    if (to->gguf || !period) return ERR_OK;
    for (found = 1; found <= s->cfg.n_layers && !has_period(s, found);) found++;
    if (found <= s->cfg.n_layers) TRY(config_put_int(to, KEY("", "sliding_window_pattern"), found, e));
done:
    return rc;
}

/* ---- all of it ---- */

static err_code put_sizes(const model_spec *s, const config_out *to, err *e) {
    const model_config *g = &s->cfg;
    err_code rc;
    TRY(config_put_int(to, KEY("vocab_size", "vocab_size"), g->n_vocab, e));
    TRY(config_put_int(to, KEY("context_length", "max_position_embeddings|n_positions"), g->n_ctx, e));
    TRY(config_put_int(to, KEY("embedding_length", "hidden_size|n_embd"), g->d_model, e));
    TRY(config_put_int(to, KEY("block_count", "num_hidden_layers|n_layer"), g->n_layers, e));
    TRY(config_put_int(to, KEY("feed_forward_length", "intermediate_size|n_inner"), g->d_ff, e));
    TRY(config_put_int(to, KEY("attention.head_count", "num_attention_heads|n_head"), g->n_heads, e));
    if (g->n_kv_heads != g->n_heads || !s->layer_norm)
        TRY(config_put_int(to, KEY("attention.head_count_kv", "num_key_value_heads"), g->n_kv_heads, e));
    if (g->d_head * g->n_heads != g->d_model || (!s->layer_norm && !to->gguf))
        TRY(config_put_int(to, KEY("attention.key_length", "head_dim"), g->d_head, e));
    if (g->d_head * g->n_heads != g->d_model) TRY(config_put_int(to, KEY("attention.value_length", ""), g->d_head, e));
done:
    return rc;
}

static err_code put_rope(const model_spec *s, const config_out *to, err *e) {
    const rope_spec *r = &s->rope;
    err_code rc = ERR_OK;
    if (s->names.positions) return ERR_OK;
    TRY(config_put_int(to, KEY("rope.dimension_count", ""), s->n_rotated, e));
    TRY(config_put_real(to, KEY("rope.freq_base", "rope_theta"), r->base, e));
    if (s->n_rotated != s->cfg.d_head && !s->layer_norm)
        TRY(config_put_real(to, KEY("", "partial_rotary_factor"), config_rotated_share(s), e));
    if (r->stretch != 1) {
        TRY(config_put_text(to, KEY("rope.scaling.type", "rope_scaling.rope_type"), "linear", e));
        TRY(config_put_real(to, KEY("rope.scaling.factor", "rope_scaling.factor"), r->stretch, e));
    } else if (r->low_factor > 0 && !to->gguf) {
        TRY(config_put_text(to, KEY("", "rope_scaling.rope_type"), "llama3", e));
        TRY(config_put_real(to, KEY("", "rope_scaling.factor"), r->llama3_factor, e));
        TRY(config_put_real(to, KEY("", "rope_scaling.low_freq_factor"), r->low_factor, e));
        TRY(config_put_real(to, KEY("", "rope_scaling.high_freq_factor"), r->high_factor, e));
        TRY(config_put_int(to, KEY("", "rope_scaling.original_max_position_embeddings"), (int64_t)r->original_length, e));
    }
done:
    return rc;
}

/* Layer norms have an epsilon of another name, and GPT-2's another than the others'. */
static config_key eps_key(const model_spec *s) {
    return s->layer_norm ? KEY("attention.layer_norm_epsilon", "layer_norm_eps|layer_norm_epsilon")
                         : KEY("attention.layer_norm_rms_epsilon", "rms_norm_eps");
}

static err_code put_class(const arch *a, const config_out *to, err *e) {
    meta_value *name, classes = {.kind = META_ARRAY, .array = {.kind = META_STRING, .count = 1}};
    err_code rc = weights_items(to->w, 1, &name, e);
    if (rc) return rc;
    *name = (meta_value){.kind = META_STRING, .string = {.bytes = a->folder_class, .len = strlen(a->folder_class)}};
    classes.array.items = name;
    return weights_add_meta(to->w, &classes, "architectures", strlen("architectures"), e);
}

err_code config_write(const arch *a, const model_spec *s, const config_out *to, err *e) {
    err_code rc;
    if (to->gguf) {
        TRY(weights_set_text(to->w, "general.architecture", a->name, strlen(a->name), e));
    } else {
        const char *type = a->folder_name ? a->folder_name : a->name;
        TRY(put_class(a, to, e));
        TRY(weights_set_text(to->w, "model_type", type, strlen(type), e));
        TRY(weights_set_bool(to->w, "tie_word_embeddings", s->cfg.tied_embedding, e));
    }
    TRY(put_sizes(s, to, e));
    TRY(config_put_real(to, eps_key(s), s->cfg.norm_eps, e));
    TRY(put_rope(s, to, e));
    rc = a->write(s, to, e);
done:
    return rc;
}
