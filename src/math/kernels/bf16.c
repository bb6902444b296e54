/* Products of GEMM_BF16 (math/gemm.h), blocked as those of gemm.c. Where the machine multiplies pairs of bfloat16 and adds both
 * products to a float, a pair goes through the register tile in the place of a float; elsewhere rounded numbers become floats
 * again and are multiplied as such. */
#if defined(__AVX512BF16__)
#include <immintrin.h>
#define TILE_MADD(a, b, sum) _mm512_dpbf16_ps(sum, (__m512bh)(a), (__m512bh)(b))
#endif
#include "math/kernels/bf16.h"
#include "math/kernels/level.h"
#include "math/kernels/tile.h"

#include <string.h>

/* The tile's step: a pair, or one number; how much of k is one pass over w. */
#if defined(__AVX512BF16__)
enum { STEP = 2 };
#else
enum { STEP = 1 };
#endif
enum { GROUP = GEMM_GROUP, STRETCH = TILE_K * STEP };

static int64_t whole_groups(int64_t k) { return (k + GROUP - 1) / GROUP * GROUP; }

static void KERNEL(pack)(const float *restrict panel, int64_t k, uint16_t *restrict out) {
    memset(out, 0, (size_t)(whole_groups(k) * TILE_COLS) * sizeof *out);
    for (int64_t j = 0; j < k; j++) {
        uint16_t column[TILE_COLS];
        row_to_bf16(column, panel + j * TILE_COLS, TILE_COLS);
        for (int r = 0; r < TILE_COLS; r++) out[(j / 2 * TILE_COLS + r) * 2 + j % 2] = column[r];
    }
}

/* k of a block's rows, in whole steps, TILE_STRIDE apart. */
static void round_rows(const gemm_block *b, int64_t first, int64_t k, float *restrict x) {
    uint16_t rounded[STRETCH];
    for (int64_t r = 0; r < b->rows; r++, x += TILE_STRIDE) {
        row_to_bf16(rounded, b->x + r * b->ldx + first, k);
        if (k % 2) rounded[k] = 0;
        if (STEP == 2)
            memcpy(x, rounded, (size_t)((k + 1) / 2) * sizeof *x);
        else
            row_from_bf16(x, rounded, k);
    }
}

/* The columns of a panel as the tile reads them: as they are, or as floats. */
static const float *columns_of(const uint16_t *panel, int64_t k, float *restrict floats) {
    if (STEP == 2) return (const float *)(const void *)panel;
    for (int64_t j = 0; j < k; j += 2, panel += 2 * TILE_COLS, floats += 2 * TILE_COLS)
        for (int r = 0; r < TILE_COLS; r++) {
            row_from_bf16(floats + r, panel + 2 * r, 1);
            row_from_bf16(floats + TILE_COLS + r, panel + 2 * r + 1, 1);
        }
    return floats - (k + 1) / 2 * 2 * TILE_COLS;
}

static void KERNEL(block)(const gemm_block *b) {
    float x[GEMM_BLOCK_ROWS * TILE_STRIDE] __attribute__((aligned(64)));
    float floats[TILE_K * TILE_COLS] __attribute__((aligned(64)));
    const uint16_t *panels = b->w.panels;
    for (int64_t k = 0; k == 0 || k < b->w.k; k += STRETCH) {
        int64_t k_size = b->w.k - k < STRETCH ? b->w.k - k : STRETCH;
        round_rows(b, k, k_size, x);
        for (int64_t j = 0; j < b->w.n; j += TILE_COLS) {
            const float *w = columns_of(panels + j * whole_groups(b->w.k) + k * TILE_COLS, k_size, floats);
            const tile_result to = {.y = b->y + j,
                                    .ldy = b->ldy,
                                    .cols = b->w.n - j < TILE_COLS ? b->w.n - j : TILE_COLS,
                                    .add = k > 0,
                                    .bias = b->bias && k + k_size == b->w.k ? b->bias + j : NULL};
            tile_strips(b->rows, (k_size + STEP - 1) / STEP, x, w, TILE_COLS, to);
        }
    }
}

extern const bf16_kernels KERNEL(bf16_kernels);
const bf16_kernels KERNEL(bf16_kernels) = {.pack = KERNEL(pack), .block = KERNEL(block)};
