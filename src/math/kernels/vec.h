/* vec.h — one vector of floats at the machine level a kernel is compiled for: the same loop is AVX-512, AVX2 and plain C.
 *
 * A loop's body is an inline function of (j, n) that works on n <= LANES floats from j on; VEC_LOOP calls it with n = LANES,
 * a constant that makes whole-vector loads of it, then once with what is left. Loads give zeros behind n, stores write
 * nothing there. vec_madd is fused where the level has it: results differ between levels in the last bit, never between
 * threads.
 */
#ifndef MATH_KERNELS_VEC_H
#define MATH_KERNELS_VEC_H

#include <stdint.h>

#define VEC_LOOP(d, body)                                                                                                    \
    do {                                                                                                                     \
        int64_t j = 0, n = LANES;                                                                                            \
        for (; j + LANES <= (d); j += LANES) body;                                                                           \
        n = (d)-j;                                                                                                           \
        if (n) body;                                                                                                         \
    } while (0)

#if defined(__AVX512F__)

#include <immintrin.h>

enum { LANES = 16 };
typedef __m512 vec;

static inline vec vec_set(float x) { return _mm512_set1_ps(x); }
static inline __mmask16 vec_first(int64_t n) { return (__mmask16)((1u << n) - 1); }
static inline vec vec_load(const float *p, int64_t n) {
    return n == LANES ? _mm512_loadu_ps(p) : _mm512_maskz_loadu_ps(vec_first(n), p);
}
static inline void vec_store(float *p, int64_t n, vec x) {
    if (n == LANES)
        _mm512_storeu_ps(p, x);
    else
        _mm512_mask_storeu_ps(p, vec_first(n), x);
}
static inline vec vec_add(vec a, vec b) { return _mm512_add_ps(a, b); }
static inline vec vec_sub(vec a, vec b) { return _mm512_sub_ps(a, b); }
static inline vec vec_mul(vec a, vec b) { return _mm512_mul_ps(a, b); }
static inline vec vec_div(vec a, vec b) { return _mm512_div_ps(a, b); }
static inline vec vec_sqrt(vec a) { return _mm512_sqrt_ps(a); }
static inline vec vec_madd(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); } /* a b + c */
static inline float vec_sum(vec a) { return _mm512_reduce_add_ps(a); }
static inline unsigned vec_above(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); } /* bit l: a[l] > b[l] */
static inline vec vec_max(vec a, vec b) { return _mm512_max_ps(a, b); } /* b when either is NaN; so does vec_min */
static inline vec vec_min(vec a, vec b) { return _mm512_min_ps(a, b); }
static inline float vec_largest(vec a) { return _mm512_reduce_max_ps(a); }
static inline vec vec_low_bits_to_exponent(vec a) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(a), 23));
}
/* Row i of a square of LANES vectors becomes column i: in fours within quarters, then the quarters among each other. */
static inline void vec_transpose(vec a[LANES]) {
    vec t[LANES];
    for (int i = 0; i < LANES; i += 4) {
        vec low01 = _mm512_unpacklo_ps(a[i], a[i + 1]), high01 = _mm512_unpackhi_ps(a[i], a[i + 1]);
        vec low23 = _mm512_unpacklo_ps(a[i + 2], a[i + 3]), high23 = _mm512_unpackhi_ps(a[i + 2], a[i + 3]);
        t[i] = _mm512_shuffle_ps(low01, low23, 0x44), t[i + 1] = _mm512_shuffle_ps(low01, low23, 0xee);
        t[i + 2] = _mm512_shuffle_ps(high01, high23, 0x44), t[i + 3] = _mm512_shuffle_ps(high01, high23, 0xee);
    }
    for (int i = 0; i < 4; i++) {
        vec even01 = _mm512_shuffle_f32x4(t[i], t[i + 4], 0x88), odd01 = _mm512_shuffle_f32x4(t[i], t[i + 4], 0xdd);
        vec even23 = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0x88), odd23 = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0xdd);
        a[i] = _mm512_shuffle_f32x4(even01, even23, 0x88), a[i + 8] = _mm512_shuffle_f32x4(even01, even23, 0xdd);
        a[i + 4] = _mm512_shuffle_f32x4(odd01, odd23, 0x88), a[i + 12] = _mm512_shuffle_f32x4(odd01, odd23, 0xdd);
    }
}

#elif defined(__AVX2__) && defined(__FMA__)

#include <immintrin.h>

enum { LANES = 8 };
typedef __m256 vec;

static inline vec vec_set(float x) { return _mm256_set1_ps(x); }
static inline __m256i vec_first(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline vec vec_load(const float *p, int64_t n) {
    return n == LANES ? _mm256_loadu_ps(p) : _mm256_maskload_ps(p, vec_first(n));
}
static inline void vec_store(float *p, int64_t n, vec x) {
    if (n == LANES)
        _mm256_storeu_ps(p, x);
    else
        _mm256_maskstore_ps(p, vec_first(n), x);
}
static inline vec vec_add(vec a, vec b) { return _mm256_add_ps(a, b); }
static inline vec vec_sub(vec a, vec b) { return _mm256_sub_ps(a, b); }
static inline vec vec_mul(vec a, vec b) { return _mm256_mul_ps(a, b); }
static inline vec vec_div(vec a, vec b) { return _mm256_div_ps(a, b); }
static inline vec vec_sqrt(vec a) { return _mm256_sqrt_ps(a); }
static inline vec vec_madd(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
static inline float vec_sum(vec a) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
static inline unsigned vec_above(vec a, vec b) { return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ)); }
static inline vec vec_max(vec a, vec b) { return _mm256_max_ps(a, b); }
static inline vec vec_min(vec a, vec b) { return _mm256_min_ps(a, b); }
static inline float vec_largest(vec a) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
static inline vec vec_low_bits_to_exponent(vec a) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a), 23));
}
static inline void vec_transpose(vec a[LANES]) {
    vec t[LANES];
    for (int i = 0; i < LANES; i += 4) {
        vec low01 = _mm256_unpacklo_ps(a[i], a[i + 1]), high01 = _mm256_unpackhi_ps(a[i], a[i + 1]);
        vec low23 = _mm256_unpacklo_ps(a[i + 2], a[i + 3]), high23 = _mm256_unpackhi_ps(a[i + 2], a[i + 3]);
        t[i] = _mm256_shuffle_ps(low01, low23, 0x44), t[i + 1] = _mm256_shuffle_ps(low01, low23, 0xee);
        t[i + 2] = _mm256_shuffle_ps(high01, high23, 0x44), t[i + 3] = _mm256_shuffle_ps(high01, high23, 0xee);
    }
    for (int i = 0; i < 4; i++) {
        a[i] = _mm256_permute2f128_ps(t[i], t[i + 4], 0x20);
        a[i + 4] = _mm256_permute2f128_ps(t[i], t[i + 4], 0x31);
    }
}

#else

#include <math.h>
#include <string.h>

enum { LANES = 4 };
typedef struct vec {
    float lane[4];
} vec;

#define VEC_EACH(expression)                                                                                                 \
    vec r;                                                                                                                   \
    for (int l = 0; l < LANES; l++) r.lane[l] = (expression);                                                                \
    return r

static inline vec vec_set(float x) { VEC_EACH(x); }
static inline vec vec_load(const float *p, int64_t n) { VEC_EACH(l < n ? p[l] : 0); }
static inline void vec_store(float *p, int64_t n, vec x) { memcpy(p, x.lane, (size_t)n * sizeof(float)); }
static inline vec vec_add(vec a, vec b) { VEC_EACH(a.lane[l] + b.lane[l]); }
static inline vec vec_sub(vec a, vec b) { VEC_EACH(a.lane[l] - b.lane[l]); }
static inline vec vec_mul(vec a, vec b) { VEC_EACH(a.lane[l] * b.lane[l]); }
static inline vec vec_div(vec a, vec b) { VEC_EACH(a.lane[l] / b.lane[l]); }
static inline vec vec_sqrt(vec a) { VEC_EACH(sqrtf(a.lane[l])); }
static inline vec vec_madd(vec a, vec b, vec c) { VEC_EACH(a.lane[l] * b.lane[l] + c.lane[l]); }
static inline float vec_sum(vec a) { return (a.lane[0] + a.lane[1]) + (a.lane[2] + a.lane[3]); }
static inline unsigned vec_above(vec a, vec b) {
    unsigned mask = 0;
    for (int l = 0; l < LANES; l++) mask |= (unsigned)(a.lane[l] > b.lane[l]) << l;
    return mask;
}
static inline vec vec_max(vec a, vec b) { VEC_EACH(a.lane[l] > b.lane[l] ? a.lane[l] : b.lane[l]); }
static inline vec vec_min(vec a, vec b) { VEC_EACH(a.lane[l] < b.lane[l] ? a.lane[l] : b.lane[l]); }
static inline float vec_largest(vec a) { return fmaxf(fmaxf(a.lane[0], a.lane[1]), fmaxf(a.lane[2], a.lane[3])); }
static inline vec vec_low_bits_to_exponent(vec a) {
    uint32_t bits[LANES];
    memcpy(bits, &a, sizeof bits);
    for (int l = 0; l < LANES; l++) bits[l] <<= 23;
    memcpy(&a, bits, sizeof bits);
    return a;
}
static inline void vec_transpose(vec a[LANES]) {
    vec t[LANES];
    memcpy(t, a, sizeof t);
    for (int i = 0; i < LANES; i++)
        for (int l = 0; l < LANES; l++) a[l].lane[i] = t[i].lane[l];
}

#undef VEC_EACH

#endif

/* e^x to about one unit in the last place; x is held within [-87.3, 88.3] first, NaN stays NaN.
 * x = n ln 2 + r with n whole and |r| <= ln 2 / 2, and e^r by its Taylor series to r^7: the next term is below 6e-9.
 * Adding 1.5 * 2^23 rounds to a whole number and leaves it in the low bits of the mantissa; with 127 more, shifting these
 * into the exponent's place gives 2^n. ln 2 is split so that n times its first part is exact. */
static inline vec vec_exp(vec x) {
    x = vec_min(vec_set(88.3f), vec_max(vec_set(-87.3f), x));
    const vec magic = vec_set(12582912.0f + 127);
    vec shifted = vec_madd(x, vec_set(1.44269504f), magic);
    vec n = vec_sub(shifted, magic);
    vec r = vec_madd(n, vec_set(-0.693359375f), x);
    r = vec_madd(n, vec_set(2.12194440e-4f), r);
    vec p = vec_madd(vec_set(1.0f / 5040), r, vec_set(1.0f / 720));
    p = vec_madd(p, r, vec_set(1.0f / 120));
    p = vec_madd(p, r, vec_set(1.0f / 24));
    p = vec_madd(p, r, vec_set(1.0f / 6));
    p = vec_madd(p, r, vec_set(0.5f));
    p = vec_madd(vec_mul(r, r), p, r); /* e^r - 1 */
    return vec_mul(vec_add(p, vec_set(1)), vec_low_bits_to_exponent(shifted));
}

/* tanh x to about 1e-7 of one, not of itself. */
static inline vec vec_tanh(vec x) {
    return vec_sub(vec_set(1), vec_div(vec_set(2), vec_add(vec_set(1), vec_exp(vec_add(x, x)))));
}

#endif
