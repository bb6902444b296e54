/* The kernels of math/dense.h and math/attention.h at every machine level against math/ref.h, on sizes that are no multiple of
 * any vector. Catches: tails read or written past the end, an exponential that loses digits, a rotation by the wrong pair, a
 * key seen too early or not at all, a row that is rescaled wrongly when a later block of keys holds a larger score. */
#include "support/test.h"

#include "core/half.h"
#include "core/mem.h"
#include "core/rng.h"
#include "math/attention.h"
#include "math/dense.h"
#include "math/ref.h"

static const int64_t sizes[] = {0, 1, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 48, 64, 100, 581};
enum { N_SIZES = sizeof sizes / sizeof *sizes, LONGEST = 581 };

static float *normals(int64_t n, uint64_t index) {
    float *x;
    err e = {0};
    assert_ok(mem_new(&x, (size_t)n, sizeof *x, "test", &e), &e);
    rng r = rng_stream(3, RNG_SYNTHETIC, index);
    for (int64_t i = 0; i < n; i++) x[i] = (float)rng_normal(&r);
    return x;
}

static void assert_near(double got, double expected, double relative, double absolute) {
    if (!(fabs(got - expected) <= relative * fabs(expected) + absolute)) fail_msg("%.9g, expected %.9g", got, expected);
}

#define EACH_LEVEL(k)                                                                                                        \
    for (cpu_level level = CPU_PORTABLE; level <= cpu_best(); level++)                                                       \
        for (const dense_kernels *k = dense_kernels_for(level); k; k = NULL)

static void rms_norm(void **state) {
    (void)state;
    float *x = normals(LONGEST, 1), *gain = normals(LONGEST, 2);
    double expected[LONGEST];
    for (int64_t i = 0; i < LONGEST; i += 50) x[i] *= 1000; /* a row with outliers */
    EACH_LEVEL(k) for (int s = 0; s < N_SIZES; s++) {
        float y[LONGEST + 1];
        int64_t d = sizes[s];
        y[d] = 77;
        k->rms_norm(y, x, gain, d, 0.01);
        ref_rms_norm(expected, x, gain, d, 0.01);
        for (int64_t j = 0; j < d; j++) assert_near(y[j], expected[j], 5e-7, 0);
        assert_true(y[d] == 77);
    }
    free(x), free(gain);
}

static void layer_norm(void **state) {
    (void)state;
    float *x = normals(LONGEST, 1), *gain = normals(LONGEST, 2), *bias = normals(LONGEST, 3);
    double expected[LONGEST];
    for (int64_t i = 0; i < LONGEST; i++) x[i] += 20; /* far from the middle */
    EACH_LEVEL(k) for (int s = 1; s < N_SIZES; s++) {
        float y[LONGEST + 1];
        int64_t d = sizes[s];
        y[d] = 77;
        k->layer_norm(y, x, gain, bias, d, 0.01);
        ref_layer_norm(expected, x, gain, bias, d, 0.01);
        for (int64_t j = 0; j < d; j++) assert_near(y[j], expected[j], 2e-6, 2e-5);
        memcpy(y, x, (size_t)d * sizeof *y);
        k->layer_norm(y, y, gain, bias, d, 0.01);
        for (int64_t j = 0; j < d; j++) assert_near(y[j], expected[j], 2e-6, 2e-5);
        assert_true(y[d] == 77);
    }
    free(x), free(gain), free(bias);
}

static void rope(void **state) {
    (void)state;
    float *x = normals(3 * LONGEST, 3), *turn = normals(LONGEST, 4);
    double expected[3 * LONGEST];
    EACH_LEVEL(k) for (int s = 0; s < N_SIZES; s++) for (int64_t n = 0; n <= sizes[s]; n += n < 8 ? 2 : 46) {
        float y[3 * LONGEST + 1];
        int64_t d = sizes[s];
        memcpy(y, x, (size_t)(3 * d) * sizeof *y);
        y[3 * d] = 77;
        k->rope(y, 3, d, n, turn);
        ref_rope(expected, x, 3, d, n, turn);
        for (int64_t j = 0; j < 3 * d; j++) assert_near(y[j], expected[j], 1e-6, 1e-6);
        assert_true(y[3 * d] == 77);
    }
    free(x), free(turn);
}

static void gates(void **state) {
    (void)state;
    float *gate = normals(LONGEST, 5), *up = normals(LONGEST, 6);
    for (int64_t i = 0; i < LONGEST; i++) gate[i] *= (float)(i % 40);
    gate[7] = 200, gate[9] = -200, gate[12] = -1e30f, gate[30] = 1e30f, gate[31] = 0, gate[50] = 1e-30f;
    EACH_LEVEL(k) for (int s = 0; s < N_SIZES; s++) {
        float y[LONGEST + 1];
        int64_t n = sizes[s];
        y[n] = 77;
        for (int kind = 0; kind < DENSE_GATES; kind++) {
            k->gates[kind](y, gate, up, n);
            for (int64_t j = 0; j < n; j++) assert_near(y[j], ref_gate(kind, gate[j]) * up[j], 5e-7, 2e-7);
            k->gates[kind](y, gate, NULL, n);
            for (int64_t j = 0; j < n; j++) assert_near(y[j], ref_gate(kind, gate[j]), 5e-7, 2e-7);
            assert_true(y[n] == 77);
            y[0] = NAN;
            k->gates[kind](y, y, up, n);
            if (n) assert_true(isnan(y[0]));
            y[n] = 77;
        }
        memcpy(y, gate, (size_t)n * sizeof *y);
        k->soft_cap(y, 5, n);
        for (int64_t j = 0; j < n; j++) assert_near(y[j], 5 * tanh((double)gate[j] / 5), 0, 1e-6);
        memcpy(y, gate, (size_t)n * sizeof *y);
        k->scale(y, 0.3f, n);
        for (int64_t j = 0; j < n; j++) assert_true(y[j] == gate[j] * 0.3f);
        assert_true(y[n] == 77);
    }
    free(gate), free(up);
}

/* Relative error of e^x over its whole range, against libm in double. */
static void exponentials(void **state) {
    (void)state;
    enum { N = 70001 };
    float *x = normals(N, 7), *y = normals(N, 8);
    for (int64_t i = 0; i < N; i++) x[i] = -87.2f + 175.4f * (float)i / N;
    EACH_LEVEL(k) {
        memcpy(y, x, N * sizeof *y);
        k->exp_sum(y, N, 0);
        for (int64_t i = 0; i < N; i++) assert_near(y[i], exp((double)x[i]), 2.5e-7, 0);
    }
    free(x), free(y);
}

static void softmax_parts(void **state) {
    (void)state;
    float *x = normals(LONGEST, 9);
    EACH_LEVEL(k) for (int s = 0; s < N_SIZES; s++) {
        float y[LONGEST + 1], largest = -INFINITY;
        int64_t n = sizes[s];
        double sum = 0;
        for (int64_t j = 0; j < n; j++) largest = fmaxf(largest, x[j]), sum += exp((double)x[j] - 0.5);
        assert_true(k->largest(x, n) == largest);
        memcpy(y, x, (size_t)n * sizeof *y);
        y[n] = 77;
        assert_near(k->exp_sum(y, n, 0.5f), sum, 1e-6, 0);
        for (int64_t j = 0; j < n; j++) assert_near(y[j], exp((double)x[j] - 0.5), 5e-7, 0);
        assert_true(y[n] == 77);
    }
    free(x);
}

static void add(void **state) {
    (void)state;
    float *x = normals(LONGEST, 10), *before = normals(LONGEST + 1, 11);
    EACH_LEVEL(k) for (int s = 0; s < N_SIZES; s++) {
        float y[LONGEST + 1];
        memcpy(y, before, sizeof y);
        k->add(y, x, sizes[s]);
        for (int64_t j = 0; j <= LONGEST; j++) assert_true(y[j] == (j < sizes[s] ? before[j] + x[j] : before[j]));
    }
    free(x), free(before);
}

/* ---- 16-bit floats: every bit pattern, and floats around every rounding boundary ---- */

static bool same_half(uint16_t a, uint16_t b, uint16_t exponent) {
    bool nan_a = (a & 0x7fff) > exponent, nan_b = (b & 0x7fff) > exponent;
    return nan_a && nan_b ? !((a ^ b) & 0x8000) : a == b;
}

static void halves(void **state) {
    (void)state;
    enum { N = 65536 };
    uint16_t *h = malloc(N * sizeof *h), *back = malloc(N * sizeof *back);
    float *x = malloc(N * sizeof *x);
    for (int i = 0; i < N; i++) h[i] = (uint16_t)i;
    EACH_LEVEL(k) {
        k->from_f16(x, h, N);
        for (int i = 0; i < N; i++) assert_true(isnan(x[i]) ? isnan(half_to_f32(h[i])) : x[i] == half_to_f32(h[i]));
        for (int nudge = -1; nudge <= 1; nudge++) { /* the middle between two neighbours, and a hair off it */
            for (int i = 0; i < N; i++) {
                double low = half_to_f32((uint16_t)i), high = half_to_f32((uint16_t)(i + 1));
                x[i] = (float)((low + high) / 2);
                if (nudge) x[i] = nextafterf(x[i], nudge * INFINITY);
            }
            k->to_f16(back, x, N - 3);
            for (int i = 0; i < N - 3; i++) assert_true(same_half(back[i], half_from_f32(x[i]), 0x7c00));
        }
        k->from_bf16(x, h, N);
        for (int i = 0; i < N; i++) assert_true(isnan(x[i]) ? isnan(bf16_to_f32(h[i])) : x[i] == bf16_to_f32(h[i]));
        for (int i = 0; i < N; i++) {
            uint32_t bits = (uint32_t)i << 16 | (i % 3 == 0 ? 0x8000 : i % 3 == 1 ? 0x7fff : 0x8001);
            memcpy(x + i, &bits, sizeof bits);
        }
        k->to_bf16(back, x, N - 3);
        for (int i = 0; i < N - 3; i++) assert_true(same_half(back[i], bf16_from_f32(x[i]), 0x7f80));
    }
    free(h), free(back), free(x);
}

/* ---- attention ---- */

typedef struct sequence {
    int64_t n;
    float *q, *k, *v, *keys, *values; /* q [n, heads, d], k and v [n, kv_heads, d] */
    size_t key_stride, value_stride;
} sequence;

static sequence make_sequence(cpu_level level, const attention_shape *s, int64_t n, uint64_t index) {
    sequence q = {.n = n};
    int64_t heads = n * s->n_heads * s->d_head, kv = n * s->n_kv_heads * s->d_head;
    q.q = normals(heads, index), q.k = normals(kv, index + 1), q.v = normals(kv, index + 2);
    for (int64_t i = 0; i < heads; i++) q.q[i] *= 2 * sqrtf((float)(1 + i % 3) / (float)s->d_head);
    assert_true(attention_key_size(level, n, s->d_head, &q.key_stride));
    assert_true(attention_value_size(level, n, s->d_head, &q.value_stride));
    q.keys = normals((int64_t)q.key_stride * s->n_kv_heads, 1);
    q.values = normals((int64_t)q.value_stride * s->n_kv_heads, 1);
    for (size_t i = 0; i < q.key_stride * (size_t)s->n_kv_heads; i++) q.keys[i] = NAN;
    for (int64_t t = 0; t < n; t++)
        for (int64_t h = 0; h < s->n_kv_heads; h++)
            attention_put(level, s->d_head, t, q.k + (t * s->n_kv_heads + h) * s->d_head,
                          q.v + (t * s->n_kv_heads + h) * s->d_head, q.keys + (size_t)h * q.key_stride,
                          q.values + (size_t)h * q.value_stride);
    return q;
}

static attention_run run_from(const attention_shape *s, const sequence *q, int64_t first, int64_t n, float *y) {
    int64_t at = first * s->n_heads * s->d_head;
    return (attention_run){.n_tokens = n,
                           .first_position = first,
                           .q = q->q + at,
                           .y = y + at,
                           .keys = q->keys,
                           .values = q->values,
                           .key_stride = q->key_stride,
                           .value_stride = q->value_stride};
}

static void check_sequence(const attention_shape *s, const sequence *q, const float *y) {
    int64_t d = s->d_head, group = s->n_heads / s->n_kv_heads;
    float *k = normals(q->n * d, 1), *v = normals(q->n * d, 1);
    double expected[ATTENTION_HEAD_MAX];
    for (int64_t h = 0; h < s->n_heads; h++) {
        for (int64_t t = 0; t < q->n; t++) {
            memcpy(k + t * d, q->k + (t * s->n_kv_heads + h / group) * d, (size_t)d * sizeof *k);
            memcpy(v + t * d, q->v + (t * s->n_kv_heads + h / group) * d, (size_t)d * sizeof *v);
        }
        for (int64_t t = 0; t < q->n; t += 1 + t / 7) {
            int64_t first = s->window && t + 1 > s->window ? t + 1 - s->window : 0;
            ref_attention(expected, q->q + (t * s->n_heads + h) * d, k + first * d, v + first * d, t + 1 - first, d, s->cap);
            for (int64_t j = 0; j < d; j++) assert_near(y[(t * s->n_heads + h) * d + j], expected[j], 1e-5, 1e-5);
        }
    }
    free(k), free(v);
}

static void check_attention(cpu_level level, const attention_shape *s, int64_t n0, int64_t n1) {
    sequence q[2] = {make_sequence(level, s, n0, 30), make_sequence(level, s, n1, 40)};
    float *y[2], *again[2];
    for (int i = 0; i < 2; i++) {
        int64_t size = q[i].n * s->n_heads * s->d_head;
        y[i] = normals(size, 50), again[i] = normals(size, 51);
    }
    ctx one = test_ctx(1), three = test_ctx(3);
    one.cpu = three.cpu = level;
    attention(&three, s, (attention_run[]){run_from(s, q, 0, n0, y[0]), run_from(s, q + 1, 0, n1, y[1])}, 2);
    for (int i = 0; i < 2; i++) {
        check_sequence(s, q + i, y[i]);
        for (int64_t t = 0; t < q[i].n;) { /* the same in pieces of 1, 2, 3 .. tokens */
            int64_t piece = 1 + t % 5 < q[i].n - t ? 1 + t % 5 : q[i].n - t;
            attention_run run = run_from(s, q + i, t, piece, again[i]);
            attention(&one, s, &run, 1);
            t += piece;
        }
        assert_memory_equal(y[i], again[i], (size_t)(q[i].n * s->n_heads * s->d_head) * sizeof *again[i]);
        free(y[i]), free(again[i]), free(q[i].q), free(q[i].k), free(q[i].v), free(q[i].keys), free(q[i].values);
    }
}

static void attention_of_odd_shapes(void **state) {
    (void)state;
    static const attention_shape shapes[] = {{9, 3, 64, 0, 0},   {4, 2, 12, 0, 0},  {1, 1, 1, 0, 0},   {5, 1, 80, 0, 0},
                                             {3, 3, 33, 0, 0},   {60, 1, 16, 0, 0}, {2, 1, 256, 0, 0}, {4, 2, 12, 7, 0},
                                             {3, 1, 20, 100, 0}, {4, 4, 16, 1, 0},  {4, 1, 24, 0, 3},  {6, 2, 8, 30, 2}};
    for (cpu_level level = CPU_PORTABLE; level <= cpu_best(); level++)
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
            check_attention(level, shapes + s, 1, 37);
            check_attention(level, shapes + s, 258, 16);
        }
    check_attention(cpu_best(), shapes, 700, 520);
    check_attention(cpu_best(), &(attention_shape){4, 2, 16, 300, 4}, 700, 520);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rms_norm), cmocka_unit_test(rope),         cmocka_unit_test(layer_norm),
        cmocka_unit_test(gates),    cmocka_unit_test(exponentials), cmocka_unit_test(softmax_parts),
        cmocka_unit_test(add),      cmocka_unit_test(halves),       cmocka_unit_test(attention_of_odd_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
