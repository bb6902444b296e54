#include "activations/dtype.h"

#include "core/half.h"
#include "core/names.h"

#include <float.h>
#include <stdbool.h>
#include <string.h>

static const dtype dtypes[STORE_DTYPES] = {
    {"float16", STORE_F16, 2, 65504.0f, 0x7c00},
    {"bfloat16", STORE_BF16, 2, FLT_MAX, 0x7f80},
    {"float32", STORE_F32, 4, FLT_MAX, 0x7f800000},
};

const dtype *dtype_of(store_dtype id) { return &dtypes[id]; }

const dtype *dtype_named(const char *name, err *e) {
    int i = names_find(name, dtypes, STORE_DTYPES, sizeof *dtypes);
    if (i < 0) names_unknown(e, ERR_FORMAT, "dtype", name, dtypes, STORE_DTYPES, sizeof *dtypes);
    return i < 0 ? NULL : &dtypes[i];
}

static void widen(const dtype *t, const void *x, int64_t n, float *y) {
    const uint16_t *h = x;
    if (t->id == STORE_F16)
        for (int64_t i = 0; i < n; i++) y[i] = half_to_f32(h[i]);
    else if (t->id == STORE_BF16)
        for (int64_t i = 0; i < n; i++) y[i] = bf16_to_f32(h[i]);
    else
        memcpy(y, x, (size_t)n * sizeof *y);
}

static void narrow(const dtype *t, const float *x, int64_t n, void *y) {
    uint16_t *h = y;
    if (t->id == STORE_F16)
        for (int64_t i = 0; i < n; i++) h[i] = half_from_f32(x[i]);
    else if (t->id == STORE_BF16)
        for (int64_t i = 0; i < n; i++) h[i] = bf16_from_f32(x[i]);
    else
        memcpy(y, x, (size_t)n * sizeof *x);
}

void dtype_to_f32(const ctx *c, const dtype *t, const void *x, const uint64_t *picks, int64_t n, int64_t d, float *y) {
    size_t stride = (size_t)d * t->bytes;
#pragma omp parallel for num_threads(c->threads)
    for (int64_t i = 0; i < n; i++) {
        size_t row = picks ? (size_t)picks[i] : (size_t)i;
        widen(t, (const char *)x + row * stride, d, y + i * d);
    }
}

void dtype_from_f32(const ctx *c, const dtype *t, const float *x, int64_t n, int64_t d, void *y) {
    size_t stride = (size_t)d * t->bytes;
#pragma omp parallel for num_threads(c->threads)
    for (int64_t i = 0; i < n; i++) narrow(t, x + i * d, d, (char *)y + (size_t)i * stride);
}

static bool is_finite(const dtype *t, const void *x, int64_t n) {
    uint32_t bad = 0;
    if (t->bytes == 2) {
        const uint16_t *h = x, exponent = (uint16_t)t->exponent;
        for (int64_t i = 0; i < n; i++) bad |= (h[i] & exponent) == exponent;
    } else {
        const uint32_t *u = x;
        for (int64_t i = 0; i < n; i++) bad |= (u[i] & t->exponent) == t->exponent;
    }
    return !bad;
}

int64_t dtype_find_not_finite(const ctx *c, const dtype *t, const void *x, int64_t n, int64_t d) {
    size_t stride = (size_t)d * t->bytes;
    int64_t first = n;
#pragma omp parallel for num_threads(c->threads) reduction(min : first)
    for (int64_t i = 0; i < n; i++)
        if (i < first && !is_finite(t, (const char *)x + (size_t)i * stride, d)) first = i;
    return first < n ? first : -1;
}
