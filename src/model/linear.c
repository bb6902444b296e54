/* linear.c — a matrix of the file becomes panels. */
#include "model/model_internal.h"

#include <stdlib.h>
#include <string.h>

static const char *bytes_at(const tensor_view *t, int64_t value) {
    return (const char *)t->data + (size_t)(value / t->type->block_size) * t->type->block_bytes;
}

void matrix_row(const tensor_view *t, int64_t row, float *out) {
    int64_t k = t->shape[t->n_dims - 1];
    t->type->dequantize(bytes_at(t, row * k), k, out);
}

int64_t row_in_file(const row_order *o, int64_t i) {
    int64_t j = i % o->group, half = o->n_paired / 2;
    int64_t base = o->first + i / o->group * o->stride;
    return base + (j >= o->n_paired ? j : j < half ? 2 * j : 2 * (j - half) + 1);
}

bool linear_size(cpu_level level, const linear *l, size_t *bytes) {
    if (!gemm_packed_size(level, l->w.form, l->w.n, l->w.k, bytes) || !mem_add(*bytes, 63, bytes)) return false;
    *bytes &= ~(size_t)63;
    return true;
}

/* Panel p as floats; rows [gemm_panel, k] is scratch. */
static void read_panel(cpu_level level, const linear *l, int64_t p, float *rows, float *panel) {
    int64_t size = gemm_panel(level), k = l->w.k, n = l->w.n - p * size < size ? l->w.n - p * size : size;
    for (int64_t r = 0; r < n; r++) matrix_row(l->rows, row_in_file(&l->order, p * size + r), rows + r * k);
    gemm_pack_floats(level, rows, n, k, panel);
}

/* The same of a transposed matrix, whose lines hold a panel's values of one k side by side. */
static void read_panel_across(cpu_level level, const linear *l, int64_t p, float *panel) {
    int64_t size = gemm_panel(level), n = l->w.n - p * size < size ? l->w.n - p * size : size, width = l->rows->shape[1];
    for (int64_t j = 0; j < l->w.k; j++, panel += size) {
        l->rows->type->dequantize(bytes_at(l->rows, j * width + l->order.first + p * size), n, panel);
        memset(panel + n, 0, (size_t)(size - n) * sizeof *panel);
    }
}

static void read_panel_floats(cpu_level level, const linear *l, int64_t p, float *rows, float *panel) {
    if (l->transposed)
        read_panel_across(level, l, p, panel);
    else
        read_panel(level, l, p, rows, panel);
}

/* Panel p of blocks that are read as whole numbers. */
static void pack_panel_whole(cpu_level level, const linear *l, int64_t p, quant_whole_reader *read, void *panel) {
    int64_t size = gemm_panel(level), n = l->w.n - p * size < size ? l->w.n - p * size : size, k = l->w.k,
            block = l->rows->type->block_size;
    gemm_form form = gemm_form_of(l->rows->type->name, k);
    size_t bytes = 0;
    gemm_panel_size(level, form, k, &bytes); /* part of a size that did not overflow */
    memset(panel, 0, bytes);
    for (int64_t r = 0; r < n; r++)
        for (int64_t j = 0; j < k; j += block) {
            quant_whole w;
            read(bytes_at(l->rows, row_in_file(&l->order, p * size + r) * k + j), &w);
            gemm_pack_whole(level, form, r, j, block, w.scale, w.offset, w.q, panel);
        }
}

/* Panel p in the form of the file's blocks; false where it has none, or they do not fit it. */
static bool pack_panel_blocks(cpu_level level, const linear *l, int64_t p, void *panel) {
    const void *rows[PANEL_MAX];
    quant_whole_reader *read = quant_whole_of(l->rows->type);
    if (read) return pack_panel_whole(level, l, p, read, panel), true;
    int64_t size = gemm_panel(level), n = l->w.n - p * size < size ? l->w.n - p * size : size;
    for (int64_t r = 0; r < n; r++) rows[r] = bytes_at(l->rows, row_in_file(&l->order, p * size + r) * l->w.k);
    return gemm_pack_blocks(level, l->rows->type->name, rows, n, l->w.k, panel);
}

gemm_form linear_read_form(const linear *l) {
    return gemm_is_compact(l->w.form) ? GEMM_F32 : l->w.form == GEMM_INT4 ? GEMM_INT8 : l->w.form;
}

/* Panel p as GEMM_INT8 or GEMM_BF16; scratch [linear_scratch]. */
static void read_panel_rounded(cpu_level level, const linear *l, int64_t p, float *scratch, void *panel) {
    gemm_form form = l->transposed || l->w.form == GEMM_BF16 ? GEMM_F32 : gemm_form_of(l->rows->type->name, l->w.k);
    float *floats = scratch + gemm_panel(level) * l->w.k;
    if (form == GEMM_F32 || !pack_panel_blocks(level, l, p, floats)) {
        form = GEMM_F32;
        read_panel_floats(level, l, p, scratch, floats);
    }
    if (linear_read_form(l) == GEMM_INT8)
        gemm_pack_int8(level, form, floats, l->w.k, panel);
    else
        gemm_pack_bf16(level, floats, l->w.k, panel);
}

size_t linear_scratch(cpu_level level, const linear *l) {
    return (size_t)(gemm_panel(level) * l->w.k) * (linear_read_form(l) == GEMM_F32 ? 1 : 2);
}

void linear_read(const ctx *c, const weights *w, const linear *l, float *scratch, void *panels) {
    int64_t size = gemm_panel(c->cpu), n_panels = (l->w.n + size - 1) / size;
    gemm_form form = linear_read_form(l);
    size_t bytes = 0, room = linear_scratch(c->cpu, l);
    gemm_panel_size(c->cpu, form, l->w.k, &bytes); /* part of a size that did not overflow */
#pragma omp parallel for num_threads(c->threads) schedule(static)
    for (int64_t thread = 0; thread < c->threads; thread++)
        for (int64_t p = thread; p < n_panels; p += c->threads) {
            char *panel = (char *)panels + (size_t)p * bytes;
            if (form == GEMM_F32)
                read_panel_floats(c->cpu, l, p, scratch + (size_t)thread * room, (float *)(void *)panel);
            else
                read_panel_rounded(c->cpu, l, p, scratch + (size_t)thread * room, panel);
        }
    weights_forget(w, l->rows);
}

/* In l's form, which has to be what linear_read makes. */
static err_code pack_read(const ctx *c, const weights *w, linear *l, void *room, err *e) {
    size_t size;
    void *panels = room;
    float *scratch = NULL;
    err_code rc = ERR_OK;
    if (!gemm_packed_size(c->cpu, l->w.form, l->w.n, l->w.k, &size))
        return err_set(e, ERR_FORMAT, "tensor %s is too large", l->rows->name);
    if (!room) TRY(mem_new_large(&l->own, size, 1, "packed weights", e));
    if (!room) panels = l->own;
    TRY(mem_new(&scratch, (size_t)c->threads, linear_scratch(c->cpu, l) * sizeof *scratch, "weights", e));
    linear_read(c, w, l, scratch, panels);
    l->w.panels = panels;
done:
    free(scratch);
    return rc;
}

static bool pack_blocks(const ctx *c, const linear *l, char *panels) {
    int64_t size = gemm_panel(c->cpu), n_panels = (l->w.n + size - 1) / size;
    size_t bytes = 0;
    int fits = 1;
    gemm_panel_size(c->cpu, l->w.form, l->w.k, &bytes); /* part of a size that did not overflow */
#pragma omp parallel for num_threads(c->threads) schedule(static) reduction(& : fits)
    for (int64_t p = 0; p < n_panels; p++) fits &= pack_panel_blocks(c->cpu, l, p, panels + (size_t)p * bytes);
    return fits;
}

err_code linear_pack(const ctx *c, const weights *w, linear *l, err *e) {
    size_t size;
    if (l->w.panels) return ERR_OK;
    if (l->w.form == linear_read_form(l)) return pack_read(c, w, l, l->room, e);
    if (!linear_size(c->cpu, l, &size)) return err_set(e, ERR_FORMAT, "tensor %s is too large", l->rows->name);
    err_code rc = l->room ? ERR_OK : mem_new_large(&l->own, size, 1, "packed weights", e);
    if (rc != ERR_OK) return rc;
    char *panels = l->room ? l->room : l->own;
    if (pack_blocks(c, l, panels)) {
        l->w.panels = panels;
        weights_forget(w, l->rows);
        return ERR_OK;
    }
    free(l->own);
    l->own = NULL;
    l->w.form = linear_read_form(l);
    return pack_read(c, w, l, NULL, e);
}

void linear_release(linear *l) {
    free(l->own);
    free(l->bias);
}
