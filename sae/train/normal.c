#include "sae/train/normal.h"
#include "core/mem.h"

#include <math.h>
#include <stdlib.h>

static const double NEAR_ENOUGH = 1e-3; /* of the distance to a row: the centre is only where training starts */
enum { STEPS_MAX = 50 };

err_code normal_init(row_normal *w, int64_t d, err *e) {
    *w = (row_normal){.d = d, .scale = 1};
    return mem_new0(&w->centre, (size_t)d, sizeof *w->centre, "the mean of rows", e);
}

void normal_release(row_normal *w) {
    free(w->centre);
    *w = (row_normal){0};
}

static double distance2(const double *c, const float *x, int64_t d) {
    double sum = 0;
    for (int64_t j = 0; j < d; j++) sum += ((double)x[j] - c[j]) * ((double)x[j] - c[j]);
    return sum;
}

/* One step of Weiszfeld: the mean of the rows weighted by 1 / ||x - c||. Rows at c itself, where that is infinite, are left out.
 * Returns how far it went, as a share of the rows' mean distance. */
static double weiszfeld(double *c, double *next, const float *x, int64_t n, int64_t d) {
    double weights = 0, distances = 0, moved = 0;
    for (int64_t j = 0; j < d; j++) next[j] = 0;
    for (int64_t r = 0; r < n; r++) {
        double far = sqrt(distance2(c, x + r * d, d));
        distances += far;
        if (far == 0) continue;
        weights += 1 / far;
        for (int64_t j = 0; j < d; j++) next[j] += (double)x[r * d + j] / far;
    }
    if (weights == 0) return 0;
    for (int64_t j = 0; j < d; j++) {
        double at = next[j] / weights;
        moved += (at - c[j]) * (at - c[j]);
        c[j] = at;
    }
    return sqrt(moved) * (double)n / distances;
}

static void mean_row(double *c, const float *x, int64_t n, int64_t d) {
    for (int64_t j = 0; j < d; j++) c[j] = 0;
    for (int64_t r = 0; r < n; r++)
        for (int64_t j = 0; j < d; j++) c[j] += (double)x[r * d + j] / (double)n;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

err_code normal_measure(row_normal *w, const float *x, int64_t n, err *e) {
    err_code rc;
    double *c = NULL, *next = NULL, *squares = NULL;
    TRY(mem_new(&c, (size_t)w->d, sizeof *c, "the centre of rows", e));
    TRY(mem_new(&next, (size_t)w->d, sizeof *next, "the centre of rows", e));
    TRY(mem_new(&squares, (size_t)n, sizeof *squares, "lengths of rows", e));
    mean_row(c, x, n, w->d);
    for (int i = 0; i < STEPS_MAX && weiszfeld(c, next, x, n, w->d) > NEAR_ENOUGH; i++) {
    }
    for (int64_t r = 0; r < n; r++) squares[r] = distance2(c, x + r * w->d, w->d);
    qsort(squares, (size_t)n, sizeof *squares, by_value);
    w->scale = (float)sqrt((double)w->d / squares[n / 2]);
    for (int64_t j = 0; j < w->d; j++) w->centre[j] = (float)c[j];
    if (!isfinite(w->scale))
        rc = err_set(e, ERR_FORMAT, "most of the first %lld rows are the same: there is nothing to learn", (long long)n);
done:
    free(c);
    free(next);
    free(squares);
    return rc;
}

void normal_apply(const ctx *c, const row_normal *w, float *x, int64_t n) {
#pragma omp parallel for num_threads(c->threads)
    for (int64_t r = 0; r < n; r++)
        for (int64_t j = 0; j < w->d; j++) x[r * w->d + j] = (x[r * w->d + j] - w->centre[j]) * w->scale;
}

static void scaled(const float *from, float factor, float *to, int64_t n) {
    for (int64_t i = 0; from && i < n; i++) to[i] = from[i] * factor;
}

static void divided(const float *from, float divisor, float *to, int64_t n) {
    for (int64_t i = 0; from && i < n; i++) to[i] = from[i] / divisor;
}

static float dot_of(const float *a, const float *b, int64_t d) {
    double sum = 0;
    for (int64_t j = 0; j < d; j++) sum += (double)a[j] * (double)b[j];
    return (float)sum;
}

err_code normal_fold(const row_normal *w, const row_normal *out, const sae *trained, sae **folded, err *e) {
    int64_t n = trained->cfg.d_sae, d = trained->cfg.d_in, d_out = trained->cfg.d_out;
    float ratio = w->scale / out->scale;
    sae *s;
    err_code rc = sae_new(&trained->cfg, folded, e);
    if (rc) return rc;
    s = *folded;
    scaled(trained->W_enc, ratio, s->W_enc, n * d);
    scaled(trained->W_dec, 1, s->W_dec, n * d_out);
    scaled(trained->W_skip, ratio, s->W_skip, d * d_out);
    scaled(trained->r_mag, 1, s->r_mag, n);
    divided(trained->b_enc, out->scale, s->b_enc, n);
    divided(trained->b_gate, out->scale, s->b_gate, n);
    divided(trained->threshold, out->scale, s->threshold, n);
    for (int64_t i = 0; !s->cfg.apply_b_dec_to_input && i < n; i++) {
        float shift = dot_of(s->W_enc + i * d, w->centre, d);
        s->b_enc[i] -= s->r_mag ? shift * expf(s->r_mag[i]) : shift;
        if (s->b_gate) s->b_gate[i] -= shift;
    }
    for (int64_t j = 0; j < d_out; j++) {
        s->b_dec[j] = out->centre[j] + trained->b_dec[j] / out->scale;
        if (s->W_skip) s->b_dec[j] -= dot_of(s->W_skip + j * d, w->centre, d);
    }
    return ERR_OK;
}
