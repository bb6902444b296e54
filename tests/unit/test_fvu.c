/* Sums of fvu.h against two passes in long double, on rows whose mean is 10^5 times their spread: a running sum of squares
 * would lose every digit there. Catches also: blocks merged wrongly, the wrong channels left out, division by no rows. */
#include "support/test.h"

#include "core/rng.h"
#include "sae/fvu.h"

enum { D = 19, ROWS = 301 };

static void make_rows(float x[ROWS * D], float x_hat[ROWS * D]) {
    rng r = rng_stream(1, RNG_SYNTHETIC, 0);
    for (int i = 0; i < ROWS * D; i++) {
        double spread = i % D == 7 ? 50 : 0.5 + i % D;
        x[i] = (float)(1e5 * (1 + i % D) + spread * rng_normal(&r));
        x_hat[i] = (float)(x[i] + 0.3 * rng_normal(&r));
    }
    memset(x_hat, 0, sizeof(float) * D); /* a row without an angle */
}

/* without: channels to leave out, by flag */
static double naive_fvu(const float *x, const float *x_hat, const bool *without) {
    long double error = 0, spread = 0;
    for (int j = 0; j < D; j++) {
        if (without && without[j]) continue;
        long double mean = 0;
        for (int r = 0; r < ROWS; r++) mean += x[r * D + j];
        mean /= ROWS;
        for (int r = 0; r < ROWS; r++) {
            long double a = x[r * D + j];
            spread += (a - mean) * (a - mean);
            error += (a - x_hat[r * D + j]) * (a - x_hat[r * D + j]);
        }
    }
    return (double)(error / spread);
}

static void agrees_with_two_passes(void **state) {
    (void)state;
    static float x[ROWS * D], x_hat[ROWS * D];
    make_rows(x, x_hat);
    for (int block = 1; block <= ROWS; block = block * 3 + 1) {
        fvu_sums all = {0}, part = {0};
        err e = {0};
        assert_ok(fvu_init(&all, D, &e), &e);
        assert_ok(fvu_init(&part, D, &e), &e);
        for (int first = 0; first < ROWS; first += block) {
            int n = ROWS - first < block ? ROWS - first : block;
            fvu_reset(&part);
            fvu_add(&part, x + first * D, x_hat + first * D, n, 3 * n);
            fvu_merge(&all, &part);
        }
        fvu_reset(&part);
        fvu_merge(&all, &part);
        const bool largest[D] = {[7] = true}, two[D] = {[7] = true, [18] = true};
        assert_true(fabs(fvu_of(&all) / naive_fvu(x, x_hat, NULL) - 1) < 1e-9);
        assert_true(fvu_without(&all, 0) == fvu_of(&all));
        assert_true(fabs(fvu_without(&all, 1) / naive_fvu(x, x_hat, largest) - 1) < 1e-9);
        assert_true(fabs(fvu_without(&all, 2) / naive_fvu(x, x_hat, two) - 1) < 1e-9);
        assert_true(isnan(fvu_without(&all, D)));
        assert_true(fvu_l0(&all) == 3);
        assert_int_equal(all.n_angles, ROWS - 1);
        fvu_release(&all);
        fvu_release(&part);
    }
}

static void closed_forms(void **state) {
    (void)state;
    const float x[] = {3, 4, -3, -4, 0, 0}, half[] = {1.5f, 2, -1.5f, -2, 0, 0}, across[] = {-4, 3, 4, -3, 1, 1};
    fvu_sums s = {0};
    err e = {0};
    assert_ok(fvu_init(&s, 2, &e), &e);
    assert_true(isnan(fvu_of(&s)) && isnan(fvu_l0(&s)) && isnan(fvu_cosine(&s)));
    fvu_add(&s, x, x, 3, 0);
    assert_true(fvu_of(&s) == 0 && fvu_l0(&s) == 0 && fabs(fvu_cosine(&s) - 1) < 1e-15 && fvu_norm_ratio(&s) == 1);
    fvu_reset(&s);
    fvu_add(&s, x, half, 3, 5); /* half the vector: a quarter of the variance is left */
    assert_true(fabs(fvu_of(&s) - 0.25) < 1e-15 && fabs(fvu_cosine(&s) - 1) < 1e-15 && fvu_norm_ratio(&s) == 0.5);
    assert_true(fabs(fvu_l0(&s) - 5.0 / 3) < 1e-15);
    fvu_reset(&s);
    fvu_add(&s, x, across, 2, 0);
    assert_true(fabs(fvu_of(&s) - 2) < 1e-15 && fabs(fvu_cosine(&s)) < 1e-15);
    fvu_release(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_two_passes),
        cmocka_unit_test(closed_forms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
