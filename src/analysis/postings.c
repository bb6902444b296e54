#include "analysis/postings.h"

#include "core/mem.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

err_code postings_build(int64_t n_features, int64_t n_rows, const int64_t *indptr, const uint32_t *indices,
                        const float *values, postings *out, err *e) {
    *out = (postings){.n_features = n_features, .n_rows = n_rows};
    if (n_rows > UINT32_MAX)
        return err_set(e, ERR_UNSUPPORTED, "%" PRId64 " rows of codes, at most %u fit", n_rows, UINT32_MAX);
    for (int64_t r = 0; r < n_rows; r++)
        if (indptr[r] > indptr[r + 1] || indptr[0] != 0)
            return err_set(e, ERR_FORMAT, "codes of row %" PRId64 " end before they start", r);
    int64_t nnz = n_rows ? indptr[n_rows] : 0;
    err_code rc;
    TRY(mem_new0(&out->start, (size_t)n_features + 2, sizeof *out->start, "postings", e));
    TRY(mem_new(&out->rows, (size_t)nnz, sizeof *out->rows, "postings", e));
    TRY(mem_new(&out->values, (size_t)nnz, sizeof *out->values, "postings", e));
    int64_t *next = out->start + 1; /* counts, then where the next row of each feature goes, then start of the one behind */
    for (int64_t i = 0; i < nnz; i++) {
        if (indices[i] >= n_features || !isfinite(values[i]) || values[i] <= 0) {
            rc = err_set(e, ERR_FORMAT,
                         "code %" PRId64 " is feature %" PRIu32 " with value %g, expected 0 .. %" PRId64 " and more than 0",
                         i, indices[i], values[i], n_features - 1);
            goto done;
        }
        next[indices[i] + 1]++;
    }
    for (int64_t f = 0; f < n_features; f++) next[f + 1] += next[f];
    for (int64_t r = 0; r < n_rows; r++)
        for (int64_t i = indptr[r]; i < indptr[r + 1]; i++) {
            int64_t to = next[indices[i]]++;
            out->rows[to] = (uint32_t)r;
            out->values[to] = values[i];
        }
done:
    if (rc) postings_release(out);
    return rc;
}

void postings_release(postings *p) {
    free(p->start);
    free(p->rows);
    free(p->values);
    *p = (postings){0};
}

float postings_value(const postings *p, int64_t feature, int64_t row) {
    int64_t low = p->start[feature], high = p->start[feature + 1];
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (p->rows[middle] < row)
            low = middle + 1;
        else
            high = middle;
    }
    return low < p->start[feature + 1] && p->rows[low] == row ? p->values[low] : 0;
}

float postings_max(const postings *p, int64_t feature) {
    float max = 0;
    for (int64_t i = p->start[feature]; i < p->start[feature + 1]; i++)
        if (p->values[i] > max) max = p->values[i];
    return max;
}
