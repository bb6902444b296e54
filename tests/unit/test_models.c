/* Every architecture, from every kind of file: a tiny random model against activations recorded from Hugging Face's
 * implementation in float32 (tests/golden/models/README.md). Catches: a bias, window, cap, scale, norm or kind of gelu that is
 * forgotten; a matrix read in the wrong order; a key of a config that is not read in one of its spellings. */
#include "support/oom.h"
#include "support/recorded.h"
#include "support/test.h"

#include "core/file.h"
#include "core/mem.h"

#include <unistd.h>

/* How to add one: a folder in golden/models, a row here. Tensors of other files than GGUF are opened with their folder. */
static const struct {
    const char *name, *file;
} cases[] = {
    {"llama", "model.safetensors"},
    {"llama", "pytorch_model.bin"},
    {"llama3_folder", "model.safetensors"},
    {"mistral", "model.safetensors"},
    {"qwen2", "model.safetensors"},
    {"qwen3", "model.safetensors"},
    {"qwen3", "model.gguf"},
    {"gemma", "model.safetensors"},
    {"gemma2", "model.gguf"},
    {"gemma2_scalar", "model.safetensors"},
    {"gemma3", "model.gguf"},
    {"gemma3_scaled", "model.safetensors"},
    {"gpt2", "model.safetensors"},
    {"gpt2", "model.gguf"},
    {"gpt_neox", "model.safetensors"},
    {"gpt_neox_seq", "model.gguf"},
    {"phi3", "model.safetensors"},
    {"olmo2", "model.safetensors"},
    {"granite", "model.safetensors"},
    {"smollm3", "model.safetensors"},
};
enum { N_CASES = sizeof cases / sizeof *cases, SEQS = 2, TOKENS = 40, KINDS = 5, LAYERS = 8 };

typedef struct tiny {
    ctx c;
    model *m;
    recorded r;
    int64_t *ids, *positions, n_positions; /* rows of each sequence that the recording has */
    int64_t d, n_layers;
    const char *what;
} tiny;

/* A folder that holds one kind of tensors and the given config. */
static char *make_folder(const char *name, const char *tensors, const char *config) {
    static const char *const to[] = {"config.json", "tokenizer.json"};
    const char *from[] = {config, "tokenizer.json"};
    char *dir = test_make_dir(), path[256], *copy, *source;
    err e = {0};
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "models/%s/%s", name, i < 2 ? from[i] : tensors);
        source = test_fixture(path);
        assert_ok(path_join(dir, i < 2 ? to[i] : tensors, &copy, &e), &e);
        assert_int_equal(symlink(source, copy), 0);
        free(source), free(copy);
    }
    return dir;
}

static tiny open_case(const char *name, const char *path, cpu_level level) {
    tiny t = {.c = test_ctx(2), .what = path};
    char expected[128];
    err e = {0};
    t.c.cpu = level;
    snprintf(expected, sizeof expected, "models/%s/expected.safetensors", name);
    t.r = recorded_open(expected);
    t.ids = recorded_ints(&t.r, "input_ids", NULL);
    if (recorded_has(&t.r, "positions")) {
        t.positions = recorded_ints(&t.r, "positions", &t.n_positions);
    } else {
        t.n_positions = TOKENS;
        t.positions = malloc(TOKENS * sizeof *t.positions);
        for (int64_t i = 0; i < TOKENS; i++) t.positions[i] = i;
    }
    assert_ok(model_open(&t.c, path, &t.m, &e), &e);
    t.d = model_config_of(t.m)->d_model;
    t.n_layers = model_config_of(t.m)->n_layers;
    assert_true(t.n_layers <= LAYERS);
    return t;
}

static void close_case(tiny *t) {
    model_close(t->m);
    recorded_close(&t->r);
    free(t->ids), free(t->positions);
}

static bool is_gguf(int i) { return !strcmp(cases[i].file, "model.gguf"); }

static char *path_of(int i) {
    char path[128];
    if (!is_gguf(i)) return make_folder(cases[i].name, cases[i].file, "config.json");
    snprintf(path, sizeof path, "models/%s/%s", cases[i].name, cases[i].file);
    return test_fixture(path);
}

static void release_path(int i, char *path) {
    if (is_gguf(i))
        free(path);
    else
        test_remove_dir(path);
}

/* ---- against the recording ---- */

/* x [SEQS * TOKENS, width], of which the recording has some rows */
static void assert_recorded(const tiny *t, const char *name, const float *x, int64_t width) {
    int64_t count, n = SEQS * t->n_positions;
    const float *expected = recorded_floats(&t->r, name, &count);
    double squares = 0, worst = 0;
    assert_int_equal(count, n * width);
    for (int64_t i = 0; i < n; i++) {
        const float *row = x + (i / t->n_positions * TOKENS + t->positions[i % t->n_positions]) * width;
        for (int64_t j = 0; j < width; j++) {
            double difference = fabs((double)row[j] - expected[i * width + j]);
            squares += (double)expected[i * width + j] * expected[i * width + j];
            worst = difference > worst || isnan(difference) ? difference : worst;
        }
    }
    if (!(worst <= 1e-4 * sqrt(squares / (double)count)))
        fail_msg("%s: %s is off by %.2g", t->what, name, worst / sqrt(squares / (double)count));
}

static test_batch both_sequences(const tiny *t) {
    test_batch b = {0};
    for (int i = 0; i < SEQS; i++) test_batch_add(&b, i, 0, t->ids + i * TOKENS, TOKENS);
    return b;
}

static void check_hooks(const tiny *t, const test_batch *b) {
    collected seen[LAYERS * KINDS] = {0};
    model_hook hooks[LAYERS * KINDS];
    char name[HOOK_NAME_MAX];
    err e = {0};
    int n = 0;
    for (int h = 0; h < t->n_layers * KINDS; h++) {
        const hook_point at = {.layer = h / KINDS, .kind = (hook_kind)(h % KINDS)};
        hook_format(at, name);
        seen[n].at = at;
        if (recorded_has(&t->r, name)) hooks[n] = collect_hook(seen + n), n++;
    }
    assert_true(n >= 3 * t->n_layers);
    float *hidden = malloc((size_t)(SEQS * TOKENS * t->d) * sizeof *hidden);
    assert_ok(model_forward(&t->c, t->m, &b->b, NULL, hooks, n, hidden, &e), &e);
    for (int h = 0; h < n; h++) {
        hook_format(seen[h].at, name);
        assert_int_equal(seen[h].calls, 1);
        assert_recorded(t, name, seen[h].x, t->d);
        collected_release(seen + h);
    }
    snprintf(name, sizeof name, "hidden_states.%d", (int)t->n_layers);
    assert_recorded(t, name, hidden, t->d);

    int64_t vocab = model_config_of(t->m)->n_vocab, rows = SEQS * TOKENS;
    float *logits = malloc((size_t)(rows * vocab) * sizeof *logits);
    assert_ok(model_logits(&t->c, t->m, hidden, rows, logits, &e), &e);
    assert_recorded(t, "logits", logits, vocab);
    uint32_t targets[SEQS * TOKENS];
    double logp[SEQS * TOKENS];
    for (int i = 0; i < rows; i++) targets[i] = (uint32_t)(i * 31 % vocab);
    assert_ok(model_logprobs(&t->c, t->m, hidden, targets, rows, logp, &e), &e);
    for (int i = 0; i < rows; i++) {
        double sum = 0;
        for (int64_t v = 0; v < vocab; v++) sum += exp((double)logits[i * vocab + v]);
        assert_true(fabs(logp[i] - (logits[i * vocab + targets[i]] - log(sum))) < 1e-4);
    }
    free(hidden), free(logits);
}

static void check_path(const char *name, const char *path) {
    for (int best = 0; best < 2; best++) {
        tiny t = open_case(name, path, best ? cpu_best() : CPU_PORTABLE);
        test_batch b = both_sequences(&t);
        check_hooks(&t, &b);
        test_batch_release(&b), close_case(&t);
    }
}

static void every_hook_and_the_logits(void **state) {
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        char *path = path_of(i);
        check_path(cases[i].name, path);
        release_path(i, path);
    }
}

/* The same models with what transformers 5 writes into config.json. */
static void newer_configs(void **state) {
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        if (is_gguf(i)) continue;
        char *dir = make_folder(cases[i].name, cases[i].file, "config.v5.json");
        check_path(cases[i].name, dir);
        test_remove_dir(dir);
    }
}

/* ---- what must hold exactly ---- */

/* A token at a time behind a cache, through windows of a dozen tokens: the bits of the whole sequence. */
static void token_by_token(void **state) {
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        char *path = path_of(i);
        tiny t = open_case(cases[i].name, path, cpu_best());
        test_batch whole = both_sequences(&t);
        float *expected = malloc((size_t)(SEQS * TOKENS * t.d) * sizeof *expected), *row = malloc((size_t)t.d * sizeof *row);
        kvcache *kv;
        err e = {0};
        assert_ok(model_forward(&t.c, t.m, &whole.b, NULL, NULL, 0, expected, &e), &e);
        assert_ok(kvcache_new(t.m, 1, TOKENS, &kv, &e), &e);
        for (int64_t k = 0; k < TOKENS; k++) {
            test_batch one = {0};
            test_batch_add(&one, 0, k, t.ids + TOKENS, 1);
            assert_ok(model_forward(&t.c, t.m, &one.b, kv, NULL, 0, row, &e), &e);
            assert_memory_equal(row, expected + (TOKENS + k) * t.d, (size_t)t.d * sizeof *row);
            test_batch_release(&one);
        }
        kvcache_free(kv);
        free(expected), free(row), test_batch_release(&whole), close_case(&t);
        release_path(i, path);
    }
}

/* ---- what is refused ---- */

static void parallel_blocks_have_no_middle(void **state) {
    (void)state;
    char *dir = make_folder("gpt_neox", "model.safetensors", "config.json");
    tiny t = open_case("gpt_neox", dir, cpu_best());
    test_batch b = both_sequences(&t);
    collected c = {.at = {1, HOOK_RESID_MID}};
    const model_hook hook = collect_hook(&c);
    err e = {0};
    assert_int_equal(model_forward(&t.c, t.m, &b.b, NULL, &hook, 1, NULL, &e), ERR_USAGE);
    assert_non_null(strstr(e.message, "blocks.1 has no hook_resid_mid"));
    test_batch_release(&b), close_case(&t), test_remove_dir(dir);
}

static void positions_end_where_they_were_learned(void **state) {
    (void)state;
    char *path = test_fixture("models/gpt2/model.gguf");
    tiny t = open_case("gpt2", path, cpu_best());
    test_batch b = {0};
    int64_t ids[65] = {0};
    collected c = {.at = {0, HOOK_RESID_POST}};
    const model_hook hook = collect_hook(&c);
    err e = {0};
    test_batch_add(&b, 0, 0, ids, 65);
    assert_int_equal(model_forward(&t.c, t.m, &b.b, NULL, &hook, 1, NULL, &e), ERR_USAGE);
    assert_non_null(strstr(e.message, "position 64: the model has learned 64"));
    test_batch_release(&b), close_case(&t), free(path);
}

/* A folder's config with one word changed. */
static const struct {
    const char *name, *from, *to;
    err_code code;
    const char *says;
} lies[] = {
    {"mistral", "\"model_type\": \"mistral\"", "\"model_type\": \"mistrial\"", ERR_UNSUPPORTED, "did you mean 'mistral'"},
    {"mistral", "\"sliding_window\": 12", "\"sliding_window\": -2", ERR_FORMAT, "sliding_window: expected 1 to"},
    {"mistral", "\"silu\"", "\"relu\"", ERR_UNSUPPORTED, "activation 'relu': expected 'silu'"},
    {"mistral", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", ERR_FORMAT, "model.layers.2."},
    {"mistral", "\"head_dim\": 12", "\"head_dim\": 16", ERR_FORMAT, "model.layers.0.self_attn.q_proj.weight"},
    {"mistral", "\"hidden_size\"", "\"hiding_size\"", ERR_FORMAT, "hidden_size"},
    {"llama3_folder", "\"rope_type\": \"llama3\"", "\"rope_type\": \"yarn\"", ERR_UNSUPPORTED, "rope scaling 'yarn'"},
    {"llama3_folder", "\"high_freq_factor\": 4.0", "\"high_freq_factor\": 1.0", ERR_FORMAT, "high_freq_factor above"},
    {"qwen2", "\"use_sliding_window\": false", "\"use_sliding_window\": true", ERR_UNSUPPORTED, "without a window"},
    {"gpt_neox", "\"rotary_pct\": 0.25", "\"rotary_pct\": 2.5", ERR_FORMAT, "rotary_pct: expected 1 at most"},
    {"gpt2", "\"n_positions\": 64", "\"n_positions\": 80", ERR_FORMAT, "transformer.wpe.weight"},
    {"granite", "\"logits_scaling\": 2.5", "\"logits_scaling\": 0", ERR_FORMAT, "logits_scaling"},
};

static void configs_that_lie(void **state) {
    (void)state;
    const ctx c = test_ctx(1);
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        char fixture[128], *dir = make_folder(lies[i].name, "model.safetensors", "config.json"), *path, *source, *text,
                           changed[4096];
        size_t size;
        err e = {0};
        snprintf(fixture, sizeof fixture, "models/%s/config.json", lies[i].name);
        source = test_fixture(fixture);
        assert_ok(file_read(source, 4000, &text, &size, &e), &e);
        char *at = strstr(text, lies[i].from);
        assert_non_null(at);
        snprintf(changed, sizeof changed, "%.*s%s%s", (int)(at - text), text, lies[i].to, at + strlen(lies[i].from));
        assert_ok(path_join(dir, "config.json", &path, &e), &e);
        unlink(path);
        assert_ok(file_write(path, changed, strlen(changed), &e), &e);
        model *m;
        err_code rc = model_open(&c, dir, &m, &e);
        if (rc != lies[i].code || !strstr(e.message, lies[i].says))
            fail_msg("lie %zu: code %d, '%s'; expected %d and '%s'", i, rc, e.message, lies[i].code, lies[i].says);
        assert_null(m);
        free(path), free(source), free(text), test_remove_dir(dir);
    }
}

typedef struct swept {
    const tiny *t;
    const char *path;
    const test_batch *b;
} swept;

static err_code open_and_run(void *arg, err *e) {
    const swept *s = arg;
    float hidden[3 * 64];
    char sha256[SHA256_HEX];
    model *m = NULL;
    err_code rc;
    TRY(model_open(&s->t->c, s->path, &m, e));
    TRY(model_sha256(m, sha256, e));
    TRY(model_forward(&s->t->c, m, &s->b->b, NULL, NULL, 0, hidden, e));
done:
    model_close(m);
    return rc;
}

/* Folders of the two models that need most of what others do not: transposed parts of a matrix, parallel blocks. */
static void out_of_memory(void **state) {
    (void)state;
    static const char *const names[] = {"gpt2", "gpt_neox"};
    for (int i = 0; i < 2; i++) {
        char *dir = make_folder(names[i], "model.safetensors", "config.json");
        tiny t = open_case(names[i], dir, cpu_best());
        test_batch b = {0};
        test_batch_add(&b, 0, 0, t.ids, 3);
        t.c.threads = 1;
        oom_sweep(open_and_run, &(swept){&t, dir, &b}, 2000);
        test_batch_release(&b), close_case(&t), test_remove_dir(dir);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_hook_and_the_logits),
        cmocka_unit_test(newer_configs),
        cmocka_unit_test(token_by_token),
        cmocka_unit_test(parallel_blocks_have_no_middle),
        cmocka_unit_test(positions_end_where_they_were_learned),
        cmocka_unit_test(configs_that_lie),
        cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
