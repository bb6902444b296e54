#include "sae/train/normal.h"
#include "core/mem.h"

#include <math.h>
#include <stdlib.h>

err_code normal_init(row_normal *w, int64_t d, err *e) {
    *w = (row_normal){.d = d, .scale = 1};
    return mem_new0(&w->centre, (size_t)d, sizeof *w->centre, "the mean of rows", e);
}

void normal_release(row_normal *w) {
    free(w->centre);
    *w = (row_normal){0};
}

err_code normal_measure(row_normal *w, const float *x, int64_t n, err *e) {
    double squares = 0;
    for (int64_t j = 0; j < w->d; j++) {
        double sum = 0;
        for (int64_t r = 0; r < n; r++) sum += (double)x[r * w->d + j];
        w->centre[j] = (float)(sum / (double)n);
        for (int64_t r = 0; r < n; r++) {
            double off = (double)x[r * w->d + j] - (double)w->centre[j];
            squares += off * off;
        }
    }
    w->scale = (float)sqrt((double)w->d * (double)n / squares);
    if (isfinite(w->scale)) return ERR_OK;
    return err_set(e, ERR_FORMAT, "the first %lld rows are all the same: there is nothing to learn", (long long)n);
}

void normal_apply(const ctx *c, const row_normal *w, float *x, int64_t n) {
#pragma omp parallel for num_threads(c->threads)
    for (int64_t r = 0; r < n; r++)
        for (int64_t j = 0; j < w->d; j++) x[r * w->d + j] = (x[r * w->d + j] - w->centre[j]) * w->scale;
}

void normal_fold(const row_normal *w, const sae *trained, sae *out) {
    for (int64_t i = 0; i < trained->cfg.d_sae; i++) {
        out->b_enc[i] = trained->b_enc[i] / w->scale;
        if (out->threshold) out->threshold[i] = trained->threshold[i] / w->scale;
    }
    for (int64_t j = 0; j < w->d; j++) out->b_dec[j] = w->centre[j] + trained->b_dec[j] / w->scale;
}
