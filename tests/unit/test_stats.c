/* stats.c against closed forms and slow definitions. */
#include "support/test.h"

#include "core/rng.h"
#include "math/stats.h"

#define assert_near(a, b, tolerance) assert_true(fabs((a) - (b)) <= (tolerance))

/* The definition: every pair of a positive and a negative. */
static double auroc_by_pairs(const scored *items, int64_t n) {
    double wins = 0, pairs = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            if (items[i].positive && !items[j].positive) {
                pairs += 1;
                wins += items[i].score > items[j].score ? 1 : items[i].score == items[j].score ? 0.5 : 0;
            }
    return wins / pairs;
}

static void fill_with_ties(scored *items, int64_t n, uint64_t seed) {
    rng r = rng_stream(seed, RNG_SYNTHETIC, 0);
    for (int64_t i = 0; i < n; i++) {
        items[i].positive = rng_uniform(&r) < 0.3;
        items[i].score = floor(4 * rng_uniform(&r)) + items[i].positive; /* few values: many ties */
        items[i].cluster = (int32_t)i;
    }
}

/* Catches ties counted as wins or losses, and classes swapped. */
static void test_auroc_is_the_share_of_pairs_won(void **state) {
    (void)state;
    scored items[101];
    for (uint64_t seed = 0; seed < 8; seed++) {
        fill_with_ties(items, 101, seed);
        double expected = auroc_by_pairs(items, 101);
        assert_near(stats_auroc(items, 101), expected, 1e-12);
    }
    scored one_class[2] = {{1, 0, 1}, {2, 1, 1}};
    assert_true(isnan(stats_auroc(one_class, 2)));
}

/* Zeros left out must count as zeros: catches forgetting the tied zeros of either class. */
static void test_sparse_auroc_equals_the_dense_one(void **state) {
    (void)state;
    scored items[80], nonzero[80];
    fill_with_ties(items, 80, 3);
    int64_t n = 0, pos = 0;
    for (int64_t i = 0; i < 80; i++) {
        pos += items[i].positive;
        if (items[i].score > 0) nonzero[n++] = items[i];
    }
    assert_true(n < 80);
    assert_near(stats_auroc_sparse(nonzero, n, pos, 80 - pos), stats_auroc(items, 80), 1e-12);
    assert_near(stats_auroc_sparse(NULL, 0, 5, 7), 0.5, 0);
}

/* DeLong's variance written out from its definition, one item a cluster; both classes large enough that Newcombe's
 * interval is the narrower one on at least one side, so the outer bounds are at least DeLong's. */
static void test_interval_covers_delong(void **state) {
    (void)state;
    enum { N = 400 };
    static scored items[N];
    rng r = rng_stream(5, RNG_SYNTHETIC, 0);
    for (int i = 0; i < N; i++) items[i] = (scored){rng_normal(&r) + (i % 2), i, i % 2};
    double auroc = auroc_by_pairs(items, N), s10 = 0, s01 = 0;
    for (int i = 0; i < N; i++) {
        double placement = 0;
        for (int j = 0; j < N; j++)
            if (items[i].positive != items[j].positive) {
                bool wins = items[i].positive ? items[i].score > items[j].score : items[i].score < items[j].score;
                placement += wins / (N / 2.0);
            }
        *(items[i].positive ? &s10 : &s01) += (placement - auroc) * (placement - auroc) / (N / 2.0 - 1);
    }
    double reach = 1.959964 * sqrt(s10 / (N / 2.0) + s01 / (N / 2.0));
    interval a;
    err e;
    assert_ok(stats_auroc_interval(items, N, &a, &e), &e);
    assert_near(a.value, auroc, 1e-12);
    assert_true(a.low <= auroc - reach + 1e-9 && a.high >= auroc + reach - 1e-9);
    assert_true(a.low > auroc - 1.1 * reach && a.high < auroc + 1.1 * reach); /* and hardly wider */
}

/* Copies of an item in its own cluster add no information: the interval must stay about as wide as without them. */
static void test_interval_knows_clusters(void **state) {
    (void)state;
    enum { N = 60, COPIES = 20 };
    static scored once[N], many[N * COPIES], pretend[N * COPIES];
    rng r = rng_stream(6, RNG_SYNTHETIC, 0);
    for (int i = 0; i < N; i++) {
        once[i] = (scored){rng_normal(&r) + (i % 2), i, i % 2};
        for (int j = 0; j < COPIES; j++) {
            many[i * COPIES + j] = once[i];
            pretend[i * COPIES + j] = once[i];
            pretend[i * COPIES + j].cluster = i * COPIES + j;
        }
    }
    interval a, b, wrong;
    err e;
    assert_ok(stats_auroc_interval(once, N, &a, &e), &e);
    assert_ok(stats_auroc_interval(many, N * COPIES, &b, &e), &e);
    assert_ok(stats_auroc_interval(pretend, N * COPIES, &wrong, &e), &e);
    assert_near(b.low, a.low, 0.01);
    assert_near(b.high, a.high, 0.01);
    assert_true(wrong.high - wrong.low < 0.5 * (a.high - a.low));
}

/* A perfect separation of few items is not certainty: DeLong alone would say [1, 1]. */
static void test_interval_does_not_collapse(void **state) {
    (void)state;
    scored items[20];
    for (int i = 0; i < 20; i++) items[i] = (scored){i, i, i >= 10};
    interval a;
    err e;
    assert_ok(stats_auroc_interval(items, 20, &a, &e), &e);
    assert_near(a.value, 1, 0);
    assert_near(a.high, 1, 1e-9);
    assert_true(a.low > 0.7 && a.low < 0.95);
}

static void test_wilson(void **state) {
    (void)state;
    interval w = stats_wilson(15, 32); /* root of (p - k/n)^2 = z^2 p (1 - p) / n on either side */
    double z = 1.959963984540054;
    assert_near(fabs(w.low - 15.0 / 32), z * sqrt(w.low * (1 - w.low) / 32), 1e-12);
    assert_near(fabs(w.high - 15.0 / 32), z * sqrt(w.high * (1 - w.high) / 32), 1e-12);
    assert_true(w.low < w.value && w.value < w.high);
    assert_near(stats_wilson(0, 9).low, 0, 0);
    assert_near(stats_wilson(9, 9).high, 1, 0);
    assert_near(stats_wilson(0, 9).high, z * z / (9 + z * z), 1e-12);
    assert_true(isnan(stats_wilson(0, 0).value));
}

static void test_mean(void **state) {
    (void)state;
    double x[] = {1, 2, 3};
    interval m = stats_mean(x, 3); /* s = 1, t(2) = 4.303 */
    assert_near(m.value, 2, 0);
    assert_near(m.high, 2 + 4.303 / sqrt(3), 1e-9);
    assert_true(isnan(stats_mean(x, 1).low) && stats_mean(x, 1).value == 1);
}

static void test_quantiles_and_bins(void **state) {
    (void)state;
    assert_int_equal(stats_quantile_index(100, 0.95), 94);
    assert_int_equal(stats_quantile_index(4, 0.5), 1);
    assert_int_equal(stats_quantile_index(1, 0.05), 0);
    assert_int_equal(stats_quantile_index(3, 1.0), 2);
    assert_int_equal(stats_log_bin(1.0), 0);
    assert_int_equal(stats_log_bin(2.0), STATS_BINS_PER_OCTAVE);
    assert_int_equal(stats_log_bin(0.99), -1); /* truncation instead of floor would say 0 */
    assert_int_equal(stats_log_bin(1e300), STATS_BIN_MAX);
    for (int bin = -20; bin < 20; bin++) {
        assert_int_equal(stats_log_bin(stats_bin_low(bin) * 1.0001), bin);
        assert_int_equal(stats_log_bin(stats_bin_low(bin) * 0.9999), bin - 1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_auroc_is_the_share_of_pairs_won),
        cmocka_unit_test(test_sparse_auroc_equals_the_dense_one),
        cmocka_unit_test(test_interval_covers_delong),
        cmocka_unit_test(test_interval_knows_clusters),
        cmocka_unit_test(test_interval_does_not_collapse),
        cmocka_unit_test(test_wilson),
        cmocka_unit_test(test_mean),
        cmocka_unit_test(test_quantiles_and_bins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
