/* stats.h — the few statistics that results are reported with, each with its interval.
 * All in double; no allocation is kept. Threads: pure functions.
 */
#ifndef MATH_STATS_H
#define MATH_STATS_H

#include "core/err.h"

#include <stdint.h>

typedef struct interval {
    double value, low, high;
} interval;

/* One scored item of a two-class comparison. Items of one cluster (a document, a template) are not independent. */
typedef struct scored {
    double score;
    int32_t cluster; /* >= 0 */
    int32_t positive;
} scored;

/* P(score of a positive > score of a negative) + half the ties (Mann-Whitney). NAN without items of both classes.
 * Sorts items by score. */
double stats_auroc(scored *items, int64_t n);

/* The same with a 95 % interval: DeLong et al. 1988 over clusters (Obuchowski 1997), widened to Newcombe's (2006, method 5)
 * interval with clusters as the sample sizes, which does not collapse to a point at 1. Sorts items. */
err_code stats_auroc_interval(scored *items, int64_t n, interval *out, err *e);

/* AUROC of n_pos positives and n_neg negatives of which only the listed ones score above zero, all others exactly zero. */
double stats_auroc_sparse(scored *nonzero, int64_t n, int64_t n_pos, int64_t n_neg);

/* Share k of n with Wilson's score interval, 95 % (Wilson 1927). NAN for n = 0. */
interval stats_wilson(int64_t k, int64_t n);

/* Mean of n values with its 95 % t interval (normal above 30 degrees of freedom); low and high are NAN for n < 2. */
interval stats_mean(const double *x, int64_t n);

/* Index of the q-quantile in n ascending values: the smallest i with (i + 1) / n >= q. */
int64_t stats_quantile_index(int64_t n, double q);

/* Histogram bin of a positive value: floor(4 log2 v), four bins an octave. */
enum { STATS_BINS_PER_OCTAVE = 4, STATS_BIN_MIN = -4 * 32, STATS_BIN_MAX = 4 * 32 };
int stats_log_bin(double v);       /* clamped to STATS_BIN_MIN .. STATS_BIN_MAX */
double stats_bin_low(int64_t bin); /* 2^(bin / 4) */

#endif
