#include "sae/decode.h"
#include "core/mem.h"
#include "math/blas.h"

#include <stdlib.h>
#include <string.h>

enum { TILE_LATENTS = 128 };

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

/* The block's latents as a matrix, a tile of columns at a time; at[r] is where row r stands. */
static void add_dense(const ctx *c, const sae *s, const sparse_acts *f, int64_t first, int64_t rows, float *r) {
    float tile[DECODE_ROWS * TILE_LATENTS];
    int64_t at[DECODE_ROWS], d = s->cfg.d_out;
    for (int64_t i = 0; i < rows; i++) at[i] = f->indptr[first + i];
    for (int64_t from = 0; from < s->cfg.d_sae; from += TILE_LATENTS) {
        int64_t latents = min64(TILE_LATENTS, s->cfg.d_sae - from);
        memset(tile, 0, sizeof tile);
        for (int64_t i = 0; i < rows; i++)
            for (; at[i] < f->indptr[first + i + 1] && f->indices[at[i]] < from + latents; at[i]++)
                tile[i * TILE_LATENTS + (f->indices[at[i]] - from)] = f->values[at[i]];
        blas_gemm_nn_serial(c, rows, d, latents, tile, TILE_LATENTS, s->W_dec + from * d, d, 1, r, d);
    }
}

void decode_add_block(const ctx *c, const sae *s, const sparse_acts *f, int64_t first, int64_t rows, float *r) {
    const sparse_kernels *k = sparse_kernels_for(c->cpu);
    int64_t d = s->cfg.d_out, n = f->indptr[first + rows] - f->indptr[first];
    if ((double)n > DENSE_SHARE * (double)(rows * s->cfg.d_sae)) {
        add_dense(c, s, f, first, rows, r);
        return;
    }
    for (int64_t i = 0; i < rows; i++) {
        int64_t from = f->indptr[first + i];
        k->add_rows(r + i * d, d, s->W_dec, f->indices + from, f->values + from, f->indptr[first + i + 1] - from);
    }
}

err_code decode_add(const ctx *c, const sae *s, const sparse_acts *f, float *r, double *squares, err *e) {
    const sparse_kernels *k = sparse_kernels_for(c->cpu);
    int64_t d = s->cfg.d_out, n_blocks = (f->n_rows + DECODE_ROWS - 1) / DECODE_ROWS;
    double *block_squares;
    err_code rc = mem_new0(&block_squares, (size_t)n_blocks, sizeof *block_squares, "sums of blocks", e);
    if (rc) return rc;
#pragma omp parallel for num_threads(c->threads) schedule(dynamic)
    for (int64_t block = 0; block < n_blocks; block++) {
        int64_t first = block * DECODE_ROWS, rows = min64(DECODE_ROWS, f->n_rows - first);
        decode_add_block(c, s, f, first, rows, r + first * d);
        for (int64_t i = first; i < first + rows; i++) block_squares[block] += (double)k->dot(r + i * d, r + i * d, d);
    }
    *squares = 0;
    for (int64_t block = 0; block < n_blocks; block++) *squares += block_squares[block];
    free(block_squares);
    return ERR_OK;
}
