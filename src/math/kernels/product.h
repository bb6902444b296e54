/* product.h — a product of two matrices as they stand, on the calling thread: for machines whose OpenBLAS has no kernels of
 * their level (math/blas.h). Packed weights (math/gemm.h) are faster still where they are used again. */
#ifndef MATH_KERNELS_PRODUCT_H
#define MATH_KERNELS_PRODUCT_H

#include "core/ctx.h"

/* y [m, n] = x w, or y + x w. All row-major; a turned matrix is stored as its transpose. */
typedef struct product {
    int64_t m, n, k;
    const float *x; /* [m, k]; turned: [k, m] */
    int64_t ldx;
    bool x_turned;
    const float *w; /* [k, n]; turned: [n, k] */
    int64_t ldw;
    bool w_turned;
    bool add;
    float *y;
    int64_t ldy;
} product;

typedef void product_kernel(const product *p);

product_kernel *product_kernel_for(cpu_level level);

#endif
