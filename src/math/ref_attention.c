#include "math/ref.h"

#include <math.h>

static double score(const float *q, const float *k, int64_t d, double cap) {
    double sum = 0;
    for (int64_t j = 0; j < d; j++) sum += (double)q[j] * k[j];
    return cap != 0 ? cap * tanh(sum / cap) : sum;
}

void ref_attention(double *y, const float *q, const float *k, const float *v, int64_t n, int64_t d, double cap) {
    double largest = -INFINITY, total = 0;
    for (int64_t i = 0; i < n; i++) largest = fmax(largest, score(q, k + i * d, d, cap));
    for (int64_t j = 0; j < d; j++) y[j] = 0;
    for (int64_t i = 0; i < n; i++) {
        double p = exp(score(q, k + i * d, d, cap) - largest);
        total += p;
        for (int64_t j = 0; j < d; j++) y[j] += p * v[i * d + j];
    }
    for (int64_t j = 0; j < d; j++) y[j] /= total;
}
