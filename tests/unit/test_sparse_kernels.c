/* The kernels of math/sparse.h at every machine level against naive double-precision versions, on sizes that are no multiple
 * of any vector. Catches: tails read or written past the end, a candidate lost or doubled at a vector's edge, ties kept in the
 * wrong place, a term of the gradient or of Adam left out at one level only. */
#include "support/test.h"

#include "core/mem.h"
#include "core/rng.h"
#include "math/sparse.h"

static const int64_t sizes[] = {0, 1, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 48, 64, 100, 581};
enum { N_SIZES = sizeof sizes / sizeof *sizes, SIZE_MAX_ = 581, MARK = 12345 };

static float *normals(int64_t n, uint64_t index) {
    float *x;
    err e = {0};
    assert_ok(mem_new(&x, (size_t)n, sizeof *x, "test", &e), &e);
    rng r = rng_stream(1, RNG_SYNTHETIC, index);
    for (int64_t i = 0; i < n; i++) x[i] = (float)rng_normal(&r);
    return x;
}

static void assert_near(double a, double b, double tolerance) {
    if (!(fabs(a - b) <= tolerance)) fail_msg("%.9g and %.9g differ by more than %.2g", a, b, tolerance);
}

#define EACH_LEVEL(k)                                                                                                        \
    for (cpu_level level = CPU_PORTABLE; level <= cpu_best(); level++)                                                       \
        for (const sparse_kernels *k = sparse_kernels_for(level); k; k = NULL)

/* ---- which latents fire ---- */

static void scan_finds_what_is_above(void **state) {
    (void)state;
    float *scores = normals(SIZE_MAX_, 1), *bias = normals(SIZE_MAX_, 2), *floors = normals(SIZE_MAX_, 3);
    scores[5] = NAN;
    scores[20] = 0.25f, bias[20] = 0.25f, floors[20] = 0.5f; /* equal: not above */
    scores[21] = -0.5f, bias[21] = 0.25f, floors[21] = -9;   /* a negative floor leaves 0 */
    EACH_LEVEL(k) for (int s = 0; s < N_SIZES; s++) for (int each = 0; each < 2; each++) {
        float values[SIZE_MAX_ + SPARSE_SLACK];
        uint32_t indices[SIZE_MAX_ + SPARSE_SLACK];
        int64_t n = sizes[s], expected = 0;
        int64_t found = each ? k->scan_above_each(scores, bias, floors, n, 1000, values, indices)
                             : k->scan_above(scores, bias, n, 0.5f, 1000, values, indices);
        for (int64_t j = 0; j < n; j++) {
            float v = scores[j] + bias[j];
            if (!(v > (each ? fmaxf(floors[j], 0) : 0.5f))) continue;
            assert_true(expected < found);
            assert_int_equal(indices[expected], 1000 + j);
            assert_true(values[expected] == v);
            expected++;
        }
        assert_int_equal(found, expected);
    }
    free(scores), free(bias), free(floors);
}

/* How many of v[0..n) must stand before v[i] when the largest come first and equals keep their order. */
static int64_t rank_of(const float *v, int64_t n, int64_t i) {
    int64_t rank = 0;
    for (int64_t j = 0; j < n; j++) rank += v[j] > v[i] || (v[j] == v[i] && j < i);
    return rank;
}

static void check_keep_largest(const sparse_kernels *k, const float *v, int64_t n, int64_t keep) {
    float *values = normals(n, 0), smallest = INFINITY;
    uint32_t indices[SIZE_MAX_];
    for (int64_t i = 0; i < n; i++) values[i] = v[i], indices[i] = (uint32_t)(7 * i);
    float floor = k->keep_largest(values, indices, n, keep);
    int64_t at = 0;
    for (int64_t i = 0; i < n; i++) {
        if (rank_of(v, n, i) >= keep) continue;
        assert_int_equal(indices[at], 7 * i);
        assert_true(values[at] == v[i]);
        smallest = fminf(smallest, v[i]);
        at++;
    }
    assert_int_equal(at, keep);
    assert_true(floor == smallest);
    free(values);
}

static void keep_largest_keeps_order_and_ties(void **state) {
    (void)state;
    float *v = normals(SIZE_MAX_, 4), *coarse = normals(SIZE_MAX_, 5);
    for (int64_t i = 0; i < SIZE_MAX_; i++) coarse[i] = floorf(coarse[i] * 2) + 0.0f; /* many equal, no -0 */
    v[3] = INFINITY, v[4] = -INFINITY, v[6] = 1e-42f, v[7] = -1e-42f;
    EACH_LEVEL(k) for (int s = 2; s < N_SIZES; s++) for (int64_t keep = 1; keep < sizes[s]; keep += 1 + keep / 2) {
        check_keep_largest(k, v, sizes[s], keep);
        check_keep_largest(k, coarse, sizes[s], keep);
    }
    free(v), free(coarse);
}

/* ---- rows ---- */

enum { N_ROWS = 23 };

static void add_rows_and_gradient(void **state) {
    (void)state;
    float *x = normals(N_ROWS * SIZE_MAX_, 6), *err_rows = normals(N_ROWS * SIZE_MAX_, 7), *w = normals(SIZE_MAX_, 8);
    float *f = normals(N_ROWS, 9);
    uint32_t rows[N_ROWS];
    for (int i = 0; i < N_ROWS; i++) rows[i] = (uint32_t)((i * 5 + 2) % N_ROWS);
    EACH_LEVEL(k) for (int s = 0; s < N_SIZES; s++) for (int n = 0; n <= 9; n++) {
        int64_t d = sizes[s];
        float y[SIZE_MAX_ + 1], g_enc[SIZE_MAX_ + 1], g_dec[SIZE_MAX_ + 1];
        const latent_weights weights = {.scale = -0.37f, .offset = 0.21f, .gain = 1.3f};
        for (int64_t j = 0; j <= d; j++) y[j] = g_enc[j] = g_dec[j] = j == d ? MARK : 0.5f;
        const latent_rows l = {rows, f, n};
        k->add_rows(y, d, x, rows, f, n);
        float g_bias = k->latent_gradient(&l, &weights, x, d, err_rows, d, w, g_enc, g_dec);
        double p[N_ROWS] = {0}, bias = 0;
        for (int i = 0; i < n; i++) {
            for (int64_t j = 0; j < d; j++) p[i] += (double)weights.scale * err_rows[rows[i] * d + j] * w[j];
            p[i] += (double)weights.offset;
            bias += p[i];
        }
        assert_near(g_bias, bias, 2e-4);
        for (int64_t j = 0; j < d; j++) {
            double sum = 0.5, enc = 0.5, dec = 0.5;
            for (int i = 0; i < n; i++) {
                sum += (double)f[i] * x[rows[i] * d + j];
                enc += (double)weights.gain * p[i] * x[rows[i] * d + j];
                dec += (double)weights.scale * f[i] * err_rows[rows[i] * d + j];
            }
            assert_near(y[j], sum, 1e-5);
            assert_near(g_enc[j], enc, 5e-4);
            assert_near(g_dec[j], dec, 1e-5);
        }
        assert_true(y[d] == MARK && g_enc[d] == MARK && g_dec[d] == MARK);
    }
    free(x), free(err_rows), free(w), free(f);
}

static void norms(void **state) {
    (void)state;
    EACH_LEVEL(k) for (int s = 0; s < N_SIZES; s++) {
        int64_t d = sizes[s];
        float *g = normals(d + 1, 10), *w = normals(d + 1, 11), *before = normals(d, 10);
        g[d] = w[d] = MARK;
        double gw = 0, ww = 0;
        for (int64_t j = 0; j < d; j++) gw += (double)g[j] * w[j], ww += (double)w[j] * w[j];
        assert_near(k->dot(g, w, d), gw, 1e-4);
        k->project_out(g, w, d);
        for (int64_t j = 0; j < d; j++) assert_near(g[j], before[j] - gw / ww * w[j], 1e-5);
        k->normalize(w, d);
        double one = 0;
        for (int64_t j = 0; j < d; j++) one += (double)w[j] * w[j];
        if (d) assert_near(one, 1, 1e-6);
        assert_true(g[d] == MARK && w[d] == MARK);
        float zero[3] = {0};
        k->normalize(zero, 3);
        k->project_out(before, zero, d < 3 ? d : 3);
        assert_true(zero[0] == 0);
        free(g), free(w), free(before);
    }
}

static void adam(void **state) {
    (void)state;
    const double beta1 = 0.9, beta2 = 0.999, lr = 1e-2, eps = 1e-8;
    EACH_LEVEL(k) for (int s = 0; s < N_SIZES; s++) {
        int64_t d = sizes[s];
        float *w = normals(d + 1, 12), m[SIZE_MAX_ + 1] = {0}, v[SIZE_MAX_ + 1] = {0};
        double wr[SIZE_MAX_], mr[SIZE_MAX_] = {0}, vr[SIZE_MAX_] = {0};
        for (int64_t j = 0; j < d; j++) wr[j] = w[j];
        w[d] = m[d] = v[d] = MARK;
        for (int t = 1; t <= 5; t++) {
            float *g = normals(d, (uint64_t)(20 + t));
            adam_step a = {.beta1 = (float)beta1,
                           .beta2 = (float)beta2,
                           .share1 = (float)(1 - beta1),
                           .share2 = (float)(1 - beta2),
                           .rate = (float)(lr / (1 - pow(beta1, t))),
                           .inverse_v = (float)(1 / sqrt(1 - pow(beta2, t))),
                           .eps = (float)eps};
            k->adam(&a, 0.5f, g, w, m, v, d);
            for (int64_t j = 0; j < d; j++) {
                double x = 0.5 * g[j];
                mr[j] = beta1 * mr[j] + (1 - beta1) * x;
                vr[j] = beta2 * vr[j] + (1 - beta2) * x * x;
                wr[j] -= lr * (mr[j] / (1 - pow(beta1, t))) / (sqrt(vr[j] / (1 - pow(beta2, t))) + eps);
            }
            free(g);
        }
        for (int64_t j = 0; j < d; j++) assert_near(w[j], wr[j], 1e-6);
        assert_true(w[d] == MARK && m[d] == MARK && v[d] == MARK);
        free(w);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scan_finds_what_is_above),
        cmocka_unit_test(keep_largest_keeps_order_and_ties),
        cmocka_unit_test(add_rows_and_gradient),
        cmocka_unit_test(norms),
        cmocka_unit_test(adam),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
