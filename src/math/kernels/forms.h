/* forms.h — panels of small numbers (math/gemm.h) and how they become float32.
 *
 *   Q4, 32 of k:  scale [TILE_COLS] offset [TILE_COLS] as halves, then bytes [16, TILE_COLS], each an even k's q and 16 times the next one's
 *   Q8, 32 of k:  scale [TILE_COLS] as halves, then int8 [32, TILE_COLS]
 *
 * scale q has at most 19 significant bits, so scale q + offset rounds once, fused or not: as ggml's functions do.
 */
#ifndef MATH_KERNELS_FORMS_H
#define MATH_KERNELS_FORMS_H

#include "core/half.h"
#include "math/gemm.h"
#include "math/kernels/tile.h"

#include <string.h>

enum {
    GROUP = GEMM_GROUP,
    Q4_GROUP_BYTES = TILE_COLS * (2 + 2 + GROUP / 2),
    Q8_GROUP_BYTES = TILE_COLS * (2 + GROUP),
};

/* LANES bytes, each holding a q of one row for an even k in its low half and for the next k in its high half. */
#if defined(__AVX512F__)

typedef __m512i pairs;
static inline pairs pairs_load(const uint8_t *p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)); }
static inline vec small_whole(__m512i u) { /* permuting looks at the low four bits alone */
    return _mm512_permutexvar_ps(u, _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
}
static inline vec pairs_even(pairs u) { return small_whole(u); }
static inline vec pairs_odd(pairs u) { return small_whole(_mm512_srli_epi32(u, 4)); }
static inline vec vec_from_halves(const uint8_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
static inline vec vec_from_int8(const uint8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

#elif defined(__AVX2__) && defined(__FMA__)

typedef __m256i pairs;
static inline pairs pairs_load(const uint8_t *p) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)); }
static inline vec pairs_even(pairs u) { return _mm256_cvtepi32_ps(_mm256_and_si256(u, _mm256_set1_epi32(15))); }
static inline vec pairs_odd(pairs u) { return _mm256_cvtepi32_ps(_mm256_srli_epi32(u, 4)); }
static inline vec vec_from_halves(const uint8_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }
static inline vec vec_from_int8(const uint8_t *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}

#else

typedef struct pairs {
    uint8_t lane[LANES];
} pairs;

#define FORM_EACH(expression)                                                                                                \
    float x[LANES];                                                                                                          \
    for (int l = 0; l < LANES; l++) x[l] = (expression);                                                                     \
    return vec_load(x, LANES)

static inline pairs pairs_load(const uint8_t *p) {
    pairs u;
    memcpy(&u, p, sizeof u);
    return u;
}
static inline vec pairs_even(pairs u) { FORM_EACH((float)(u.lane[l] & 15)); }
static inline vec pairs_odd(pairs u) { FORM_EACH((float)(u.lane[l] >> 4)); }
static inline vec vec_from_halves(const uint8_t *p) { FORM_EACH(half_to_f32((uint16_t)(p[2 * l] | p[2 * l + 1] << 8))); }
static inline vec vec_from_int8(const uint8_t *p) { FORM_EACH((float)(int8_t)p[l]); }

#undef FORM_EACH

#endif

/* What the two forms share: one group of 32 k, whose columns (TILE_VECS vectors each) come out in order of k: those of an even
 * k, then those of k + 1, whose numbers stand in the same bytes. */
typedef struct group_reader {
    const uint8_t *q;
    vec scale[TILE_VECS], offset[TILE_VECS];
    pairs u[TILE_VECS];
} group_reader;

TILE_INLINE void q4_begin(group_reader *g, const uint8_t *group) {
    for (int v = 0; v < TILE_VECS; v++) {
        g->scale[v] = vec_from_halves(group + 2 * v * LANES);
        g->offset[v] = vec_from_halves(group + 2 * (TILE_COLS + v * LANES));
    }
    g->q = group + 4 * TILE_COLS;
}

TILE_INLINE void q4_column(group_reader *g, int k, bool odd, vec column[TILE_VECS]) {
    for (int v = 0; v < TILE_VECS; v++) {
        if (!odd) g->u[v] = pairs_load(g->q + k / 2 * TILE_COLS + v * LANES);
        column[v] = vec_madd(odd ? pairs_odd(g->u[v]) : pairs_even(g->u[v]), g->scale[v], g->offset[v]);
    }
}

TILE_INLINE void q8_begin(group_reader *g, const uint8_t *group) {
    for (int v = 0; v < TILE_VECS; v++) g->scale[v] = vec_from_halves(group + 2 * v * LANES);
    g->q = group + 2 * TILE_COLS;
}

TILE_INLINE void q8_column(group_reader *g, int k, vec column[TILE_VECS]) {
    for (int v = 0; v < TILE_VECS; v++) column[v] = vec_mul(vec_from_int8(g->q + k * TILE_COLS + v * LANES), g->scale[v]);
}

#endif
