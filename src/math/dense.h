/* dense.h — the kernels of a transformer between its matrix products: norms, rotary positions, activations, softmax, and
 * arrays of 16-bit floats.
 *
 * Sizes may be anything, 0 included; pointers need no alignment. Restrict-qualified arguments must not overlap.
 * Each function is written once (kernels/dense.c) and compiled per machine level; math/ref.h says in double precision what it
 * computes, and tests/unit/test_kernels.c compares all levels with that. Conversions are those of core/half.h, bit for bit.
 */
#ifndef MATH_DENSE_H
#define MATH_DENSE_H

#include "core/ctx.h"

typedef enum gate_kind { GATE_SILU, GATE_GELU, GATE_GELU_TANH, DENSE_GATES } gate_kind;
typedef void dense_gate(float *y, const float *gate, const float *restrict up, int64_t n);

typedef struct dense_kernels {
    /* y = gain * x / sqrt(mean(x^2) + eps); y may be x. */
    void (*rms_norm)(float *y, const float *x, const float *restrict gain, int64_t d, double eps);

    /* y = gain * (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) + bias; y may be x. */
    void (*layer_norm)(float *y, const float *x, const float *restrict gain, const float *restrict bias, int64_t d,
                       double eps);

    /* Turns dimension j of each head together with j + n/2, j < n/2, by the angle whose cosine is turn[j] and whose sine is
     * turn[n/2 + j]. x [n_heads, d_head]; dimensions n and later stay. Su et al. 2021, "RoFormer". */
    void (*rope)(float *restrict x, int64_t n_heads, int64_t d_head, int64_t n, const float *restrict turn);

    /* y = f(gate) * up, or f(gate) when up is NULL; y may be gate.
     *   silu       x / (1 + e^-x)
     *   gelu       x Phi(x), Phi the normal distribution
     *   gelu_tanh  x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2          Hendrycks and Gimpel 2016 */
    dense_gate *gates[DENSE_GATES];

    void (*soft_cap)(float *x, float cap, int64_t n); /* x = cap tanh(x / cap) */
    void (*scale)(float *x, float factor, int64_t n);

    void (*add)(float *restrict y, const float *restrict x, int64_t n); /* y += x */

    float (*largest)(const float *x, int64_t n); /* -infinity when n is 0; no NaN among x */

    /* x = e^(x - shift), returns their sum. */
    float (*exp_sum)(float *x, int64_t n, float shift);

    void (*to_f16)(uint16_t *restrict y, const float *restrict x, int64_t n);
    void (*from_f16)(float *restrict y, const uint16_t *restrict x, int64_t n);
    void (*to_bf16)(uint16_t *restrict y, const float *restrict x, int64_t n);
    void (*from_bf16)(float *restrict y, const uint16_t *restrict x, int64_t n);
} dense_kernels;

const dense_kernels *dense_kernels_for(cpu_level level);

#endif
