/* Products with packed weights at every machine level against a naive double-precision version, on sizes that are no multiple
 * of any tile. Catches: tails of rows, columns or k; a stretch of k counted twice; a bias added twice; bits that depend on the
 * number of rows, of columns or of threads. */
#include "support/test.h"

#include "core/half.h"
#include "core/mem.h"
#include "core/rng.h"
#include "formats/quant.h"
#include "math/gemm.h"
#include "math/ref.h"

static const int64_t ms[] = {0, 1, 2, 5, 6, 7, 13, 14, 15, 29, 96, 97, 200};
static const int64_t ns[] = {1, 7, 16, 17, 33, 64, 100, 800};
static const int64_t ks[] = {0, 1, 31, 257, 385, 576};

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

static float *normals(int64_t n, uint64_t index) {
    float *x;
    err e = {0};
    assert_ok(mem_new(&x, (size_t)n, sizeof *x, "test", &e), &e);
    rng r = rng_stream(2, RNG_SYNTHETIC, index);
    for (int64_t i = 0; i < n; i++) x[i] = (float)rng_normal(&r);
    return x;
}

static gemm_weights packed(cpu_level level, const float *w, int64_t n, int64_t k) {
    size_t size;
    assert_true(gemm_packed_size(level, GEMM_F32, n, k, &size));
    float *out = normals((int64_t)(size / sizeof *out), 9); /* packing must overwrite all of it */
    int64_t panel = gemm_panel(level);
    for (int64_t j = 0; j < n; j += panel) gemm_pack_floats(level, w + j * k, n - j < panel ? n - j : panel, k, out + j * k);
    return (gemm_weights){.form = GEMM_F32, .n = n, .k = k, .panels = out};
}

/* Row stride of y: one more than n, a mark at the end of each row. */
static void run(cpu_level level, int threads, int64_t m, int64_t n, int64_t k, const float *x, gemm_weights w,
                const float *bias, float *y) {
    ctx c = test_ctx(threads);
    c.cpu = level;
    for (int64_t i = 0; i < m * (n + 1); i++) y[i] = 77;
    gemm(&c, m, x, k, &(gemm_product){.w = w, .bias = bias, .y = y, .ldy = n + 1}, 1);
    for (int64_t i = 0; i < m; i++) assert_true(y[i * (n + 1) + n] == 77);
}

static void check(cpu_level level, int64_t m, int64_t n, int64_t k, bool biased) {
    float *x = normals(m * k, 1), *w = normals(n * k, 2), *bias = normals(n, 3);
    gemm_weights panels = packed(level, w, n, k);
    float *y = normals(m * (n + 1), 4), *again = normals(m * (n + 1), 5);
    double *expected = malloc((size_t)(m * n + 1) * sizeof *expected);
    const float *b = biased ? bias : NULL;
    run(level, 1, m, n, k, x, panels, b, y);
    ref_gemm(expected, x, w, b, m, n, k);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double got = y[i * (n + 1) + j], want = expected[i * n + j];
            if (!(fabs(got - want) <= 1e-6 * (1 + sqrt((double)k)) * 4))
                fail_msg("m %ld n %ld k %ld at %ld, %ld: %g, expected %g", (long)m, (long)n, (long)k, (long)i, (long)j, got,
                         want);
        }
    run(level, 3, m, n, k, x, panels, b, again);
    assert_memory_equal(y, again, (size_t)(m * (n + 1)) * sizeof *y);
    for (int64_t i = 0; i < m; i += 11) { /* each row alone */
        run(level, 1, 1, n, k, x + i * k, panels, b, again);
        assert_memory_equal(y + i * (n + 1), again, (size_t)n * sizeof *y);
    }
    free(x), free(w), free(bias), free(panels.panels), free(y), free(again), free(expected);
}

static void products_of_odd_shapes(void **state) {
    (void)state;
    for (cpu_level level = CPU_PORTABLE; level <= cpu_best(); level++)
        for (int i = 0; i < COUNT(ms); i++)
            for (int j = 0; j < COUNT(ns); j++)
                for (int l = 0; l < COUNT(ks); l++)
                    if (ms[i] * ns[j] * ks[l] < 4000000) check(level, ms[i], ns[j], ks[l], (i + j + l) % 2);
}

static void several_products_of_one_x(void **state) {
    (void)state;
    enum { M = 130, K = 60, N0 = 90, N1 = 7, N2 = 900 };
    const int64_t n[] = {N0, N1, N2};
    float *x = normals(M * K, 1);
    for (cpu_level level = CPU_PORTABLE; level <= cpu_best(); level++) {
        gemm_product products[3];
        gemm_weights w[3];
        float *y[3], *alone = normals(M * (N2 + 1), 8);
        for (int p = 0; p < 3; p++) {
            float *rows = normals(n[p] * K, (uint64_t)(20 + p));
            w[p] = packed(level, rows, n[p], K), y[p] = normals(M * (n[p] + 1), 0);
            products[p] = (gemm_product){.w = w[p], .y = y[p], .ldy = n[p] + 1};
            free(rows);
        }
        ctx c = test_ctx(2);
        c.cpu = level;
        gemm(&c, M, x, K, products, 3);
        for (int p = 0; p < 3; p++) {
            run(level, 1, M, n[p], K, x, w[p], NULL, alone);
            for (int64_t i = 0; i < M; i++)
                assert_memory_equal(y[p] + i * (n[p] + 1), alone + i * (n[p] + 1), (size_t)n[p] * sizeof *alone);
            free(w[p].panels), free(y[p]);
        }
        free(alone);
    }
    free(x);
}

/* ---- forms ---- */

/* Blocks of random bits with sane scales: n rows of k values. */
static uint8_t *random_blocks(const quant_type *t, int64_t n, int64_t k) {
    size_t size = (size_t)(n * k / t->block_size) * t->block_bytes;
    uint8_t *blocks = malloc(size);
    rng r = rng_stream(4, RNG_SYNTHETIC, 1);
    for (size_t i = 0; i < size; i++) blocks[i] = (uint8_t)rng_u64(&r);
    bool offsets = !strcmp(t->name, "Q4_1") || !strcmp(t->name, "Q5_1") || !strcmp(t->name, "Q2_K") ||
                   !strcmp(t->name, "Q4_K") || !strcmp(t->name, "Q5_K");
    size_t at = !strcmp(t->name, "Q2_K") ? 80 : !strcmp(t->name, "Q3_K") ? 108 : !strcmp(t->name, "Q6_K") ? 208 : 0;
    for (size_t b = 0; b < size; b += t->block_bytes) {
        uint16_t half[2] = {half_from_f32((float)rng_normal(&r) / 16), half_from_f32((float)rng_normal(&r))};
        memcpy(blocks + b + at, half, offsets ? 4 : 2);
    }
    return blocks;
}

static void pack_whole(cpu_level level, gemm_form form, const quant_type *t, const void *const *rows, int64_t n_rows,
                       int64_t k, void *panel) {
    for (int64_t i = 0; i < n_rows; i++)
        for (int64_t b = 0; b < k / t->block_size; b++) {
            quant_whole w;
            quant_whole_of(t)((const char *)rows[i] + (size_t)b * t->block_bytes, &w);
            gemm_pack_whole(level, form, i, b * t->block_size, t->block_size, w.scale, w.offset, w.q, panel);
        }
}

/* The blocks in a form of their own size. */
static gemm_weights packed_blocks(cpu_level level, gemm_form form, const quant_type *t, const uint8_t *blocks, int64_t n,
                                  int64_t k) {
    size_t size, panel_size;
    int64_t panel = gemm_panel(level);
    assert_true(gemm_packed_size(level, form, n, k, &size) && gemm_panel_size(level, form, k, &panel_size));
    gemm_weights out = {.form = form, .n = n, .k = k, .panels = normals((int64_t)(size / sizeof(float)), 5)};
    if (quant_whole_of(t)) memset(out.panels, 0, size);
    for (int64_t j = 0; j < n; j += panel) {
        const void *rows[32];
        char *at = (char *)out.panels + (size_t)(j / panel) * panel_size;
        int64_t n_rows = n - j < panel ? n - j : panel;
        for (int64_t i = 0; i < n_rows; i++) rows[i] = blocks + (size_t)((j + i) * k / t->block_size) * t->block_bytes;
        if (quant_whole_of(t))
            pack_whole(level, form, t, rows, n_rows, k, at);
        else
            assert_true(gemm_pack_blocks(level, t->name, rows, n_rows, k, at));
    }
    return out;
}

static void check_form(cpu_level level, const quant_type *t, int64_t n, int64_t k) {
    static const int64_t rows_of_x[] = {1, 2, 3, 4, 5, 6, 7, 13, 97};
    gemm_form form = gemm_form_of(t->name, k);
    size_t size;
    float *w = normals(n * k, 1), *x = normals(97 * k, 2), *y = normals(97 * (n + 1), 3),
          *expected = normals(97 * (n + 1), 4);
    uint8_t *blocks = random_blocks(t, n, k);
    t->dequantize(blocks, n * k, w);
    assert_true(form != GEMM_F32);
    gemm_weights small = packed_blocks(level, form, t, blocks, n, k), large = packed(level, w, n, k);
    ctx c = test_ctx(2);
    c.cpu = level;
    gemm_packed_size(level, GEMM_F32, n, k, &size);
    float *floats = normals((int64_t)(size / sizeof *floats), 6);
    gemm_unpack(&c, &small, floats);
    for (size_t i = 0; i < size / sizeof *floats; i++) assert_true(floats[i] == ((float *)large.panels)[i]);
    for (int i = 0; i < COUNT(rows_of_x); i++) {
        run(level, 2, rows_of_x[i], n, k, x, small, NULL, y);
        run(level, 2, rows_of_x[i], n, k, x, large, NULL, expected);
        assert_memory_equal(y, expected, (size_t)(rows_of_x[i] * (n + 1)) * sizeof *y);
    }
    free(w), free(x), free(y), free(expected), free(blocks), free(small.panels), free(large.panels), free(floats);
}

/* Small numbers give the bits that their dequantised values give. */
static void forms_are_exact(void **state) {
    (void)state;
    static const char *const types[] = {"Q4_0", "Q4_1", "Q8_0", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"};
    for (cpu_level level = CPU_PORTABLE; level <= cpu_best(); level++)
        for (int t = 0; t < COUNT(types); t++)
            for (int i = 0; i < COUNT(ns); i++) {
                const quant_type *type = quant_by_name(types[t]);
                for (int64_t k = type->block_size; k < 1200; k += 512) check_form(level, type, ns[i], k);
            }
    assert_int_equal(gemm_form_of("F16", 64), GEMM_F32);
    assert_int_equal(gemm_form_of("Q4_0", 48), GEMM_F32);
}

/* ---- whole numbers ---- */

/* Any weights as GEMM_INT8: from blocks of a type, or from floats when blocks is NULL. */
static gemm_weights packed_int8(cpu_level level, const quant_type *t, const uint8_t *blocks, const float *w, int64_t n,
                                int64_t k) {
    size_t size, panel_size;
    int64_t panel = gemm_panel(level);
    float *from = normals(panel * k, 9);
    assert_true(gemm_packed_size(level, GEMM_INT8, n, k, &size) && gemm_panel_size(level, GEMM_INT8, k, &panel_size));
    gemm_weights out = {.form = GEMM_INT8, .n = n, .k = k, .panels = normals((int64_t)(size / sizeof(float)), 9)};
    for (int64_t j = 0; j < n; j += panel) {
        const void *rows[32];
        int64_t n_rows = n - j < panel ? n - j : panel;
        for (int64_t i = 0; blocks && i < n_rows; i++)
            rows[i] = blocks + (size_t)((j + i) * k / t->block_size) * t->block_bytes;
        if (blocks)
            assert_true(gemm_pack_blocks(level, t->name, rows, n_rows, k, from));
        else
            gemm_pack_floats(level, w + j * k, n_rows, k, from);
        gemm_pack_int8(level, blocks ? gemm_form_of(t->name, k) : GEMM_F32, from, k,
                       (char *)out.panels + (size_t)(j / panel) * panel_size);
    }
    free(from);
    return out;
}

/* x^ and w^ as they are rounded, in double; y differs by the rounding of its float32 sums alone: each of the k / 32 groups adds
 * scale u and offset, neither above 4 times the largest weight of the group, and rounds at most six times on the way. */
static void check_sums(const float *y, const float *x, const float *w, bool rounded, const float *bias, int64_t m, int64_t n,
                       int64_t k) {
    double *xs = malloc((size_t)(m * k) * sizeof *xs), *ws = malloc((size_t)(n * k) * sizeof *ws);
    for (int64_t i = 0; i < m; i++) ref_round_int8(xs + i * k, x + i * k, k);
    for (int64_t j = 0; j < n; j++) ref_round_int8(ws + j * k, w + j * k, k);
    for (int64_t i = 0; i < n * k && !rounded; i++) ws[i] = (double)w[i];
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double want = bias ? (double)bias[j] : 0, size = fabs(want), off = 0, slack = 0;
            for (int64_t g = 0; g < k; g += 32) {
                double largest = 0, most_x = 0, sum_x = 0, sum_w = 0;
                for (int64_t l = g; l < g + 32 && l < k; l++) {
                    want += xs[i * k + l] * ws[j * k + l];
                    largest = fmax(largest, fabs((double)w[j * k + l]));
                    most_x = fmax(most_x, fabs((double)x[i * k + l]));
                    sum_x += fabs(xs[i * k + l]), sum_w += fabs(ws[j * k + l]);
                    off += (double)x[i * k + l] * (double)w[j * k + l];
                }
                size += 8 * largest * sum_x;
                /* half a step of x with w^, half a step of w with x */
                slack += most_x / 254 * sum_w + (rounded ? largest / 254 * (sum_x + 32 * most_x / 254) : 0);
            }
            double error = ldexp(1, -24) * (double)(k / 32 + 8) * size;
            assert_true(fabs((double)y[i * (n + 1) + j] - want) <= error);
            assert_true(fabs((double)y[i * (n + 1) + j] - off - (bias ? (double)bias[j] : 0)) <= 1.001 * slack + error);
        }
    free(xs), free(ws);
}

/* Against the reference at the lowest level; the others must have its bits, as must any number of rows and threads, and 4-bit
 * numbers that are kept as such. */
static void check_int8(const char *type, int64_t n, int64_t k) {
    static const int64_t rows_of_x[] = {1, 2, 5, 6, 7, 13, 97};
    enum { M = 97 };
    const quant_type *t = type ? quant_by_name(type) : NULL;
    float *w = normals(n * k, 1), *x = normals(M * k, 2), *bias = normals(n, 3), *y = normals(M * (n + 1), 4),
          *again = normals(M * (n + 1), 5);
    uint8_t *blocks = t ? random_blocks(t, n, k) : NULL;
    if (t) t->dequantize(blocks, n * k, w);
    memset(x + k, 0, (size_t)(k < 32 ? k : 32) * sizeof *x); /* a group of zeros, and one that is all but that */
    for (int j = 0; j < 32 && j < k; j++) x[j] = 1e-35f;
    for (cpu_level level = CPU_PORTABLE; level <= cpu_best(); level++) {
        gemm_weights panels = packed_int8(level, t, blocks, w, n, k), small = {0};
        if (t && gemm_form_of(type, k) == GEMM_Q4) small = packed_blocks(level, GEMM_INT4, t, blocks, n, k);
        if (level == CPU_PORTABLE) {
            run(level, 1, M, n, k, x, panels, bias, y);
            check_sums(y, x, w, !t, bias, M, n, k);
        }
        for (int i = 0; i < COUNT(rows_of_x); i++) {
            run(level, 2, rows_of_x[i], n, k, x, panels, bias, again);
            assert_memory_equal(y, again, (size_t)(rows_of_x[i] * (n + 1)) * sizeof *y);
            if (!small.panels) continue;
            run(level, 2, rows_of_x[i], n, k, x, small, bias, again);
            assert_memory_equal(y, again, (size_t)(rows_of_x[i] * (n + 1)) * sizeof *y);
        }
        free(panels.panels), free(small.panels);
    }
    free(w), free(x), free(bias), free(y), free(again), free(blocks);
}

static void whole_numbers_at_every_level(void **state) {
    (void)state;
    static const char *const types[] = {NULL, "Q4_0", "Q4_1", "Q8_0"};
    for (int t = 0; t < COUNT(types); t++)
        for (int i = 0; i < COUNT(ns); i++) {
            check_int8(types[t], ns[i], 32);
            if (!types[t]) check_int8(NULL, ns[i], 31), check_int8(NULL, ns[i], 97);
            if (ns[i] < 100) check_int8(types[t], ns[i], 1024 + 96);
        }
}

/* A number that is not finite must not turn into an ordinary one. */
static void whole_numbers_of_none(void **state) {
    (void)state;
    enum { N = 40, K = 64 };
    for (cpu_level level = CPU_PORTABLE; level <= cpu_best(); level++)
        for (int i = 0; i < 2; i++) {
            float *w = normals(N * K, 1), *x = normals(2 * K, 2), *y = normals(2 * (N + 1), 3);
            gemm_weights panels = packed_int8(level, NULL, NULL, w, N, K);
            x[K + 40] = i ? NAN : -INFINITY;
            run(level, 1, 2, N, K, x, panels, NULL, y);
            for (int64_t j = 0; j < N; j++) assert_true(isfinite(y[j]) && isnan(y[N + 1 + j]));
            free(w), free(x), free(y), free(panels.panels);
        }
}

/* ---- bfloat16 ---- */

static gemm_weights packed_bf16(cpu_level level, const float *w, int64_t n, int64_t k) {
    size_t size, panel_size;
    int64_t panel = gemm_panel(level);
    gemm_weights floats = packed(level, w, n, k);
    assert_true(gemm_packed_size(level, GEMM_BF16, n, k, &size) && gemm_panel_size(level, GEMM_BF16, k, &panel_size));
    gemm_weights out = {.form = GEMM_BF16, .n = n, .k = k, .panels = normals((int64_t)(size / sizeof(float)), 9)};
    for (int64_t p = 0; p * panel < n; p++)
        gemm_pack_bf16(level, (float *)floats.panels + p * panel * k, k, (char *)out.panels + (size_t)p * panel_size);
    free(floats.panels);
    return out;
}

/* Of the rounded operands y is the float32 sum: each product exact, two roundings a step. Of x and w themselves it is off by
 * what rounding both costs: |x w| (2 u + u^2) each, u = 2^-8. */
static void check_bf16(cpu_level level, int64_t m, int64_t n, int64_t k) {
    const double u = ldexp(1, -8);
    float *x = normals(m * k, 1), *w = normals(n * k, 2), *bias = normals(n, 3), *y = normals(m * (n + 1), 4),
          *again = normals(m * (n + 1), 5);
    gemm_weights panels = packed_bf16(level, w, n, k);
    run(level, 1, m, n, k, x, panels, bias, y);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double exact = (double)bias[j], rounded = exact, size = 0;
            for (int64_t l = 0; l < k; l++) {
                double a = (double)x[i * k + l], b = (double)w[j * k + l];
                exact += a * b, size += fabs(a * b);
                rounded += (double)bf16_to_f32(bf16_from_f32((float)a)) * (double)bf16_to_f32(bf16_from_f32((float)b));
            }
            double got = (double)y[i * (n + 1) + j],
                   sums = ldexp((double)(2 * k + 8), -24) * (1.01 * size + fabs((double)bias[j]));
            if (!(fabs(got - rounded) <= sums))
                fail_msg("level %d m %ld n %ld k %ld at %ld, %ld: %g, expected %g", level, (long)m, (long)n, (long)k, (long)i,
                         (long)j, got, rounded);
            assert_true(fabs(got - exact) <= (2 * u + u * u) * size + sums);
        }
    run(level, 3, m, n, k, x, panels, bias, again);
    assert_memory_equal(y, again, (size_t)(m * (n + 1)) * sizeof *y);
    for (int64_t i = 0; i < m; i += 11) { /* each row alone */
        run(level, 1, 1, n, k, x + i * k, panels, bias, again);
        assert_memory_equal(y + i * (n + 1), again, (size_t)n * sizeof *y);
    }
    free(x), free(w), free(bias), free(panels.panels), free(y), free(again);
}

static void bf16_of_odd_shapes(void **state) {
    (void)state;
    static const int64_t long_ks[] = {1, 2, 31, 385, 512, 513, 1025};
    for (cpu_level level = CPU_PORTABLE; level <= cpu_best(); level++)
        for (int i = 0; i < COUNT(ms); i++)
            for (int j = 0; j < COUNT(ns); j++)
                for (int l = 0; l < COUNT(long_ks); l++)
                    if (ms[i] * ns[j] * long_ks[l] < 1000000) check_bf16(level, ms[i], ns[j], long_ks[l]);
}

static void not_finite_in_bf16(void **state) {
    (void)state;
    enum { N = 40, K = 64 };
    for (cpu_level level = CPU_PORTABLE; level <= cpu_best(); level++)
        for (int i = 0; i < 2; i++) {
            float *w = normals(N * K, 1), *x = normals(2 * K, 2), *y = normals(2 * (N + 1), 3);
            gemm_weights panels = packed_bf16(level, w, N, K);
            x[K + 40] = i ? NAN : -INFINITY;
            run(level, 1, 2, N, K, x, panels, NULL, y);
            for (int64_t j = 0; j < N; j++) assert_true(isfinite(y[j]) && !isfinite(y[N + 1 + j]));
            free(w), free(x), free(y), free(panels.panels);
        }
}

/* A sum that floats hold exactly must come out so: 1 + 2^-7 is a bfloat16, 1 + 2^-8 and 1 + 3 2^-8 are ties that go to the even one. */
static void bf16_rounds_to_even(void **state) {
    (void)state;
    enum { K = 6 };
    const float x[K] = {1 + 0x1p-7f, 1 + 0x1p-8f, 1 + 0x3p-8f, 1 + 0x1.02p-8f, -3, 1}, w[K] = {1, 1, 1, 1, 1 + 0x1p-8f, 0.5f};
    for (cpu_level level = CPU_PORTABLE; level <= cpu_best(); level++) {
        float y[2];
        gemm_weights panels = packed_bf16(level, w, 1, K);
        run(level, 1, 1, 1, K, x, panels, NULL, y);
        assert_true(y[0] == 1 + 0x1p-7f + 1 + (1 + 0x1p-6f) + (1 + 0x1p-7f) - 3 + 0.5f);
        free(panels.panels);
    }
}

static void scale_too_large_for_its_form(void **state) {
    (void)state;
    uint8_t block[18] = {0}, panel[32 * 34];
    const void *rows[] = {block};
    uint16_t scale = half_from_f32(8192);
    memcpy(block, &scale, 2);
    assert_false(gemm_pack_blocks(CPU_PORTABLE, "Q4_0", rows, 1, 32, panel));
    scale = half_from_f32(-8188);
    memcpy(block, &scale, 2);
    assert_true(gemm_pack_blocks(CPU_PORTABLE, "Q4_0", rows, 1, 32, panel));
}

static void sizes_that_overflow(void **state) {
    (void)state;
    size_t size;
    assert_false(gemm_packed_size(CPU_PORTABLE, GEMM_F32, INT64_MAX, INT64_MAX, &size));
    assert_false(gemm_packed_size(CPU_PORTABLE, GEMM_Q4, -1, 4, &size));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_of_odd_shapes), cmocka_unit_test(several_products_of_one_x),
        cmocka_unit_test(forms_are_exact),        cmocka_unit_test(scale_too_large_for_its_form),
        cmocka_unit_test(sizes_that_overflow),    cmocka_unit_test(whole_numbers_at_every_level),
        cmocka_unit_test(whole_numbers_of_none),  cmocka_unit_test(not_finite_in_bf16),
        cmocka_unit_test(bf16_of_odd_shapes),     cmocka_unit_test(bf16_rounds_to_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
