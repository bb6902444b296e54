/* linear.c — a matrix of the file becomes panels of float32. */
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

err_code linear_pack(const ctx *c, linear *l, err *e) {
    if (l->packed) return ERR_OK;
    int64_t panel = gemm_panel(c->cpu), panels = (l->n + panel - 1) / panel;
    size_t size;
    float *packed = NULL, *rows = NULL;
    err_code rc = ERR_OK;
    if (!gemm_packed_size(c->cpu, l->n, l->k, &size)) return err_set(e, ERR_FORMAT, "%s is too large", l->rows->name);
    TRY(mem_new(&packed, size, sizeof *packed, "packed weights", e));
    TRY(mem_new(&rows, (size_t)(c->threads * panel), (size_t)l->k * sizeof *rows, "weights", e));
#pragma omp parallel for num_threads(c->threads) schedule(static)
    for (int64_t thread = 0; thread < c->threads; thread++) {
        float *mine = rows + thread * panel * l->k;
        for (int64_t p = thread; p < panels; p += c->threads) {
            int64_t n = l->n - p * panel < panel ? l->n - p * panel : panel;
            for (int64_t r = 0; r < n; r++) embedding_row(l->rows, linear_file_row(l, p * panel + r), mine + r * l->k);
            gemm_pack_panel(c->cpu, mine, n, l->k, packed + p * panel * l->k);
        }
    }
    l->packed = packed;
    packed = NULL;
done:
    free(packed);
    free(rows);
    return rc;
}

void linear_release(linear *l) {
    free(l->packed);
    free(l->bias);
}
