/* linear.c — a matrix of the file becomes panels. */
#include "model/model_internal.h"

#include <stdlib.h>

void embedding_row(const tensor_view *t, int64_t row, float *out) {
    int64_t n = t->shape[t->n_dims - 1];
    size_t bytes = (size_t)(n / t->type->block_size) * t->type->block_bytes;
    t->type->dequantize((const char *)t->data + (size_t)row * bytes, n, out);
}

int64_t linear_file_row(const linear *l, int64_t i) {
    if (!l->n_paired) return i;
    int64_t j = i % l->d_head, half = l->n_paired / 2;
    if (j >= l->n_paired) return i;
    return i - j + (j < half ? 2 * j : 2 * (j - half) + 1);
}

bool linear_size(cpu_level level, const linear *l, size_t *bytes) {
    return gemm_packed_size(level, l->w.form, l->w.n, l->w.k, bytes) && mem_add(*bytes, 63, bytes) &&
           (*bytes &= ~(size_t)63, true);
}

static const void *row_blocks(const linear *l, int64_t i) {
    size_t bytes = l->rows->size / (size_t)l->w.n;
    return (const char *)l->rows->data + (size_t)linear_file_row(l, i) * bytes;
}

/* Panel p as floats; rows [gemm_panel, k] is scratch. */
static void read_panel(cpu_level level, const linear *l, int64_t p, float *rows, float *panel) {
    int64_t size = gemm_panel(level), k = l->w.k, n = l->w.n - p * size < size ? l->w.n - p * size : size;
    for (int64_t r = 0; r < n; r++) embedding_row(l->rows, linear_file_row(l, p * size + r), rows + r * k);
    gemm_pack_floats(level, rows, n, k, panel);
}

void linear_read(const ctx *c, const linear *l, float *scratch, float *panels) {
    int64_t size = gemm_panel(c->cpu), k = l->w.k, n_panels = (l->w.n + size - 1) / size;
#pragma omp parallel for num_threads(c->threads) schedule(static)
    for (int64_t thread = 0; thread < c->threads; thread++)
        for (int64_t p = thread; p < n_panels; p += c->threads)
            read_panel(c->cpu, l, p, scratch + thread * size * k, panels + p * size * k);
}

static err_code pack_floats(const ctx *c, linear *l, float *room, err *e) {
    size_t size;
    float *panels = room, *scratch = NULL;
    err_code rc = ERR_OK;
    if (!gemm_packed_size(c->cpu, GEMM_F32, l->w.n, l->w.k, &size))
        return err_set(e, ERR_FORMAT, "tensor %s is too large", l->rows->name);
    if (!room) TRY(mem_new_large(&l->own, size, 1, "packed weights", e));
    if (!room) panels = l->own;
    TRY(mem_new(&scratch, (size_t)(c->threads * gemm_panel(c->cpu)), (size_t)l->w.k * sizeof *scratch, "weights", e));
    linear_read(c, l, scratch, panels);
    l->w.form = GEMM_F32;
    l->w.panels = panels;
done:
    free(scratch);
    return rc;
}

enum { PANEL_MAX = 32 };

static bool pack_blocks(const ctx *c, const linear *l, char *panels) {
    int64_t size = gemm_panel(c->cpu), n_panels = (l->w.n + size - 1) / size;
    size_t bytes = 0;
    int fits = 1;
    gemm_panel_size(c->cpu, l->w.form, l->w.k, &bytes); /* part of a size that did not overflow */
#pragma omp parallel for num_threads(c->threads) schedule(static) reduction(& : fits)
    for (int64_t p = 0; p < n_panels; p++) {
        const void *rows[PANEL_MAX];
        int64_t n = l->w.n - p * size < size ? l->w.n - p * size : size;
        for (int64_t r = 0; r < n; r++) rows[r] = row_blocks(l, p * size + r);
        fits &= gemm_pack_blocks(c->cpu, l->rows->type->name, rows, n, l->w.k, panels + (size_t)p * bytes);
    }
    return fits;
}

err_code linear_pack(const ctx *c, linear *l, void *room, err *e) {
    size_t size;
    if (l->w.panels) return ERR_OK;
    if (l->w.form == GEMM_F32) return pack_floats(c, l, room, e);
    if (!linear_size(c->cpu, l, &size)) return err_set(e, ERR_FORMAT, "tensor %s is too large", l->rows->name);
    err_code rc = room ? ERR_OK : mem_new_large(&l->own, size, 1, "packed weights", e);
    if (rc != ERR_OK) return rc;
    if (pack_blocks(c, l, room ? room : l->own)) {
        l->w.panels = room ? room : l->own;
        return ERR_OK;
    }
    free(l->own);
    l->own = NULL;
    return pack_floats(c, l, NULL, e);
}

void linear_release(linear *l) {
    free(l->own);
    free(l->bias);
}
