#include "sae/fvu.h"
#include "core/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

err_code fvu_init(fvu_sums *s, int64_t d, err *e) {
    *s = (fvu_sums){.d = d};
    err_code rc = mem_new0(&s->mean, (size_t)d, sizeof *s->mean, "sums over channels", e);
    if (!rc) rc = mem_new0(&s->spread, (size_t)d, sizeof *s->spread, "sums over channels", e);
    if (!rc) rc = mem_new0(&s->error, (size_t)d, sizeof *s->error, "sums over channels", e);
    if (rc) fvu_release(s);
    return rc;
}

void fvu_release(fvu_sums *s) {
    free(s->mean);
    free(s->spread);
    free(s->error);
    *s = (fvu_sums){0};
}

void fvu_reset(fvu_sums *s) {
    size_t bytes = (size_t)s->d * sizeof(double);
    memset(s->mean, 0, bytes);
    memset(s->spread, 0, bytes);
    memset(s->error, 0, bytes);
    *s = (fvu_sums){.d = s->d, .mean = s->mean, .spread = s->spread, .error = s->error};
}

static void add_row(fvu_sums *s, const float *restrict x, const float *restrict x_hat) {
    double share = 1.0 / (double)++s->n_rows, xx = 0, hh = 0, xh = 0;
    double *restrict mean = s->mean, *restrict spread = s->spread, *restrict error = s->error;
    for (int64_t j = 0; j < s->d; j++) {
        double a = x[j], b = x_hat[j], off = a - mean[j];
        mean[j] += off * share;
        spread[j] += off * (a - mean[j]);
        error[j] += (a - b) * (a - b);
        xx += a * a;
        hh += b * b;
        xh += a * b;
    }
    if (xx == 0 || hh == 0) return;
    s->n_angles++;
    s->cosine += xh / sqrt(xx * hh);
    s->norm_ratio += sqrt(hh / xx);
}

void fvu_add(fvu_sums *s, const float *x, const float *x_hat, int64_t n, int64_t n_fired) {
    for (int64_t r = 0; r < n; r++) add_row(s, x + r * s->d, x_hat + r * s->d);
    s->n_fired += n_fired;
}

void fvu_merge(fvu_sums *s, const fvu_sums *behind) {
    if (behind->n_rows == 0) return;
    double a = (double)s->n_rows, b = (double)behind->n_rows, n = a + b;
    for (int64_t j = 0; j < s->d; j++) {
        double off = behind->mean[j] - s->mean[j];
        s->mean[j] += off * (b / n);
        s->spread[j] += behind->spread[j] + off * off * (a * b / n);
        s->error[j] += behind->error[j];
    }
    s->n_rows += behind->n_rows;
    s->n_fired += behind->n_fired;
    s->n_angles += behind->n_angles;
    s->cosine += behind->cosine;
    s->norm_ratio += behind->norm_ratio;
}

static double ratio(double error, double spread) { return spread > 0 ? error / spread : (double)NAN; }

double fvu_of(const fvu_sums *s) {
    double error = 0, spread = 0;
    for (int64_t j = 0; j < s->d; j++) error += s->error[j], spread += s->spread[j];
    return ratio(error, spread);
}

/* Is channel j among the n of largest spread? Among equals the lower index is. */
static int is_dominating(const fvu_sums *s, int64_t j, int64_t n) {
    int64_t before = 0;
    for (int64_t i = 0; i < s->d && before < n; i++)
        before += s->spread[i] > s->spread[j] || (s->spread[i] == s->spread[j] && i < j);
    return before < n;
}

double fvu_without(const fvu_sums *s, int64_t n_channels) {
    double error = 0, spread = 0;
    for (int64_t j = 0; j < s->d; j++) {
        if (is_dominating(s, j, n_channels)) continue;
        error += s->error[j];
        spread += s->spread[j];
    }
    return ratio(error, spread);
}

static double per(double sum, int64_t n) { return n ? sum / (double)n : (double)NAN; }

double fvu_l0(const fvu_sums *s) { return per((double)s->n_fired, s->n_rows); }
double fvu_cosine(const fvu_sums *s) { return per(s->cosine, s->n_angles); }
double fvu_norm_ratio(const fvu_sums *s) { return per(s->norm_ratio, s->n_angles); }
