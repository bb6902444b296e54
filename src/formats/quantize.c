#include "formats/quantize.h"
#include "core/half.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static void put_half(uint8_t *b, float x) {
    uint16_t h = half_from_f32(x);
    memcpy(b, &h, sizeof h);
}

static float inverse(float d) { return d != 0 ? 1 / d : 0; }

/* The whole part of x within least .. most; x that is not a number gives least. */
static int whole_within(float x, int least, int most) {
    return !(x > (float)least) ? least : x >= (float)most ? most : (int)x;
}

/* ---- one block each ---- */

static void F32(const float *x, uint8_t *b) { memcpy(b, x, sizeof *x); }
static void F16(const float *x, uint8_t *b) { put_half(b, *x); }

static void BF16(const float *x, uint8_t *b) {
    uint16_t bits = bf16_from_f32(*x);
    memcpy(b, &bits, sizeof bits);
}

/* The largest magnitude becomes 127. */
static void Q8_0(const float *x, uint8_t *b) {
    float most = 0;
    for (int j = 0; j < 32; j++) most = fmaxf(most, fabsf(x[j]));
    float d = most / 127, id = inverse(d);
    put_half(b, d);
    for (int j = 0; j < 32; j++) b[2 + j] = (uint8_t)whole_within(roundf(x[j] * id), -127, 127);
}

static void put_nibbles(const int q[32], uint8_t *b) {
    for (int j = 0; j < 16; j++) b[j] = (uint8_t)(q[j] | q[j + 16] << 4);
}

/* The value of the largest magnitude becomes -8; on the other side 7 is the end. */
static void Q4_0(const float *x, uint8_t *b) {
    float most = 0, peak = 0;
    int q[32];
    for (int j = 0; j < 32; j++)
        if (fabsf(x[j]) > most) most = fabsf(x[j]), peak = x[j];
    float d = peak / -8, id = inverse(d);
    put_half(b, d);
    for (int j = 0; j < 32; j++) q[j] = whole_within(x[j] * id + 8.5f, 0, 15);
    put_nibbles(q, b + 2);
}

/* Sixteen steps from the least value to the largest. */
static void Q4_1(const float *x, uint8_t *b) {
    float least = INFINITY, most = -INFINITY;
    int q[32];
    for (int j = 0; j < 32; j++) {
        if (x[j] < least) least = x[j];
        if (x[j] > most) most = x[j];
    }
    float d = (most - least) / 15, id = inverse(d);
    put_half(b, d);
    put_half(b + 2, least);
    for (int j = 0; j < 32; j++) q[j] = whole_within((x[j] - least) * id + 0.5f, 0, 15);
    put_nibbles(q, b + 4);
}

/* -1, 0 or 1 times the largest magnitude: exact for weights that are ternary already. */
static void TQ2_0(const float *x, uint8_t *b) {
    float most = 0;
    for (int j = 0; j < 256; j++) most = fmaxf(most, fabsf(x[j]));
    float id = inverse(most);
    memset(b, 0, 64);
    for (int half = 0; half < 2; half++)
        for (int k = 0; k < 4; k++)
            for (int j = 0; j < 32; j++) {
                int q = whole_within(roundf(x[128 * half + 32 * k + j] * id), -1, 1) + 1;
                b[32 * half + j] |= (uint8_t)(q << 2 * k);
            }
    put_half(b + 64, most);
}

/* ---- the table: how to add one, a function for one block, its name in ROWS ---- */

#define ROWS(X) X(F32, 1, 4) X(F16, 1, 2) X(BF16, 1, 2) X(Q8_0, 32, 34) X(Q4_0, 32, 18) X(Q4_1, 32, 20) X(TQ2_0, 256, 66)

#define X(name, values, bytes)                                                                                               \
    static void name##_rows(const float *x, int64_t n, void *blocks) {                                                       \
        uint8_t *b = blocks;                                                                                                 \
        for (int64_t i = 0; i < n; i += (values), b += (bytes)) name(x + i, b);                                              \
    }
ROWS(X)
#undef X

static const struct {
    const char *name;
    quantize_fn rows;
} rows[] = {
#define X(name, values, bytes) {#name, name##_rows},
    ROWS(X)
#undef X
};
enum { N_ROWS = sizeof rows / sizeof *rows };

quantize_fn quantizer_of(const quant_type *t) {
    for (int i = 0; i < N_ROWS; i++)
        if (!strcmp(rows[i].name, t->name)) return rows[i].rows;
    return NULL;
}

const char *quantizable_types(char out[QUANTIZABLE_TEXT]) {
    int at = 0;
    for (int i = 0; i < N_ROWS; i++)
        at += snprintf(out + at, (size_t)(QUANTIZABLE_TEXT - at), "%s%s", i ? ", " : "", rows[i].name);
    return out;
}
