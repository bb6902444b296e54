#include "math/ref.h"

#include <math.h>

void ref_rms_norm(double *y, const float *x, const float *gain, int64_t d, double eps) {
    double squares = 0;
    for (int64_t j = 0; j < d; j++) squares += (double)x[j] * x[j];
    for (int64_t j = 0; j < d; j++) y[j] = gain[j] * (x[j] / sqrt(squares / (double)d + eps));
}

void ref_rope(double *y, const float *x, int64_t n_heads, int64_t d_head, int64_t n, const float *turn) {
    for (int64_t h = 0; h < n_heads; h++)
        for (int64_t j = 0; j < d_head; j++) {
            int64_t i = h * d_head + j, half = n / 2;
            if (j < half)
                y[i] = (double)x[i] * turn[j] - (double)x[i + half] * turn[half + j];
            else if (j < 2 * half)
                y[i] = (double)x[i] * turn[j - half] + (double)x[i - half] * turn[j];
            else
                y[i] = x[i];
        }
}

void ref_silu_mul(double *y, const float *gate, const float *up, int64_t n) {
    for (int64_t j = 0; j < n; j++) y[j] = gate[j] / (1 + exp(-(double)gate[j])) * up[j];
}
