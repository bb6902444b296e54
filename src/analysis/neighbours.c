#include "analysis/neighbours.h"

#include "core/mem.h"
#include "math/blas.h"

#include <math.h>
#include <stdlib.h>

enum { TILE = 1024 };

/* Rows of length one; a row of zeros stays. */
static void normalise(const float *W, int64_t n, int64_t d, float *unit) {
    for (int64_t i = 0; i < n; i++) {
        double squares = 0;
        for (int64_t j = 0; j < d; j++) squares += (double)W[i * d + j] * W[i * d + j];
        float scale = squares > 0 ? (float)(1 / sqrt(squares)) : 0;
        for (int64_t j = 0; j < d; j++) unit[i * d + j] = W[i * d + j] * scale;
    }
}

err_code decoder_neighbours(const ctx *c, const float *W, int64_t n, int64_t d, int top, top_entry *best, err *e) {
    float *unit = NULL, *cosines = NULL;
    int *n_best = NULL;
    err_code rc;
    TRY(mem_new(&unit, (size_t)n, (size_t)d * sizeof *unit, "decoder neighbours", e));
    TRY(mem_new(&cosines, TILE, TILE * sizeof *cosines, "decoder neighbours", e));
    TRY(mem_new0(&n_best, (size_t)n, sizeof *n_best, "decoder neighbours", e));
    normalise(W, n, d, unit);
    for (int64_t a = 0; a < n; a += TILE) {
        int64_t rows = n - a < TILE ? n - a : TILE;
        TRY(ctx_check_cancel(c, e));
        for (int64_t b = 0; b < n; b += TILE) {
            int64_t others = n - b < TILE ? n - b : TILE;
            blas_gemm_nt(c, rows, others, d, unit + a * d, d, unit + b * d, d, 0, cosines, others);
#pragma omp parallel for num_threads(c->threads)
            for (int64_t i = 0; i < rows; i++)
                for (int64_t j = 0; j < others; j++)
                    if (a + i != b + j)
                        top_keep(best + (a + i) * top, &n_best[a + i], top,
                                 (top_entry){(int32_t)(b + j), cosines[i * others + j]});
        }
    }
done:
    free(unit);
    free(cosines);
    free(n_best);
    return rc;
}

int cooccurring(const postings *p, const int64_t *indptr, const uint32_t *indices, int64_t feature, int top, int32_t *counts,
                top_entry *best, int64_t *together) {
    int64_t fires = postings_fires(p, feature);
    int n = 0;
    for (int64_t i = p->start[feature]; i < p->start[feature + 1]; i++)
        for (int64_t j = indptr[p->rows[i]]; j < indptr[p->rows[i] + 1]; j++) counts[indices[j]]++;
    counts[feature] = 0;
    for (int64_t f = 0; f < p->n_features; f++) {
        if (!counts[f]) continue;
        double either = (double)(fires + postings_fires(p, f) - counts[f]);
        top_keep(best, &n, top, (top_entry){(int32_t)f, counts[f] / either});
    }
    for (int i = 0; i < n; i++) together[i] = counts[best[i].key];
    for (int64_t f = 0; f < p->n_features; f++) counts[f] = 0;
    return n;
}
