/* gemm.h — one block of a product of math/gemm.h, computed by one thread. */
#ifndef MATH_KERNELS_GEMM_H
#define MATH_KERNELS_GEMM_H

#include <stdint.h>

enum { GEMM_BLOCK_ROWS = 96 }; /* of x: with TILE_K of k they stay in the second cache while all of w passes */

typedef struct gemm_block {
    int64_t rows, cols, k; /* rows <= GEMM_BLOCK_ROWS */
    const float *x;
    int64_t ldx;
    const float *w;    /* the first panel of the block */
    const float *bias; /* of the first column, or NULL */
    float *y;
    int64_t ldy;
} gemm_block;

typedef struct gemm_kernels {
    int64_t panel;
    void (*pack)(const float *restrict rows, int64_t n_rows, int64_t k, float *restrict panel);
    void (*block)(const gemm_block *b);
} gemm_kernels;

#endif
