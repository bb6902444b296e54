/* Gemma 3 270M against a float32 PyTorch run of its dequantised weights (tests/golden/gemma3), row by row. Catches what tiny models
 * cannot: a window of 512 that ends inside a block of keys, blocks of 256 values in the file, a vocabulary of 262,144.
 * The file is $SAE_TEST_GEMMA, or in ~/.cache/sae; its licence forbids to bundle it. */
#include "support/recorded.h"
#include "support/test.h"

#include "core/file.h"

static const char *const prompts[] = {"li_bai", "chinese", "long"};
static const int layers[] = {0, 5, 9, 17};
enum { N_PROMPTS = 3, N_LAYERS = 4, WIDTH = 640 };

static model *m;
static recorded r;
static ctx c;

static const char *key(const char *prompt, const char *rest) {
    static char name[96];
    snprintf(name, sizeof name, "%s.%s", prompt, rest);
    return name;
}

static void check_rows(const char *prompt, const collected *seen) {
    char name[HOOK_NAME_MAX];
    int64_t rows, *positions = recorded_ints(&r, key(prompt, "positions"), &rows);
    hook_format(seen->at, name);
    const float *expected = recorded_floats(&r, key(prompt, name), NULL);
    for (int64_t i = 0; i < rows; i++) {
        double off = test_relative_distance(seen->x + positions[i] * WIDTH, expected + i * WIDTH, WIDTH);
        if (!(off <= 1e-4)) fail_msg("%s %s position %ld is off by %.2g", prompt, name, (long)positions[i], off);
    }
    free(positions);
}

static void residual_stream_and_log_probabilities(void **state) {
    (void)state;
    for (int p = 0; p < N_PROMPTS; p++) {
        int64_t n, n_logp, *ids = recorded_ints(&r, key(prompts[p], "input_ids"), &n);
        collected seen[N_LAYERS] = {0};
        model_hook hooks[N_LAYERS];
        test_batch b = {0};
        err e = {0};
        for (int l = 0; l < N_LAYERS; l++) {
            seen[l].at = (hook_point){.layer = layers[l], .kind = HOOK_RESID_POST};
            hooks[l] = collect_hook(seen + l);
        }
        test_batch_add(&b, 0, 0, ids, n);
        float *hidden = malloc((size_t)(n * WIDTH) * sizeof *hidden);
        double *logp = malloc((size_t)n * sizeof *logp);
        assert_ok(model_forward(&c, m, &b.b, NULL, hooks, N_LAYERS, hidden, &e), &e);
        for (int l = 0; l < N_LAYERS; l++) check_rows(prompts[p], seen + l), collected_release(seen + l);
        const float *expected = recorded_floats(&r, key(prompts[p], "log_probs"), &n_logp);
        assert_int_equal(n_logp, n - 1);
        assert_ok(model_logprobs(&c, m, hidden, b.tokens + 1, n - 1, logp, &e), &e);
        for (int64_t i = 0; i < n - 1; i++) assert_true(fabs(logp[i] - (double)expected[i]) <= 1e-3);
        free(ids), free(hidden), free(logp), test_batch_release(&b);
    }
}

/* The recorded continuation, a token at a time behind a cache, wherever the lead over the second is no near-tie. */
static void greedy_text(void **state) {
    (void)state;
    enum { STEPS = 40 };
    int64_t vocab = model_config_of(m)->n_vocab, compared = 0;
    float *logits = malloc((size_t)vocab * sizeof *logits);
    for (int p = 0; p < N_PROMPTS; p++) {
        int64_t n, *ids = recorded_ints(&r, key(prompts[p], "input_ids"), &n);
        int64_t *greedy = recorded_ints(&r, key(prompts[p], "greedy_ids"), NULL);
        const float *margin = recorded_floats(&r, key(prompts[p], "greedy_margin"), NULL);
        float *hidden = malloc((size_t)(n * WIDTH) * sizeof *hidden);
        kvcache *kv;
        err e = {0};
        assert_ok(kvcache_new(m, 1, n + STEPS, &kv, &e), &e);
        ids = realloc(ids, (size_t)(n + STEPS) * sizeof *ids);
        memcpy(ids + n, greedy, STEPS * sizeof *ids);
        for (int64_t step = 0, first = 0; step < STEPS; first = n + step, step++) {
            test_batch b = {0};
            test_batch_add(&b, 0, first, ids, n + step - first);
            assert_ok(model_forward(&c, m, &b.b, kv, NULL, 0, hidden, &e), &e);
            assert_ok(model_logits(&c, m, hidden + (b.b.n_tokens - 1) * WIDTH, 1, logits, &e), &e);
            int64_t best = 0;
            for (int64_t v = 1; v < vocab; v++)
                if (logits[v] > logits[best]) best = v;
            if (margin[step] >= 0.02f) assert_int_equal(best, greedy[step]), compared++;
            test_batch_release(&b);
        }
        kvcache_free(kv);
        free(ids), free(greedy), free(hidden);
    }
    assert_true(compared > 90);
    free(logits);
}

int main(void) {
    const char *path = test_gemma_path();
    err e = {0};
    if (!path) return TEST_SKIP;
    c = test_ctx(2);
    assert_ok(model_open(&c, path, &m, &e), &e);
    r = recorded_open("gemma3/expected.safetensors");
    const struct CMUnitTest tests[] = {cmocka_unit_test(residual_stream_and_log_probabilities),
                                       cmocka_unit_test(greedy_text)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    recorded_close(&r);
    model_close(m);
    return failed;
}
