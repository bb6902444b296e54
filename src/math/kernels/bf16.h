/* bf16.h — products of operands rounded to bfloat16, one block of them computed by one thread.
 *
 * A panel of GEMM_BF16, 2 of k: bfloat16 [panel, 2]; k counted up to a whole group.
 */
#ifndef MATH_KERNELS_BF16_H
#define MATH_KERNELS_BF16_H

#include "math/kernels/gemm.h"

typedef struct bf16_kernels {
    void (*pack)(const float *restrict panel, int64_t k, uint16_t *restrict out);
    void (*block)(const gemm_block *b);
} bf16_kernels;

/* bf16_from_f32 and back of core/half.h written out, so that the compiler makes vectors of them. */
static inline void row_to_bf16(uint16_t *restrict y, const float *restrict x, int64_t n) {
    for (int64_t j = 0; j < n; j++) {
        union {
            float f;
            uint32_t u;
        } v = {x[j]};
        uint32_t rounded = (v.u + 0x7fff + (v.u >> 16 & 1)) >> 16, nan = v.u >> 16 | 0x40;
        y[j] = (uint16_t)((v.u & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
    }
}

static inline void row_from_bf16(float *restrict y, const uint16_t *restrict x, int64_t n) {
    for (int64_t j = 0; j < n; j++) {
        union {
            uint32_t u;
            float f;
        } v = {(uint32_t)x[j] << 16};
        y[j] = v.f;
    }
}

#endif
