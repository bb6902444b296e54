#include "activations/dtype.h"

#include "core/names.h"
#include "math/dense.h"

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

void dtype_to_f32(const ctx *c, const dtype *t, const void *x, const uint64_t *picks, int64_t n, int64_t d, float *y) {
    const dense_kernels *k = dense_kernels_for(c->cpu);
    size_t stride = (size_t)d * t->bytes;
#pragma omp parallel for num_threads(c->threads)
    for (int64_t i = 0; i < n; i++) {
        const void *row = (const char *)x + (picks ? (size_t)picks[i] : (size_t)i) * stride;
        if (t->id == STORE_F16)
            k->from_f16(y + i * d, row, d);
        else if (t->id == STORE_BF16)
            k->from_bf16(y + i * d, row, d);
        else
            memcpy(y + i * d, row, stride);
    }
}

void dtype_from_f32(const ctx *c, const dtype *t, const float *x, int64_t n, int64_t d, void *y) {
    const dense_kernels *k = dense_kernels_for(c->cpu);
    size_t stride = (size_t)d * t->bytes;
#pragma omp parallel for num_threads(c->threads)
    for (int64_t i = 0; i < n; i++) {
        void *row = (char *)y + (size_t)i * stride;
        if (t->id == STORE_F16)
            k->to_f16(row, x + i * d, d);
        else if (t->id == STORE_BF16)
            k->to_bf16(row, x + i * d, d);
        else
            memcpy(row, x + i * d, stride);
    }
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
