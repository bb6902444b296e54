#include "sae/sparse.h"
#include "core/mem.h"

#include <stdlib.h>

err_code sparse_reserve(sparse_acts *s, int64_t n_rows, int64_t nnz, err *e) {
    size_t entries = nnz ? (size_t)nnz : 1;
    err_code rc = mem_grow(&s->indptr, &s->cap_rows, (size_t)n_rows + 1, sizeof *s->indptr, "row offsets of latents", e);
    if (!rc) rc = mem_grow(&s->indices, &s->cap_nnz, entries, sizeof *s->indices, "indices of latents", e);
    if (!rc) rc = mem_grow(&s->values, &s->cap_values, entries, sizeof *s->values, "values of latents", e);
    if (!rc && s->n_rows == 0) s->indptr[0] = 0;
    return rc;
}

void sparse_reset(sparse_acts *s) { s->n_rows = 0; }

void sparse_release(sparse_acts *s) {
    free(s->indptr);
    free(s->indices);
    free(s->values);
    *s = (sparse_acts){0};
}

float sparse_get(const sparse_acts *s, int64_t r, uint32_t i) {
    int64_t low = s->indptr[r], high = s->indptr[r + 1];
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (s->indices[middle] < i)
            low = middle + 1;
        else
            high = middle;
    }
    return low < s->indptr[r + 1] && s->indices[low] == i ? s->values[low] : 0;
}
