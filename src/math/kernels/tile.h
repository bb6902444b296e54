/* tile.h — the register tile under every matrix product: up to TILE_ROWS rows of x times TILE_COLS columns of w, summed over
 * k in order, one fused multiply-add a step. A row's sums do not depend on how many rows stand in its tile, which is why a
 * sequence's results have the same bits alone and in any batch.
 *
 * x is read a float at a time from rows TILE_STRIDE apart (a constant, so that all rows share one address register, and no
 * power of two, so that they share no cache set); w a vector at a time, step k's TILE_COLS values side by side.
 */
#ifndef MATH_KERNELS_TILE_H
#define MATH_KERNELS_TILE_H

#include "math/kernels/vec.h"

#include <stdbool.h>

/* The sums, TILE_VECS vectors of w and one value of x fill the registers: 32, 16, and as many as the compiler has.
 * TILE_K: how much of k is summed before the sums are put away; x and w of one tile then fit the nearest caches. */
#if defined(__AVX512F__)
enum { TILE_ROWS = 14, TILE_K = 256 };
#elif defined(__AVX2__)
enum { TILE_ROWS = 6, TILE_K = 384 };
#else
enum { TILE_ROWS = 4, TILE_K = 384 };
#endif
enum { TILE_VECS = 2, TILE_COLS = TILE_VECS * LANES, TILE_STRIDE = TILE_K + 16 };

/* What a step adds to a sum; a source may have defined its own, over other things than floats of the same size. */
#ifndef TILE_MADD
#define TILE_MADD vec_madd
#endif

#define TILE_INLINE static inline __attribute__((always_inline))

/* y (+)= x w (+ bias) on rows x cols; bias NULL for none. */
typedef struct tile_result {
    float *y;
    int64_t ldy;
    int64_t cols; /* 1 .. TILE_COLS */
    bool add;
    const float *bias;
} tile_result;

TILE_INLINE void tile_put(const tile_result *to, int r, int v, vec sum) {
    int64_t n = to->cols - v * LANES;
    if (n <= 0) return;
    if (n > LANES) n = LANES;
    float *y = to->y + r * to->ldy + v * LANES;
    if (to->add) sum = vec_add(vec_load(y, n), sum);
    if (to->bias) sum = vec_add(sum, vec_load(to->bias + v * LANES, n));
    vec_store(y, n, sum);
}

/* rows is a constant wherever this is inlined: the loops over it unroll into registers. */
TILE_INLINE void tile_rows(int rows, int64_t k_size, const float *x, const float *w, int64_t ldw, const tile_result *to) {
    vec sum[TILE_ROWS][TILE_VECS];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < TILE_VECS; v++) sum[r][v] = vec_set(0);
    for (int64_t k = 0; k < k_size; k++, w += ldw) {
        vec column[TILE_VECS];
        for (int v = 0; v < TILE_VECS; v++) column[v] = vec_load(w + v * LANES, LANES);
        for (int r = 0; r < rows; r++) {
            vec value = vec_set(x[r * TILE_STRIDE + k]);
            for (int v = 0; v < TILE_VECS; v++) sum[r][v] = TILE_MADD(value, column[v], sum[r][v]);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < TILE_VECS; v++) tile_put(to, r, v, sum[r][v]);
}

/* One tile of 1 .. TILE_ROWS rows. */
static inline void tile_any(int64_t rows, int64_t k, const float *x, const float *w, int64_t ldw, const tile_result *to) {
#define TILE_CASE(n)                                                                                                         \
    case n:                                                                                                                  \
        if (n <= TILE_ROWS) tile_rows(n <= TILE_ROWS ? n : 1, k, x, w, ldw, to);                                             \
        break
    switch (rows) {
        TILE_CASE(1);
        TILE_CASE(2);
        TILE_CASE(3);
        TILE_CASE(4);
        TILE_CASE(5);
        TILE_CASE(6);
        TILE_CASE(7);
        TILE_CASE(8);
        TILE_CASE(9);
        TILE_CASE(10);
        TILE_CASE(11);
        TILE_CASE(12);
        TILE_CASE(13);
        TILE_CASE(14);
    }
#undef TILE_CASE
}

/* `rows` rows in as few tiles as possible, of nearly equal height. */
static inline void tile_strips(int64_t rows, int64_t k, const float *x, const float *w, int64_t ldw, tile_result to) {
    int64_t tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
    for (int64_t i = 0, r = 0; i < tiles; i++) {
        int64_t height = (rows - r + tiles - i - 1) / (tiles - i);
        tile_any(height, k, x + r * TILE_STRIDE, w, ldw, &to);
        to.y += height * to.ldy;
        r += height;
    }
}

#endif
