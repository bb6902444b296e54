#include "math/ref.h"

void ref_gemm(double *y, const float *x, const float *w, const float *bias, int64_t m, int64_t n, int64_t k) {
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = bias ? bias[j] : 0;
            for (int64_t l = 0; l < k; l++) sum += (double)x[i * k + l] * w[j * k + l];
            y[i * n + j] = sum;
        }
}
