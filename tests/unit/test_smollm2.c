/* The default model against a float32 PyTorch run of its dequantised weights (tests/golden/smollm2), row by row:
 * the first position is a hundred times as long as the others, so a tensor's rms would hide them. */
#include "support/recorded.h"
#include "support/test.h"

#include "core/file.h"

static const char *const prompts[] = {"li_bai", "chinese", "code", "paragraph"};
static const int layers[] = {0, 8, 16, 28, 29};
enum { N_PROMPTS = 4, N_LAYERS = sizeof layers / sizeof *layers, WIDTH = 576 };

static model *m;
static recorded r;
static ctx c;

static const char *key(const char *prompt, const char *rest) {
    static char name[2][96];
    static int which;
    which = !which;
    snprintf(name[which], sizeof *name, "%s.%s", prompt, rest);
    return name[which];
}

/* All four prompts as one batch. */
static void forward_all(model_hook *hooks, int n_hooks, test_batch *b, float **hidden) {
    err e = {0};
    *b = (test_batch){0};
    for (int p = 0; p < N_PROMPTS; p++) {
        int64_t n, *ids = recorded_ints(&r, key(prompts[p], "input_ids"), &n);
        test_batch_add(b, p, 0, ids, n);
        free(ids);
    }
    *hidden = malloc((size_t)(b->b.n_tokens * WIDTH) * sizeof **hidden);
    assert_ok(model_forward(&c, m, &b->b, NULL, hooks, n_hooks, *hidden, &e), &e);
}

static void residual_stream(void **state) {
    (void)state;
    collected seen[N_LAYERS] = {0};
    model_hook hooks[N_LAYERS];
    for (int l = 0; l < N_LAYERS; l++) {
        seen[l].at = (hook_point){.layer = layers[l], .kind = HOOK_RESID_POST};
        hooks[l] = collect_hook(seen + l);
    }
    test_batch b;
    float *hidden;
    forward_all(hooks, N_LAYERS, &b, &hidden);
    double worst = 0;
    int64_t first = 0;
    for (int p = 0; p < N_PROMPTS; p++) {
        int64_t rows, n, *positions = recorded_ints(&r, key(prompts[p], "positions"), &rows);
        free(recorded_ints(&r, key(prompts[p], "input_ids"), &n));
        for (int l = 0; l < N_LAYERS; l++) {
            char name[HOOK_NAME_MAX];
            hook_format(seen[l].at, name);
            const float *expected = recorded_floats(&r, key(prompts[p], name), NULL);
            for (int64_t i = 0; i < rows; i++) {
                double off = test_relative_distance(seen[l].x + (first + positions[i]) * WIDTH, expected + i * WIDTH, WIDTH);
                if (!(off <= 1e-5)) fail_msg("%s %s row %ld is off by %.2g", prompts[p], name, (long)i, off);
                worst = fmax(worst, off);
            }
        }
        const float *last = recorded_floats(&r, key(prompts[p], "final_norm_last"), NULL);
        first += n;
        assert_true(test_relative_distance(hidden + (first - 1) * WIDTH, last, WIDTH) <= 1e-5);
        free(positions);
    }
    print_message("worst row: %.2g\n", worst);
    for (int l = 0; l < N_LAYERS; l++) collected_release(seen + l);
    free(hidden), test_batch_release(&b);
}

static void logits_and_log_probabilities(void **state) {
    (void)state;
    test_batch b;
    float *hidden;
    err e = {0};
    forward_all(NULL, 0, &b, &hidden);
    int64_t vocab = model_config_of(m)->n_vocab, first = 0;
    float *logits = malloc((size_t)vocab * sizeof *logits);
    for (int p = 0; p < N_PROMPTS; p++) {
        int64_t n, count;
        const float *expected = recorded_floats(&r, key(prompts[p], "log_probs"), &n);
        double *logp = malloc((size_t)n * sizeof *logp);
        assert_ok(model_logprobs(&c, m, hidden + first * WIDTH, b.tokens + first + 1, n, logp, &e), &e);
        for (int64_t i = 0; i < n; i++) assert_true(fabs(logp[i] - (double)expected[i]) <= 1e-3);
        first += n + 1;
        expected = recorded_floats(&r, key(prompts[p], "logits_last"), &count);
        assert_int_equal(count, vocab);
        assert_ok(model_logits(&c, m, hidden + (first - 1) * WIDTH, 1, logits, &e), &e);
        double mean = 0, square = 0, worst = 0;
        for (int64_t v = 0; v < vocab; v++) {
            mean += (double)expected[v] / (double)vocab;
            square += (double)expected[v] * (double)expected[v] / (double)vocab;
            worst = fmax(worst, fabs((double)logits[v] - (double)expected[v]));
        }
        assert_true(worst <= 1e-3 * sqrt(square - mean * mean));
        free(logp);
    }
    free(logits), free(hidden), test_batch_release(&b);
}

static int64_t best(const float *logits, int64_t n) {
    int64_t at = 0;
    for (int64_t v = 1; v < n; v++)
        if (logits[v] > logits[at]) at = v;
    return at;
}

/* The recorded continuations, fed token by token through a cache, all prompts side by side. */
static void greedy_text(void **state) {
    (void)state;
    enum { STEPS = 40 };
    int64_t n[N_PROMPTS], *ids[N_PROMPTS], *greedy[N_PROMPTS], vocab = model_config_of(m)->n_vocab, compared = 0;
    kvcache *kv;
    err e = {0};
    test_batch b = {0};
    assert_ok(kvcache_new(m, N_PROMPTS, 300, &kv, &e), &e);
    for (int p = 0; p < N_PROMPTS; p++) {
        ids[p] = recorded_ints(&r, key(prompts[p], "input_ids"), n + p);
        greedy[p] = recorded_ints(&r, key(prompts[p], "greedy_ids"), NULL);
        test_batch_add(&b, p, 0, ids[p], n[p]);
        ids[p] = realloc(ids[p], (size_t)(n[p] + STEPS) * sizeof **ids);
        memcpy(ids[p] + n[p], greedy[p], STEPS * sizeof **ids);
    }
    float *hidden = malloc((size_t)(b.b.n_tokens * WIDTH) * sizeof *hidden), *last = malloc(N_PROMPTS * WIDTH * sizeof *last);
    float *logits = malloc((size_t)(N_PROMPTS * vocab) * sizeof *logits);
    for (int step = 0; step < STEPS; step++) {
        assert_ok(model_forward(&c, m, &b.b, kv, NULL, 0, hidden, &e), &e);
        for (int64_t i = 0; i < b.b.n_tokens; i++) memcpy(last + b.seq[i] * WIDTH, hidden + i * WIDTH, WIDTH * sizeof *last);
        assert_ok(model_logits(&c, m, last, N_PROMPTS, logits, &e), &e);
        test_batch_release(&b);
        b = (test_batch){0};
        for (int p = 0; p < N_PROMPTS; p++) {
            const float *margin = recorded_floats(&r, key(prompts[p], "greedy_margin"), NULL);
            if (margin[step] >= 0.02f) assert_int_equal(best(logits + p * vocab, vocab), greedy[p][step]), compared++;
            test_batch_add(&b, p, n[p] + step, ids[p], 1);
        }
    }
    assert_true(compared > 150);
    kvcache_free(kv), free(hidden), free(last), free(logits), test_batch_release(&b);
    for (int p = 0; p < N_PROMPTS; p++) free(ids[p]), free(greedy[p]);
}

/* The other machine levels, on the shortest prompt. */
static void machine_levels(void **state) {
    (void)state;
    int64_t n, *ids = recorded_ints(&r, "li_bai.input_ids", &n);
    const float *expected = recorded_floats(&r, "li_bai.blocks.29.hook_resid_post", NULL);
    test_batch b = {0};
    test_batch_add(&b, 0, 0, ids, n);
    for (cpu_level level = CPU_PORTABLE; level < cpu_best(); level++) {
        ctx lower = c;
        lower.cpu = level;
        model *other;
        err e = {0};
        collected seen = {.at = {29, HOOK_RESID_POST}};
        model_hook hook = collect_hook(&seen);
        assert_ok(model_open(&lower, test_model_path(), &other, &e), &e);
        assert_ok(model_forward(&lower, other, &b.b, NULL, &hook, 1, NULL, &e), &e);
        for (int64_t i = 0; i < n; i++)
            assert_true(test_relative_distance(seen.x + i * WIDTH, expected + i * WIDTH, WIDTH) <= 1e-5);
        collected_release(&seen), model_close(other);
    }
    free(ids), test_batch_release(&b);
}

int main(void) {
    if (!test_model_path()) return TEST_SKIP;
    err e = {0};
    c = test_ctx(2);
    r = recorded_open("smollm2/expected.safetensors");
    if (model_open(&c, test_model_path(), &m, &e) != ERR_OK) return fprintf(stderr, "%s\n", e.message), 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(residual_stream),
        cmocka_unit_test(logits_and_log_probabilities),
        cmocka_unit_test(greedy_text),
        cmocka_unit_test(machine_levels),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    model_close(m), recorded_close(&r);
    return failed;
}
