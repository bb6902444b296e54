/* Which latents fire: encoders of every variant against a naive one that holds all scores, on small whole numbers, where every
 * product is exact and ties abound. Catches: a latent lost at the edge of a tile, the wrong one of two equals, a row mixed up
 * at the edge of a block, a result that depends on threads. */
#include "support/test.h"

#include "core/rng.h"
#include "sae/variants/variants.h"

enum { D = 7, N = 1300, ROWS = 300, K = 5 };

static float small(rng *r, int range) { return (float)((int)rng_below(r, (uint64_t)(2 * range + 1)) - range); }

static sae *random_sae(const sae_variant *variant, bool subtract) {
    sae *s;
    err e = {0};
    rng r = rng_stream(3, RNG_SYNTHETIC, 0);
    const sae_config cfg = {
        .variant = variant, .d_in = D, .d_sae = N, .k = variant->uses_k ? K : 0, .apply_b_dec_to_input = subtract};
    assert_ok(sae_new(&cfg, &s, &e), &e);
    for (int i = 0; i < N * D; i++) s->W_enc[i] = small(&r, 3), s->W_dec[i] = small(&r, 3);
    for (int i = 0; i < N; i++) s->b_enc[i] = small(&r, 5);
    for (int j = 0; j < D; j++) s->b_dec[j] = small(&r, 2);
    for (int i = 0; s->threshold && i < N; i++) s->threshold[i] = small(&r, 20);
    for (int i = 0; s->b_gate && i < N; i++) s->b_gate[i] = small(&r, 5), s->r_mag[i] = small(&r, 1) / 2;
    return s;
}

static float *random_rows(int64_t rows) {
    float *x = malloc((size_t)(rows * D) * sizeof *x);
    rng r = rng_stream(4, RNG_SYNTHETIC, 0);
    for (int64_t i = 0; i < rows * D; i++) x[i] = small(&r, 3);
    for (int j = 0; j < D; j++) x[D + j] = 0; /* a row whose scores are the biases */
    return x;
}

/* How many of [first, end) go before i: larger keys, and equal ones of lower index. */
static int64_t rank_of(const float *key, int i, int first, int end) {
    int64_t rank = 0;
    for (int j = first; j < end; j++) rank += key[j] > key[i] || (key[j] == key[i] && j < i);
    return rank;
}

/* f [N] of one row */
static void naive_encode(const sae *s, const float *x, float f[N]) {
    float pre[N], size[N];
    const sae_variant *v = s->cfg.variant;
    int group = s->cfg.k ? N / (int)s->cfg.k : 0;
    for (int i = 0; i < N; i++) {
        float score = 0;
        for (int j = 0; j < D; j++) score += (x[j] - (s->cfg.apply_b_dec_to_input ? s->b_dec[j] : 0)) * s->W_enc[i * D + j];
        pre[i] = v == &sae_gated ? score * expf(s->r_mag[i]) + s->b_enc[i] : score + s->b_enc[i];
        if (v == &sae_gated && score + s->b_gate[i] <= 0) pre[i] = 0;
        size[i] = v == &sae_abstopk ? fabsf(pre[i]) : pre[i];
    }
    for (int i = 0; i < N; i++) {
        bool fires = size[i] > 0;
        if (v == &sae_groupmax)
            fires = fires && rank_of(pre, i, i / group * group, (i / group + 1) * group) == 0;
        else if (v->uses_k)
            fires = fires && rank_of(size, i, 0, N) < s->cfg.k;
        if (s->threshold) fires = fires && pre[i] > s->threshold[i];
        f[i] = fires ? pre[i] : 0;
    }
}

static void check_row(const sparse_acts *acts, int64_t r, const float f[N]) {
    int64_t at = acts->indptr[r];
    for (uint32_t i = 0; i < N; i++) {
        assert_true(sparse_get(acts, r, i) == f[i]);
        if (f[i] == 0) continue;
        assert_true(at < acts->indptr[r + 1]);
        assert_int_equal(acts->indices[at], i); /* ascending, nothing else */
        at++;
    }
    assert_int_equal(at, acts->indptr[r + 1]);
}

static void encodes_as_the_naive_one(void **state) {
    (void)state;
    float *x = random_rows(ROWS);
    for (int v = 0; v < n_sae_variants; v++)
        for (int subtract = 0; subtract < 2; subtract++) {
            sae *s = random_sae(sae_variants[v], subtract);
            for (int threads = 1; threads <= 4; threads++) {
                const int64_t counts[] = {ROWS, 0, 1, 257};
                sparse_acts acts = {0};
                ctx c = test_ctx(threads);
                err e = {0};
                for (int n = 0; n < 4; n++) { /* the same acts again and again: nothing of the last call may be left */
                    assert_ok(sae_encode(&c, s, x, counts[n], &acts, &e), &e);
                    assert_int_equal(acts.n_rows, counts[n]);
                    assert_int_equal(acts.indptr[0], 0);
                    for (int64_t r = 0; r < counts[n]; r += threads == 1 ? 3 : 13) {
                        float f[N];
                        naive_encode(s, x + r * D, f);
                        check_row(&acts, r, f);
                    }
                }
                sparse_release(&acts);
            }
            sae_free(s);
        }
    free(x);
}

static void every_level_agrees(void **state) {
    (void)state;
    float *x = random_rows(ROWS);
    sae *s = random_sae(&sae_topk, true);
    for (cpu_level level = CPU_PORTABLE; level <= cpu_best(); level++) {
        sparse_acts acts = {0};
        ctx c = test_ctx(2);
        c.cpu = level;
        err e = {0};
        assert_ok(sae_encode(&c, s, x, ROWS, &acts, &e), &e);
        for (int64_t r = 0; r < ROWS; r += 7) {
            float f[N];
            naive_encode(s, x + r * D, f);
            check_row(&acts, r, f);
        }
        sparse_release(&acts);
    }
    sae_free(s);
    free(x);
}

static void decodes(void **state) {
    (void)state;
    float *x = random_rows(ROWS), x_hat[ROWS * D];
    for (int v = 0; v < n_sae_variants; v++) {
        sae *s = random_sae(sae_variants[v], true);
        sparse_acts acts = {0};
        ctx c = test_ctx(3);
        err e = {0};
        if (s->r_mag) memset(s->r_mag, 0, sizeof(float) * N); /* whole numbers stay whole */
        assert_ok(sae_encode(&c, s, x, ROWS, &acts, &e), &e);
        assert_ok(sae_decode(&c, s, &acts, x_hat, &e), &e);
        for (int64_t r = 0; r < ROWS; r++)
            for (int j = 0; j < D; j++) {
                double sum = s->b_dec[j];
                for (uint32_t i = 0; i < N; i++) sum += (double)sparse_get(&acts, r, i) * s->W_dec[i * D + (uint32_t)j];
                assert_true(x_hat[r * D + j] == (float)sum); /* whole numbers: exact */
            }
        memset(s->b_enc, 0, sizeof(float) * N);
        memset(s->W_enc, 0, sizeof(float) * N * D);
        if (s->threshold) memset(s->threshold, 0, sizeof(float) * N);
        if (s->b_gate) memset(s->b_gate, 0, sizeof(float) * N);
        assert_ok(sae_encode(&c, s, x, 2, &acts, &e), &e); /* nothing is above 0: decode gives b_dec */
        assert_int_equal(acts.indptr[2], 0);
        assert_ok(sae_decode(&c, s, &acts, x_hat, &e), &e);
        for (int j = 0; j < 2 * D; j++) assert_true(x_hat[j] == s->b_dec[j % D]);
        sparse_release(&acts);
        sae_free(s);
    }
    free(x);
}

static void k_up_to_all_latents(void **state) {
    (void)state;
    float *x = random_rows(4), f[N];
    for (int64_t k = 1; k <= N; k = k < N && 3 * k > N ? N : 3 * k) {
        sae *s = random_sae(&sae_topk, true);
        sparse_acts acts = {0};
        ctx c = test_ctx(1);
        err e = {0};
        s->cfg.k = k;
        assert_ok(sae_encode(&c, s, x, 4, &acts, &e), &e);
        for (int64_t r = 0; r < 4; r++) {
            naive_encode(s, x + r * D, f);
            check_row(&acts, r, f);
        }
        sparse_release(&acts);
        sae_free(s);
        if (k == N) break;
    }
    free(x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encodes_as_the_naive_one),
        cmocka_unit_test(every_level_agrees),
        cmocka_unit_test(decodes),
        cmocka_unit_test(k_up_to_all_latents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
