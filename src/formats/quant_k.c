/* quant_k.c — ggml's "K" blocks: 256 values in groups, each group with a small scale (and minimum) of its own, the small ones
 * quantised in their turn: value = d scale q - d_min minimum. Read as a quant_whole. */
#include "formats/quant.h"
#include "formats/quant_internal.h"

/* 16 groups of 16. scale and minimum: a nibble each. Byte 32 h + j holds values 128 h + 32 k + j, k = 0..3. */
static inline void Q2_K_read(const uint8_t *restrict b, quant_whole *restrict w) {
    const uint8_t *scales = b, *q = b + 16;
    float d = half_at(b + 80), d_min = half_at(b + 82);
    for (int g = 0; g < 16; g++) {
        const uint8_t *bytes = q + g / 8 * 32 + g % 2 * 16;
        int shift = g % 8 / 2 * 2;
        w->scale[g] = d * (float)(scales[g] & 15), w->offset[g] = -(d_min * (float)(scales[g] >> 4));
        for (int j = 0; j < 16; j++) w->q[16 * g + j] = (int8_t)(bytes[j] >> shift & 3);
    }
}
WHOLE_TYPE(Q2_K)

/* 16 groups of 16. Scales have 6 bits: nibbles in 8 bytes, then the two high bits in 4 bytes. A clear high bit means minus 4. */
static inline void Q3_K_read(const uint8_t *restrict b, quant_whole *restrict w) {
    const uint8_t *high = b, *q = b + 32, *low_scales = b + 96, *high_scales = b + 104;
    float d = half_at(b + 108);
    for (int g = 0; g < 16; g++) {
        int scale = (low_scales[g % 8] >> g / 8 * 4 & 15) | (high_scales[g % 4] >> g / 4 * 2 & 3) << 4;
        const uint8_t *bytes = q + g / 8 * 32 + g % 2 * 16, *bits = high + g % 2 * 16;
        int shift = g % 8 / 2 * 2, bit = g / 2;
        w->scale[g] = d * (float)(scale - 32), w->offset[g] = -0.0f;
        for (int j = 0; j < 16; j++) w->q[16 * g + j] = (int8_t)((bytes[j] >> shift & 3) - ((~bits[j] >> bit & 1) << 2));
    }
}
WHOLE_TYPE(Q3_K)

/* Scale and offset of group g, the 32 values 2 g and 2 g + 1, out of 12 bytes: six bits each for groups 0..3 in bytes 0..7; those
 * of groups 4..7 have their nibbles in bytes 8..11 and their two high bits on top of bytes 0..7. */
static inline void scale_and_minimum(const uint8_t *p, int g, float d, float d_min, quant_whole *restrict w) {
    int i = g % 4;
    float scale = d * (float)(g < 4 ? p[i] & 63 : (p[8 + i] & 15) | p[i] >> 6 << 4);
    float minimum = d_min * (float)(g < 4 ? p[4 + i] & 63 : p[8 + i] >> 4 | p[4 + i] >> 6 << 4);
    w->scale[2 * g] = w->scale[2 * g + 1] = scale;
    w->offset[2 * g] = w->offset[2 * g + 1] = -minimum;
}

/* 8 groups of 32; two neighbours share 32 bytes, the first in the low nibbles. */
static inline void Q4_K_read(const uint8_t *restrict b, quant_whole *restrict w) {
    for (int g = 0; g < 8; g++) {
        const uint8_t *q = b + 16 + g / 2 * 32;
        int shift = g % 2 * 4;
        scale_and_minimum(b + 4, g, half_at(b), half_at(b + 2), w);
        for (int j = 0; j < 32; j++) w->q[32 * g + j] = (int8_t)(q[j] >> shift & 15);
    }
}
WHOLE_TYPE(Q4_K)

/* As Q4_K, with the fifth bit of group g in bit g of 32 bytes. */
static inline void Q5_K_read(const uint8_t *restrict b, quant_whole *restrict w) {
    const uint8_t *high = b + 16;
    for (int g = 0; g < 8; g++) {
        const uint8_t *q = b + 48 + g / 2 * 32;
        int shift = g % 2 * 4;
        scale_and_minimum(b + 4, g, half_at(b), half_at(b + 2), w);
        for (int j = 0; j < 32; j++) w->q[32 * g + j] = (int8_t)((q[j] >> shift & 15) | (high[j] >> g & 1) << 4);
    }
}
WHOLE_TYPE(Q5_K)

/* 16 groups of 16 with 8-bit scales, no minima. Runs of 32 values: run r of each half has its low nibbles in 32 bytes (runs 0
 * and 2, 1 and 3 share them) and its two high bits at bit 2 r of 32 more. */
static inline void Q6_K_read(const uint8_t *restrict b, quant_whole *restrict w) {
    const int8_t *scales = (const int8_t *)b + 192;
    float d = half_at(b + 208);
    for (int g = 0; g < 16; g++) w->scale[g] = d * (float)scales[g], w->offset[g] = -0.0f;
    for (int run = 0; run < 8; run++) {
        const uint8_t *low = b + run / 4 * 64 + run % 2 * 32, *high = b + 128 + run / 4 * 32;
        int shift = run % 4 / 2 * 4, high_shift = run % 4 * 2;
        for (int j = 0; j < 32; j++)
            w->q[32 * run + j] = (int8_t)(((low[j] >> shift & 15) | (high[j] >> high_shift & 3) << 4) - 32);
    }
}
WHOLE_TYPE(Q6_K)
