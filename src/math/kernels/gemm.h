/* gemm.h — one block of a product of math/gemm.h, computed by one thread. */
#ifndef MATH_KERNELS_GEMM_H
#define MATH_KERNELS_GEMM_H

#include "math/gemm.h"

enum { GEMM_BLOCK_ROWS = 96 }; /* of x: with TILE_K of k they stay in the second cache while all of w passes */

typedef struct gemm_block {
    int64_t rows; /* <= GEMM_BLOCK_ROWS */
    const float *x;
    int64_t ldx;
    gemm_weights w;    /* the block's columns */
    const float *bias; /* of the first column, or NULL */
    float *y;
    int64_t ldy;
} gemm_block;

typedef struct gemm_kernels {
    int64_t panel;
    void (*pack_floats)(const float *restrict rows, int64_t n_rows, int64_t k, float *restrict panel);
    bool (*pack_q4)(const uint8_t *const *rows, int64_t n_rows, int64_t k, bool offsets, uint8_t *restrict panel);
    void (*pack_q8)(const uint8_t *const *rows, int64_t n_rows, int64_t k, uint8_t *restrict panel);
    void (*unpack)(gemm_form form, const void *restrict panel, int64_t k, float *restrict out);
    void (*block)(const gemm_block *b);
} gemm_kernels;

#endif
