/* forward.c — a batch of tokens through the blocks of a model.
 *
 * The five hook points of a block are its five steps, in order:
 *   resid_pre   x                            attn_out   out = attention(norm(x))
 *   resid_mid   x += out                     mlp_out    out = mlp(norm(x))
 *   resid_post  x += out
 * A parallel block has no resid_mid: what attention adds is held until the MLP, which reads the same x, has added too.
 * All but attention itself works row by row. Rows go through in stretches of CHUNK_ROWS, so that what a step leaves for the
 * next is still in a cache.
 */
#include "model/model_internal.h"

#include <math.h>
#include <string.h>

enum {
    FEW_ROWS = 16,     /* below: starting threads takes longer than the work between two products */
    ROUND_ROWS = 1024, /* larger passes take room for a multiple of this: about as many tokens next time take no more */
};

typedef struct pass {
    const ctx *c;
    model *m;
    const model_batch *b;
    kvcache *kv;
    const model_hook *hooks;
    int n_hooks;
    bool finished;       /* nobody wants what comes later */
    int64_t n;           /* tokens */
    attention_run *runs; /* [n_runs] one for each stretch of tokens of one sequence */
    int64_t n_runs;
    int64_t *run_of;              /* [n] */
    float *x, *out;               /* [n, d_model] residual stream; what a step adds to it */
    float *held;                  /* [n, d_model] of a parallel block: what attention adds */
    float *q;                     /* [n, d_q] queries, then what attention gathered */
    float *turn[2];               /* [n, n_rotated] cosines and sines for the model's frequencies[..] */
    float *normed;                /* [CHUNK_ROWS, d_model] */
    float *k, *v, *gate, *up;     /* [CHUNK_ROWS, ..] */
    float *weights, *weight_rows; /* of one layer, as floats; scratch to read them */
    float *keys, *values;         /* of one layer when there is no cache: each run's heads */
    size_t *key_at, *value_at;    /* [n_runs] where a run's heads begin, in keys and values or in a cache's layer */
} pass;

/* ---- the batch ---- */

static err_code check_tokens(const model *m, const model_batch *b, err *e) {
    for (int64_t i = 0; i < b->n_tokens; i++) {
        if (b->tokens[i] >= m->spec.cfg.n_vocab)
            return err_set(e, ERR_MISMATCH, "token %lld of the batch is %u, but the model has %lld", (long long)i,
                           b->tokens[i], (long long)m->spec.cfg.n_vocab);
        if (m->positions && b->pos[i] >= m->positions->shape[0])
            return err_set(e, ERR_USAGE, "position %d: the model has learned %lld", b->pos[i],
                           (long long)m->positions->shape[0]);
    }
    return ERR_OK;
}

static err_code check_hooks(const model *m, const model_hook *hooks, int n_hooks, err *e) {
    for (int i = 0; i < n_hooks && m->spec.parallel; i++)
        if (hooks[i].at.kind == HOOK_RESID_MID)
            return err_set(e, ERR_USAGE, "blocks.%d has no hook_resid_mid: attention and MLP read the same rows",
                           hooks[i].at.layer);
    return ERR_OK;
}

static bool starts_run(const model_batch *b, int64_t i) { return i == 0 || b->seq[i] != b->seq[i - 1]; }

/* Positions follow each other, from 0 or from what the cache holds. */
static err_code check_positions(const pass *p, err *e) {
    const model_batch *b = p->b;
    kvcache *kv = p->kv;
    if (kv) memcpy(kv->next, kv->filled, (size_t)kv->n_seqs * sizeof *kv->next);
    for (int64_t i = 0; i < p->n; i++) {
        if (kv && (b->seq[i] < 0 || b->seq[i] >= kv->n_seqs))
            return err_set(e, ERR_USAGE, "sequence %d: the cache has %lld", b->seq[i], (long long)kv->n_seqs);
        int64_t expected = kv ? kv->next[b->seq[i]]++ : starts_run(b, i) ? 0 : b->pos[i - 1] + 1;
        if (b->pos[i] != expected)
            return err_set(e, ERR_USAGE, "sequence %d: expected position %lld, got %d", b->seq[i], (long long)expected,
                           b->pos[i]);
        if (kv && b->pos[i] >= kv->n_positions)
            return err_set(e, ERR_USAGE, "sequence %d: position %d is behind the %lld of the cache", b->seq[i], b->pos[i],
                           (long long)kv->n_positions);
    }
    return ERR_OK;
}

static err_code find_runs(pass *p, err *e) {
    arena *a = &p->m->scratch;
    err_code rc;
    for (int64_t i = 0; i < p->n; i++) p->n_runs += starts_run(p->b, i);
    TRY(arena_take(a, &p->runs, (size_t)p->n_runs, sizeof *p->runs, e));
    TRY(arena_take(a, &p->key_at, (size_t)p->n_runs, sizeof *p->key_at, e));
    TRY(arena_take(a, &p->value_at, (size_t)p->n_runs, sizeof *p->value_at, e));
    TRY(arena_take(a, &p->run_of, (size_t)p->n, sizeof *p->run_of, e));
    for (int64_t i = 0, r = -1; i < p->n; i++) {
        if (starts_run(p->b, i)) p->runs[++r] = (attention_run){.first_position = p->b->pos[i]};
        p->runs[r].n_tokens++;
        p->run_of[i] = r;
    }
done:
    return rc;
}

/* Room for the keys and values of one layer, or the places of the sequences in the cache's. */
static err_code place_keys(pass *p, err *e) {
    const attention_shape s = attention_shape_of(p->m);
    size_t keys = 0, values = 0;
    int64_t token = 0;
    err_code rc = ERR_OK;
    for (int64_t i = 0; i < p->n_runs; i++) {
        attention_run *r = p->runs + i;
        bool fits = true;
        if (p->kv) {
            keys = (size_t)(p->b->seq[token] * s.n_kv_heads) * p->kv->key_size;
            values = (size_t)(p->b->seq[token] * s.n_kv_heads) * p->kv->value_size;
            r->key_stride = p->kv->key_size, r->value_stride = p->kv->value_size;
        } else {
            fits = attention_key_size(p->m->cpu, r->n_tokens, s.d_head, &r->key_stride) &&
                   attention_value_size(p->m->cpu, r->n_tokens, s.d_head, &r->value_stride);
        }
        p->key_at[i] = keys, p->value_at[i] = values;
        size_t more_keys, more_values;
        if (!fits || !mem_mul(r->key_stride, (size_t)s.n_kv_heads, &more_keys) || !mem_add(keys, more_keys, &keys) ||
            !mem_mul(r->value_stride, (size_t)s.n_kv_heads, &more_values) || !mem_add(values, more_values, &values))
            return err_set(e, ERR_NOMEM, "the keys of %lld tokens do not fit into memory", (long long)p->n);
        token += r->n_tokens;
    }
    if (p->kv) return ERR_OK;
    TRY(arena_take(&p->m->scratch, &p->keys, keys, sizeof *p->keys, e));
    TRY(arena_take(&p->m->scratch, &p->values, values, sizeof *p->values, e));
done:
    return rc;
}

static err_code take_rows(pass *p, err *e) {
    const model_config *g = &p->m->spec.cfg;
    arena *a = &p->m->scratch;
    size_t chunk = p->n < CHUNK_ROWS ? (size_t)p->n : CHUNK_ROWS,
           n = p->n <= CHUNK_ROWS ? (size_t)p->n : (size_t)((p->n + ROUND_ROWS - 1) / ROUND_ROWS * ROUND_ROWS),
           d = (size_t)g->d_model * sizeof(float), d_q = (size_t)(g->n_heads * g->d_head) * sizeof(float),
           d_kv = (size_t)(g->n_kv_heads * g->d_head) * sizeof(float), d_ff = (size_t)g->d_ff * sizeof(float);
    err_code rc;
    TRY(arena_take(a, &p->x, n, d, e));
    TRY(arena_take(a, &p->out, n, d, e));
    TRY(arena_take(a, &p->q, n, d_q, e));
    if (p->m->spec.parallel) TRY(arena_take(a, &p->held, n, d, e));
    for (int i = 0; i < 2; i++)
        if (p->m->frequencies[i]) TRY(arena_take(a, &p->turn[i], n, (size_t)p->m->spec.n_rotated * sizeof(float), e));
    TRY(arena_take(a, &p->normed, chunk, d, e));
    TRY(arena_take(a, &p->k, chunk, d_kv, e));
    TRY(arena_take(a, &p->v, chunk, d_kv, e));
    TRY(arena_take(a, &p->gate, chunk, d_ff, e));
    TRY(arena_take(a, &p->up, chunk, d_ff, e));
done:
    return rc;
}

/* Whether a linear's weights have to be made for this pass. */
static bool must_unpack(const pass *p, const linear *l) {
    if (!l->rows) return false;
    return !(l->room || l->own) || (gemm_is_compact(l->w.form) && p->n >= UNPACK_ROWS);
}

static size_t floats_of(const pass *p, const linear *l) {
    size_t bytes = 0;
    gemm_packed_size(p->m->cpu, linear_read_form(l), l->w.n, l->w.k, &bytes);
    return bytes / sizeof(float);
}

/* Room for the floats of the largest layer that has to be unpacked. */
static err_code take_weights(pass *p, err *e) {
    arena *a = &p->m->layer;
    size_t most = 0, scratch = 0;
    err_code rc = ERR_OK;
    for (int64_t i = 0; i < p->m->spec.cfg.n_layers; i++) {
        size_t total = 0;
        for (int j = 0; j < LAYER_LINEARS; j++) {
            const linear *l = p->m->layers[i].linears + j;
            if (must_unpack(p, l)) total += floats_of(p, l);
            if (!l->room && linear_scratch(p->m->cpu, l) > scratch) scratch = linear_scratch(p->m->cpu, l);
        }
        if (total > most) most = total;
    }
    arena_reset(a);
    if (!most) return ERR_OK;
    TRY(arena_take(a, &p->weights, most, sizeof *p->weights, e));
    TRY(arena_take(a, &p->weight_rows, scratch * (size_t)p->c->threads, sizeof *p->weight_rows, e));
done:
    return rc;
}

/* The weights of layer i as this pass multiplies them. */
static err_code ready_layer(const pass *p, int i, model_layer *ready, err *e) {
    float *panels = p->weights;
    for (int j = 0; j < LAYER_LINEARS; j++) {
        linear *l = p->m->layers[i].linears + j;
        err_code rc = l->room ? linear_pack(p->c, p->m->w, l, e) : ERR_OK;
        if (rc != ERR_OK) return rc;
    }
    *ready = p->m->layers[i];
    for (int j = 0; j < LAYER_LINEARS; j++) {
        linear *l = ready->linears + j;
        if (!must_unpack(p, l)) continue;
        if (l->w.panels)
            gemm_unpack(p->c, &l->w, panels);
        else
            linear_read(p->c, p->m->w, l, p->weight_rows, panels);
        l->w.form = linear_read_form(l);
        l->w.panels = panels;
        panels += floats_of(p, l);
    }
    return ERR_OK;
}

/* Cosines and sines in double: an angle of thousands of radians has lost its digits in float32. */
static void fill_turns(const pass *p, const double *frequencies, float *turn) {
    int64_t n = p->m->spec.n_rotated, half = n / 2;
#pragma omp parallel for num_threads(p->c->threads) if (p->n >= FEW_ROWS)
    for (int64_t i = 0; i < p->n; i++)
        for (int64_t j = 0; j < half; j++) {
            double angle = p->b->pos[i] * frequencies[j];
            turn[i * n + j] = (float)cos(angle);
            turn[i * n + half + j] = (float)sin(angle);
        }
}

/* A learned position's row passes through `out`, which nobody has used yet. */
static void embed(pass *p) {
    int64_t d = p->m->spec.cfg.d_model;
    float scale = (float)p->m->spec.embedding_scale;
#pragma omp parallel for num_threads(p->c->threads) if (p->n >= FEW_ROWS)
    for (int64_t i = 0; i < p->n; i++) {
        float *x = p->x + i * d;
        matrix_row(p->m->embedding, p->b->tokens[i], x);
        if (scale != 1) p->m->kernels->scale(x, scale, d);
        if (!p->m->positions) continue;
        matrix_row(p->m->positions, p->b->pos[i], p->out + i * d);
        p->m->kernels->add(x, p->out + i * d, d);
    }
}

/* ---- the steps of a block ---- */

static gemm_product times(const linear *l, float *y) {
    return (gemm_product){.w = l->w, .bias = l->bias, .y = y, .ldy = l->w.n};
}

static void norm_row(const model *m, const norm *a, const float *x, float *y) {
    if (a->bias)
        m->kernels->layer_norm(y, x, a->gain, a->bias, a->n, m->spec.cfg.norm_eps);
    else
        m->kernels->rms_norm(y, x, a->gain, a->n, m->spec.cfg.norm_eps);
}

static void norm_rows(const pass *p, const norm *a, const float *x, int64_t n, float *y) {
#pragma omp parallel for num_threads(p->c->threads) if (n >= FEW_ROWS)
    for (int64_t i = 0; i < n; i++) norm_row(p->m, a, x + i * a->n, y + i * a->n);
}

/* The rows of x from `first` on as a sub-layer reads them. */
static const float *read_rows(const pass *p, const norm *a, int64_t first, int64_t n) {
    const float *x = p->x + first * p->m->spec.cfg.d_model;
    if (!a->gain) return x;
    norm_rows(p, a, x, n, p->normed);
    return p->normed;
}

/* What a sub-layer made becomes what it adds. */
static void finish_out(const pass *p, const norm *a) {
    int64_t d = p->m->spec.cfg.d_model;
    float scale = (float)p->m->spec.residual_scale;
    if (a->gain) norm_rows(p, a, p->out, p->n, p->out);
    if (scale == 1) return;
#pragma omp parallel for num_threads(p->c->threads) if (p->n >= FEW_ROWS)
    for (int64_t i = 0; i < p->n; i++) p->m->kernels->scale(p->out + i * d, scale, d);
}

/* Heads of one token, each normed, or all at once. */
static void norm_heads(const pass *p, const norm *a, float *x, int64_t n) {
    for (int64_t i = 0; a->gain && i < n; i += a->n) norm_row(p->m, a, x + i, x + i);
}

/* Queries and keys get their norms and positions; queries their scale; keys and values go where attention finds them. */
static void rotate_and_store(const pass *p, const model_layer *l, const float *turn, int64_t first, int64_t n) {
    const model_config *g = &p->m->spec.cfg;
    int64_t n_rotated = p->m->spec.n_rotated, d = g->d_head, d_q = g->n_heads * d, d_kv = g->n_kv_heads * d;
    float scale = (float)p->m->spec.attention_scale;
#pragma omp parallel for num_threads(p->c->threads) if (n >= FEW_ROWS)
    for (int64_t i = 0; i < n; i++) {
        int64_t t = first + i;
        const attention_run *r = p->runs + p->run_of[t];
        float *q = p->q + t * d_q, *k = p->k + i * d_kv, *v = p->v + i * d_kv;
        norm_heads(p, &l->q_norm, q, d_q);
        norm_heads(p, &l->k_norm, k, d_kv);
        if (turn) {
            p->m->kernels->rope(q, g->n_heads, d, n_rotated, turn + t * n_rotated);
            p->m->kernels->rope(k, g->n_kv_heads, d, n_rotated, turn + t * n_rotated);
        }
        p->m->kernels->scale(q, scale, d_q);
        for (int64_t h = 0; h < g->n_kv_heads; h++)
            attention_put(p->m->cpu, d, p->b->pos[t], k + h * d, v + h * d, (float *)r->keys + (size_t)h * r->key_stride,
                          (float *)r->values + (size_t)h * r->value_stride);
    }
}

static void point_runs(pass *p, int layer) {
    const kvcache *kv = p->kv;
    const model_config *g = &p->m->spec.cfg;
    size_t heads = kv ? (size_t)(layer * kv->n_seqs * g->n_kv_heads) : 0;
    float *keys = kv ? kv->keys + heads * kv->key_size : p->keys,
          *values = kv ? kv->values + heads * kv->value_size : p->values;
    float *q = p->q;
    for (int64_t i = 0; i < p->n_runs; i++) {
        attention_run *r = p->runs + i;
        r->q = r->y = q;
        r->keys = keys + p->key_at[i];
        r->values = values + p->value_at[i];
        q += r->n_tokens * g->n_heads * g->d_head;
    }
}

static void attention_step(pass *p, const model_layer *l, int i) {
    unsigned flags = p->m->spec.layers[i];
    const float *turn = flags & LAYER_NO_ROPE ? NULL : p->turn[flags & LAYER_LOCAL_ROPE ? 1 : 0];
    attention_shape shape = attention_shape_of(p->m);
    int64_t d = p->m->spec.cfg.d_model;
    if (flags & LAYER_WINDOW) shape.window = p->m->spec.window;
    point_runs(p, i);
    for (int64_t first = 0; first < p->n; first += CHUNK_ROWS) {
        int64_t n = p->n - first < CHUNK_ROWS ? p->n - first : CHUNK_ROWS;
        const float *x = read_rows(p, &l->attn_norm, first, n);
        const linear *q = l->linears + LAYER_Q;
        const gemm_product qkv[] = {times(q, p->q + first * q->w.n), times(l->linears + LAYER_K, p->k),
                                    times(l->linears + LAYER_V, p->v)};
        gemm(p->c, n, x, d, qkv, 3);
        rotate_and_store(p, l, turn, first, n);
    }
    attention(p->c, &shape, p->runs, p->n_runs);
    const gemm_product out = times(l->linears + LAYER_ATTN_OUT, p->out);
    gemm(p->c, p->n, p->q, out.w.k, &out, 1);
    finish_out(p, &l->attn_post_norm);
}

static void mlp_step(pass *p, const model_layer *l) {
    int64_t d = p->m->spec.cfg.d_model, d_ff = p->m->spec.cfg.d_ff;
    bool gated = p->m->spec.gated;
    dense_gate *gate = p->m->kernels->gates[p->m->spec.gate];
    for (int64_t first = 0; first < p->n; first += CHUNK_ROWS) {
        int64_t n = p->n - first < CHUNK_ROWS ? p->n - first : CHUNK_ROWS;
        const float *x = read_rows(p, &l->mlp_norm, first, n);
        const gemm_product both[] = {times(l->linears + LAYER_UP, p->up), times(l->linears + LAYER_GATE, p->gate)};
        gemm(p->c, n, x, d, both, gated ? 2 : 1);
#pragma omp parallel for num_threads(p->c->threads) if (n >= FEW_ROWS)
        for (int64_t i = 0; i < n; i++)
            gate(p->gate + i * d_ff, (gated ? p->gate : p->up) + i * d_ff, gated ? p->up + i * d_ff : NULL, d_ff);
        const gemm_product down = times(l->linears + LAYER_DOWN, p->out + first * d);
        gemm(p->c, n, p->gate, d_ff, &down, 1);
    }
    finish_out(p, &l->mlp_post_norm);
}

static void add_out(const pass *p, const float *out) {
    int64_t d = p->m->spec.cfg.d_model;
#pragma omp parallel for num_threads(p->c->threads) if (p->n >= FEW_ROWS)
    for (int64_t i = 0; i < p->n; i++) p->m->kernels->add(p->x + i * d, out + i * d, d);
}

/* After attention; before the block's end. */
static void join_stream(pass *p, hook_kind at) {
    float *out = p->out;
    if (!p->held) {
        add_out(p, out);
    } else if (at == HOOK_RESID_MID) { /* the MLP gets the other buffer */
        p->out = p->held, p->held = out;
    } else {
        add_out(p, p->held);
        add_out(p, out);
    }
}

/* ---- hooks ---- */

static err_code visit_hooks(const pass *p, hook_point at, float *x, err *e) {
    const hook_rows rows = {
        .at = at, .n_tokens = p->n, .d_model = p->m->spec.cfg.d_model, .x = x, .seq = p->b->seq, .pos = p->b->pos};
    for (int i = 0; i < p->n_hooks; i++) {
        if (hook_compare(p->hooks[i].at, at)) continue;
        err_code rc = p->hooks[i].fn(p->hooks[i].user, p->c, &rows, e);
        if (rc != ERR_OK) return rc;
    }
    return ERR_OK;
}

static bool hooks_remain(const pass *p, hook_point at) {
    for (int i = 0; i < p->n_hooks; i++)
        if (hook_compare(p->hooks[i].at, at) > 0) return true;
    return false;
}

static err_code run_block(pass *p, int i, bool whole, err *e) {
    model_layer l = {0};
    for (hook_point at = {.layer = i}; at.kind <= HOOK_RESID_POST && !p->finished; at.kind++) {
        err_code rc = at.kind == HOOK_ATTN_OUT ? ready_layer(p, i, &l, e) : ERR_OK;
        if (rc != ERR_OK) return rc;
        if (at.kind == HOOK_ATTN_OUT) attention_step(p, &l, i);
        if (at.kind == HOOK_MLP_OUT) mlp_step(p, &l);
        if (at.kind == HOOK_RESID_MID || at.kind == HOOK_RESID_POST) join_stream(p, at.kind);
        rc = visit_hooks(p, at, at.kind == HOOK_ATTN_OUT || at.kind == HOOK_MLP_OUT ? p->out : p->x, e);
        if (rc != ERR_OK) return rc;
        p->finished = !whole && !hooks_remain(p, at);
    }
    return ERR_OK;
}

err_code model_forward(const ctx *c, model *m, const model_batch *b, kvcache *kv, const model_hook *hooks, int n_hooks,
                       float *hidden, err *e) {
    ctx same_level = *c; /* weights are packed for the level that the model was opened with */
    same_level.cpu = m->cpu;
    pass p = {.c = &same_level, .m = m, .b = b, .kv = kv, .hooks = hooks, .n_hooks = n_hooks, .n = b->n_tokens};
    bool whole = hidden || kv;
    err_code rc = ERR_OK;
    if (!b->n_tokens || (!whole && !n_hooks)) return ERR_OK;
    arena_reset(&m->scratch);
    TRY(check_hooks(m, hooks, n_hooks, e));
    TRY(check_tokens(m, b, e));
    TRY(check_positions(&p, e));
    TRY(find_runs(&p, e));
    TRY(place_keys(&p, e));
    TRY(take_rows(&p, e));
    TRY(take_weights(&p, e));
    for (int i = 0; i < 2; i++)
        if (m->frequencies[i]) fill_turns(&p, m->frequencies[i], p.turn[i]);
    embed(&p);
    for (int i = 0; i < m->spec.cfg.n_layers && !p.finished; i++) {
        TRY(ctx_check_cancel(c, e));
        TRY(run_block(&p, i, whole, e));
    }
    if (kv) memcpy(kv->filled, kv->next, (size_t)kv->n_seqs * sizeof *kv->filled);
    if (hidden) norm_rows(&p, &m->final_norm, p.x, p.n, hidden);
done:
    return rc;
}
