/* quant.c — the table of storage types; plain numbers, and blocks with one scale: value = d q (+ m). */
#include "formats/quant.h"
#include "core/mem.h"
#include "formats/quant_internal.h"

#include <strings.h>

const quant_type quant_types[] = {
#define X(name, id, values, bytes) {#name, id, values, bytes, quant_rows_##name},
    QUANT_LIST(X)
#undef X
};
const int n_quant_types = sizeof quant_types / sizeof *quant_types;

quant_whole_reader *quant_whole_of(const quant_type *t) {
#define X(type)                                                                                                              \
    if (!strcmp(t->name, #type)) return quant_whole_##type;
    QUANT_WHOLE_LIST(X)
#undef X
    return NULL;
}

const quant_type *quant_by_id(uint32_t ggml_id) {
    for (int i = 0; i < n_quant_types; i++)
        if (quant_types[i].ggml_id == ggml_id && ggml_id != QUANT_NO_ID) return &quant_types[i];
    return NULL;
}

const quant_type *quant_by_name(const char *name) {
    for (int i = 0; i < n_quant_types; i++)
        if (!strcasecmp(quant_types[i].name, name)) return &quant_types[i];
    return NULL;
}

bool quant_bytes(const quant_type *t, int64_t n, size_t *bytes) {
    if (n < 0 || n % t->block_size) return false;
    return mem_mul((size_t)(n / t->block_size), t->block_bytes, bytes);
}

/* ---- plain numbers ---- */

#define PLAIN_TYPE(name, ctype)                                                                                              \
    static inline void name(const uint8_t *restrict b, float *restrict out) {                                                \
        ctype x;                                                                                                             \
        memcpy(&x, b, sizeof x);                                                                                             \
        *out = (float)x;                                                                                                     \
    }                                                                                                                        \
    BLOCK_TYPE(name)

PLAIN_TYPE(F64, double)
PLAIN_TYPE(I8, int8_t)
PLAIN_TYPE(I16, int16_t)
PLAIN_TYPE(I32, int32_t)
PLAIN_TYPE(I64, int64_t)
PLAIN_TYPE(U8, uint8_t)
PLAIN_TYPE(U16, uint16_t)
PLAIN_TYPE(U32, uint32_t)
PLAIN_TYPE(U64, uint64_t)
PLAIN_TYPE(BOOL, uint8_t)

void quant_rows_F32(const void *blocks, int64_t n, float *restrict out) {
    if (n) memcpy(out, blocks, (size_t)n * sizeof *out);
}

static inline float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline void BF16(const uint8_t *restrict b, float *restrict out) { *out = float_of((uint32_t)u16_at(b) << 16); }
BLOCK_TYPE(BF16)

/* half_to_f32 without branches, so that the loop becomes vectors. Exponents move from bias 15 to 127; a subnormal gets an
 * implicit one of 2^-14, which is taken off again; 31 is moved on to 255. */
static inline void F16(const uint8_t *restrict b, float *restrict out) {
    uint32_t h = u16_at(b), magnitude = (h & 0x7fff) << 13, sign = (h & 0x8000) << 16;
    float subnormal = float_of(magnitude + 0x38800000) - 0x1p-14f;
    uint32_t bits;
    memcpy(&bits, &subnormal, sizeof bits);
    uint32_t normal = magnitude + 0x38000000, special = magnitude + 0x70000000;
    bits = magnitude < 0x00800000 ? bits : magnitude < 0x0f800000 ? normal : special;
    *out = float_of(bits | sign);
}
BLOCK_TYPE(F16)

/* sign, 4 bits of exponent (bias 7), 3 of mantissa; all ones is NaN, there are no infinities */
static inline void F8_E4M3(const uint8_t *restrict b, float *restrict out) {
    int exponent = *b >> 3 & 15, mantissa = *b & 7;
    float magnitude =
        exponent ? (float)(8 + mantissa) * float_of((uint32_t)(exponent + 117) << 23) : (float)mantissa * 0x1p-9f;
    if ((*b & 0x7f) == 0x7f) magnitude = float_of(0x7fc00000);
    *out = *b & 0x80 ? -magnitude : magnitude;
}
BLOCK_TYPE(F8_E4M3)

static inline void F8_E5M2(const uint8_t *restrict b, float *restrict out) { *out = half_to_f32((uint16_t)(*b << 8)); }
BLOCK_TYPE(F8_E5M2)

/* ---- 32 values: scale, (minimum), (fifth bits), nibbles: byte j holds values j and j + 16 ---- */

static inline void Q4_0(const uint8_t *restrict b, float *restrict out) {
    float d = half_at(b);
    for (int j = 0; j < 16; j++) {
        out[j] = d * (float)((b[2 + j] & 15) - 8);
        out[j + 16] = d * (float)((b[2 + j] >> 4) - 8);
    }
}
BLOCK_TYPE(Q4_0)

static inline void Q4_1(const uint8_t *restrict b, float *restrict out) {
    float d = half_at(b), m = half_at(b + 2);
    for (int j = 0; j < 16; j++) {
        out[j] = d * (float)(b[4 + j] & 15) + m;
        out[j + 16] = d * (float)(b[4 + j] >> 4) + m;
    }
}
BLOCK_TYPE(Q4_1)

static inline void Q5_0_read(const uint8_t *restrict b, quant_whole *restrict w) {
    uint32_t high = u32_at(b + 2);
    w->scale[0] = w->scale[1] = half_at(b);
    w->offset[0] = w->offset[1] = -0.0f;
    for (int j = 0; j < 16; j++) {
        w->q[j] = (int8_t)((int)((b[6 + j] & 15) | (high >> j & 1) << 4) - 16);
        w->q[j + 16] = (int8_t)((int)(b[6 + j] >> 4 | (high >> (j + 16) & 1) << 4) - 16);
    }
}
WHOLE_TYPE(Q5_0)

static inline void Q5_1_read(const uint8_t *restrict b, quant_whole *restrict w) {
    uint32_t high = u32_at(b + 4);
    w->scale[0] = w->scale[1] = half_at(b);
    w->offset[0] = w->offset[1] = half_at(b + 2);
    for (int j = 0; j < 16; j++) {
        w->q[j] = (int8_t)((b[8 + j] & 15) | (high >> j & 1) << 4);
        w->q[j + 16] = (int8_t)(b[8 + j] >> 4 | (high >> (j + 16) & 1) << 4);
    }
}
WHOLE_TYPE(Q5_1)

static inline void Q8_0(const uint8_t *restrict b, float *restrict out) {
    float d = half_at(b);
    for (int j = 0; j < 32; j++) out[j] = d * (float)(int8_t)b[2 + j];
}
BLOCK_TYPE(Q8_0)

/* ---- ternary: 256 values, the scale last ---- */

/* Five base-3 digits a byte, the byte being ceil(256/243 of the number): multiplied by 3 the digit comes out on top. 32 bytes
 * of five values, then 16 bytes of five, then 4 bytes of four; value k of byte j stands at k * bytes + j. */
static inline void ternary_digits(const uint8_t *restrict b, int n_bytes, int n_digits, float d, float *restrict out) {
    uint8_t power = 1;
    for (int k = 0; k < n_digits; k++, power = (uint8_t)(power * 3))
        for (int j = 0; j < n_bytes; j++) out[k * n_bytes + j] = d * (float)(((uint8_t)(b[j] * power) * 3 >> 8) - 1);
}

static inline void TQ1_0(const uint8_t *restrict b, float *restrict out) {
    float d = half_at(b + 52);
    ternary_digits(b, 32, 5, d, out);
    ternary_digits(b + 32, 16, 5, d, out + 160);
    ternary_digits(b + 48, 4, 4, d, out + 240);
}
BLOCK_TYPE(TQ1_0)

static inline void TQ2_0(const uint8_t *restrict b, float *restrict out) {
    float d = half_at(b + 64);
    for (int half = 0; half < 2; half++)
        for (int k = 0; k < 4; k++)
            for (int j = 0; j < 32; j++) out[128 * half + 32 * k + j] = d * (float)((b[32 * half + j] >> 2 * k & 3) - 1);
}
BLOCK_TYPE(TQ2_0)

/* ---- 4-bit floats, doubled so that they are whole ---- */

static const int8_t e2m1_doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/* half a power of two: 2^(e - 128) */
static inline float half_e8m0(uint8_t e) { return float_of(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23); }

static inline void MXFP4(const uint8_t *restrict b, float *restrict out) {
    float d = half_e8m0(b[0]);
    for (int j = 0; j < 16; j++) {
        out[j] = d * (float)e2m1_doubled[b[1 + j] & 15];
        out[j + 16] = d * (float)e2m1_doubled[b[1 + j] >> 4];
    }
}
BLOCK_TYPE(MXFP4)

/* half an unsigned e4m3 number; all ones stands for zero */
static inline float half_ue4m3(uint8_t x) {
    int exponent = x >> 3 & 15, mantissa = x & 7;
    if (x == 0x7f) return 0;
    return exponent ? (float)(8 + mantissa) * float_of((uint32_t)(exponent + 116) << 23) : (float)mantissa * 0x1p-10f;
}

static inline void NVFP4(const uint8_t *restrict b, float *restrict out) {
    for (int k = 0; k < 4; k++) {
        float d = half_ue4m3(b[k]);
        for (int j = 0; j < 8; j++) {
            uint8_t q = b[4 + 8 * k + j];
            out[16 * k + j] = d * (float)e2m1_doubled[q & 15];
            out[16 * k + j + 8] = d * (float)e2m1_doubled[q >> 4];
        }
    }
}
BLOCK_TYPE(NVFP4)
