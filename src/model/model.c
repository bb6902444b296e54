/* model.c — opening a model: its file, its description, its tensors checked against that description and packed. */
#include "core/file.h"
#include "model/model_internal.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- tensors ---- */

/* A vector as floats of its own. */
static err_code load_vector(const model *m, const char *stem, int layer, const char *kind, int64_t n, float **out, err *e) {
    char name[TENSOR_NAME_MAX];
    const tensor_view *t;
    err_code rc;
    tensor_name(name, stem, layer, kind);
    TRY(weights_require(m->w, name, 1, &n, &t, e));
    TRY(mem_new(out, (size_t)n, sizeof **out, "weights", e));
    matrix_row(t, 0, *out);
done:
    return rc;
}

/* A norm of n values at once; stem NULL: none. */
static err_code load_norm(const model *m, const char *stem, int layer, int64_t n, norm *out, err *e) {
    err_code rc = ERR_OK;
    if (!stem) return ERR_OK;
    out->n = n;
    TRY(load_vector(m, stem, layer, "weight", n, &out->gain, e));
    if (m->spec.layer_norm) TRY(load_vector(m, stem, layer, "bias", n, &out->bias, e));
    for (int64_t i = 0; i < n && m->spec.gain_of_one; i++) out->gain[i] += 1;
done:
    return rc;
}

/* ---- matrices ---- */

static err_code load_bias(const model *m, const place *at, int layer, linear *l, err *e) {
    char name[TENSOR_NAME_MAX];
    float *all = NULL;
    err_code rc = ERR_OK;
    tensor_name(name, at->stem, layer, "bias");
    if (!weights_find(m->w, name)) return ERR_OK;
    TRY(load_vector(m, at->stem, layer, "bias", at->n_all, &all, e));
    TRY(mem_new(&l->bias, (size_t)at->n, sizeof *l->bias, "weights", e));
    for (int64_t i = 0; i < at->n; i++) l->bias[i] = all[row_in_file(&at->order, i)];
done:
    free(all);
    return rc;
}

static err_code bind_linear(const model *m, const place *at, int layer, bool transposed, model_precision precision, linear *l,
                            err *e) {
    char name[TENSOR_NAME_MAX];
    const int64_t shape[] = {transposed ? at->k : at->n_all, transposed ? at->n_all : at->k};
    err_code rc;
    TRY(load_bias(m, at, layer, l, e));
    tensor_name(name, at->stem, layer, "weight");
    TRY(weights_require(m->w, name, 2, shape, &l->rows, e));
    if (transposed && l->rows->type->block_size != 1)
        TRY(err_set(e, ERR_UNSUPPORTED, "tensor %s: a matrix stored [in, out] has to be of plain numbers, not %s", name,
                    l->rows->type->name));
    l->transposed = transposed;
    l->order = at->order;
    l->w = (gemm_weights){.form = transposed ? GEMM_F32 : gemm_form_of(l->rows->type->name, at->k), .n = at->n, .k = at->k};
    if (precision == MODEL_BF16) l->w.form = GEMM_BF16;
    if (precision == MODEL_INT8) l->w.form = l->w.form == GEMM_Q4 ? GEMM_INT4 : GEMM_INT8;
done:
    return rc;
}

static err_code bind_layer(const model *m, int i, model_layer *l, err *e) {
    const model_spec *s = &m->spec;
    const model_config *g = &s->cfg;
    const tensor_names *t = &s->names;
    int64_t d = g->d_model, d_q = g->n_heads * g->d_head, d_kv = g->n_kv_heads * g->d_head;
    place places[LAYER_LINEARS];
    err_code rc;
    places_of(s, places);
    TRY(load_norm(m, t->attn_norm, i, d, &l->attn_norm, e));
    TRY(load_norm(m, t->attn_post_norm, i, d, &l->attn_post_norm, e));
    TRY(load_norm(m, t->mlp_norm, i, d, &l->mlp_norm, e));
    TRY(load_norm(m, t->mlp_post_norm, i, d, &l->mlp_post_norm, e));
    TRY(load_norm(m, t->q_norm, i, s->whole_q_norm ? d_q : g->d_head, &l->q_norm, e));
    TRY(load_norm(m, t->k_norm, i, s->whole_q_norm ? d_kv : g->d_head, &l->k_norm, e));
    for (int j = 0; j < LAYER_LINEARS; j++)
        if (places[j].stem) TRY(bind_linear(m, places + j, i, s->transposed, m->precision, l->linears + j, e));
done:
    return rc;
}

/* Blocks stay packed in memory when all of them fit into this; else each is read again for every pass. */
enum { KEPT_MEGABYTES = 4608 };

size_t blocks_size(const model *m) {
    size_t total = 0, bytes;
    for (int64_t i = 0; i < m->spec.cfg.n_layers; i++)
        for (int j = 0; j < LAYER_LINEARS; j++) {
            linear l = m->layers[i].linears[j];
            l.w.n = (l.w.n + PANEL_MAX - 1) / PANEL_MAX * PANEL_MAX;
            if (!linear_size(CPU_PORTABLE, &l, &bytes) || !mem_add(total, bytes, &total)) return SIZE_MAX;
        }
    return total;
}

bool blocks_stay(const model *m) { return blocks_size(m) >> 20 < KEPT_MEGABYTES; }

static err_code bind_blocks(model *m, err *e) {
    err_code rc;
    TRY(mem_new0(&m->layers, (size_t)m->spec.cfg.n_layers, sizeof *m->layers, "layers", e));
    for (int i = 0; i < m->spec.cfg.n_layers; i++) TRY(bind_layer(m, i, m->layers + i, e));
done:
    return rc;
}

/* A place for every block's panels. Memory is taken when a pass comes to the block. */
static err_code reserve_blocks(model *m, err *e) {
    size_t at = 0, bytes = 0;
    if (!blocks_stay(m)) return ERR_OK;
    err_code rc = mem_new_large(&m->packed, blocks_size(m), 1, "packed weights", e);
    for (int64_t i = 0; i < m->spec.cfg.n_layers && !rc; i++)
        for (int j = 0; j < LAYER_LINEARS; j++, at += bytes) {
            linear *l = m->layers[i].linears + j;
            linear_size(m->cpu, l, &bytes);
            if (l->rows) l->room = m->packed + at;
        }
    return rc;
}

/* theta_j = base^(-2j/n) / (stretch factor_j), Su et al. 2021; the factors are LLaMA 3's, from the file or by its formula. */
static err_code load_frequencies(model *m, const rope_spec *r, double **out, err *e) {
    int64_t half = m->spec.n_rotated / 2;
    const char *stem = m->spec.names.rope_factors;
    char name[TENSOR_NAME_MAX];
    float *factors = NULL;
    err_code rc = ERR_OK;
    if (stem) tensor_name(name, stem, 0, "weight");
    if (stem && weights_find(m->w, name)) TRY(load_vector(m, stem, 0, "weight", half, &factors, e));
    TRY(mem_new(out, (size_t)half, sizeof **out, "rope frequencies", e));
    for (int64_t j = 0; j < half; j++) {
        double frequency = pow(r->base, -2 * (double)j / (double)m->spec.n_rotated);
        double factor = factors ? (double)factors[j] : r->low_factor > 0 ? rope_llama3_factor(r, frequency) : 1;
        if (!(factor > 0)) TRY(err_set(e, ERR_FORMAT, "%s: expected positive factors, got %g", name, factor));
        (*out)[j] = frequency / r->stretch / factor;
    }
done:
    free(factors);
    return rc;
}

static err_code load_ends(model *m, err *e) {
    const model_config *g = &m->spec.cfg;
    const tensor_names *t = &m->spec.names;
    const place head = place_whole(g->tied_embedding ? t->embedding : t->head, g->n_vocab, g->d_model);
    char name[TENSOR_NAME_MAX];
    const int64_t shape[] = {g->n_vocab, g->d_model}, positions[] = {g->n_ctx, g->d_model};
    bool local = false;
    err_code rc;
    tensor_name(name, t->embedding, 0, "weight");
    TRY(weights_require(m->w, name, 2, shape, &m->embedding, e));
    if (t->positions) {
        tensor_name(name, t->positions, 0, "weight");
        TRY(weights_require(m->w, name, 2, positions, &m->positions, e));
    }
    TRY(load_norm(m, t->final_norm, 0, g->d_model, &m->final_norm, e));
    TRY(bind_linear(m, &head, 0, false, MODEL_F32, &m->head, e));
    TRY(load_frequencies(m, &m->spec.rope, &m->frequencies[0], e));
    for (int64_t i = 0; i < g->n_layers; i++) local |= (m->spec.layers[i] & LAYER_LOCAL_ROPE) != 0;
    if (local) TRY(load_frequencies(m, &m->spec.local_rope, &m->frequencies[1], e));
done:
    return rc;
}

/* ---- life ---- */

/* general.name, else the last part of the path. */
static err_code load_name(model *m, err *e) {
    const char *path = weights_path(m->w);
    size_t end = strlen(path), start;
    if (weights_meta(m->w, "general.name")) return weights_meta_string(m->w, "general.name", &m->name, e);
    while (end > 1 && path[end - 1] == '/') end--;
    for (start = end; start && path[start - 1] != '/';) start--;
    m->name = strndup(path + start, end - start);
    return m->name ? ERR_OK : err_nomem(e, "a name", end - start);
}

static err_code check_vocabulary(const model *m, err *e) {
    if (tokenizer_size(m->tokenizer) <= m->spec.cfg.n_vocab) return ERR_OK;
    return err_set(e, ERR_MISMATCH, "%s: the tokenizer has %lld tokens, the embedding %lld rows", weights_path(m->w),
                   (long long)tokenizer_size(m->tokenizer), (long long)m->spec.cfg.n_vocab);
}

err_code model_bind(model *m, err *e) {
    err_code rc;
    TRY(load_ends(m, e));
    TRY(bind_blocks(m, e));
done:
    return rc;
}

static err_code load_weights(model *m, err *e) {
    err_code rc;
    TRY(arch_describe(m->w, &m->spec, e));
    TRY(load_name(m, e));
    TRY(model_bind(m, e));
    TRY(reserve_blocks(m, e));
done:
    return rc == ERR_OK ? rc : err_prefix(e, rc, "%s", weights_path(m->w));
}

const char *const model_precision_names[] = {[MODEL_F32] = "f32", [MODEL_BF16] = "bf16", [MODEL_INT8] = "int8"};

err_code model_open(const ctx *c, const char *path, model **out, err *e) { return model_open_as(c, path, MODEL_F32, out, e); }

err_code model_open_as(const ctx *c, const char *path, model_precision precision, model **out, err *e) {
    model *m = NULL;
    err_code rc = ERR_OK;
    *out = NULL;
    TRY(mem_new0(&m, 1, sizeof *m, "model", e));
    TRY(mem_new0(&m->sha256, SHA256_HEX, 1, "model", e));
    m->precision = precision;
    m->cpu = c->cpu;
    m->kernels = dense_kernels_for(c->cpu);
    TRY(weights_open(path, &m->w, e));
    TRY(load_weights(m, e));
    TRY(tokenizer_open(m->w, &m->tokenizer, e));
    TRY(check_vocabulary(m, e));
    *out = m;
    m = NULL;
done:
    model_close(m);
    return rc;
}

static void release_norm(norm *n) { free(n->gain), free(n->bias); }

static void release_layer(model_layer *l) {
    release_norm(&l->attn_norm), release_norm(&l->attn_post_norm), release_norm(&l->mlp_norm),
        release_norm(&l->mlp_post_norm);
    release_norm(&l->q_norm), release_norm(&l->k_norm);
    for (int j = 0; j < LAYER_LINEARS; j++) linear_release(l->linears + j);
}

void model_unbind(model *m) {
    for (int64_t i = 0; m->layers && i < m->spec.cfg.n_layers; i++) release_layer(m->layers + i);
    free(m->layers), free(m->packed), free(m->frequencies[0]), free(m->frequencies[1]);
    release_norm(&m->final_norm);
    linear_release(&m->head);
}

void model_close(model *m) {
    if (!m) return;
    model_unbind(m);
    free(m->name), free(m->sha256);
    arena_release(&m->scratch), arena_release(&m->layer);
    tokenizer_close(m->tokenizer);
    weights_close(m->w);
    free(m);
}

/* ---- what others ask ---- */

const model_config *model_config_of(const model *m) { return &m->spec.cfg; }
const weights *model_weights(const model *m) { return m->w; }
const tokenizer *model_tokenizer(const model *m) { return m->tokenizer; }
model_precision model_precision_of(const model *m) { return m->precision; }
const char *model_name(const model *m) { return m->name; }
const float *model_final_norm_gain(const model *m) { return m->final_norm.gain; }

err_code model_sha256(const model *m, char out[SHA256_HEX], err *e) {
    err_code rc = *m->sha256 ? ERR_OK : weights_sha256(m->w, m->sha256, e);
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
    for (int64_t i = 0; i < n; i++) matrix_row(m->head.rows, first + i, out + i * m->head.w.k);
    return ERR_OK;
}
