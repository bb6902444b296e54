/* memory.c — what a model will take in memory, from its description.
 *
 * Machine levels differ in how many rows stand in a panel: everything counts as if there were PANEL_MAX of them.
 */
#include "model/model_internal.h"

#include <stdlib.h>

static int64_t padded(int64_t n) { return (n + PANEL_MAX - 1) / PANEL_MAX * PANEL_MAX; }

static size_t packed_bytes(const linear *l, gemm_form form) {
    size_t bytes = 0;
    gemm_packed_size(CPU_PORTABLE, form, padded(l->w.n), l->w.k, &bytes); /* no more than blocks_size, which was checked */
    return bytes;
}

/* The largest block as it is multiplied: where its weights are unpacked for that, or read again. */
static size_t layer_bytes(const model *m) {
    size_t most = 0;
    for (int64_t i = 0; i < m->spec.cfg.n_layers; i++) {
        size_t total = 0;
        for (int j = 0; j < LAYER_LINEARS; j++) {
            const linear *l = m->layers[i].linears + j;
            if (gemm_is_compact(l->w.form) || !blocks_stay(m)) total += packed_bytes(l, linear_read_form(l));
        }
        if (total > most) most = total;
    }
    return most;
}

static size_t bytes_in_file(const model *m) {
    size_t total = 0;
    for (int64_t i = 0; i < m->spec.cfg.n_layers; i++)
        for (int j = 0; j < LAYER_LINEARS; j++) {
            const linear *l = m->layers[i].linears + j;
            if (l->rows) total += (size_t)(l->w.n * l->w.k / l->rows->type->block_size) * l->rows->type->block_bytes;
        }
    return total;
}

/* Keys and values of one position in one layer. */
static int64_t cache_values(const model_config *g) { return g->n_kv_heads * (g->d_head + padded(g->d_head)); }

static void measure(const model *m, model_memory *out) {
    const model_config *g = &m->spec.cfg;
    int64_t turns = ((m->frequencies[0] != NULL) + (m->frequencies[1] != NULL)) * m->spec.n_rotated;
    int64_t row = (m->spec.parallel ? 3 : 2) * g->d_model + g->n_heads * g->d_head + turns + cache_values(g);
    int64_t chunk = g->d_model + 2 * g->n_kv_heads * g->d_head + 2 * g->d_ff;
    *out = (model_memory){
        .blocks = blocks_stay(m) ? blocks_size(m) : 0,
        .blocks_in_file = blocks_stay(m) ? 0 : bytes_in_file(m),
        .head = packed_bytes(&m->head, m->head.w.form),
        .embedding = m->embedding->size,
        .layer = layer_bytes(m),
        .pass = (size_t)chunk * CHUNK_ROWS * sizeof(float),
        .pass_1024 = (size_t)row * 1024 * sizeof(float),
        .cache_1024 = (size_t)(g->n_layers * cache_values(g)) * 1024 * sizeof(float),
    };
}

err_code model_measure(const weights *w, model_precision precision, model_memory *out, err *e) {
    model *m = NULL;
    err_code rc;
    TRY(mem_new0(&m, 1, sizeof *m, "model", e));
    m->w = (weights *)w; /* bound, which changes nothing, and not closed */
    m->precision = precision;
    TRY(arch_describe(w, &m->spec, e));
    TRY(model_bind(m, e));
    if (blocks_size(m) == SIZE_MAX || !gemm_packed_size(CPU_PORTABLE, GEMM_F32, padded(m->head.w.n), m->head.w.k, &out->head))
        TRY(err_set(e, ERR_FORMAT, "its weights are larger than memory can be"));
    measure(m, out);
done:
    if (m) model_unbind(m);
    free(m);
    return rc;
}
