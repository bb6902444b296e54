/* model.c — opening a model: its file, its description, its tensors checked against that description and packed. */
#include "core/file.h"
#include "model/model_internal.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_MAX_ = 160 };

/* ---- tensors ---- */

static void tensor_name(char out[NAME_MAX_], const char *stem, int layer, const char *kind) {
    const char *number = strstr(stem, "%d");
    if (number)
        snprintf(out, NAME_MAX_, "%.*s%d%s.%s", (int)(number - stem), stem, layer, number + 2, kind);
    else
        snprintf(out, NAME_MAX_, "%s.%s", stem, kind);
}

/* A vector as floats of its own. */
static err_code load_vector(const model *m, const char *stem, int layer, const char *kind, int64_t n, float **out, err *e) {
    char name[NAME_MAX_];
    const tensor_view *t;
    err_code rc;
    tensor_name(name, stem, layer, kind);
    TRY(weights_require(m->w, name, 1, &n, &t, e));
    TRY(mem_new(out, (size_t)n, sizeof **out, "weights", e));
    embedding_row(t, 0, *out);
done:
    return rc;
}

static err_code bind_linear(const model *m, const char *stem, int layer, int64_t n, int64_t k, linear *l, err *e) {
    char name[NAME_MAX_];
    const int64_t shape[] = {n, k};
    tensor_name(name, stem, layer, "bias");
    if (weights_find(m->w, name)) {
        err_code rc = load_vector(m, stem, layer, "bias", n, &l->bias, e);
        if (rc != ERR_OK) return rc;
    }
    tensor_name(name, stem, layer, "weight");
    err_code rc = weights_require(m->w, name, 2, shape, &l->rows, e);
    if (rc == ERR_OK) l->w = (gemm_weights){.form = gemm_form_of(l->rows->type->name, k), .n = n, .k = k};
    return rc;
}

/* The rows of q and k, and with them their bias, as our rope wants them. */
static err_code unpair_rows(const model *m, linear *l, err *e) {
    float *bias = NULL;
    err_code rc = ERR_OK;
    if (!m->spec.rope_pairs) return ERR_OK;
    l->d_head = m->spec.cfg.d_head;
    l->n_paired = m->spec.n_rotated;
    if (!l->bias) return ERR_OK;
    TRY(mem_new(&bias, (size_t)l->w.n, sizeof *bias, "weights", e));
    for (int64_t i = 0; i < l->w.n; i++) bias[i] = l->bias[linear_file_row(l, i)];
    free(l->bias);
    l->bias = bias;
done:
    return rc;
}

static err_code bind_layer(const model *m, int i, model_layer *l, err *e) {
    const model_config *g = &m->spec.cfg;
    const tensor_names *t = m->spec.names;
    int64_t d = g->d_model, d_q = g->n_heads * g->d_head, d_kv = g->n_kv_heads * g->d_head;
    const struct {
        const char *stem;
        int64_t n, k;
    } matrices[LAYER_LINEARS] = {
        [LAYER_Q] = {t->q, d_q, d},           [LAYER_K] = {t->k, d_kv, d},
        [LAYER_V] = {t->v, d_kv, d},          [LAYER_ATTN_OUT] = {t->attn_out, d, d_q},
        [LAYER_GATE] = {t->gate, g->d_ff, d}, [LAYER_UP] = {t->up, g->d_ff, d},
        [LAYER_DOWN] = {t->down, d, g->d_ff},
    };
    err_code rc;
    TRY(load_vector(m, t->attn_norm, i, "weight", d, &l->attn_norm, e));
    TRY(load_vector(m, t->mlp_norm, i, "weight", d, &l->mlp_norm, e));
    for (int j = 0; j < LAYER_LINEARS; j++)
        TRY(bind_linear(m, matrices[j].stem, i, matrices[j].n, matrices[j].k, l->linears + j, e));
    TRY(unpair_rows(m, l->linears + LAYER_Q, e));
    TRY(unpair_rows(m, l->linears + LAYER_K, e));
done:
    return rc;
}

/* Blocks stay packed in memory when all of them fit into this; else each is read again for every pass. */
enum { KEPT_MEGABYTES = 3072 };

static bool blocks_fit(const model *m, size_t *total) {
    size_t bytes;
    *total = 0;
    for (int64_t i = 0; i < m->spec.cfg.n_layers; i++)
        for (int j = 0; j < LAYER_LINEARS; j++)
            if (!linear_size(m->cpu, m->layers[i].linears + j, &bytes) || !mem_add(*total, bytes, total)) return false;
    return *total >> 20 < KEPT_MEGABYTES;
}

static err_code load_blocks(const ctx *c, model *m, err *e) {
    size_t total, at = 0, bytes = 0;
    err_code rc;
    TRY(mem_new0(&m->layers, (size_t)m->spec.cfg.n_layers, sizeof *m->layers, "layers", e));
    for (int i = 0; i < m->spec.cfg.n_layers; i++) TRY(bind_layer(m, i, m->layers + i, e));
    if (!blocks_fit(m, &total)) return ERR_OK;
    TRY(mem_new_large(&m->packed, total, 1, "packed weights", e));
    for (int64_t i = 0; i < m->spec.cfg.n_layers; i++) {
        TRY(ctx_check_cancel(c, e));
        for (int j = 0; j < LAYER_LINEARS; j++, at += bytes) {
            linear_size(m->cpu, m->layers[i].linears + j, &bytes); /* before it is packed: its form may change */
            TRY(linear_pack(c, m->layers[i].linears + j, m->packed + at, e));
        }
    }
done:
    return rc;
}

/* theta_j = base^(-2j/n) / (stretch factor_j), Su et al. 2021; the factors are LLaMA 3's. */
static err_code load_frequencies(model *m, err *e) {
    int64_t half = m->spec.n_rotated / 2;
    char name[NAME_MAX_];
    float *factors = NULL;
    err_code rc = ERR_OK;
    tensor_name(name, m->spec.names->rope_factors, 0, "weight");
    if (weights_find(m->w, name)) TRY(load_vector(m, m->spec.names->rope_factors, 0, "weight", half, &factors, e));
    TRY(mem_new(&m->frequencies, (size_t)half, sizeof *m->frequencies, "rope frequencies", e));
    for (int64_t j = 0; j < half; j++) {
        double factor = factors ? (double)factors[j] : 1;
        if (!(factor > 0)) TRY(err_set(e, ERR_FORMAT, "%s: expected positive factors, got %g", name, factor));
        m->frequencies[j] =
            pow(m->spec.cfg.rope_base, -2 * (double)j / (double)m->spec.n_rotated) / m->spec.rope_stretch / factor;
    }
done:
    free(factors);
    return rc;
}

static err_code load_ends(model *m, err *e) {
    const model_config *g = &m->spec.cfg;
    const tensor_names *t = m->spec.names;
    char name[NAME_MAX_];
    const int64_t shape[] = {g->n_vocab, g->d_model};
    err_code rc;
    tensor_name(name, t->embedding, 0, "weight");
    TRY(weights_require(m->w, name, 2, shape, &m->embedding, e));
    TRY(load_vector(m, t->final_norm, 0, "weight", g->d_model, &m->final_norm, e));
    TRY(bind_linear(m, g->tied_embedding ? t->embedding : t->head, 0, g->n_vocab, g->d_model, &m->head, e));
    TRY(load_frequencies(m, e));
done:
    return rc;
}

/* ---- life ---- */

static err_code load_name(model *m, err *e) {
    return weights_meta_string_or(m->w, "general.name", path_base(weights_path(m->w)), &m->name, e);
}

static err_code check_vocabulary(const model *m, err *e) {
    if (tokenizer_size(m->tokenizer) <= m->spec.cfg.n_vocab) return ERR_OK;
    return err_set(e, ERR_MISMATCH, "%s: the tokenizer has %lld tokens, the embedding %lld rows", weights_path(m->w),
                   (long long)tokenizer_size(m->tokenizer), (long long)m->spec.cfg.n_vocab);
}

static err_code load_weights(const ctx *c, model *m, err *e) {
    err_code rc;
    TRY(arch_describe(m->w, &m->spec, e));
    TRY(load_name(m, e));
    TRY(load_ends(m, e));
    TRY(load_blocks(c, m, e));
done:
    return rc == ERR_OK || rc == ERR_CANCELLED ? rc : err_prefix(e, rc, "%s", weights_path(m->w));
}

err_code model_open(const ctx *c, const char *path, model **out, err *e) {
    model *m = NULL;
    err_code rc = ERR_OK;
    *out = NULL;
    TRY(mem_new0(&m, 1, sizeof *m, "model", e));
    TRY(mem_new0(&m->sha256, SHA256_HEX, 1, "model", e));
    m->cpu = c->cpu;
    m->kernels = dense_kernels_for(c->cpu);
    TRY(weights_open(path, &m->w, e));
    TRY(load_weights(c, m, e));
    TRY(tokenizer_open(m->w, &m->tokenizer, e));
    TRY(check_vocabulary(m, e));
    *out = m;
    m = NULL;
done:
    model_close(m);
    return rc;
}

static void release_layer(model_layer *l) {
    free(l->attn_norm), free(l->mlp_norm);
    for (int j = 0; j < LAYER_LINEARS; j++) linear_release(l->linears + j);
}

void model_close(model *m) {
    if (!m) return;
    for (int64_t i = 0; m->layers && i < m->spec.cfg.n_layers; i++) release_layer(m->layers + i);
    free(m->layers), free(m->packed), free(m->final_norm), free(m->frequencies), free(m->name), free(m->sha256);
    linear_release(&m->head);
    arena_release(&m->scratch);
    tokenizer_close(m->tokenizer);
    weights_close(m->w);
    free(m);
}

/* ---- what others ask ---- */

const model_config *model_config_of(const model *m) { return &m->spec.cfg; }
const weights *model_weights(const model *m) { return m->w; }
const tokenizer *model_tokenizer(const model *m) { return m->tokenizer; }
const char *model_name(const model *m) { return m->name; }
const float *model_final_norm_gain(const model *m) { return m->final_norm; }

err_code model_sha256(const model *m, char out[SHA256_HEX], err *e) {
    err_code rc = *m->sha256 ? ERR_OK : file_sha256(weights_path(m->w), m->sha256, e);
    if (rc == ERR_OK) memcpy(out, m->sha256, SHA256_HEX);
    return rc;
}

err_code model_hook_point(const model *m, const char *layer_or_hook, hook_point *out, err *e) {
    char name[HOOK_NAME_MAX];
    size_t digits = strspn(layer_or_hook, "0123456789");
    if (!digits || digits > 9 || layer_or_hook[digits]) return hook_parse(layer_or_hook, m->spec.cfg.n_layers, out, e);
    hook_format((hook_point){.layer = atoi(layer_or_hook), .kind = HOOK_RESID_POST}, name);
    return hook_parse(name, m->spec.cfg.n_layers, out, e);
}

err_code model_unembed_rows(const model *m, int64_t first, int64_t n, float *out, err *e) {
    if (first < 0 || n < 0 || first > m->head.w.n || n > m->head.w.n - first)
        return err_set(e, ERR_USAGE, "rows %lld to %lld of the unembedding were asked for; it has %lld", (long long)first,
                       (long long)(first + n - 1), (long long)m->head.w.n);
    for (int64_t i = 0; i < n; i++) embedding_row(m->head.rows, first + i, out + i * m->head.w.k);
    return ERR_OK;
}
