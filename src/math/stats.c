#include "math/stats.h"

#include "core/mem.h"

#include <math.h>
#include <stdlib.h>

static const double Z95 = 1.959963984540054; /* 97.5 % quantile of the normal distribution */

static int by_score(const void *a, const void *b) {
    double x = ((const scored *)a)->score, y = ((const scored *)b)->score;
    return (x > y) - (x < y);
}

/* ---- AUROC ---- */

/* Walks runs of equal scores in sorted items: sum over positives of (negatives below + half of the tied ones). */
static double mann_whitney(const scored *items, int64_t n, int64_t negatives_below) {
    double wins = 0;
    for (int64_t i = 0, end; i < n; i = end) {
        int64_t pos = 0, neg = 0;
        for (end = i; end < n && items[end].score == items[i].score; end++) items[end].positive ? pos++ : neg++;
        wins += (double)pos * ((double)negatives_below + 0.5 * (double)neg);
        negatives_below += neg;
    }
    return wins;
}

double stats_auroc(scored *items, int64_t n) {
    int64_t pos = 0;
    for (int64_t i = 0; i < n; i++) pos += items[i].positive != 0;
    if (pos == 0 || pos == n) return NAN;
    qsort(items, (size_t)n, sizeof *items, by_score);
    return mann_whitney(items, n, 0) / ((double)pos * (double)(n - pos));
}

double stats_auroc_sparse(scored *nonzero, int64_t n, int64_t n_pos, int64_t n_neg) {
    if (n_pos == 0 || n_neg == 0) return NAN;
    int64_t pos = 0;
    for (int64_t i = 0; i < n; i++) pos += nonzero[i].positive != 0;
    if (n) qsort(nonzero, (size_t)n, sizeof *nonzero, by_score);
    int64_t zero_pos = n_pos - pos, zero_neg = n_neg - (n - pos);
    double wins = 0.5 * (double)zero_pos * (double)zero_neg + mann_whitney(nonzero, n, zero_neg);
    return wins / ((double)n_pos * (double)n_neg);
}

/* What the variance needs of one cluster: how many items of each class it has, and the sums of their placements. */
typedef struct cluster {
    double pos, neg, pos_placements, neg_placements;
} cluster;

/* A positive's placement is the share of negatives below it, a negative's the share of positives above it. items sorted. */
static void sum_placements(const scored *items, int64_t n, double n_pos, double n_neg, cluster *clusters) {
    double pos_below = 0, neg_below = 0;
    for (int64_t i = 0, end; i < n; i = end) {
        double pos = 0, neg = 0;
        for (end = i; end < n && items[end].score == items[i].score; end++) *(items[end].positive ? &pos : &neg) += 1;
        for (int64_t j = i; j < end; j++) {
            cluster *k = &clusters[items[j].cluster];
            if (items[j].positive) {
                k->pos += 1;
                k->pos_placements += (neg_below + 0.5 * neg) / n_neg;
            } else {
                k->neg += 1;
                k->neg_placements += (n_pos - pos_below - 0.5 * pos) / n_pos;
            }
        }
        pos_below += pos;
        neg_below += neg;
    }
}

/* Obuchowski 1997, "Nonparametric analysis of clustered ROC curve data", eq. for var(A): DeLong's with sums over clusters. */
static double clustered_variance(const cluster *clusters, int32_t n_clusters, double auroc, double n_pos, double n_neg,
                                 double pos_clusters, double neg_clusters) {
    double s10 = 0, s01 = 0, s11 = 0, used = 0;
    for (int32_t i = 0; i < n_clusters; i++) {
        const cluster *k = &clusters[i];
        double u = k->pos_placements - k->pos * auroc, v = k->neg_placements - k->neg * auroc;
        s10 += u * u;
        s01 += v * v;
        s11 += u * v;
        used += k->pos + k->neg > 0;
    }
    s10 *= pos_clusters > 1 ? pos_clusters / (pos_clusters - 1) : 1;
    s01 *= neg_clusters > 1 ? neg_clusters / (neg_clusters - 1) : 1;
    s11 *= used > 1 ? used / (used - 1) : 1;
    double variance = s10 / (n_pos * n_pos) + s01 / (n_neg * n_neg) + 2 * s11 / (n_pos * n_neg);
    return variance > 0 ? variance : 0; /* the cross term may leave a rounding error below zero */
}

/* Hanley and McNeil's variance of an AUROC theta as Newcombe 2006 (part 2, method 5) uses it, m and n both classes' sizes. */
static double newcombe_variance(double theta, double m, double n) {
    double star = (m + n) / 2 - 1;
    return theta * (1 - theta) * (1 + star * (1 - theta) / (2 - theta) + star * theta / (1 + theta)) / (m * n);
}

/* The theta between auroc and bound for which auroc lies just 1.96 standard errors away, by bisection. */
static double newcombe_limit(double auroc, double bound, double m, double n) {
    double near = auroc, far = bound;
    for (int step = 0; step < 60; step++) {
        double middle = 0.5 * (near + far);
        if (fabs(middle - auroc) < Z95 * sqrt(newcombe_variance(middle, m, n)))
            near = middle;
        else
            far = middle;
    }
    return 0.5 * (near + far);
}

err_code stats_auroc_interval(scored *items, int64_t n, interval *out, err *e) {
    *out = (interval){NAN, NAN, NAN};
    double auroc = stats_auroc(items, n);
    if (isnan(auroc)) return ERR_OK;
    int32_t n_clusters = 0;
    double n_pos = 0, pos_clusters = 0, neg_clusters = 0;
    for (int64_t i = 0; i < n; i++) {
        n_pos += items[i].positive != 0;
        if (items[i].cluster >= n_clusters) n_clusters = items[i].cluster + 1;
    }
    cluster *clusters;
    err_code rc = mem_new0(&clusters, (size_t)n_clusters, sizeof *clusters, "clusters of an AUROC", e);
    if (rc) return rc;
    sum_placements(items, n, n_pos, (double)n - n_pos, clusters);
    for (int32_t i = 0; i < n_clusters; i++) {
        pos_clusters += clusters[i].pos > 0;
        neg_clusters += clusters[i].neg > 0;
    }
    double reach =
        Z95 * sqrt(clustered_variance(clusters, n_clusters, auroc, n_pos, (double)n - n_pos, pos_clusters, neg_clusters));
    free(clusters);
    out->value = auroc;
    out->low = fmax(0, fmin(auroc - reach, newcombe_limit(auroc, 0, pos_clusters, neg_clusters)));
    out->high = fmin(1, fmax(auroc + reach, newcombe_limit(auroc, 1, pos_clusters, neg_clusters)));
    return ERR_OK;
}

/* ---- shares, means, quantiles ---- */

interval stats_wilson(int64_t k, int64_t n) {
    if (n <= 0) return (interval){NAN, NAN, NAN};
    double p = (double)k / (double)n, z2n = Z95 * Z95 / (double)n;
    double centre = (p + z2n / 2) / (1 + z2n),
           reach = Z95 * sqrt(p * (1 - p) / (double)n + z2n / (4 * (double)n)) / (1 + z2n);
    return (interval){p, k == 0 ? 0 : centre - reach, k == n ? 1 : centre + reach};
}

/* 97.5 % quantiles of Student's t by degrees of freedom. */
static const double t975[] = {0,     12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
                              2.201, 2.179,  2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080,
                              2.074, 2.069,  2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042};

interval stats_mean(const double *x, int64_t n) {
    if (n <= 0) return (interval){NAN, NAN, NAN};
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i];
    double mean = sum / (double)n;
    if (n < 2) return (interval){mean, NAN, NAN};
    for (int64_t i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean);
    double t = n - 1 <= 30 ? t975[n - 1] : Z95, reach = t * sqrt(squares / (double)(n - 1) / (double)n);
    return (interval){mean, mean - reach, mean + reach};
}

int64_t stats_quantile_index(int64_t n, double q) {
    int64_t i = (int64_t)ceil(q * (double)n) - 1;
    return i < 0 ? 0 : i >= n ? n - 1 : i;
}

int stats_log_bin(double v) {
    double bin = floor(STATS_BINS_PER_OCTAVE * log2(v));
    return bin < STATS_BIN_MIN ? STATS_BIN_MIN : bin > STATS_BIN_MAX ? STATS_BIN_MAX : (int)bin;
}

double stats_bin_low(int64_t bin) { return exp2((double)bin / STATS_BINS_PER_OCTAVE); }
