#include "sae/normalize.h"
#include "core/names.h"

#include <math.h>

/* divisor std + 1e-5 with std over d - 1, scale std: the way back leaves the 1e-5 out, as the libraries do. */
static row_units layer_norm(const float *x, int64_t d) {
    double sum = 0, squares = 0;
    for (int64_t j = 0; j < d; j++) sum += x[j];
    double mean = sum / (double)d;
    for (int64_t j = 0; j < d; j++) squares += (x[j] - mean) * (x[j] - mean);
    double std = d > 1 ? sqrt(squares / (double)(d - 1)) : 0;
    return (row_units){(float)mean, (float)(std + 1e-5), (float)std};
}

/* A row of length sqrt(d). One of zeros stays as it is: z = 0, x_hat = 0. */
static row_units constant_norm_rescale(const float *x, int64_t d) {
    double squares = 0;
    for (int64_t j = 0; j < d; j++) squares += (double)x[j] * x[j];
    float size = (float)sqrt(squares / (double)d);
    return (row_units){0, size > 0 ? size : 1, size};
}

const sae_norm sae_norms[] = {
    {"layer_norm", layer_norm},
    {"constant_norm_rescale", constant_norm_rescale},
};
const int n_sae_norms = sizeof sae_norms / sizeof *sae_norms;

const sae_norm *sae_norm_find(const char *name) {
    int i = names_find(name, sae_norms, n_sae_norms, sizeof *sae_norms);
    return i < 0 ? NULL : &sae_norms[i];
}
