/* quant_iq.c — ggml's "IQ" blocks: eight (or four) values at a time are a point of a code book (quant_grids.h), times signs,
 * times a small scale, times the block's scale. */
#include "formats/quant.h"
#include "formats/quant_grids.h"
#include "formats/quant_internal.h"

/* ---- code books ---- */

static const float iq2_values[4] = {8, 25, 43, 0}; /* code 3 is in no grid */
static const float iq3_xxs_values[8] = {4, 12, 20, 28, 36, 44, 52, 62};

/* Seven signs are stored of eight: the eighth makes their number even. */
static inline unsigned even_signs(uint32_t seven) {
    seven &= 127;
    return seven | (unsigned)__builtin_parity(seven) << 7;
}

static inline float signed_by(float x, unsigned signs, int j) { return signs >> j & 1 ? -x : x; }

static inline void put_iq2(uint16_t point, unsigned signs, float d, float *restrict out) {
    for (int j = 0; j < 8; j++) out[j] = signed_by(d * iq2_values[point >> 2 * j & 3], signs, j);
}

/* ---- 2 bits ---- */

/* 8 groups of 32: four grid indices, then 4 times 7 signs and a 4-bit scale in 32 bits. */
static inline void IQ2_XXS(const uint8_t *restrict b, float *restrict out) {
    float d = half_at(b);
    for (int g = 0; g < 8; g++) {
        const uint8_t *p = b + 2 + 8 * g;
        uint32_t rest = u32_at(p + 4);
        float scale = d * (0.5f + (float)(rest >> 28)) * 0.25f;
        for (int k = 0; k < 4; k++) put_iq2(grid_iq2_xxs[p[k]], even_signs(rest >> 7 * k), scale, out + 32 * g + 8 * k);
    }
}
BLOCK_TYPE(IQ2_XXS)

/* 32 times eight values: 9 bits of grid index, 7 signs; a nibble of scale for every two. */
static inline void IQ2_XS(const uint8_t *restrict b, float *restrict out) {
    const uint8_t *scales = b + 66;
    float d = half_at(b);
    for (int k = 0; k < 32; k++) {
        unsigned q = u16_at(b + 2 + 2 * k), scale = scales[k / 4] >> k % 4 / 2 * 4 & 15;
        put_iq2(grid_iq2_xs[q & 511], even_signs(q >> 9), d * (0.5f + (float)scale) * 0.25f, out + 8 * k);
    }
}
BLOCK_TYPE(IQ2_XS)

/* As IQ2_XS, with eight signs in bytes of their own and a 10-bit grid index in two places. */
static inline void IQ2_S(const uint8_t *restrict b, float *restrict out) {
    const uint8_t *low = b + 2, *signs = b + 34, *high = b + 66, *scales = b + 74;
    float d = half_at(b);
    for (int k = 0; k < 32; k++) {
        unsigned index = low[k] | (high[k / 4] >> k % 4 * 2 & 3u) << 8, scale = scales[k / 4] >> k % 4 / 2 * 4 & 15;
        put_iq2(grid_iq2_s[index], signs[k], d * (0.5f + (float)scale) * 0.25f, out + 8 * k);
    }
}
BLOCK_TYPE(IQ2_S)

/* ---- 3 bits: a grid index for four values, signs for eight ---- */

static inline void IQ3_XXS(const uint8_t *restrict b, float *restrict out) {
    float d = half_at(b);
    for (int k = 0; k < 64; k++) {
        uint32_t rest = u32_at(b + 66 + k / 8 * 4);
        float scale = d * (0.5f + (float)(rest >> 28)) * 0.5f;
        unsigned signs = even_signs(rest >> k % 8 / 2 * 7) >> k % 2 * 4, point = grid_iq3_xxs[b[2 + k]];
        for (int j = 0; j < 4; j++) out[4 * k + j] = signed_by(scale * iq3_xxs_values[point >> 4 * j & 7], signs, j);
    }
}
BLOCK_TYPE(IQ3_XXS)

/* The grid's values are the odd numbers 1 .. 15. */
static inline void IQ3_S(const uint8_t *restrict b, float *restrict out) {
    const uint8_t *low = b + 2, *high = b + 66, *signs = b + 74, *scales = b + 106;
    float d = half_at(b);
    for (int k = 0; k < 64; k++) {
        float scale = d * (float)(1 + 2 * (scales[k / 16] >> k % 16 / 8 * 4 & 15));
        unsigned point = grid_iq3_s[low[k] | (high[k / 8] >> k % 8 & 1u) << 8], sign = signs[k / 2] >> k % 2 * 4;
        for (int j = 0; j < 4; j++) out[4 * k + j] = signed_by(scale * (float)(2 * (point >> 4 * j & 7) + 1), sign, j);
    }
}
BLOCK_TYPE(IQ3_S)

/* ---- 1 bit: values -1, 0, 1, all shifted by an eighth up or down ---- */

static inline void put_iq1(unsigned index, float d, float shift, float *restrict out) {
    unsigned point = grid_iq1[index];
    for (int j = 0; j < 8; j++) out[j] = d * ((float)((int)(point >> 2 * j & 3) - 1) + shift);
}

/* 8 groups of 32: low bytes of four grid indices; a word of 4 times 3 high bits, a 3-bit scale, the direction of the shift. */
static inline void IQ1_S(const uint8_t *restrict b, float *restrict out) {
    float d = half_at(b);
    for (int k = 0; k < 32; k++) {
        unsigned word = u16_at(b + 34 + k / 4 * 2), index = b[2 + k] | (word >> k % 4 * 3 & 7) << 8;
        put_iq1(index, d * (float)(2 * (word >> 12 & 7) + 1), word & 0x8000 ? -0.125f : 0.125f, out + 8 * k);
    }
}
BLOCK_TYPE(IQ1_S)

/* The block's scale is spread over the top nibbles of the four words of 3-bit scales. */
static inline void IQ1_M(const uint8_t *restrict b, float *restrict out) {
    const uint8_t *low = b, *high = b + 32, *scales = b + 48;
    unsigned bits = 0;
    for (int i = 0; i < 4; i++) bits |= (unsigned)(scales[2 * i + 1] >> 4) << 4 * i;
    float d = half_to_f32((uint16_t)bits);
    for (int k = 0; k < 32; k++) {
        unsigned nibble = high[k / 2] >> k % 2 * 4, scale = u16_at(scales + k / 8 * 2) >> k % 8 / 2 * 3 & 7u;
        put_iq1(low[k] | (nibble & 7) << 8, d * (float)(2 * scale + 1), nibble & 8 ? -0.125f : 0.125f, out + 8 * k);
    }
}
BLOCK_TYPE(IQ1_M)

/* ---- 4 bits: a table instead of a grid ---- */

static const int8_t iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

static inline void put_iq4(const uint8_t *restrict q, float d, float *restrict out) {
    for (int j = 0; j < 16; j++) {
        out[j] = d * (float)iq4_values[q[j] & 15];
        out[j + 16] = d * (float)iq4_values[q[j] >> 4];
    }
}

static inline void IQ4_NL(const uint8_t *restrict b, float *restrict out) { put_iq4(b + 2, half_at(b), out); }
BLOCK_TYPE(IQ4_NL)

/* 8 groups of 32 with 6-bit scales: two high bits in a word, nibbles in 4 bytes. */
static inline void IQ4_XS(const uint8_t *restrict b, float *restrict out) {
    const uint8_t *low = b + 4;
    unsigned high = u16_at(b + 2);
    float d = half_at(b);
    for (int g = 0; g < 8; g++) {
        int scale = (int)((low[g / 2] >> g % 2 * 4 & 15u) | (high >> 2 * g & 3) << 4);
        put_iq4(b + 8 + 16 * g, d * (float)(scale - 32), out + 32 * g);
    }
}
BLOCK_TYPE(IQ4_XS)
