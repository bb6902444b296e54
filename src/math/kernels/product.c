/* Blocks of x and panels of w are copied into the order in which the register tile reads them (kernels/tile.h). */
#include "math/kernels/product.h"
#include "math/kernels/level.h"
#include "math/kernels/tile.h"

#include <string.h>

enum { BLOCK_ROWS = 252 }; /* whole tiles of 14, 6 and 4 rows: a block of x stays in the second cache */

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

/* to [rows, stride] = the transpose of from [columns, ld], a square of vectors at a time. */
static void copy_turned(const float *restrict from, int64_t ld, int64_t rows, int64_t columns, float *restrict to,
                        int64_t stride) {
    for (int64_t j = 0; j < columns; j += LANES)
        for (int64_t i = 0; i < rows; i += LANES) {
            int64_t height = min64(LANES, rows - i), width = min64(LANES, columns - j);
            vec square[LANES];
            for (int l = 0; l < LANES; l++) square[l] = l < width ? vec_load(from + (j + l) * ld + i, height) : vec_set(0);
            vec_transpose(square);
            for (int64_t l = 0; l < height; l++) vec_store(to + (i + l) * stride + j, width, square[l]);
        }
}

/* to [rows, stride] = from [rows, columns], which is stored as its transpose when `turned`. */
static void copy(const float *restrict from, int64_t ld, bool turned, int64_t rows, int64_t columns, float *restrict to,
                 int64_t stride) {
    if (turned)
        copy_turned(from, ld, rows, columns, to, stride);
    else
        for (int64_t i = 0; i < rows; i++) memcpy(to + i * stride, from + i * ld, (size_t)columns * sizeof *to);
}

/* k in equal stretches of at most TILE_K. */
static int64_t stretch_of(int64_t k) {
    int64_t stretches = (k + TILE_K - 1) / TILE_K;
    return stretches ? (k + stretches - 1) / stretches : 1;
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
    int64_t stretch = stretch_of(p->k);
    for (int64_t row = 0; row < p->m; row += BLOCK_ROWS) {
        int64_t rows = min64(BLOCK_ROWS, p->m - row);
        for (int64_t k = 0; k == 0 || k < p->k; k += stretch) {
            int64_t k_size = min64(stretch, p->k - k);
            copy(p->x + (p->x_turned ? k * p->ldx + row : row * p->ldx + k), p->ldx, p->x_turned, rows, k_size, x,
                 TILE_STRIDE);
            multiply(p, row, rows, k, k_size, x);
        }
    }
}
