/* found.h — a scan over scores that keeps what is above a floor. */
#ifndef MATH_KERNELS_FOUND_H
#define MATH_KERNELS_FOUND_H

#include "math/kernels/vec.h"

/* Appends the lanes of s named by mask; returns their number. Writes up to LANES values. */
static inline int64_t append(unsigned mask, vec s, uint32_t first, float *restrict values, uint32_t *restrict indices) {
#if defined(__AVX512F__)
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512i index = _mm512_add_epi32(_mm512_set1_epi32((int)first), lanes);
    _mm512_storeu_ps(values,
                     _mm512_maskz_compress_ps((__mmask16)mask, s)); /* not compressstore: that is microcode on Zen 4 */
    _mm512_storeu_si512(indices, _mm512_maskz_compress_epi32((__mmask16)mask, index));
    return __builtin_popcount(mask);
#else
    float lanes[LANES];
    int64_t n = 0;
    vec_store(lanes, LANES, s);
    for (; mask; mask &= mask - 1, n++) {
        int l = __builtin_ctz(mask);
        values[n] = lanes[l];
        indices[n] = first + (uint32_t)l;
    }
    return n;
#endif
}

/* Where a scan stands. */
typedef struct found {
    float *values;
    uint32_t *indices;
    int64_t n;
} found;

static inline void append_above(vec s, vec floor, int64_t n, uint32_t first, found *to) {
    unsigned mask = vec_above(s, floor);
    if (n < LANES) mask &= (1u << n) - 1;
    if (mask) to->n += append(mask, s, first, to->values + to->n, to->indices + to->n);
}

#endif
