/* The kernels of math/dense.h. */
#include "math/dense.h"
#include "core/half.h"
#include "math/kernels/bf16.h"
#include "math/kernels/level.h"
#include "math/kernels/softmax.h"

#include <math.h>

/* ---- norms ---- */

static inline void square_at(vec sum[4], const float *x, int64_t j, int64_t n) {
    vec v = vec_load(x + j, n);
    sum[j / LANES % 4] = vec_madd(v, v, sum[j / LANES % 4]);
}

static double sum_of_squares(const float *x, int64_t d) {
    vec sum[4] = {vec_set(0), vec_set(0), vec_set(0), vec_set(0)};
    VEC_LOOP(d, square_at(sum, x, j, n));
    return (double)vec_sum(vec_add(vec_add(sum[0], sum[1]), vec_add(sum[2], sum[3])));
}

static inline void scale_at(float *y, const float *x, const float *gain, vec scale, int64_t j, int64_t n) {
    vec_store(y + j, n, vec_mul(vec_mul(vec_load(x + j, n), scale), vec_load(gain + j, n)));
}

static void KERNEL(rms_norm)(float *y, const float *x, const float *restrict gain, int64_t d, double eps) {
    vec scale = vec_set((float)(1 / sqrt(sum_of_squares(x, d) / (double)d + eps)));
    VEC_LOOP(d, scale_at(y, x, gain, scale, j, n));
}

static inline void sum_at(vec *sum, const float *x, int64_t j, int64_t n) { *sum = vec_add(*sum, vec_load(x + j, n)); }

static inline void center_at(float *y, const float *x, vec mean, int64_t j, int64_t n) {
    vec_store(y + j, n, vec_sub(vec_load(x + j, n), mean));
}

static inline void scale_and_shift_at(float *y, const float *gain, const float *bias, vec scale, int64_t j, int64_t n) {
    vec_store(y + j, n, vec_madd(vec_mul(vec_load(y + j, n), scale), vec_load(gain + j, n), vec_load(bias + j, n)));
}

static void KERNEL(layer_norm)(float *y, const float *x, const float *restrict gain, const float *restrict bias, int64_t d,
                               double eps) {
    vec sum = vec_set(0);
    VEC_LOOP(d, sum_at(&sum, x, j, n));
    vec mean = vec_set((float)((double)vec_sum(sum) / (double)d));
    VEC_LOOP(d, center_at(y, x, mean, j, n));
    vec scale = vec_set((float)(1 / sqrt(sum_of_squares(y, d) / (double)d + eps)));
    VEC_LOOP(d, scale_and_shift_at(y, gain, bias, scale, j, n));
}

/* ---- rotary positions ---- */

static inline void turn_at(float *restrict a, float *restrict b, const float *restrict cosines, const float *restrict sines,
                           int64_t j, int64_t n) {
    vec x = vec_load(a + j, n), y = vec_load(b + j, n), c = vec_load(cosines + j, n), s = vec_load(sines + j, n);
    vec_store(a + j, n, vec_sub(vec_mul(x, c), vec_mul(y, s)));
    vec_store(b + j, n, vec_madd(y, c, vec_mul(x, s)));
}

static void KERNEL(rope)(float *restrict x, int64_t n_heads, int64_t d_head, int64_t n_turned, const float *restrict turn) {
    int64_t half = n_turned / 2;
    for (int64_t h = 0; h < n_heads; h++, x += d_head) VEC_LOOP(half, turn_at(x, x + half, turn, turn + half, j, n));
}

/* ---- activations ---- */

static inline vec silu(vec x) { return vec_div(x, vec_add(vec_set(1), vec_exp(vec_sub(vec_set(0), x)))); }

/* (1 + tanh u) / 2 = 1 / (1 + e^-2u) */
static inline vec gelu_tanh(vec x) {
    const float twice = 1.5957691216057308f; /* 2 sqrt(2 / pi) */
    vec cubic = vec_madd(vec_mul(vec_mul(x, x), x), vec_set(0.044715f), x);
    return vec_div(x, vec_add(vec_set(1), vec_exp(vec_mul(cubic, vec_set(-twice)))));
}

/* Phi(-z) = erfc(z / sqrt 2) / 2 for z >= 0, with erfc to 1.2e-7 of itself: Press et al. 1992, "Numerical Recipes in C", 6.2. */
static inline vec normal_tail(vec z) {
    static const float series[] = {0.17087277f,  -0.82215223f, 1.48851587f, -1.13520398f, 0.27886807f,
                                   -0.18628806f, 0.09678418f,  0.37409196f, 1.00002368f,  -1.26551223f};
    vec x = vec_mul(z, vec_set(0.70710678f)), t = vec_div(vec_set(1), vec_madd(x, vec_set(0.5f), vec_set(1)));
    vec p = vec_set(series[0]);
    for (int i = 1; i < 10; i++) p = vec_madd(p, t, vec_set(series[i]));
    return vec_mul(vec_mul(t, vec_set(0.5f)), vec_exp(vec_sub(p, vec_mul(x, x))));
}

/* x Phi(x) = max(x, 0) - |x| Phi(-|x|) */
static inline vec gelu(vec x) {
    vec size = vec_max(vec_sub(vec_set(0), x), x);
    return vec_sub(vec_max(vec_set(0), x), vec_mul(size, normal_tail(size)));
}

static inline void gated_at(float *y, vec f, const float *up, int64_t j, int64_t n) {
    vec_store(y + j, n, up ? vec_mul(f, vec_load(up + j, n)) : f);
}

static void KERNEL(silu)(float *y, const float *gate, const float *restrict up, int64_t count) {
    VEC_LOOP(count, gated_at(y, silu(vec_load(gate + j, n)), up, j, n));
}

static void KERNEL(gelu)(float *y, const float *gate, const float *restrict up, int64_t count) {
    VEC_LOOP(count, gated_at(y, gelu(vec_load(gate + j, n)), up, j, n));
}

static void KERNEL(gelu_tanh)(float *y, const float *gate, const float *restrict up, int64_t count) {
    VEC_LOOP(count, gated_at(y, gelu_tanh(vec_load(gate + j, n)), up, j, n));
}

static void KERNEL(soft_cap)(float *x, float cap, int64_t count) { row_soft_cap(x, cap, count); }

static void KERNEL(scale)(float *x, float factor, int64_t count) {
    VEC_LOOP(count, vec_store(x + j, n, vec_mul(vec_load(x + j, n), vec_set(factor))));
}

static void KERNEL(add)(float *restrict y, const float *restrict x, int64_t count) {
    VEC_LOOP(count, vec_store(y + j, n, vec_add(vec_load(y + j, n), vec_load(x + j, n))));
}

/* ---- softmax ---- */

static float KERNEL(largest)(const float *x, int64_t n) { return row_largest(x, n); }
static float KERNEL(exp_sum)(float *x, int64_t n, float shift) { return row_exp(x, n, shift); }

/* ---- 16-bit floats ---- */

static void KERNEL(to_f16)(uint16_t *restrict y, const float *restrict x, int64_t n) {
    int64_t j = 0;
#if defined(__F16C__)
    for (; j + 8 <= n; j += 8)
        _mm_storeu_si128((__m128i *)(y + j),
                         _mm256_cvtps_ph(_mm256_loadu_ps(x + j), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#endif
    for (; j < n; j++) y[j] = half_from_f32(x[j]);
}

static void KERNEL(from_f16)(float *restrict y, const uint16_t *restrict x, int64_t n) {
    int64_t j = 0;
#if defined(__F16C__)
    for (; j + 8 <= n; j += 8) _mm256_storeu_ps(y + j, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(x + j))));
#endif
    for (; j < n; j++) y[j] = half_to_f32(x[j]);
}

static void KERNEL(to_bf16)(uint16_t *restrict y, const float *restrict x, int64_t n) { row_to_bf16(y, x, n); }
static void KERNEL(from_bf16)(float *restrict y, const uint16_t *restrict x, int64_t n) { row_from_bf16(y, x, n); }

extern const dense_kernels KERNEL(dense_kernels);
const dense_kernels KERNEL(dense_kernels) = {
    .rms_norm = KERNEL(rms_norm),
    .layer_norm = KERNEL(layer_norm),
    .rope = KERNEL(rope),
    .gates = {[GATE_SILU] = KERNEL(silu), [GATE_GELU] = KERNEL(gelu), [GATE_GELU_TANH] = KERNEL(gelu_tanh)},
    .soft_cap = KERNEL(soft_cap),
    .scale = KERNEL(scale),
    .add = KERNEL(add),
    .largest = KERNEL(largest),
    .exp_sum = KERNEL(exp_sum),
    .to_f16 = KERNEL(to_f16),
    .from_f16 = KERNEL(from_f16),
    .to_bf16 = KERNEL(to_bf16),
    .from_bf16 = KERNEL(from_bf16),
};
