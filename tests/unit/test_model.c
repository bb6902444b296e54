/* Forward passes of tiny random models against activations recorded from Hugging Face's implementation in float32
 * (tests/golden/models/README.md), and what must hold exactly: the same bits in any batch, on any number of threads, with and
 * without a cache. Then files that lie. */
#include "support/oom.h"
#include "support/recorded.h"
#include "support/test.h"

#include "core/file.h"
#include "core/mem.h"

static const char *const models[] = {"llama", "llama3"};
enum { N_MODELS = sizeof models / sizeof *models, SEQS = 2, TOKENS = 40, KINDS = 5 };

/* A model, its recording, and the recorded ids [SEQS, TOKENS]. */
typedef struct tiny {
    model *m;
    recorded r;
    int64_t *ids;
    ctx c;
    int64_t d;
} tiny;

static tiny open_tiny_at(const char *name, cpu_level level) {
    tiny t = {.c = test_ctx(2)};
    char path[128];
    err e = {0};
    t.c.cpu = level;
    snprintf(path, sizeof path, "models/%s/expected.safetensors", name);
    t.r = recorded_open(path);
    t.ids = recorded_ints(&t.r, "input_ids", NULL);
    snprintf(path, sizeof path, "models/%s/model.gguf", name);
    char *file = test_fixture(path);
    assert_ok(model_open(&t.c, file, &t.m, &e), &e);
    free(file);
    t.d = model_config_of(t.m)->d_model;
    return t;
}

static tiny open_tiny(const char *name) { return open_tiny_at(name, cpu_best()); }

static void close_tiny(tiny *t) {
    model_close(t->m);
    recorded_close(&t->r);
    free(t->ids);
}

static test_batch both_sequences(const tiny *t) {
    test_batch b = {0};
    for (int i = 0; i < SEQS; i++) test_batch_add(&b, i, 0, t->ids + i * TOKENS, TOKENS);
    return b;
}

static float *floats(int64_t n) {
    float *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++) x[i] = NAN;
    return x;
}

/* hidden [n_tokens, d] of a batch of whole sequences */
static float *run(const tiny *t, const test_batch *b, const model_hook *hooks, int n_hooks) {
    float *hidden = floats(b->b.n_tokens * t->d);
    err e = {0};
    assert_ok(model_forward(&t->c, t->m, &b->b, NULL, hooks, n_hooks, hidden, &e), &e);
    return hidden;
}

/* ---- against the recording ---- */

static void assert_recorded(const tiny *t, const char *name, const float *x, int64_t n) {
    int64_t count;
    const float *expected = recorded_floats(&t->r, name, &count);
    double squares = 0, worst = 0;
    assert_int_equal(count, n);
    for (int64_t i = 0; i < n; i++) {
        squares += (double)expected[i] * expected[i];
        worst = fmax(worst, fabs((double)x[i] - expected[i]));
        assert_false(isnan(x[i]));
    }
    if (worst > 1e-4 * sqrt(squares / (double)n)) fail_msg("%s is off by %.2g", name, worst / sqrt(squares / (double)n));
}

static void every_hook_and_the_logits(void **state) {
    (void)state;
    for (int i = 0; i < N_MODELS; i++)
        for (cpu_level level = CPU_PORTABLE; level <= cpu_best(); level++) {
            tiny t = open_tiny_at(models[i], level);
            const model_config *g = model_config_of(t.m);
            int n_hooks = (int)g->n_layers * KINDS;
            collected seen[16 * KINDS] = {0};
            model_hook hooks[16 * KINDS];
            for (int h = 0; h < n_hooks; h++) {
                seen[h].at = (hook_point){.layer = h / KINDS, .kind = (hook_kind)(h % KINDS)};
                hooks[h] = collect_hook(seen + h);
            }
            test_batch b = both_sequences(&t);
            float *hidden = run(&t, &b, hooks, n_hooks), *logits = floats(SEQS * TOKENS * g->n_vocab);
            for (int h = 0; h < n_hooks; h++) {
                char name[HOOK_NAME_MAX];
                hook_format(seen[h].at, name);
                assert_int_equal(seen[h].calls, 1);
                assert_recorded(&t, name, seen[h].x, seen[h].n * t.d);
                collected_release(seen + h);
            }
            char last[32];
            snprintf(last, sizeof last, "hidden_states.%d", (int)g->n_layers);
            assert_recorded(&t, last, hidden, SEQS * TOKENS * t.d);
            err e = {0};
            assert_ok(model_logits(&t.c, t.m, hidden, SEQS * TOKENS, logits, &e), &e);
            assert_recorded(&t, "logits", logits, SEQS * TOKENS * g->n_vocab);
            free(hidden), free(logits), test_batch_release(&b), close_tiny(&t);
        }
}

static void log_probabilities(void **state) {
    (void)state;
    for (int i = 0; i < N_MODELS; i++) {
        tiny t = open_tiny(models[i]);
        int64_t n = SEQS * TOKENS, vocab = model_config_of(t.m)->n_vocab;
        const float *logits = recorded_floats(&t.r, "logits", NULL);
        test_batch b = both_sequences(&t);
        float *hidden = run(&t, &b, NULL, 0);
        double *logp = malloc((size_t)n * sizeof *logp);
        uint32_t *targets = malloc((size_t)n * sizeof *targets);
        for (int64_t r = 0; r < n; r++) targets[r] = (uint32_t)(r * 31 % vocab);
        err e = {0};
        assert_ok(model_logprobs(&t.c, t.m, hidden, targets, n, logp, &e), &e);
        for (int64_t r = 0; r < n; r++) {
            double sum = 0;
            for (int64_t v = 0; v < vocab; v++) sum += exp((double)logits[r * vocab + v]);
            assert_true(fabs(logp[r] - (logits[r * vocab + targets[r]] - log(sum))) < 1e-3);
        }
        targets[3] = (uint32_t)vocab;
        assert_int_equal(model_logprobs(&t.c, t.m, hidden, targets, n, logp, &e), ERR_MISMATCH);
        free(hidden), free(logp), free(targets), test_batch_release(&b), close_tiny(&t);
    }
}

/* Logits are the unembedding's rows times hidden rows. */
static void unembedding(void **state) {
    (void)state;
    for (int i = 0; i < N_MODELS; i++) {
        tiny t = open_tiny(models[i]);
        int64_t vocab = model_config_of(t.m)->n_vocab;
        const float *logits = recorded_floats(&t.r, "logits", NULL);
        char last[32];
        snprintf(last, sizeof last, "hidden_states.%d", (int)model_config_of(t.m)->n_layers);
        const float *hidden = recorded_floats(&t.r, last, NULL);
        float *rows = floats(3 * t.d);
        err e = {0};
        assert_ok(model_unembed_rows(t.m, vocab - 3, 3, rows, &e), &e);
        for (int v = 0; v < 3; v++) {
            double sum = 0;
            for (int64_t j = 0; j < t.d; j++) sum += (double)rows[v * t.d + j] * hidden[j];
            assert_true(fabs(sum - logits[vocab - 3 + v]) < 1e-3 * (1 + fabs(sum)));
        }
        assert_int_equal(model_unembed_rows(t.m, vocab - 2, 3, rows, &e), ERR_USAGE);
        assert_int_equal(model_unembed_rows(t.m, -1, 1, rows, &e), ERR_USAGE);
        free(rows), close_tiny(&t);
    }
}

/* ---- the same bits ---- */

static void alone_and_in_a_batch(void **state) {
    (void)state;
    for (int i = 0; i < N_MODELS; i++) {
        tiny t = open_tiny(models[i]);
        test_batch many = {0}, one = {0};
        const int64_t lengths[] = {3, 40, 1, 17, 40};
        for (int s = 0; s < 5; s++) test_batch_add(&many, s, 0, t.ids + (s % SEQS) * TOKENS, lengths[s]);
        test_batch_add(&one, 7, 0, t.ids + TOKENS, 17);
        float *together = run(&t, &many, NULL, 0), *alone = run(&t, &one, NULL, 0);
        assert_memory_equal(together + 44 * t.d, alone, (size_t)(17 * t.d) * sizeof *alone);
        t.c.threads = 5;
        float *again = run(&t, &many, NULL, 0);
        assert_memory_equal(together, again, (size_t)(many.b.n_tokens * t.d) * sizeof *again);
        free(together), free(alone), free(again), test_batch_release(&many), test_batch_release(&one), close_tiny(&t);
    }
}

/* Both sequences in pieces through a cache, in slots 2 and 0; the second is then cut back and run again. */
static void piece_by_piece(void **state) {
    (void)state;
    static const int32_t slots[] = {2, 0};
    for (int i = 0; i < N_MODELS; i++) {
        tiny t = open_tiny(models[i]);
        test_batch whole = both_sequences(&t);
        float *expected = run(&t, &whole, NULL, 0);
        kvcache *kv;
        err e = {0};
        assert_ok(kvcache_new(t.m, 3, TOKENS, &kv, &e), &e);
        int64_t at[SEQS] = {0, 0};
        for (int step = 0; at[0] < TOKENS || at[1] < TOKENS; step++) {
            test_batch b = {0};
            int64_t n[SEQS];
            for (int s = 0; s < SEQS; s++) {
                n[s] = 1 + (step + s) % 4;
                if (n[s] > TOKENS - at[s]) n[s] = TOKENS - at[s];
                test_batch_add(&b, slots[s], at[s], t.ids + s * TOKENS, n[s]);
            }
            float *hidden = floats(b.b.n_tokens * t.d), *row = hidden;
            assert_ok(model_forward(&t.c, t.m, &b.b, kv, NULL, 0, hidden, &e), &e);
            for (int s = 0; s < SEQS; row += n[s] * t.d, at[s] += n[s], s++)
                assert_memory_equal(row, expected + (s * TOKENS + at[s]) * t.d, (size_t)(n[s] * t.d) * sizeof *row);
            free(hidden), test_batch_release(&b);
            if (step == 3) kvcache_truncate(kv, slots[1], 2), at[1] = 2;
        }
        test_batch more = {0};
        test_batch_add(&more, 0, TOKENS - 1, t.ids, 1);
        assert_int_equal(model_forward(&t.c, t.m, &more.b, kv, NULL, 0, NULL, &e), ERR_USAGE);
        more.pos[0] = TOKENS;
        assert_int_equal(model_forward(&t.c, t.m, &more.b, kv, NULL, 0, NULL, &e), ERR_USAGE);
        more.seq[0] = 3;
        assert_int_equal(model_forward(&t.c, t.m, &more.b, kv, NULL, 0, NULL, &e), ERR_USAGE);
        kvcache_free(kv);
        free(expected), test_batch_release(&whole), test_batch_release(&more), close_tiny(&t);
    }
}

/* ---- hooks ---- */

typedef struct rewrite {
    float scale;
    int calls;
} rewrite;

static err_code scale_rows(void *user, const ctx *c, const hook_rows *rows, err *e) {
    rewrite *r = user;
    (void)c, (void)e;
    for (int64_t i = 0; i < rows->n_tokens * rows->d_model; i++) rows->x[i] *= r->scale;
    r->calls++;
    return ERR_OK;
}

static model_hook scale_at(int layer, hook_kind kind, rewrite *r) {
    return (model_hook){.at = {.layer = layer, .kind = kind}, .fn = scale_rows, .user = r};
}

static void rewriting(void **state) {
    (void)state;
    tiny t = open_tiny("llama");
    test_batch b = both_sequences(&t);
    size_t size = (size_t)(SEQS * TOKENS * t.d) * sizeof(float);
    rewrite zero = {.scale = 0}, half = {.scale = 0.5f}, one = {.scale = 1};
    float *plain = run(&t, &b, NULL, 0);
    model_hook same = scale_at(1, HOOK_ATTN_OUT, &one);
    float *kept = run(&t, &b, &same, 1);
    assert_memory_equal(plain, kept, size); /* looking changes nothing */

    collected pre = {.at = {1, HOOK_RESID_PRE}}, mid = {.at = {1, HOOK_RESID_MID}}, post = {.at = {1, HOOK_RESID_POST}};
    const model_hook silent[] = {collect_hook(&pre), scale_at(1, HOOK_ATTN_OUT, &zero), collect_hook(&mid),
                                 scale_at(1, HOOK_MLP_OUT, &zero), collect_hook(&post)};
    float *out = run(&t, &b, silent, 5);
    assert_memory_equal(pre.x, mid.x, size); /* a block that adds nothing */
    assert_memory_equal(pre.x, post.x, size);
    assert_memory_not_equal(plain, out, size);

    model_hook behind = scale_at(0, HOOK_RESID_POST, &half), before = scale_at(1, HOOK_RESID_PRE, &half);
    float *a = run(&t, &b, &behind, 1), *c = run(&t, &b, &before, 1);
    assert_memory_equal(a, c, size);
    assert_memory_not_equal(a, plain, size);

    rewrite twice = {.scale = 2};
    const model_hook undone[] = {scale_at(2, HOOK_RESID_MID, &half), scale_at(2, HOOK_RESID_MID, &twice)};
    float *both = run(&t, &b, undone, 2);
    assert_memory_equal(both, plain, size); /* several at one point, in order */
    free(plain), free(kept), free(out), free(a), free(c), free(both);
    collected_release(&pre), collected_release(&mid), collected_release(&post);
    test_batch_release(&b), close_tiny(&t);
}

typedef struct stopper {
    volatile sig_atomic_t cancel;
    bool check_rows;
} stopper;

static err_code stop_here(void *user, const ctx *c, const hook_rows *rows, err *e) {
    stopper *s = user;
    (void)c, (void)e;
    assert_int_equal(rows->seq[TOKENS], 1);
    assert_int_equal(rows->pos[TOKENS], 0);
    assert_int_equal(rows->pos[TOKENS + 5], 5);
    s->cancel = 1;
    return ERR_OK;
}

static err_code refuse(void *user, const ctx *c, const hook_rows *rows, err *e) {
    (void)user, (void)c, (void)rows;
    return err_set(e, ERR_FAILED, "no");
}

/* A pass that was asked for no hidden rows ends at its last hook: cancelling from there on comes too late to be noticed. */
static void ends_after_the_last_hook(void **state) {
    (void)state;
    tiny t = open_tiny("llama");
    test_batch b = both_sequences(&t);
    float *hidden = floats(SEQS * TOKENS * t.d);
    stopper s = {0};
    err e = {0};
    t.c.cancel = &s.cancel;
    model_hook hook = {.at = {0, HOOK_RESID_POST}, .fn = stop_here, .user = &s};
    assert_ok(model_forward(&t.c, t.m, &b.b, NULL, &hook, 1, NULL, &e), &e);
    s.cancel = 0;
    assert_int_equal(model_forward(&t.c, t.m, &b.b, NULL, &hook, 1, hidden, &e), ERR_CANCELLED);
    s.cancel = 0;
    hook.fn = refuse;
    assert_int_equal(model_forward(&t.c, t.m, &b.b, NULL, &hook, 1, NULL, &e), ERR_FAILED);
    assert_string_equal(e.message, "no");
    assert_ok(model_forward(&t.c, t.m, &(model_batch){0}, NULL, &hook, 1, NULL, &e), &e); /* an empty batch */
    b.tokens[50] = 288;
    assert_int_equal(model_forward(&t.c, t.m, &b.b, NULL, &hook, 1, NULL, &e), ERR_MISMATCH);
    b.tokens[50] = 1, b.pos[60] = 3;
    assert_int_equal(model_forward(&t.c, t.m, &b.b, NULL, &hook, 1, NULL, &e), ERR_USAGE);
    free(hidden), test_batch_release(&b), close_tiny(&t);
}

static void facts(void **state) {
    (void)state;
    tiny t = open_tiny("llama");
    hook_point at;
    err e = {0};
    assert_string_equal(model_name(t.m), "tiny llama");
    assert_string_equal(model_config_of(t.m)->architecture, "llama");
    assert_ok(model_hook_point(t.m, "2", &at, &e), &e);
    assert_true(at.layer == 2 && at.kind == HOOK_RESID_POST);
    assert_ok(model_hook_point(t.m, "blocks.1.hook_mlp_out", &at, &e), &e);
    assert_true(at.layer == 1 && at.kind == HOOK_MLP_OUT);
    assert_int_equal(model_hook_point(t.m, "3", &at, &e), ERR_USAGE);
    char a[SHA256_HEX], again[SHA256_HEX], *path = test_fixture("models/llama/model.gguf"), expected[SHA256_HEX];
    assert_ok(file_sha256(path, expected, &e), &e);
    assert_ok(model_sha256(t.m, a, &e), &e);
    assert_ok(model_sha256(t.m, again, &e), &e);
    assert_string_equal(a, expected);
    assert_string_equal(again, expected);
    free(path), close_tiny(&t);
}

/* ---- files that lie ---- */

/* The tiny llama with `bytes` written `skip` bytes behind the first place where `text` stands. */
typedef struct lie {
    const char *text;
    int64_t skip;
    const void *bytes;
    size_t n;
    err_code code;
    const char *says;
} lie;

#define U32(x)    (&(const uint32_t){x}), 4
#define F32(x)    (&(const float){x}), 4
#define KEY(name) "llama." name, (int64_t)sizeof("llama." name) - 1 + 4 /* the type stands between */

static const lie lies[] = {
    {"architecture", 12 + 4 + 8, "lAma_", 5, ERR_UNSUPPORTED, "unknown architecture 'lAma_'"},
    {"blk.1.attn_k.weight", 0, "blk.1.attn_x", 12, ERR_FORMAT, "blk.1.attn_k.weight"},
    {"token_embd.weight", 0, "token_embX", 10, ERR_FORMAT, "token_embd.weight"},
    {"output_norm.weight", 0, "output_xxxx", 11, ERR_FORMAT, "output_norm.weight"},
    {KEY("block_count"), U32(4), ERR_FORMAT, "blk.3."},
    {KEY("block_count"), U32(0), ERR_FORMAT, "llama.block_count: expected 1 to 4096, got 0"},
    {KEY("block_count"), U32(4000000000), ERR_FORMAT, "llama.block_count"},
    {KEY("embedding_length"), U32(64), ERR_FORMAT, "[288, 64]"},
    {KEY("embedding_length"), U32(50), ERR_FORMAT, "50"},
    {KEY("feed_forward_length"), U32(96), ERR_FORMAT, "[96, 48]"},
    {KEY("attention.head_count"), U32(5), ERR_FORMAT, "5 query heads cannot share 2"},
    {KEY("attention.head_count"), U32(16), ERR_FORMAT, "rope.dimension_count"},
    {KEY("attention.head_count_kv"), U32(4), ERR_FORMAT, "[48, 48]"},
    {KEY("attention.head_count_kv"), U32(0), ERR_FORMAT, "llama.attention.head_count_kv"},
    {KEY("rope.dimension_count"), U32(11), ERR_FORMAT, "even"},
    {KEY("rope.dimension_count"), U32(14), ERR_FORMAT, "llama.rope.dimension_count"},
    {KEY("rope.freq_base"), F32(NAN), ERR_FORMAT, "llama.rope.freq_base"},
    {KEY("attention.layer_norm_rms_epsilon"), F32(-1), ERR_FORMAT, "epsilon"},
    {KEY("context_length"), U32(0), ERR_FORMAT, "llama.context_length"},
};

static void files_that_lie(void **state) {
    (void)state;
    char *path = test_fixture("models/llama/model.gguf"), *dir = test_make_dir(), *copy, *bytes;
    size_t size;
    err e = {0};
    const ctx c = test_ctx(1);
    assert_ok(path_join(dir, "lie.gguf", &copy, &e), &e);
    assert_ok(file_read(path, 1 << 24, &bytes, &size, &e), &e);
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        const lie *l = lies + i;
        char *changed = malloc(size), *at = changed;
        memcpy(changed, bytes, size);
        while (at < changed + size - 64 && memcmp(at, l->text, strlen(l->text))) at++;
        memcpy(at + l->skip, l->bytes, l->n);
        assert_ok(file_write(copy, changed, size, &e), &e);
        model *m;
        err_code rc = model_open(&c, copy, &m, &e);
        if (rc != l->code || !strstr(e.message, l->says) || !strstr(e.message, "lie.gguf"))
            fail_msg("lie %zu: code %d, '%s'; expected %d and '%s'", i, rc, e.message, l->code, l->says);
        assert_null(m);
        free(changed);
    }
    free(bytes), free(copy), free(path), test_remove_dir(dir);
}

/* What the swept work needs of its own, made before. */
typedef struct swept {
    const tiny *t;
    char *path;
    test_batch b;
    float *hidden;
    double logp[SEQS * TOKENS];
} swept;

static err_code open_and_run(void *arg, err *e) {
    swept *s = arg;
    model *m = NULL;
    kvcache *kv = NULL;
    err_code rc;
    TRY(model_open(&s->t->c, s->path, &m, e));
    TRY(kvcache_new(m, 2, TOKENS, &kv, e));
    TRY(model_forward(&s->t->c, m, &s->b.b, kv, NULL, 0, NULL, e));
    TRY(model_forward(&s->t->c, m, &s->b.b, NULL, NULL, 0, s->hidden, e));
    TRY(model_logprobs(&s->t->c, m, s->hidden, s->b.tokens, SEQS * TOKENS, s->logp, e));
done:
    model_close(m), kvcache_free(kv);
    return rc;
}

static void out_of_memory(void **state) {
    (void)state;
    tiny t = open_tiny("llama");
    swept s = {.t = &t,
               .path = test_fixture("models/llama/model.gguf"),
               .b = both_sequences(&t),
               .hidden = floats(SEQS * TOKENS * t.d)};
    oom_sweep(open_and_run, &s, 5000);
    free(s.path), free(s.hidden), test_batch_release(&s.b), close_tiny(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_hook_and_the_logits),
        cmocka_unit_test(log_probabilities),
        cmocka_unit_test(unembedding),
        cmocka_unit_test(alone_and_in_a_batch),
        cmocka_unit_test(piece_by_piece),
        cmocka_unit_test(rewriting),
        cmocka_unit_test(ends_after_the_last_hook),
        cmocka_unit_test(facts),
        cmocka_unit_test(files_that_lie),
        cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
