#include "math/dense.h"
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

double ref_gate(int kind, double x) {
    if (kind == GATE_GELU) return x * erfc(-x / sqrt(2)) / 2;
    if (kind == GATE_GELU_TANH) return x * (1 + tanh(sqrt(8 / acos(-1)) / 2 * (x + 0.044715 * x * x * x))) / 2;
    return x / (1 + exp(-x));
}

void ref_layer_norm(double *y, const float *x, const float *gain, const float *bias, int64_t d, double eps) {
    double sum = 0, squares = 0;
    for (int64_t j = 0; j < d; j++) sum += x[j];
    for (int64_t j = 0; j < d; j++) squares += (x[j] - sum / (double)d) * (x[j] - sum / (double)d);
    for (int64_t j = 0; j < d; j++) y[j] = gain[j] * (x[j] - sum / (double)d) / sqrt(squares / (double)d + eps) + bias[j];
}
