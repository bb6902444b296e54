/* Drawing a token, against a version that sorts and works in double, in closed form, and by counting draws. */
#include "support/test.h"

#include "core/mem.h"
#include "core/rng.h"
#include "steer/generate.h"

#define assert_near(a, b, tolerance) assert_true(fabs((a) - (b)) <= (tolerance))

enum { N_MAX = 49152 };

static int64_t sample(const float *logits, int64_t n, const sample_opts *o, const uint32_t *recent, size_t n_recent,
                      double uniform) {
    err e = {0};
    float *copy;
    sample_space space;
    ctx c = test_ctx(1);
    assert_ok(mem_new(&copy, (size_t)n, sizeof *copy, "logits", &e), &e);
    assert_ok(mem_new(&space.weights, (size_t)n, sizeof *space.weights, "weights", &e), &e);
    assert_ok(mem_new(&space.ids, (size_t)n, sizeof *space.ids, "ids", &e), &e);
    memcpy(copy, logits, (size_t)n * sizeof *copy);
    int64_t id = sample_token(&c, copy, n, o, recent, n_recent, uniform, &space);
    free(copy);
    free(space.weights);
    free(space.ids);
    return id;
}

static sample_opts opts(double temperature) {
    sample_opts o = SAMPLE_DEFAULTS;
    o.temperature = temperature;
    return o;
}

/* ---- the slow version ---- */

typedef struct entry {
    double logit, p;
    int64_t id;
    bool kept;
} entry;

static int by_logit(const void *a, const void *b) {
    const entry *x = a, *y = b;
    if (x->logit != y->logit) return x->logit < y->logit ? 1 : -1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static int by_id(const void *a, const void *b) {
    const entry *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

static double total(const entry *list, int64_t n) {
    double s = 0;
    for (int64_t i = 0; i < n; i++) s += list[i].kept ? list[i].p : 0;
    return s;
}

/* Probabilities by id after the penalty and all filters; list [n]. */
static void slow_distribution(const float *logits, int64_t n, const sample_opts *o, const uint32_t *recent, size_t n_recent,
                              entry *list) {
    for (int64_t i = 0; i < n; i++) list[i] = (entry){.logit = (double)logits[i], .id = i, .kept = true};
    for (size_t r = 0; r < n_recent; r++) {
        double l = (double)logits[recent[r]];
        list[recent[r]].logit = l < 0 ? l * o->repeat_penalty : l / o->repeat_penalty;
    }
    qsort(list, (size_t)n, sizeof *list, by_logit);
    for (int64_t i = 0; i < n; i++) list[i].p = exp((list[i].logit - list[0].logit) / o->temperature);
    for (int64_t i = 0; i < n; i++) list[i].kept = !o->top_k || i < o->top_k;
    double mass = o->top_p * total(list, n), passed = 0;
    for (int64_t i = 0; i < n; i++) {
        if (passed >= mass && o->top_p < 1) list[i].kept = false;
        passed += list[i].kept ? list[i].p : 0;
    }
    for (int64_t i = 0; i < n; i++) list[i].kept &= list[i].p >= o->min_p * list[0].p;
    double kept = total(list, n);
    for (int64_t i = 0; i < n; i++) list[i].p = list[i].kept ? list[i].p / kept : 0;
    qsort(list, (size_t)n, sizeof *list, by_id);
}

/* Draws at the middle of tokens' shares of [0, 1) and close to the shares' ends must give those tokens. */
static void check_against_slow(const float *logits, int64_t n, const sample_opts *o, const uint32_t *recent,
                               size_t n_recent) {
    entry *list = malloc((size_t)n * sizeof *list);
    slow_distribution(logits, n, o, recent, n_recent, list);
    double passed = 0, margin = 1e-5;
    int64_t checked = 0, step = n < 300 ? 1 : n / 300;
    for (int64_t i = 0; i < n; i++) {
        double p = list[i].p, u[3] = {passed + margin, passed + p / 2, passed + p - margin};
        passed += p;
        if (p < 3 * margin || (i % step && p < 0.01)) continue;
        for (int j = 0; j < 3; j++) assert_int_equal(sample(logits, n, o, recent, n_recent, u[j]), i);
        checked++;
    }
    assert_true(checked > 0);
    free(list);
}

/* Logits like a model's: a few high ones above a broad crowd. */
static void fill(float *logits, int64_t n, uint64_t index) {
    rng r = rng_stream(7, RNG_SYNTHETIC, index);
    for (int64_t i = 0; i < n; i++) {
        double x = rng_normal(&r);
        logits[i] = (float)(i % 37 == 3 ? 6 + 3 * x : 2 * x - 4);
    }
}

static void all_options_agree_with_the_slow_version(void **state) {
    (void)state;
    static const int64_t sizes[] = {1, 2, 7, 63, 64, 65, 129, 1000};
    static const double temperatures[] = {0.3, 1, 2.5}, top_ps[] = {1, 0.95, 0.5, 0.01}, min_ps[] = {0, 0.05, 0.6},
                        penalties[] = {1, 1.3};
    static const int64_t top_ks[] = {0, 1, 3, 40, 5000};
    float logits[1000];
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int64_t n = sizes[s];
        fill(logits, n, s);
        uint32_t recent[6] = {0, (uint32_t)(n / 2), (uint32_t)(n - 1), 0, (uint32_t)(3 % n), 0};
        for (int i = 0; i < 3 * 4 * 3 * 2 * 5; i++) {
            sample_opts o = {.temperature = temperatures[i % 3],
                             .top_p = top_ps[i / 3 % 4],
                             .min_p = min_ps[i / 12 % 3],
                             .repeat_penalty = penalties[i / 36 % 2],
                             .top_k = top_ks[i / 72]};
            check_against_slow(logits, n, &o, recent, 6);
        }
    }
}

static void a_large_vocabulary(void **state) {
    (void)state;
    float *logits = malloc(N_MAX * sizeof *logits);
    fill(logits, N_MAX, 99);
    sample_opts plain = opts(0.7), narrow = opts(0.9), wide = opts(30);
    narrow.top_k = 50;
    narrow.top_p = 0.9;
    wide.top_p = 0.9;
    check_against_slow(logits, N_MAX, &plain, NULL, 0);
    check_against_slow(logits, N_MAX, &narrow, NULL, 0);
    free(logits);
    float flat[1000];
    fill(flat, 1000, 100);
    check_against_slow(flat, 1000, &wide, NULL, 0);
}

/* ---- in closed form ---- */

/* softmax(log 1, log 2, log 3, log 4) = 0.1, 0.2, 0.3, 0.4; at temperature 1/2 it is 1, 4, 9, 16 thirtieths. */
static void logs(float *logits, int64_t n) {
    for (int64_t i = 0; i < n; i++) logits[i] = logf((float)(i + 1));
}

static void counts_follow_the_probabilities(void **state) {
    (void)state;
    const struct {
        sample_opts o;
        double p[4];
    } cases[] = {{{.temperature = 1, .top_p = 1, .repeat_penalty = 1}, {0.1, 0.2, 0.3, 0.4}},
                 {{.temperature = 0.5, .top_p = 1, .repeat_penalty = 1}, {1 / 30., 4 / 30., 9 / 30., 16 / 30.}},
                 {{.temperature = 1, .top_p = 1, .repeat_penalty = 1, .top_k = 2}, {0, 0, 3 / 7., 4 / 7.}},
                 {{.temperature = 1, .top_p = 0.65, .repeat_penalty = 1}, {0, 0, 3 / 7., 4 / 7.}},
                 {{.temperature = 1, .top_p = 0.75, .repeat_penalty = 1}, {0, 2 / 9., 3 / 9., 4 / 9.}},
                 {{.temperature = 1, .top_p = 1, .min_p = 0.6, .repeat_penalty = 1}, {0, 0, 3 / 7., 4 / 7.}}};
    enum { DRAWS = 20000 };
    float logits[4];
    logs(logits, 4);
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        double counts[4] = {0}, chi2 = 0;
        rng r = rng_stream(1, RNG_SAMPLING, k);
        for (int i = 0; i < DRAWS; i++) counts[sample(logits, 4, &cases[k].o, NULL, 0, rng_uniform(&r))]++;
        for (int i = 0; i < 4; i++) {
            double expected = DRAWS * cases[k].p[i];
            if (expected > 0) chi2 += (counts[i] - expected) * (counts[i] - expected) / expected;
            if (expected == 0) assert_true(counts[i] == 0);
        }
        assert_true(chi2 < 16.3); /* 3 degrees of freedom, 1 in 1000; the streams are fixed */
    }
}

/* Temperature comes before top-p: 0.4 is less than half, 16/30 is more. */
static void temperature_comes_before_top_p(void **state) {
    (void)state;
    float logits[4];
    logs(logits, 4);
    sample_opts o = opts(0.5);
    o.top_p = 0.5;
    assert_int_equal(sample(logits, 4, &o, NULL, 0, 0), 3);
    o.temperature = 1;
    assert_int_equal(sample(logits, 4, &o, NULL, 0, 0), 2);
}

/* top-k comes before top-p: of {3, 4} / 7 the larger holds more than half. */
static void top_k_comes_before_top_p(void **state) {
    (void)state;
    float logits[4];
    logs(logits, 4);
    sample_opts o = opts(1);
    o.top_p = 0.55;
    assert_int_equal(sample(logits, 4, &o, NULL, 0, 0), 2);
    o.top_k = 2;
    assert_int_equal(sample(logits, 4, &o, NULL, 0, 0), 3);
}

/* The penalty comes before everything, and min-p after top-p: shares are of the whole, not of what min-p leaves. */
static void the_other_orders(void **state) {
    (void)state;
    float logits[4], six[6];
    logs(logits, 4);
    sample_opts o = opts(0);
    o.repeat_penalty = 2; /* log 4 / 2 = log 2 */
    assert_int_equal(sample(logits, 4, &o, (uint32_t[]){3}, 1, 0), 2);
    for (int i = 0; i < 6; i++) six[i] = logf(i == 0 ? 6 : i == 1 ? 3.5f : 1); /* 6, 3.5 and four of 1: 13.5 */
    o = opts(1);
    o.top_p = 0.68; /* 6 + 3.5 = 9.5 of 13.5 reach it; of 6 + 3.5 alone, 6.46 would need both too, 6 of 9.5 would do at 0.6 */
    o.min_p = 0.5;
    assert_int_equal(sample(six, 6, &o, NULL, 0, 0.99), 1);
    o.top_p = 0.60; /* min-p first would leave 6 of 9.5, more than 0.6 of it */
    assert_int_equal(sample(six, 6, &o, NULL, 0, 0.99), 1);
}

static void a_penalty_counts_once_and_never_helps(void **state) {
    (void)state;
    const float logits[3] = {2, 1.5f, -1};
    sample_opts o = opts(0);
    o.repeat_penalty = 1.2; /* 2 / 1.2 > 1.5, 2 / 1.2^2 < 1.5 */
    assert_int_equal(sample(logits, 3, &o, (uint32_t[]){0, 0, 0}, 3, 0), 0);
    const float negative[2] = {-1, -1.1f};
    o.repeat_penalty = 1.5; /* dividing -1 by 1.5 would leave it in front */
    assert_int_equal(sample(negative, 2, &o, (uint32_t[]){0}, 1, 0), 1);
}

static void equals_go_by_id(void **state) {
    (void)state;
    float logits[200];
    for (int i = 0; i < 200; i++) logits[i] = 1;
    sample_opts o = opts(0);
    assert_int_equal(sample(logits, 200, &o, NULL, 0, 0.9), 0);
    o = opts(1);
    o.top_k = 10;
    assert_int_equal(sample(logits, 200, &o, NULL, 0, 0), 0);
    assert_int_equal(sample(logits, 200, &o, NULL, 0, 0.95), 9);
    assert_int_equal(sample(logits, 200, &o, NULL, 0, 0.999999), 9);
    o.top_k = 0;
    o.top_p = 0.0999; /* 20 tokens of 0.005 hold 0.1, 19 hold 0.095 */
    assert_int_equal(sample(logits, 200, &o, NULL, 0, 0.999999), 19);
    assert_int_equal(sample(logits, 200, &o, NULL, 0, 0.52), 10);
}

static void extremes(void **state) {
    (void)state;
    const float logits[5] = {-INFINITY, 3, NAN, 2.9999f, -INFINITY}, broken[2] = {NAN, -INFINITY}, endless[2] = {0, INFINITY};
    sample_opts cold = opts(1e-300), hot = opts(1e300);
    for (int i = 0; i < 20; i++) {
        double u = i / 20.0;
        assert_int_equal(sample(logits, 5, &cold, NULL, 0, u), 1);
        assert_int_equal(sample(logits, 5, &hot, NULL, 0, u), u < 0.5 ? 1 : 3);
        hot.top_k = i % 3 ? 4 : 0;
        hot.top_p = i % 2 ? 1 : 0.99;
    }
    hot.top_k = 0;
    hot.top_p = 0; /* as strict as can be */
    assert_int_equal(sample(logits, 5, &hot, NULL, 0, 0.99), 1);
    assert_int_equal(sample(broken, 2, &cold, NULL, 0, 0), -1);
    assert_int_equal(sample(endless, 2, &cold, NULL, 0, 0), -1);
    float far[3] = {-1e30f, 0, -1e30f};
    sample_opts o = opts(1);
    o.top_p = 0.5;
    assert_int_equal(sample(far, 3, &o, NULL, 0, 0.999999999999), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_options_agree_with_the_slow_version),
        cmocka_unit_test(a_large_vocabulary),
        cmocka_unit_test(counts_follow_the_probabilities),
        cmocka_unit_test(temperature_comes_before_top_p),
        cmocka_unit_test(top_k_comes_before_top_p),
        cmocka_unit_test(the_other_orders),
        cmocka_unit_test(a_penalty_counts_once_and_never_helps),
        cmocka_unit_test(equals_go_by_id),
        cmocka_unit_test(extremes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
