/* blas.h — the project's only door to OpenBLAS: float32 matrix products whose bits do not depend on the thread count.
 *
 * A product is cut into fixed blocks of the result; threads take blocks, each computed by a single-threaded call. Programs
 * call blas_init once, before any thread exists, which sets OpenBLAS (a process-wide setting) to one thread per call. Where
 * OpenBLAS does not know the processor and falls back on kernels of a lower level than c->cpu, ours do its work.
 * All matrices row-major, none may overlap.
 */
#ifndef MATH_BLAS_H
#define MATH_BLAS_H

#include "core/ctx.h"

void blas_init(void);

/* y = x w^T, or y + x w^T:  x [m, k] (row stride ldx), w [n, k] (ldw), y [m, n] (ldy) */
void blas_gemm_nt(const ctx *c, int64_t m, int64_t n, int64_t k, const float *x, int64_t ldx, const float *w, int64_t ldw,
                  bool add, float *y, int64_t ldy);

/* y = x^T w, or y + x^T w:  x [k, m], w [k, n], y [m, n] */
void blas_gemm_tn(const ctx *c, int64_t m, int64_t n, int64_t k, const float *x, int64_t ldx, const float *w, int64_t ldw,
                  bool add, float *y, int64_t ldy);

/* On the calling thread, whatever c->threads says, for use inside a parallel region. nn: y = x w, w [k, n]. */
void blas_gemm_nt_serial(const ctx *c, int64_t m, int64_t n, int64_t k, const float *x, int64_t ldx, const float *w,
                         int64_t ldw, bool add, float *y, int64_t ldy);
void blas_gemm_nn_serial(const ctx *c, int64_t m, int64_t n, int64_t k, const float *x, int64_t ldx, const float *w,
                         int64_t ldw, bool add, float *y, int64_t ldy);

#endif
