/* The kernels of math/gemm.h. A block of x is copied, a stretch of k at a time, into rows TILE_STRIDE apart; each panel of w
 * then meets all of its tiles while it is in the first cache (Goto and van de Geijn 2008, "Anatomy of high-performance matrix
 * multiplication", with the panels of w in the place of their packed A). */
#include "math/kernels/gemm.h"
#include "math/kernels/level.h"
#include "math/kernels/tile.h"

#include <string.h>

enum { BLOCK_ROWS = GEMM_BLOCK_ROWS };

static void KERNEL(pack)(const float *restrict rows, int64_t n_rows, int64_t k, float *restrict panel) {
    for (int64_t j = 0; j < k; j++)
        for (int64_t r = 0; r < TILE_COLS; r++) panel[j * TILE_COLS + r] = r < n_rows ? rows[r * k + j] : 0;
}

/* k in equal stretches of at most TILE_K. */
static int64_t stretch_of(int64_t k) {
    int64_t stretches = (k + TILE_K - 1) / TILE_K;
    return stretches ? ((k + stretches - 1) / stretches + 31) / 32 * 32 : 0;
}

static void KERNEL(block)(const gemm_block *b) {
    float x[BLOCK_ROWS * TILE_STRIDE] __attribute__((aligned(64)));
    int64_t stretch = stretch_of(b->k);
    for (int64_t k = 0; k == 0 || k < b->k; k += stretch) {
        int64_t depth = b->k - k < stretch ? b->k - k : stretch;
        for (int64_t r = 0; r < b->rows; r++) memcpy(x + r * TILE_STRIDE, b->x + r * b->ldx + k, (size_t)depth * sizeof *x);
        for (int64_t j = 0; j < b->cols; j += TILE_COLS) {
            const tile_result to = {.y = b->y + j,
                                    .ldy = b->ldy,
                                    .cols = b->cols - j < TILE_COLS ? b->cols - j : TILE_COLS,
                                    .add = k > 0,
                                    .bias = b->bias && k + depth == b->k ? b->bias + j : NULL};
            tile_strips(b->rows, depth, x, b->w + j * b->k + k * TILE_COLS, TILE_COLS, to);
        }
        if (!stretch) break;
    }
}

extern const gemm_kernels KERNEL(gemm_kernels);
const gemm_kernels KERNEL(gemm_kernels) = {.panel = TILE_COLS, .pack = KERNEL(pack), .block = KERNEL(block)};
