/* forms.h — panels of small numbers (math/gemm.h) and how they become float32.
 *
 *   Q4, 32 of k:  scale [TILE_COLS] offset [TILE_COLS] as halves, then words [4, TILE_COLS] of eight k each, the first in the
 *                 lowest four bits
 *   Q8, 32 of k:  scale [TILE_COLS] as halves, then int8 [32, TILE_COLS]
 *
 *   Q4F, Q8F:     floats scale [TILE_COLS] offset [TILE_COLS], of Q8F twice, for 16 of k each; then as above
 *
 * scale q has no more significant bits than a float, so scale q + offset rounds once, fused or not: as ggml's functions do.
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
    Q4F_GROUP_BYTES = TILE_COLS * (8 + GROUP / 2),
    Q8F_GROUP_BYTES = TILE_COLS * (16 + GROUP),
};

/* LANES words of eight q of one row each, taken from the low end two by two: the first as it is, the second 16-fold where that
 * saves shifting it. */
#if defined(__AVX512F__)

typedef __m512i words;
static inline words words_load(const uint8_t *p) { return _mm512_loadu_si512(p); }
static inline words words_next(words u) { return _mm512_srli_epi32(u, 8); }
static inline vec words_first(words u) { /* permuting looks at the low four bits alone */
    return _mm512_permutexvar_ps(u, _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
}
enum { SECOND_FOLD = 1 };
static inline vec words_second(words u) { return words_first(_mm512_srli_epi32(u, 4)); }
static inline vec vec_from_halves(const uint8_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
static inline vec vec_from_int8(const uint8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

#elif defined(__AVX2__) && defined(__FMA__)

typedef __m256i words;
static inline words words_load(const uint8_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
static inline words words_next(words u) { return _mm256_srli_epi32(u, 8); }
static inline vec words_first(words u) { return _mm256_cvtepi32_ps(_mm256_and_si256(u, _mm256_set1_epi32(15))); }
enum { SECOND_FOLD = 16 };
static inline vec words_second(words u) { return _mm256_cvtepi32_ps(_mm256_and_si256(u, _mm256_set1_epi32(0xf0))); }
static inline vec vec_from_halves(const uint8_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }
static inline vec vec_from_int8(const uint8_t *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}

#else

typedef struct words {
    uint32_t lane[LANES];
} words;

#define FORM_EACH(expression)                                                                                                \
    float x[LANES];                                                                                                          \
    for (int l = 0; l < LANES; l++) x[l] = (expression);                                                                     \
    return vec_load(x, LANES)

static inline words words_load(const uint8_t *p) {
    words u;
    memcpy(&u, p, sizeof u);
    return u;
}
static inline words words_next(words u) {
    for (int l = 0; l < LANES; l++) u.lane[l] >>= 8;
    return u;
}
static inline vec words_first(words u) { FORM_EACH((float)(u.lane[l] & 15)); }
enum { SECOND_FOLD = 16 };
static inline vec words_second(words u) { FORM_EACH((float)(u.lane[l] & 0xf0)); }
static inline vec vec_from_halves(const uint8_t *p) { FORM_EACH(half_to_f32((uint16_t)(p[2 * l] | p[2 * l + 1] << 8))); }
static inline vec vec_from_int8(const uint8_t *p) { FORM_EACH((float)(int8_t)p[l]); }

#undef FORM_EACH

#endif

/* What the forms share: one group of 32 k, whose columns (TILE_VECS vectors each) come out in order of k. Every eighth
 * one begins a word. */
enum { WORD = 8 };

/* Before a loop over the k of a word, so that every k knows its place in it. */
#if defined(__AVX2__)
#define WORD_UNROLL _Pragma("GCC unroll 8")
#else
#define WORD_UNROLL /* plain C becomes too long to compile */
#endif

typedef struct group_reader {
    const uint8_t *q;
    vec scale[TILE_VECS], second_scale[TILE_VECS], offset[TILE_VECS];
    words u[TILE_VECS];
} group_reader;

TILE_INLINE void q4f_begin(group_reader *g, const uint8_t *group) {
    const float *scale = (const float *)(const void *)group;
    for (int v = 0; v < TILE_VECS; v++) {
        g->scale[v] = vec_load(scale + v * LANES, LANES);
        g->second_scale[v] = vec_mul(g->scale[v], vec_set(1.0f / SECOND_FOLD));
        g->offset[v] = vec_load(scale + TILE_COLS + v * LANES, LANES);
    }
    g->q = group + 8 * TILE_COLS;
}

TILE_INLINE void q4_begin(group_reader *g, const uint8_t *group) {
    for (int v = 0; v < TILE_VECS; v++) {
        g->scale[v] = vec_from_halves(group + 2 * v * LANES);
        g->second_scale[v] = vec_mul(g->scale[v], vec_set(1.0f / SECOND_FOLD)); /* exact: a half is not that small */
        g->offset[v] = vec_from_halves(group + 2 * (TILE_COLS + v * LANES));
    }
    g->q = group + 4 * TILE_COLS;
}

TILE_INLINE void q4_word(group_reader *g, int k) {
    for (int v = 0; v < TILE_VECS; v++) g->u[v] = words_load(g->q + k / 2 * TILE_COLS + 4 * v * LANES);
}

TILE_INLINE void q4_column(group_reader *g, int k, vec column[TILE_VECS]) {
    for (int v = 0; v < TILE_VECS; v++)
        if (k % 2) {
            column[v] = vec_madd(words_second(g->u[v]), g->second_scale[v], g->offset[v]);
            g->u[v] = words_next(g->u[v]);
        } else {
            column[v] = vec_madd(words_first(g->u[v]), g->scale[v], g->offset[v]);
        }
}

TILE_INLINE void q8_begin(group_reader *g, const uint8_t *group) {
    for (int v = 0; v < TILE_VECS; v++) g->scale[v] = vec_from_halves(group + 2 * v * LANES);
    g->q = group + 2 * TILE_COLS;
}

TILE_INLINE void q8_column(group_reader *g, int k, vec column[TILE_VECS]) {
    for (int v = 0; v < TILE_VECS; v++) column[v] = vec_mul(vec_from_int8(g->q + k * TILE_COLS + v * LANES), g->scale[v]);
}

/* The scales of the half group that begins at k. */
TILE_INLINE void q8f_word(group_reader *g, int k) {
    const float *scale = (const float *)(const void *)g->q + k / 16 * 2 * TILE_COLS;
    for (int v = 0; v < TILE_VECS; v++) {
        g->scale[v] = vec_load(scale + v * LANES, LANES);
        g->offset[v] = vec_load(scale + TILE_COLS + v * LANES, LANES);
    }
}

TILE_INLINE void q8f_column(group_reader *g, int k, vec column[TILE_VECS]) {
    for (int v = 0; v < TILE_VECS; v++)
        column[v] = vec_madd(vec_from_int8(g->q + (16 + k) * TILE_COLS + v * LANES), g->scale[v], g->offset[v]);
}

#endif
