/* softmax.h — the largest of a row, its exponentials and a soft cap, for the kernels that need them in line. */
#ifndef MATH_KERNELS_SOFTMAX_H
#define MATH_KERNELS_SOFTMAX_H

#include "math/kernels/vec.h"

#include <math.h>

static inline float row_largest(const float *x, int64_t count) {
    float largest = -INFINITY;
    int64_t j = 0;
    if (count >= LANES) {
        vec m = vec_load(x, LANES);
        for (j = LANES; j + LANES <= count; j += LANES) m = vec_max(m, vec_load(x + j, LANES));
        largest = vec_largest(m);
    }
    for (; j < count; j++) largest = x[j] > largest ? x[j] : largest;
    return largest;
}

static inline void exp_at(float *x, vec shift, vec *sum, int64_t j, int64_t n) {
    vec e = vec_exp(vec_sub(vec_load(x + j, n), shift));
    vec_store(x + j, n, e);
    *sum = vec_add(*sum, n == LANES ? e : vec_load(x + j, n));
}

/* x = cap tanh(x / cap) */
static inline void row_soft_cap(float *x, float cap, int64_t count) {
    vec factor = vec_set(cap), inverse = vec_set(1 / cap);
    VEC_LOOP(count, vec_store(x + j, n, vec_mul(factor, vec_tanh(vec_mul(inverse, vec_load(x + j, n))))));
}

/* x = e^(x - shift), returns their sum. */
static inline float row_exp(float *x, int64_t count, float shift) {
    vec sum = vec_set(0);
    VEC_LOOP(count, exp_at(x, vec_set(shift), &sum, j, n));
    return vec_sum(sum);
}

#endif
