/* quant_internal.h — the list of storage types, and how a function for one block becomes one for a row of blocks. */
#ifndef FORMATS_QUANT_INTERNAL_H
#define FORMATS_QUANT_INTERNAL_H

#include "core/half.h"
#include "formats/quant.h"

#include <stdint.h>
#include <string.h>

/* X(name, number in a GGUF file, values in a block, bytes of a block), by number. How to add one: a row here, and beside its
 * kin in quant.c, quant_k.c or quant_iq.c a function  static void <name>(block, out)  with BLOCK_TYPE(<name>) behind it. */
#define QUANT_LIST(X)                                                                                                        \
    X(F32, 0, 1, 4)                                                                                                          \
    X(F16, 1, 1, 2)                                                                                                          \
    X(Q4_0, 2, 32, 18)                                                                                                       \
    X(Q4_1, 3, 32, 20)                                                                                                       \
    X(Q5_0, 6, 32, 22)                                                                                                       \
    X(Q5_1, 7, 32, 24)                                                                                                       \
    X(Q8_0, 8, 32, 34)                                                                                                       \
    X(Q2_K, 10, 256, 84)                                                                                                     \
    X(Q3_K, 11, 256, 110)                                                                                                    \
    X(Q4_K, 12, 256, 144)                                                                                                    \
    X(Q5_K, 13, 256, 176)                                                                                                    \
    X(Q6_K, 14, 256, 210)                                                                                                    \
    X(IQ2_XXS, 16, 256, 66)                                                                                                  \
    X(IQ2_XS, 17, 256, 74)                                                                                                   \
    X(IQ3_XXS, 18, 256, 98)                                                                                                  \
    X(IQ1_S, 19, 256, 50)                                                                                                    \
    X(IQ4_NL, 20, 32, 18)                                                                                                    \
    X(IQ3_S, 21, 256, 110)                                                                                                   \
    X(IQ2_S, 22, 256, 82)                                                                                                    \
    X(IQ4_XS, 23, 256, 136)                                                                                                  \
    X(I8, 24, 1, 1)                                                                                                          \
    X(I16, 25, 1, 2)                                                                                                         \
    X(I32, 26, 1, 4)                                                                                                         \
    X(I64, 27, 1, 8)                                                                                                         \
    X(F64, 28, 1, 8)                                                                                                         \
    X(IQ1_M, 29, 256, 56)                                                                                                    \
    X(BF16, 30, 1, 2)                                                                                                        \
    X(TQ1_0, 34, 256, 54)                                                                                                    \
    X(TQ2_0, 35, 256, 66)                                                                                                    \
    X(MXFP4, 39, 32, 17)                                                                                                     \
    X(NVFP4, 40, 64, 36)                                                                                                     \
    X(U8, QUANT_NO_ID, 1, 1)                                                                                                 \
    X(U16, QUANT_NO_ID, 1, 2)                                                                                                \
    X(U32, QUANT_NO_ID, 1, 4)                                                                                                \
    X(U64, QUANT_NO_ID, 1, 8)                                                                                                \
    X(BOOL, QUANT_NO_ID, 1, 1)                                                                                               \
    X(F8_E4M3, QUANT_NO_ID, 1, 1)                                                                                            \
    X(F8_E5M2, QUANT_NO_ID, 1, 1)

enum {
#define X(name, id, values, bytes) name##_VALUES = (values), name##_BYTES = (bytes),
    QUANT_LIST(X)
#undef X
};

#define X(name, id, values, bytes) void quant_rows_##name(const void *blocks, int64_t n, float *restrict out);
QUANT_LIST(X)
#undef X

#define BLOCK_TYPE(name)                                                                                                     \
    void quant_rows_##name(const void *blocks, int64_t n, float *restrict out) {                                             \
        const uint8_t *b = blocks;                                                                                           \
        for (int64_t i = 0; i < n; i += name##_VALUES, b += name##_BYTES) name(b, out + i);                                  \
    }

/* The functions of a type, from name_read(block, w), which reads a block as whole numbers. A type without offsets adds -0, which
 * changes no bit. */
#define WHOLE_TYPE(name)                                                                                                     \
    void quant_whole_##name(const void *block, quant_whole *w) { name##_read(block, w); }                                    \
    static inline void name(const uint8_t *restrict b, float *restrict out) {                                                \
        quant_whole w;                                                                                                       \
        name##_read(b, &w);                                                                                                  \
        for (int g = 0; g < name##_VALUES / 16; g++)                                                                         \
            for (int j = 16 * g; j < 16 * g + 16; j++) out[j] = w.scale[g] * (float)w.q[j] + w.offset[g];                    \
    }                                                                                                                        \
    BLOCK_TYPE(name)

#define QUANT_WHOLE_LIST(X) X(Q5_0) X(Q5_1) X(Q2_K) X(Q3_K) X(Q4_K) X(Q5_K) X(Q6_K)
#define X(name)             void quant_whole_##name(const void *block, quant_whole *w);
QUANT_WHOLE_LIST(X)
#undef X

static inline uint16_t u16_at(const uint8_t *p) {
    uint16_t u;
    memcpy(&u, p, sizeof u);
    return u;
}

static inline uint32_t u32_at(const uint8_t *p) {
    uint32_t u;
    memcpy(&u, p, sizeof u);
    return u;
}

static inline float half_at(const uint8_t *p) { return half_to_f32(u16_at(p)); }

#endif
