/* The k largest scores, found through bounds, against all scores in the same float32 dot product: same latents, same bits. And
 * the bounds themselves against scores in double. Catches: a bound that is too tight, a candidate lost at a tile's or vector's
 * edge, ties that go to the wrong latent, rows with more candidates than there is room for. */
#include "support/test.h"

#include "core/half.h"
#include "core/mem.h"
#include "core/rng.h"
#include "formats/weights.h"
#include "sae/top.h"
#include "sae/variants/variants.h"

#define EACH_LEVEL(level) for (cpu_level level = CPU_PORTABLE; level <= cpu_best(); level++)

typedef struct shape {
    int64_t d, n, k;
} shape;

static const shape shapes[] = {{1, 1, 1},      {3, 7, 2},       {16, 33, 4},     {48, 600, 8},
                               {61, 1030, 16}, {576, 2500, 32}, {130, 520, 500}, {1500, 300, 8}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes, N_ROWS = 101 };

static sae *make_sae(shape f, uint64_t seed) {
    sae_config cfg = {.variant = &sae_topk, .d_in = f.d, .d_sae = f.n, .k = f.k};
    rng r = rng_stream(11, RNG_SYNTHETIC, seed);
    sae *s;
    err e = {0};
    assert_ok(sae_new(&cfg, &s, &e), &e);
    for (int64_t i = 0; i < f.n * f.d; i++) s->W_enc[i] = (float)(rng_normal(&r) / sqrt((double)f.d));
    for (int64_t i = 0; i < f.n; i++) s->b_enc[i] = (float)(0.2 * rng_normal(&r));
    return s;
}

/* Rows as those of a language model are: a few channels a hundred times as large as others, norms of all sizes. */
static float *make_rows(shape f, int64_t n, uint64_t seed) {
    rng r = rng_stream(12, RNG_SYNTHETIC, seed);
    float *x;
    err e = {0};
    assert_ok(mem_new(&x, (size_t)(n * f.d), sizeof *x, "rows", &e), &e);
    for (int64_t i = 0; i < n; i++) {
        double size = exp(2 * rng_normal(&r));
        for (int64_t j = 0; j < f.d; j++) x[i * f.d + j] = (float)(size * rng_normal(&r) * (j % 17 == 3 ? 100 : 1));
    }
    return x;
}

/* ---- the bounds ---- */

/* All latents of one row, and every score where its bounds say. Returns the widest bound as a share of the largest score. */
static double check_row(const top *t, const float *x, const preselect_row *row, const preselect_picks *p) {
    const sae *s = t->s;
    int64_t d = s->cfg.d_in;
    double largest = 0, widest = 0;
    assert_int_equal(p->n, s->cfg.d_sae);
    for (int64_t i = 0; i < p->n; i++) {
        double score = s->b_enc[i], high = p->values[i], width = preselect_width(&t->latents, row, i);
        for (int64_t j = 0; j < d; j++) score += (double)x[j] * (double)s->W_enc[i * d + j];
        assert_int_equal(p->indices[i], i);
        if (!(score <= high && score >= high - width))
            fail_msg("score %.9g of latent %d is not in %.9g .. %.9g", score, (int)i, high - width, high);
        largest = fmax(largest, fabs(score));
        widest = fmax(widest, width);
    }
    return widest / largest;
}

static void check_bounds(const top *t, const float *x) {
    int64_t d = t->latents.d, n = (t->latents.n + t->p->panel - 1) / t->p->panel * t->p->panel;
    size_t bytes = (size_t)((d + t->p->group - 1) / t->p->group * t->p->group * t->p->bits / 8),
           places = (size_t)n + SPARSE_SLACK;
    char *q = malloc(bytes * N_ROWS);
    float *scratch = malloc((size_t)d * sizeof *scratch), *values = malloc(places * N_ROWS * sizeof *values);
    uint32_t *indices = malloc(places * N_ROWS * sizeof *indices);
    preselect_row rows[N_ROWS];
    preselect_picks picks[N_ROWS];
    for (int64_t r = 0; r < N_ROWS; r++) {
        rows[r] = t->p->round_row(x + r * d, t->inverse_s, d, q + (size_t)r * bytes, scratch);
        picks[r] = (preselect_picks){values + (size_t)r * places, indices + (size_t)r * places, 0, -INFINITY};
    }
    t->p->scan(&t->latents, 0, n, q, rows, N_ROWS, picks);
    double widest = 0;
    for (int64_t r = 0; r < N_ROWS; r++) widest = fmax(widest, check_row(t, x + r * d, &rows[r], &picks[r]));
    double share = fmax(0.7, 0.04 * sqrt((double)d)); /* scores spread by 1 / sqrt(d) of what bounds are a share of */
    assert_true(widest < (t->p->bits == 8 ? share : share / 10)); /* worth having */
    free(q), free(scratch), free(values), free(indices);
}

static void exact_scores_lie_within_the_bounds(void **state) {
    (void)state;
    err e = {0};
    EACH_LEVEL(level) for (int f = 0; f < N_SHAPES; f++) {
        ctx c = test_ctx(2);
        top t;
        c.cpu = level;
        sae *s = make_sae(shapes[f], 0);
        float *x = make_rows(shapes[f], N_ROWS, 0);
        assert_ok(top_init(&t, &c, s, TOP_WHOLE, x, N_ROWS, &e), &e);
        check_bounds(&t, x);
        top_release(&t);
        sae_free(s);
        free(x);
    }
}

/* ---- the largest ---- */

/* By definition, in the order of latents. */
static int64_t plain(const top *t, const float *x, float *values, uint32_t *indices) {
    const sae *s = t->s;
    int64_t n = s->cfg.d_sae, d = s->cfg.d_in, found = 0;
    float *score = malloc((size_t)n * sizeof *score);
    for (int64_t i = 0; i < n; i++) score[i] = t->k->dot(x, s->W_enc + i * d, d) + s->b_enc[i];
    for (int64_t i = 0; i < n; i++) {
        int64_t before = 0;
        for (int64_t j = 0; j < n && before < s->cfg.k; j++) before += score[j] > score[i] || (score[j] == score[i] && j < i);
        if (before >= s->cfg.k) continue;
        values[found] = score[i];
        indices[found++] = (uint32_t)i;
    }
    free(score);
    return found;
}

static top_counts check(cpu_level level, top_method method, const sae *s, const float *x, int64_t n) {
    ctx c = test_ctx(1);
    err e = {0};
    top t;
    top_space *w;
    top_counts sum = {0};
    int64_t k = s->cfg.k, d = s->cfg.d_in;
    c.cpu = level;
    assert_ok(top_init(&t, &c, s, method, x, n, &e), &e);
    assert_ok(top_space_new(&t, &w, &e), &e);
    float *values = malloc((size_t)(t.block_rows * k) * sizeof *values), *expected = malloc((size_t)k * sizeof *expected);
    uint32_t *indices = malloc((size_t)(t.block_rows * k) * sizeof *indices), *wanted = malloc((size_t)k * sizeof *wanted);
    int64_t *counts = malloc((size_t)t.block_rows * sizeof *counts);
    for (int64_t first = 0; first < n; first += t.block_rows) {
        int64_t rows = n - first < t.block_rows ? n - first : t.block_rows;
        top_find(&t, w, x + first * d, rows, values, indices, counts, &sum);
        for (int64_t r = 0; r < rows; r++) {
            int64_t m = plain(&t, x + (first + r) * d, expected, wanted);
            assert_int_equal(counts[r], m);
            assert_memory_equal(indices + r * k, wanted, (size_t)m * sizeof *wanted);
            assert_memory_equal(values + r * k, expected, (size_t)m * sizeof *expected);
        }
    }
    assert_int_equal(sum.rows, n);
    free(values), free(indices), free(counts), free(expected), free(wanted);
    top_space_free(w);
    top_release(&t);
    return sum;
}

static void they_are_those_of_all_scores(void **state) {
    (void)state;
    EACH_LEVEL(level) for (int method = TOP_FLOAT; method <= TOP_WHOLE; method++) for (int f = 0; f < N_SHAPES; f++) {
        sae *s = make_sae(shapes[f], 1);
        float *x = make_rows(shapes[f], N_ROWS, 1);
        check(level, method, s, x, N_ROWS);
        sae_free(s);
        free(x);
    }
}

/* Latents that come in many copies, moved by less than a step of the whole numbers: choosing k + 16 by rounded scores is wrong. */
static void many_scores_nearly_equal(void **state) {
    (void)state;
    shape h = {64, 2048, 16};
    EACH_LEVEL(level) for (int method = TOP_FLOAT; method <= TOP_WHOLE; method++) {
        sae *s = make_sae(h, 2);
        float *x = make_rows(h, N_ROWS, 2);
        rng r = rng_stream(13, RNG_SYNTHETIC, 0);
        for (int64_t i = 0; i < h.n; i++) {
            for (int64_t j = 0; j < h.d; j++)
                s->W_enc[i * h.d + j] = s->W_enc[i % 8 * h.d + j] * (float)(1 + 1e-5 * rng_normal(&r));
            s->b_enc[i] = s->b_enc[i % 8];
        }
        top_counts found = check(level, method, s, x, N_ROWS);
        if (method == TOP_WHOLE) assert_true(found.rescored > N_ROWS * (h.k + 16));
        sae_free(s);
        free(x);
    }
}

/* All scores equal: every latent is a candidate, more than there is room for, and the first ones win. */
static void all_scores_equal(void **state) {
    (void)state;
    enum { many = 12 };
    shape h = {24, 5000, 3};
    EACH_LEVEL(level) for (int method = TOP_FLOAT; method <= TOP_WHOLE; method++) {
        sae *s = make_sae(h, 3);
        float *x = make_rows(h, many, 3);
        memset(s->b_enc, 0, (size_t)h.n * sizeof *s->b_enc);
        memset(x, 0, (size_t)(2 * h.d) * sizeof *x);
        top_counts found = check(level, method, s, x, many);
        assert_int_equal(found.fallbacks, 2);
        for (int64_t i = 1; i < h.n; i++) memcpy(s->W_enc + i * h.d, s->W_enc, (size_t)h.d * sizeof *s->W_enc);
        found = check(level, method, s, x, many);
        assert_int_equal(found.fallbacks, many);
        sae_free(s);
        free(x);
    }
}

/* ---- real rows ---- */

enum { N_REAL = 192 };

/* Rows of a capture, centred, as float32. */
static float *real_rows(const char *name, int64_t *d) {
    weights *w;
    err e = {0};
    char *path = test_fixture("rows/real.safetensors");
    assert_ok(weights_open(path, &w, &e), &e);
    free(path);
    const tensor_view *t = weights_find(w, name);
    *d = t->shape[1];
    float *x = malloc((size_t)(N_REAL * *d) * sizeof *x);
    for (int64_t i = 0; i < N_REAL * *d; i++) x[i] = half_to_f32(((const uint16_t *)t->data)[i]);
    for (int64_t j = 0; j < *d; j++) {
        double mean = 0;
        for (int64_t r = 0; r < N_REAL; r++) mean += (double)x[r * *d + j] / N_REAL;
        for (int64_t r = 0; r < N_REAL; r++) x[r * *d + j] -= (float)mean;
    }
    weights_close(w);
    return x;
}

/* Every row of two real captures, whose largest channels hold nearly all of the variance. Latents are rows of the capture,
 * near to each other, and random directions. */
static void real_rows_with_outlier_channels(void **state) {
    (void)state;
    static const char *const names[] = {"smollm2.blocks.16.hook_resid_post", "gemma3.blocks.10.hook_resid_post"};
    EACH_LEVEL(level) for (int method = TOP_FLOAT; method <= TOP_WHOLE; method++) for (int f = 0; f < 2; f++) {
        int64_t d;
        float *x = real_rows(names[f], &d);
        shape h = {d, 1200, 32};
        sae *s = make_sae(h, 5);
        for (int64_t i = 0; i < N_REAL; i++) {
            float norm = sqrtf(sparse_kernels_for(level)->dot(x + i * d, x + i * d, d));
            for (int64_t j = 0; j < d; j++) s->W_enc[5 * i * d + j] = x[i * d + j] / norm;
        }
        top_counts found = check(level, method, s, x, N_REAL);
        assert_int_equal(found.fallbacks, 0);
        assert_true(found.rescored < N_REAL * h.n / 2); /* worth having */
        sae_free(s);
        free(x);
    }
}

/* A row that is not finite has no largest scores, and its neighbours keep theirs. */
static void rows_that_are_not_finite(void **state) {
    (void)state;
    shape h = {40, 700, 5};
    EACH_LEVEL(level) for (int method = TOP_FLOAT; method <= TOP_WHOLE; method++) {
        ctx c = test_ctx(1);
        err e = {0};
        top t;
        top_space *w;
        top_counts sum = {0};
        float values[3 * 5], expected[5];
        uint32_t indices[3 * 5], wanted[5];
        int64_t counts[3];
        c.cpu = level;
        sae *s = make_sae(h, 4);
        float *x = make_rows(h, 3, 4);
        x[h.d + 7] = NAN;
        assert_ok(top_init(&t, &c, s, method, x, 1, &e), &e);
        assert_ok(top_space_new(&t, &w, &e), &e);
        top_find(&t, w, x, 3, values, indices, counts, &sum);
        assert_int_equal(counts[1], 0);
        for (int64_t r = 0; r < 3; r += 2) {
            assert_int_equal(plain(&t, x + r * h.d, expected, wanted), counts[r]);
            assert_memory_equal(indices + r * h.k, wanted, sizeof wanted);
            assert_memory_equal(values + r * h.k, expected, sizeof expected);
        }
        top_space_free(w);
        top_release(&t);
        sae_free(s);
        free(x);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_scores_lie_within_the_bounds), cmocka_unit_test(they_are_those_of_all_scores),
        cmocka_unit_test(many_scores_nearly_equal),           cmocka_unit_test(all_scores_equal),
        cmocka_unit_test(real_rows_with_outlier_channels),    cmocka_unit_test(rows_that_are_not_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
