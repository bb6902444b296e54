/* Generation on a tiny model against the plain way: one sequence at a time, everything read again for each token, no cache. What
 * must not matter (batch, threads, order), whose rows hooks see, and how texts end. */
#include "support/oom.h"
#include "support/test.h"

#include "core/mem.h"
#include "core/rng.h"
#include "steer/generate.h"
#include "steer/perplexity.h"

#define assert_near(a, b, tolerance) assert_true(fabs((a) - (b)) <= (tolerance))

enum { N = 9, CONTEXT = 128, TOKENS = 24 };

typedef struct fixture {
    model *m;
    generate_seq seqs[N];
} fixture;

static ctx one_thread(void) { return test_ctx(1); }

static token_ids random_prompt(const model *m, int64_t len, uint64_t index) {
    err e = {0};
    token_ids ids = {0};
    rng r = rng_stream(3, RNG_SYNTHETIC, index);
    assert_ok(mem_grow(&ids.ids, &ids.cap, (size_t)len, sizeof *ids.ids, "prompt", &e), &e);
    while ((int64_t)ids.len < len) ids.ids[ids.len++] = (uint32_t)rng_below(&r, (uint64_t)model_config_of(m)->n_vocab);
    return ids;
}

static int set_up(void **state) {
    static fixture f;
    err e = {0};
    ctx c = one_thread();
    char *path = test_fixture("models/llama/model.gguf");
    assert_ok(model_open(&c, path, &f.m, &e), &e);
    assert_int_equal(model_config_of(f.m)->n_ctx, CONTEXT);
    for (int i = 0; i < N; i++) {
        f.seqs[i].prompt = random_prompt(f.m, 1 + (i * 5) % 17, (uint64_t)i);
        f.seqs[i].stream_index = (uint64_t)(100 + i);
    }
    free(path);
    *state = &f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    for (int i = 0; i < N; i++) {
        free(f->seqs[i].prompt.ids);
        free(f->seqs[i].output.ids);
    }
    model_close(f->m);
    return 0;
}

/* ---- the plain way ---- */

/* ids [CONTEXT] holds the prompt and receives the output; *ended as in generate_seq. Returns how many there are in all. */
static int64_t plain(model *m, const generate_seq *q, const generate_opts *o, uint32_t *ids, bool *ended) {
    err e = {0};
    ctx c = one_thread();
    int64_t d = model_config_of(m)->d_model, v = model_config_of(m)->n_vocab, n = (int64_t)q->prompt.len;
    float *hidden = malloc((size_t)(CONTEXT * d) * sizeof *hidden), *logits = malloc((size_t)v * sizeof *logits);
    sample_space space = {malloc((size_t)v * sizeof *space.weights), malloc((size_t)v * sizeof *space.ids)};
    int32_t seq[CONTEXT] = {0}, pos[CONTEXT];
    rng stream = rng_stream(o->sample.seed, RNG_SAMPLING, q->stream_index);
    for (int i = 0; i < CONTEXT; i++) pos[i] = i;
    memcpy(ids, q->prompt.ids, (size_t)n * sizeof *ids);
    for (*ended = false; n < CONTEXT && n < (int64_t)q->prompt.len + o->n_tokens && !*ended;) {
        model_batch b = {n, ids, seq, pos};
        assert_ok(model_forward(&c, m, &b, NULL, NULL, 0, hidden, &e), &e);
        assert_ok(model_logits(&c, m, hidden + (n - 1) * d, 1, logits, &e), &e);
        int64_t id = sample_token(&c, logits, v, &o->sample, ids, (size_t)n, rng_uniform(&stream), &space);
        *ended = !o->ignore_eos && tokenizer_ends_text(model_tokenizer(m), (uint32_t)id);
        if (!*ended) ids[n++] = (uint32_t)id;
    }
    free(hidden);
    free(logits);
    free(space.weights);
    free(space.ids);
    return n;
}

static int check_against_plain(model *m, const generate_seq *seqs, int64_t n, const generate_opts *o) {
    int ended_early = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t ids[CONTEXT];
        bool ended;
        int64_t len = plain(m, &seqs[i], o, ids, &ended), before = (int64_t)seqs[i].prompt.len;
        assert_int_equal(seqs[i].output.len, len - before);
        if (len > before) assert_memory_equal(seqs[i].output.ids, ids + before, (size_t)(len - before) * sizeof *ids);
        assert_int_equal(seqs[i].ended, ended);
        ended_early += ended;
    }
    return ended_early;
}

static generate_opts options(double temperature, int64_t max_batch) {
    generate_opts o = GENERATE_DEFAULTS;
    o.n_tokens = TOKENS;
    o.max_batch = max_batch;
    o.sample.temperature = temperature;
    o.sample.repeat_penalty = 1.2;
    o.sample.seed = 5;
    return o;
}

static void batches_write_what_single_sequences_do(void **state) {
    fixture *f = *state;
    err e = {0};
    ctx c = one_thread();
    static const int64_t batches[] = {1, 2, 4, N, 64};
    for (size_t b = 0; b < sizeof batches / sizeof *batches; b++)
        for (int hot = 0; hot < 2; hot++) {
            generate_opts o = options(hot, batches[b]);
            assert_ok(generate_run(&c, f->m, f->seqs, N, &o, &e), &e);
            check_against_plain(f->m, f->seqs, N, &o);
        }
}

static void texts_end(void **state) {
    fixture *f = *state;
    err e = {0};
    ctx c = one_thread();
    generate_opts o = options(3, 4); /* hot: end-of-text comes up every now and then */
    o.n_tokens = 1000;               /* else the context ends them */
    assert_ok(generate_run(&c, f->m, f->seqs, N, &o, &e), &e);
    int ended = check_against_plain(f->m, f->seqs, N, &o);
    assert_in_range(ended, 1, N - 1);
    o.ignore_eos = true;
    assert_ok(generate_run(&c, f->m, f->seqs, N, &o, &e), &e);
    check_against_plain(f->m, f->seqs, N, &o);
    for (int i = 0; i < N; i++) assert_int_equal(f->seqs[i].prompt.len + f->seqs[i].output.len, CONTEXT);
}

static void threads_and_streams(void **state) {
    fixture *f = *state;
    err e = {0};
    generate_seq other[N] = {{.stream_index = 0}};
    generate_opts o = options(1, 4);
    ctx c = one_thread(), three = test_ctx(3);
    assert_ok(generate_run(&c, f->m, f->seqs, N, &o, &e), &e);
    for (int i = 0; i < N; i++)
        other[i] = (generate_seq){.prompt = f->seqs[i].prompt, .stream_index = f->seqs[i].stream_index};
    assert_ok(generate_run(&three, f->m, other, N, &o, &e), &e);
    for (int i = 0; i < N; i++) {
        assert_int_equal(other[i].output.len, f->seqs[i].output.len);
        assert_memory_equal(other[i].output.ids, f->seqs[i].output.ids, other[i].output.len * sizeof(uint32_t));
        other[i].stream_index += 1000;
    }
    assert_ok(generate_run(&c, f->m, other, N, &o, &e), &e);
    int same = 0;
    for (int i = 0; i < N; i++) {
        same += other[i].output.len == f->seqs[i].output.len &&
                !memcmp(other[i].output.ids, f->seqs[i].output.ids, other[i].output.len * sizeof(uint32_t));
        free(other[i].output.ids);
    }
    assert_int_equal(same, 0);
}

/* More prompt tokens than one step takes: long prompts are read over several steps while others already write. */
static void long_prompts_take_several_steps(void **state) {
    fixture *f = *state;
    err e = {0};
    enum { MANY = 50 };
    generate_seq seqs[MANY] = {{.stream_index = 0}};
    generate_opts o = options(1, MANY);
    ctx c = one_thread();
    for (int i = 0; i < MANY; i++) {
        seqs[i].prompt = random_prompt(f->m, 127 - i % 20, (uint64_t)(1000 + i));
        seqs[i].stream_index = (uint64_t)i;
    }
    assert_ok(generate_run(&c, f->m, seqs, MANY, &o, &e), &e);
    check_against_plain(f->m, seqs, MANY, &o);
    for (int i = 0; i < MANY; i++) {
        free(seqs[i].prompt.ids);
        free(seqs[i].output.ids);
    }
}

/* ---- hooks ---- */

typedef struct witness {
    int seen[N][CONTEXT];
    int64_t silence; /* this prompt's rows are set to 0 */
} witness;

static err_code watch(void *user, const ctx *c, const hook_rows *rows, err *e) {
    (void)c, (void)e;
    witness *w = user;
    for (int64_t t = 0; t < rows->n_tokens; t++) {
        w->seen[rows->seq[t]][rows->pos[t]]++;
        if (rows->seq[t] == w->silence) memset(rows->x + t * rows->d_model, 0, (size_t)rows->d_model * sizeof(float));
    }
    return ERR_OK;
}

static void hooks_see_every_position_of_every_prompt_once(void **state) {
    fixture *f = *state;
    err e = {0};
    ctx c = one_thread();
    witness w = {.silence = 6};
    model_hook hook = {{1, HOOK_RESID_POST}, watch, &w};
    generate_seq plain_seqs[N] = {{.stream_index = 0}};
    generate_opts o = options(0, 2);
    assert_ok(generate_run(&c, f->m, f->seqs, N, &o, &e), &e);
    for (int i = 0; i < N; i++) plain_seqs[i].prompt = f->seqs[i].prompt;
    o.hooks = &hook;
    o.n_hooks = 1;
    assert_ok(generate_run(&c, f->m, plain_seqs, N, &o, &e), &e);
    for (int i = 0; i < N; i++) {
        const token_ids *with = &plain_seqs[i].output, *without = &f->seqs[i].output;
        int64_t read = (int64_t)(f->seqs[i].prompt.len + with->len) - !plain_seqs[i].ended;
        for (int p = 0; p < CONTEXT; p++) assert_int_equal(w.seen[i][p], p < read);
        bool same = with->len == without->len && !memcmp(with->ids, without->ids, with->len * sizeof *with->ids);
        assert_int_equal(same, i != w.silence);
        free(plain_seqs[i].output.ids);
    }
}

/* ---- stopping ---- */

typedef struct stopper {
    int tokens, ended;
    volatile sig_atomic_t cancel;
    bool fail;
} stopper;

static err_code count_token(void *user, int64_t index, err *e) {
    (void)index, (void)e;
    stopper *s = user;
    if (++s->tokens == 40) s->cancel = 1;
    return ERR_OK;
}

static err_code count_end(void *user, int64_t index, err *e) {
    stopper *s = user;
    s->ended++;
    return s->fail && index == 3 ? err_set(e, ERR_NOSPACE, "no room for text %d", (int)index) : ERR_OK;
}

static void stopping(void **state) {
    fixture *f = *state;
    err e = {0};
    ctx c = one_thread();
    stopper s = {0};
    generate_opts o = options(1, 1);
    o.ignore_eos = true;
    o.token = count_token;
    o.done = count_end;
    o.user = &s;
    c.cancel = &s.cancel;
    assert_int_equal(generate_run(&c, f->m, f->seqs, N, &o, &e), ERR_CANCELLED);
    assert_int_equal(s.tokens, 40);
    assert_int_equal(s.ended, 1); /* 24 tokens of the first, 16 of the second */
    assert_int_equal(f->seqs[0].output.len, TOKENS);
    assert_int_equal(f->seqs[1].output.len, 40 - TOKENS);
    s = (stopper){.fail = true, .tokens = 100};
    assert_int_equal(generate_run(&c, f->m, f->seqs, N, &o, &e), ERR_NOSPACE);
    assert_string_equal(e.message, "no room for text 3");
    assert_int_equal(s.ended, 4);
}

static void prompts_that_cannot_be_continued(void **state) {
    fixture *f = *state;
    err e = {0};
    ctx c = one_thread();
    generate_opts o = options(0, 4);
    generate_seq seqs[2] = {{.prompt = f->seqs[0].prompt}, {.stream_index = 0}};
    assert_int_equal(generate_run(&c, f->m, seqs, 2, &o, &e), ERR_USAGE);
    assert_non_null(strstr(e.message, "prompt 1 has no tokens"));
    seqs[1].prompt = random_prompt(f->m, CONTEXT, 1);
    assert_int_equal(generate_run(&c, f->m, seqs, 2, &o, &e), ERR_USAGE);
    assert_non_null(strstr(e.message, "128 tokens"));
    seqs[1].prompt.len = CONTEXT - 1;
    assert_ok(generate_run(&c, f->m, seqs, 2, &o, &e), &e);
    assert_int_equal(seqs[1].output.len, 1);
    free(seqs[1].prompt.ids);
    free(seqs[0].output.ids);
    free(seqs[1].output.ids);
}

static err_code run_small(void *user, err *e) {
    fixture *f = user;
    ctx c = one_thread();
    generate_opts o = options(1, 2);
    generate_seq seqs[3] = {{.stream_index = 0}};
    for (int i = 0; i < 3; i++) seqs[i].prompt = f->seqs[i].prompt;
    o.n_tokens = 3;
    err_code rc = generate_run(&c, f->m, seqs, 3, &o, e);
    for (int i = 0; i < 3; i++) free(seqs[i].output.ids);
    return rc;
}

static void every_allocation_may_fail(void **state) { oom_sweep(run_small, *state, 200); }

/* ---- perplexity ---- */

/* Every window by itself, through the logits. */
static void perplexity_is_that_of_each_window(void **state) {
    fixture *f = *state;
    err e = {0};
    ctx c = one_thread();
    static const int64_t contexts[] = {2, 3, 7, 40, 41, 100, CONTEXT};
    enum { LEN = 41 };
    token_ids text = random_prompt(f->m, LEN, 77);
    int64_t d = model_config_of(f->m)->d_model, v = model_config_of(f->m)->n_vocab;
    float *hidden = malloc((size_t)(LEN * d) * sizeof *hidden), *logits = malloc((size_t)v * sizeof *logits);
    for (size_t k = 0; k < sizeof contexts / sizeof *contexts; k++) {
        double logprobs[LEN - 1];
        int64_t windows = 0;
        perplexity_opts o = {.context = contexts[k]};
        assert_ok(perplexity_run(&c, f->m, text.ids, LEN, &o, logprobs, &e), &e);
        for (int64_t first = 0; first + 1 < LEN; first += o.context - 1, windows++) {
            int32_t seq[LEN] = {0}, pos[LEN];
            int64_t n = LEN - first < o.context ? LEN - first : o.context;
            for (int i = 0; i < LEN; i++) pos[i] = i;
            model_batch b = {n, text.ids + first, seq, pos};
            assert_ok(model_forward(&c, f->m, &b, NULL, NULL, 0, hidden, &e), &e);
            for (int64_t i = 0; i + 1 < n; i++) {
                double sum = 0;
                assert_ok(model_logits(&c, f->m, hidden + i * d, 1, logits, &e), &e);
                for (int64_t j = 0; j < v; j++) sum += exp((double)logits[j]);
                assert_near(logprobs[first + i], (double)logits[text.ids[first + i + 1]] - log(sum), 1e-4);
            }
        }
        assert_int_equal(perplexity_windows(LEN, o.context), windows);
    }
    free(hidden);
    free(logits);
    free(text.ids);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_write_what_single_sequences_do),
        cmocka_unit_test(texts_end),
        cmocka_unit_test(threads_and_streams),
        cmocka_unit_test(long_prompts_take_several_steps),
        cmocka_unit_test(hooks_see_every_position_of_every_prompt_once),
        cmocka_unit_test(stopping),
        cmocka_unit_test(prompts_that_cannot_be_continued),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(perplexity_is_that_of_each_window),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
