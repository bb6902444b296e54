#include "math/ref.h"

#include <math.h>

void ref_gemm(double *y, const float *x, const float *w, const float *bias, int64_t m, int64_t n, int64_t k) {
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = bias ? bias[j] : 0;
            for (int64_t l = 0; l < k; l++) sum += (double)x[i * k + l] * w[j * k + l];
            y[i * n + j] = sum;
        }
}

void ref_round_int8(double *out, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        float most = 0;
        for (int64_t j = i / 32 * 32; j < i / 32 * 32 + 32 && j < n; j++) most = fmaxf(most, fabsf(x[j]));
        out[i] = most > 1e-30f ? (double)lrintf(x[i] * (127 / most)) * (double)(most / 127) : 0;
    }
}
