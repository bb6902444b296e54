/* ref.h — what the kernels compute, said in plain double precision: the oracle of their tests, never optimised, never called
 * by the product. Arguments as in dense.h, gemm.h and attention.h.
 */
#ifndef MATH_REF_H
#define MATH_REF_H

#include <stdint.h>

void ref_rms_norm(double *y, const float *x, const float *gain, int64_t d, double eps);
void ref_rope(double *y, const float *x, int64_t n_heads, int64_t d_head, int64_t n, const float *turn);
void ref_layer_norm(double *y, const float *x, const float *gain, const float *bias, int64_t d, double eps);
double ref_gate(int kind, double x); /* a gate_kind */

/* y [m, n] = x [m, k] w [n, k]^T + bias (NULL for none) */
void ref_gemm(double *y, const float *x, const float *w, const float *bias, int64_t m, int64_t n, int64_t k);

/* x [n] as GEMM_INT8 rounds it, 32 numbers at a time. */
void ref_round_int8(double *out, const float *x, int64_t n);

/* One query against n keys: y [d] = softmax(<q, k_i>) v_i, scores capped when cap is not 0; k, v [n, d]. */
void ref_attention(double *y, const float *q, const float *k, const float *v, int64_t n, int64_t d, double cap);

#endif
