/* Evaluation at values worked out by hand: reconstruction on an autoencoder of four latents, intervals of resampled groups
 * against the normal approximation, and what must not matter (batches, threads). */
#include "support/oom.h"
#include "support/test.h"

#include "core/rng.h"
#include "sae/eval/bootstrap.h"
#include "sae/eval/recon.h"
#include "sae/variants/variants.h"

#define assert_near(a, b, tolerance)                                                                                         \
    do {                                                                                                                     \
        if (!(fabs((a) - (b)) <= (tolerance))) fail_msg("%.12g is not %.12g", (double)(a), (double)(b));                     \
    } while (0)

/* ---- an autoencoder whose answers are known ---- */

/* topk 1 over the four half-axes of the plane, decoded at 0.8 of their length: x_hat = 0.8 x on an axis, b_dec = 0. */
static sae *half_axes(void) {
    static const float directions[4][2] = {{1, 0}, {-1, 0}, {0, 1}, {0, -1}};
    sae_config cfg = {.variant = &sae_topk, .d_in = 2, .d_sae = 4, .k = 1};
    sae *s;
    err e = {0};
    assert_ok(sae_new(&cfg, &s, &e), &e);
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 2; j++) {
            s->W_enc[i * 2 + j] = directions[i][j];
            s->W_dec[i * 2 + j] = 0.8f * directions[i][j];
        }
    return s;
}

static recon_result evaluate(const sae *s, const float *x, const int32_t *group, int64_t n, int64_t n_groups, int64_t batch,
                             int threads) {
    ctx c = test_ctx(threads);
    err e = {0};
    recon r;
    recon_result out;
    assert_ok(recon_init(&r, s, n_groups, &e), &e);
    for (int64_t i = 0; i < n; i += batch)
        assert_ok(recon_add(&c, &r, x + i * s->cfg.d_in, group + i, n - i < batch ? n - i : batch, &e), &e);
    assert_ok(recon_finish(&c, &r, 7, &out, &e), &e);
    recon_release(&r);
    return out;
}

/* Rows (3,0) (1,0) (0,5) (3,4): mean (7/4, 9/4), spread 60 - 4 (49/16 + 81/16) = 27.5; the first three lose 0.2 x (36 / 25 of
 * 0.04), the last keeps (0, 3.2) of (3, 4). */
static void reconstruction_in_closed_form(void **state) {
    (void)state;
    const float x[] = {3, 0, 1, 0, 0, 5, 3, 4};
    const int32_t group[] = {0, 0, 1, 2};
    sae *s = half_axes();
    for (int threads = 1; threads <= 2; threads++)
        for (int64_t batch = 1; batch <= 4; batch++) {
            recon_result out = evaluate(s, x, group, 4, 3, batch, threads);
            double error = 0.04 * (9 + 1 + 25) + 9 + 0.8 * 0.8;
            assert_int_equal(out.rows, 4);
            assert_near(out.fvu.value, error / 27.5, 1e-6);
            assert_near(out.l0.value, 1, 0);
            assert_near(out.cosine.value, (3 + 4.0 / 5) / 4, 1e-6);
            assert_near(out.norm_ratio.value, (3 * 0.8 + 3.2 / 5) / 4, 1e-6);
            assert_near(out.dead.value, 0.5, 0); /* the two negative half-axes */
            interval wilson = stats_wilson(2, 4);
            assert_near(out.dead.low, wilson.low, 0);
            assert_near(out.dead.high, wilson.high, 0);
            int64_t alive = 0;
            for (int b = 0; b < RECON_BINS; b++) {
                alive += out.density[b];
                if (out.density[b]) assert_true(recon_bin_low(b) <= 0.5 && recon_bin_low(b + 1) > 0.5);
            }
            assert_int_equal(alive, 2);
            assert_true(out.fvu.low <= out.fvu.value && out.fvu.value <= out.fvu.high && out.fvu.low < out.fvu.high);
        }
    sae_free(s);
}

/* The mean row is that of all rows, whatever groups they came in; rows far from the origin cost no digits. */
static void the_mean_is_of_all_rows(void **state) {
    (void)state;
    const float x[] = {10001, 20000, 10003, 20000, 10001, 20006};
    const int32_t group[] = {0, 1, 1};
    sae *s = half_axes();
    ctx c = test_ctx(1);
    err e = {0};
    recon r;
    float mean[2];
    assert_ok(recon_init(&r, s, 2, &e), &e);
    assert_ok(recon_add(&c, &r, x, group, 3, &e), &e);
    assert_ok(recon_mean(&r, mean, &e), &e);
    assert_near(mean[0], 10001 + 2.0 / 3, 1e-2);
    assert_near(mean[1], 20002, 1e-2);
    recon_release(&r);
    sae_free(s);
}

/* ---- intervals ---- */

static void mean_of_sums(const double *sums, double *values) { values[0] = sums[1] / sums[0]; }

/* The mean of 400 groups of one: the interval is that of the normal distribution, 1.96 sd / sqrt(n) either side. */
static void intervals_are_the_normal_ones(void **state) {
    (void)state;
    enum { N = 400 };
    double sums[N + 1][2], mean = 0, squares = 0;
    rng r = rng_stream(1, RNG_SYNTHETIC, 0);
    for (int i = 0; i < N; i++) {
        sums[i][0] = 1;
        sums[i][1] = rng_normal(&r);
        mean += sums[i][1] / N;
    }
    sums[N][0] = sums[N][1] = 0; /* an empty group is none */
    for (int i = 0; i < N; i++) squares += (sums[i][1] - mean) * (sums[i][1] - mean);
    double reach = 1.96 * sqrt(squares / N / N);
    interval first;
    for (int threads = 1; threads <= 3; threads += 2) {
        ctx c = test_ctx(threads);
        err e = {0};
        interval out;
        assert_ok(bootstrap_intervals(&c, sums[0], N + 1, 2, mean_of_sums, 1, 5, &out, &e), &e);
        assert_near(out.value, mean, 1e-12);
        assert_near(out.low, mean - reach, 0.1 * reach);
        assert_near(out.high, mean + reach, 0.1 * reach);
        if (threads == 1) first = out;
        assert_memory_equal(&first, &out, sizeof out);
    }
}

/* Ten tokens in one document say as little as one: groups are drawn, not tokens. */
static void tokens_of_a_document_do_not_narrow_it(void **state) {
    (void)state;
    ctx c = test_ctx(1);
    err e = {0};
    interval one, ten;
    double single[4][2] = {{1, 1}, {1, 2}, {1, 3}, {1, 6}}, many[4][2];
    for (int i = 0; i < 4; i++) many[i][0] = 10, many[i][1] = 10 * single[i][1];
    assert_ok(bootstrap_intervals(&c, single[0], 4, 2, mean_of_sums, 1, 0, &one, &e), &e);
    assert_ok(bootstrap_intervals(&c, many[0], 4, 2, mean_of_sums, 1, 0, &ten, &e), &e);
    assert_memory_equal(&one, &ten, sizeof one);
    assert_true(one.low >= 1 && one.high <= 6 && one.low < 3 && one.high > 3);
}

static void what_cannot_be_said_is_nan(void **state) {
    (void)state;
    ctx c = test_ctx(1);
    err e = {0};
    interval out;
    const double sums[3][2] = {{2, 3}, {0, 0}, {0, 0}}; /* one document is no sample */
    assert_ok(bootstrap_intervals(&c, sums[0], 3, 2, mean_of_sums, 1, 0, &out, &e), &e);
    assert_near(out.value, 1.5, 0);
    assert_true(isnan(out.low) && isnan(out.high));
}

/* ---- memory ---- */

static err_code evaluate_some(void *arg, err *e) {
    const float x[] = {3, 0, 1, 0, 0, 5, 3, 4};
    const int32_t group[] = {0, 0, 1, 2};
    ctx c = test_ctx(1);
    recon r;
    recon_result out;
    err_code rc = recon_init(&r, arg, 3, e);
    if (!rc) rc = recon_add(&c, &r, x, group, 4, e);
    if (!rc) rc = recon_finish(&c, &r, 0, &out, e);
    recon_release(&r);
    return rc;
}

static void survives_without_memory(void **state) {
    (void)state;
    sae *s = half_axes();
    oom_sweep(evaluate_some, s, 200);
    sae_free(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reconstruction_in_closed_form), cmocka_unit_test(the_mean_is_of_all_rows),
        cmocka_unit_test(intervals_are_the_normal_ones), cmocka_unit_test(tokens_of_a_document_do_not_narrow_it),
        cmocka_unit_test(what_cannot_be_said_is_nan),    cmocka_unit_test(survives_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
