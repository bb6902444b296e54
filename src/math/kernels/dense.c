/* The kernels of math/dense.h. */
#include "math/dense.h"
#include "core/half.h"
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

static inline void silu_at(float *y, const float *gate, const float *up, int64_t j, int64_t n) {
    vec g = vec_load(gate + j, n);
    vec silu = vec_div(g, vec_add(vec_set(1), vec_exp(vec_sub(vec_set(0), g))));
    vec_store(y + j, n, vec_mul(silu, vec_load(up + j, n)));
}

static void KERNEL(silu_mul)(float *y, const float *gate, const float *restrict up, int64_t count) {
    VEC_LOOP(count, silu_at(y, gate, up, j, n));
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

/* bf16_from_f32 and back written out, so that the compiler makes vectors of them. */
static void KERNEL(to_bf16)(uint16_t *restrict y, const float *restrict x, int64_t n) {
    for (int64_t j = 0; j < n; j++) {
        union {
            float f;
            uint32_t u;
        } v = {x[j]};
        uint32_t rounded = (v.u + 0x7fff + (v.u >> 16 & 1)) >> 16, nan = v.u >> 16 | 0x40;
        y[j] = (uint16_t)((v.u & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
    }
}

static void KERNEL(from_bf16)(float *restrict y, const uint16_t *restrict x, int64_t n) {
    for (int64_t j = 0; j < n; j++) {
        union {
            uint32_t u;
            float f;
        } v = {(uint32_t)x[j] << 16};
        y[j] = v.f;
    }
}

extern const dense_kernels KERNEL(dense_kernels);
const dense_kernels KERNEL(dense_kernels) = {
    .rms_norm = KERNEL(rms_norm),
    .rope = KERNEL(rope),
    .silu_mul = KERNEL(silu_mul),
    .add = KERNEL(add),
    .largest = KERNEL(largest),
    .exp_sum = KERNEL(exp_sum),
    .to_f16 = KERNEL(to_f16),
    .from_f16 = KERNEL(from_f16),
    .to_bf16 = KERNEL(to_bf16),
    .from_bf16 = KERNEL(from_bf16),
};
