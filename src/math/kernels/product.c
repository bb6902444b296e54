/* Blocks of x and panels of w are copied into the order in which the register tile reads them (kernels/tile.h). */
#include "math/kernels/product.h"
#include "math/kernels/level.h"
#include "math/kernels/tile.h"

#include <string.h>

enum { BLOCK_ROWS = 252 }; /* whole tiles of 14, 6 and 4 rows: a block of x stays in the second cache */

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

/* to [rows, stride] = from [rows, columns], which stands turned when `turned`; zeros up to `stride` where the tile reads them. */
static void copy(const float *restrict from, int64_t ld, bool turned, int64_t rows, int64_t columns, float *restrict to,
                 int64_t stride) {
    for (int64_t i = 0; i < rows && !turned; i++) memcpy(to + i * stride, from + i * ld, (size_t)columns * sizeof *to);
    for (int64_t i = 0; i < rows && turned; i++)
        for (int64_t j = 0; j < columns; j++) to[i * stride + j] = from[j * ld + i];
}

/* A block of rows on a stretch of k, already in x. */
static void multiply(const product *p, int64_t row, int64_t rows, int64_t k, int64_t k_size, const float *x) {
    float panel[TILE_K * TILE_COLS] __attribute__((aligned(64)));
    memset(panel, 0, sizeof panel);
    for (int64_t j = 0; j < p->n; j += TILE_COLS) {
        int64_t columns = min64(TILE_COLS, p->n - j);
        copy(p->w + (p->w_turned ? j * p->ldw + k : k * p->ldw + j), p->ldw, p->w_turned, k_size, columns, panel, TILE_COLS);
        tile_result to = {.y = p->y + row * p->ldy + j, .ldy = p->ldy, .cols = columns, .add = p->add || k > 0};
        tile_strips(rows, k_size, x, panel, TILE_COLS, to);
    }
}

extern product_kernel KERNEL(product);
void KERNEL(product)(const product *p) {
    float x[BLOCK_ROWS * TILE_STRIDE] __attribute__((aligned(64)));
    for (int64_t row = 0; row < p->m; row += BLOCK_ROWS) {
        int64_t rows = min64(BLOCK_ROWS, p->m - row);
        for (int64_t k = 0; k == 0 || k < p->k; k += TILE_K) {
            int64_t k_size = min64(TILE_K, p->k - k);
            copy(p->x + (p->x_turned ? k * p->ldx + row : row * p->ldx + k), p->ldx, p->x_turned, rows, k_size, x,
                 TILE_STRIDE);
            multiply(p, row, rows, k, k_size, x);
        }
    }
}
