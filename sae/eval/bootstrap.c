#include "sae/eval/bootstrap.h"
#include "core/mem.h"
#include "core/rng.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

static void add(double *total, const double *sums, int n) {
    for (int i = 0; i < n; i++) total[i] += sums[i];
}

static bool is_empty(const double *sums, int n) {
    for (int i = 0; i < n; i++)
        if (sums[i] != 0) return false;
    return true;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The statistic of one draw, to column b of draws [n_values, BOOTSTRAP_RESAMPLES]. */
static void draw(const double *const *groups, int64_t n, int n_sums, bootstrap_statistic *statistic, int n_values,
                 uint64_t seed, int b, double *draws) {
    double total[BOOTSTRAP_SUMS_MAX] = {0}, values[BOOTSTRAP_VALUES_MAX];
    rng r = rng_stream(seed, RNG_BOOTSTRAP, (uint64_t)b);
    for (int64_t i = 0; i < n; i++) add(total, groups[rng_below(&r, (uint64_t)n)], n_sums);
    statistic(total, values);
    for (int v = 0; v < n_values; v++) draws[v * BOOTSTRAP_RESAMPLES + b] = values[v];
}

/* Draws without a value (a ratio over nothing) leave none that could be called an interval. */
static void take_quantiles(double *draws, interval *out) {
    for (int b = 0; b < BOOTSTRAP_RESAMPLES; b++)
        if (isnan(draws[b])) return;
    qsort(draws, BOOTSTRAP_RESAMPLES, sizeof *draws, by_value);
    out->low = draws[stats_quantile_index(BOOTSTRAP_RESAMPLES, 0.025)];
    out->high = draws[stats_quantile_index(BOOTSTRAP_RESAMPLES, 0.975)];
}

err_code bootstrap_intervals(const ctx *c, const double *sums, int64_t n_groups, int n_sums, bootstrap_statistic *statistic,
                             int n_values, uint64_t seed, interval *out, err *e) {
    assert(n_sums <= BOOTSTRAP_SUMS_MAX && n_values <= BOOTSTRAP_VALUES_MAX);
    double total[BOOTSTRAP_SUMS_MAX] = {0}, values[BOOTSTRAP_VALUES_MAX];
    const double **groups = NULL; /* those with something in them */
    double *draws = NULL;
    int64_t n = 0;
    err_code rc;
    TRY(mem_new(&groups, (size_t)n_groups, sizeof *groups, "bootstrap", e));
    TRY(mem_new(&draws, BOOTSTRAP_RESAMPLES, (size_t)n_values * sizeof *draws, "bootstrap", e));
    for (int64_t i = 0; i < n_groups; i++) {
        if (is_empty(sums + i * n_sums, n_sums)) continue;
        groups[n++] = sums + i * n_sums;
        add(total, sums + i * n_sums, n_sums);
    }
    statistic(total, values);
    for (int v = 0; v < n_values; v++) out[v] = (interval){values[v], NAN, NAN};
    if (n < 2) goto done;
#pragma omp parallel for num_threads(c->threads)
    for (int b = 0; b < BOOTSTRAP_RESAMPLES; b++) draw(groups, n, n_sums, statistic, n_values, seed, b, draws);
    for (int v = 0; v < n_values; v++) take_quantiles(draws + v * BOOTSTRAP_RESAMPLES, &out[v]);
done:
    free(groups);
    free(draws);
    return rc;
}
