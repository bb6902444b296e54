#include "sae/inverted.h"
#include "core/mem.h"

#include <stdlib.h>
#include <string.h>

static err_code reserve(inverted_acts *t, int64_t n_latents, int64_t nnz, err *e) {
    err_code rc = mem_grow(&t->starts, &t->cap_starts, (size_t)n_latents + 1, sizeof *t->starts, "rows of latents", e);
    if (!rc) rc = mem_grow(&t->rows, &t->cap_rows, (size_t)nnz, sizeof *t->rows, "rows of latents", e);
    if (!rc) rc = mem_grow(&t->values, &t->cap_values, (size_t)nnz, sizeof *t->values, "rows of latents", e);
    return rc;
}

/* A counting sort: while rows are placed, starts[i + 1] is where latent i's next row goes, and ends as the start of i + 1. */
err_code inverted_build(inverted_acts *t, const sparse_acts *f, int64_t n_latents, err *e) {
    int64_t nnz = f->indptr[f->n_rows], before = 0;
    err_code rc = reserve(t, n_latents, nnz, e);
    if (rc) return rc;
    t->n_latents = n_latents;
    memset(t->starts, 0, ((size_t)n_latents + 1) * sizeof *t->starts);
    for (int64_t i = 0; i < nnz; i++) t->starts[f->indices[i] + 1]++;
    for (int64_t i = 1; i <= n_latents; i++) {
        int64_t count = t->starts[i];
        t->starts[i] = before;
        before += count;
    }
    for (int64_t r = 0; r < f->n_rows; r++)
        for (int64_t i = f->indptr[r]; i < f->indptr[r + 1]; i++) {
            int64_t at = t->starts[f->indices[i] + 1]++;
            t->rows[at] = (uint32_t)r;
            t->values[at] = f->values[i];
        }
    return ERR_OK;
}

void inverted_release(inverted_acts *t) {
    free(t->starts);
    free(t->rows);
    free(t->values);
    *t = (inverted_acts){0};
}
