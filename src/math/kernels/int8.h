/* int8.h — products in 8-bit whole numbers, one block of them computed by one thread.
 *
 * A panel of GEMM_INT8, 32 of k: float scale [panel], float offset [panel], then bytes u [8, panel, 4], of every eight of k
 * 0 2 4 6, then 1 3 5 7; w = scale u + offset.
 */
#ifndef MATH_KERNELS_INT8_H
#define MATH_KERNELS_INT8_H

#include "math/kernels/gemm.h"

typedef struct int8_kernels {
    void (*pack)(gemm_form form, const void *restrict panel, int64_t k,
                 uint8_t *restrict out); /* from a panel of that form */
    void (*block)(const gemm_block *b);
} int8_kernels;

#endif
