/* Judging texts in closed form, and several arms on a model of a few lines: what each changes, what they share, what must not matter. */
#include "support/test.h"

#include "core/mem.h"
#include "sae/variants/variants.h"
#include "steer/steer.h"
#include "text/chat.h"

#define assert_near(a, b, tolerance) assert_true(fabs((a) - (b)) <= (tolerance))

/* ---- judging ---- */

static bool mentions(const char *words, const char *text) {
    err e = {0};
    word_list l = {0};
    bool found;
    assert_ok(word_list_parse(words, &l, &e), &e);
    assert_ok(judge_mentions(&l, text, strlen(text), &found, &e), &e);
    word_list_release(&l);
    return found;
}

static void names_stand_whole_words_begin(void **state) {
    (void)state;
    assert_true(mentions("China|Tang", "the Tang dynasty"));
    assert_true(mentions("China|Tang", "\xE2\x80\x9C"
                                       "China\xE2\x80\x9D,")); /* curly quotes are no letters */
    assert_true(mentions("China|Tang", "China's"));
    assert_false(mentions("China|Tang", "china and Tango, InTang"));
    assert_true(mentions("poet", "Poetry"));
    assert_true(mentions("x, poet ", "two poets"));
    assert_false(mentions("poet", "a repoet"));
    assert_false(mentions("poet", "po et"));
    assert_true(mentions("Li Bai", "by Li Bai."));
    assert_false(mentions("Li Bai", "by Li Baiyu."));
    assert_true(mentions("\xE6\x9D\x8E\xE7\x99\xBD",
                         "\xE8\xAF\x97\xE4\xBA\xBA\xE6\x9D\x8E\xE7\x99\xBD\xE7\x9A\x84")); /* 李白 inside */
    assert_true(mentions("\xC3\xA9t\xC3\xA9", "\xC3\x89T\xC3\x89S"));                      /* été, ÉTÉS */
    assert_false(mentions("t", "\xC3\xA9t\xC3\xA9"));
    assert_false(mentions("poet", ""));
    assert_true(mentions("poet", "\xFFpoet\xE6"));
}

static void places_are_byte_offsets(void **state) {
    (void)state;
    err e = {0};
    word_list l = {0};
    size_t *places;
    int64_t n;
    const char *text = "\xE6\x9D\x8E poet\xFF poem, Poets";
    assert_ok(word_list_parse("poet|poem|po", &l, &e), &e);
    assert_ok(judge_find_words(&l, text, strlen(text), &places, &n, &e), &e);
    assert_int_equal(n, 3);
    assert_int_equal(places[0], 4);
    assert_int_equal(places[1], 10);
    assert_int_equal(places[2], 16);
    free(places);
    word_list_release(&l);
    assert_int_equal(word_list_parse(" | ,", &l, &e), ERR_USAGE);
    word_list_release(&l);
}

static void repetition_is_a_share_of_trigrams(void **state) {
    (void)state;
    const struct {
        uint32_t ids[8];
        size_t n;
        double share;
    } cases[] = {{{1, 1}, 2, 0},
                 {{1, 2, 3}, 3, 0},
                 {{1, 1, 1, 1, 1, 1}, 6, 0.75},
                 {{1, 2, 3, 1, 2, 3}, 6, 0.25},
                 {{1, 2, 3, 4, 3, 2, 1}, 7, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        err e = {0};
        double share;
        assert_ok(judge_repetition(cases[i].ids, cases[i].n, &share, &e), &e);
        assert_near(share, cases[i].share, 1e-12);
    }
}

/* ---- a model of bytes ----
 *
 * Tokens are bytes; a token's row at the hook is its eight bits. What comes next depends on the token, the random stream and the
 * row behind the hook, so a text changes exactly when some row did. These stand in for the real functions of the same names. */

enum { D = 8 };

struct model {
    model_config cfg;
};

const model_config *model_config_of(const model *m) { return &m->cfg; }
const weights *model_weights(const model *m) { return (void)m, NULL; }
const tokenizer *model_tokenizer(const model *m) { return (void)m, NULL; }

err_code model_sha256(const model *m, char out[SHA256_HEX], err *e) {
    (void)m, (void)e;
    memset(out, 'a', SHA256_HEX - 1);
    out[SHA256_HEX - 1] = '\0';
    return ERR_OK;
}

err_code model_hook_point(const model *m, const char *layer_or_hook, hook_point *out, err *e) {
    (void)m, (void)layer_or_hook, (void)e;
    *out = (hook_point){1, HOOK_RESID_POST};
    return ERR_OK;
}

struct chat {
    int unused;
};

err_code chat_render(const chat *c, const chat_message *messages, int n, strbuf *out, err *e) {
    (void)c, (void)e;
    for (int i = 0; i < n; i++) strbuf_addf(out, "[%s]%s", messages[i].role, messages[i].content);
    return ERR_OK;
}

err_code tokenizer_encode(const tokenizer *t, const char *text, size_t len, const tokenize_opts *o, token_ids *out, err *e) {
    (void)t, (void)o;
    err_code rc = mem_grow(&out->ids, &out->cap, out->len + len, sizeof *out->ids, "ids", e);
    for (size_t i = 0; !rc && i < len; i++) out->ids[out->len++] = (unsigned char)text[i];
    return rc;
}

void tokenizer_decode_part(const tokenizer *t, const uint32_t *ids, size_t n, bool keep_special, strbuf *out) {
    (void)t, (void)keep_special;
    for (size_t i = 0; i < n; i++) strbuf_add_char(out, (char)ids[i]);
}

/* One row through the hooks; returns the letter behind it. */
static err_code step(const ctx *c, const generate_opts *o, int64_t index, uint32_t token, int32_t pos, uint64_t stream,
                     uint32_t *next, err *e) {
    float x[D];
    int32_t seq = (int32_t)index;
    double sum = 0;
    hook_rows rows = {.n_tokens = 1, .d_model = D, .x = x, .seq = &seq, .pos = &pos};
    for (int j = 0; j < D; j++) x[j] = (float)(token >> j & 1);
    for (int h = 0; h < o->n_hooks; h++) {
        err_code rc = o->hooks[h].fn(o->hooks[h].user, c, &rows, e);
        if (rc) return rc;
    }
    for (int j = 0; j < D; j++) sum += (j + 1) * (double)x[j];
    *next = 'a' + (uint32_t)((uint64_t)llround(fabs(sum)) * 5 + token * 3 + stream * 7 + (uint64_t)pos) % 26;
    return ERR_OK;
}

err_code generate_run(const ctx *c, model *m, generate_seq *seqs, int64_t n, const generate_opts *o, err *e) {
    (void)m;
    err_code rc = ERR_OK;
    for (int64_t i = 0; i < n; i++) {
        token_ids *out = &seqs[i].output;
        uint32_t next = 0;
        int32_t pos = 0;
        for (size_t t = 0; t < seqs[i].prompt.len; t++)
            TRY(step(c, o, i, seqs[i].prompt.ids[t], pos++, seqs[i].stream_index, &next, e));
        TRY(mem_grow(&out->ids, &out->cap, (size_t)o->n_tokens, sizeof *out->ids, "output", e));
        while ((int64_t)out->len < o->n_tokens) {
            out->ids[out->len++] = next;
            if ((int64_t)out->len < o->n_tokens) TRY(step(c, o, i, next, pos++, seqs[i].stream_index, &next, e));
        }
        TRY(o->done(o->user, i, e));
    }
done:
    return rc;
}

/* Behind the final norm a row is its token's number and position; p(target | row) is made of both. */
err_code model_forward(const ctx *c, model *m, const model_batch *b, kvcache *kv, const model_hook *hooks, int n_hooks,
                       float *hidden, err *e) {
    (void)c, (void)m, (void)kv, (void)hooks, (void)e;
    assert_int_equal(n_hooks, 0);
    for (int64_t i = 0; i < b->n_tokens; i++) {
        assert_int_equal(b->pos[i], i && b->seq[i] == b->seq[i - 1] ? b->pos[i - 1] + 1 : 0);
        assert_true(b->seq[i] == (i ? b->seq[i - 1] + (b->pos[i] == 0) : 0));
        memset(hidden + i * D, 0, D * sizeof *hidden);
        hidden[i * D] = (float)(b->tokens[i] + 300 * (uint32_t)b->pos[i]);
    }
    return ERR_OK;
}

static double logprob_of(uint32_t token, uint32_t pos, uint32_t target) {
    return -1e-3 * (token + 300 * pos) - 1e-5 * target;
}

err_code model_logprobs(const ctx *c, model *m, const float *hidden, const uint32_t *targets, int64_t n, double *logprobs,
                        err *e) {
    (void)c, (void)m, (void)e;
    for (int64_t i = 0; i < n; i++) logprobs[i] = -1e-3 * hidden[i * D] - 1e-5 * targets[i];
    return ERR_OK;
}

/* ---- arms ---- */

enum { N_PROMPTS = 3, N_TOKENS = 12, N_SAMPLES = 2 };
static const char *const prompts[N_PROMPTS] = {"the cat sat", "once upon a time there", "a b"};

typedef struct bench {
    model m;
    sae *s;
    hook_point at;
    float u[D]; /* unit */
} bench;

static void bench_open(bench *b) {
    err e = {0};
    *b = (bench){.m = {.cfg = {.n_layers = 2, .d_model = D, .n_vocab = 256}}, .u = {[3] = 1}};
    sae_config cfg = {.variant = &sae_topk, .d_in = D, .d_sae = 2 * D, .k = 4, .hook_name = "blocks.1.hook_resid_post"};
    assert_ok(sae_new(&cfg, &b->s, &e), &e);
    for (int64_t i = 0; i < 2 * D; i++) b->s->W_enc[i * D + i % D] = b->s->W_dec[i * D + i % D] = i < D ? 1.0f : -1.0f;
    assert_ok(steer_hook_point(&b->m, b->s, &b->at, &e), &e);
}

static void bench_close(bench *b) { sae_free(b->s); }

static steer_opts options(void) {
    steer_opts o = STEER_DEFAULTS;
    o.n_tokens = N_TOKENS;
    o.n_samples = N_SAMPLES;
    o.sample.seed = 5;
    o.perplexity = true;
    return o;
}

/* Unsteered twice, a clamp, an amount of nothing. */
static void run_arms(const bench *b, int threads, int64_t max_batch, steer_result *out) {
    err e = {0};
    ctx c = test_ctx(threads);
    model m = b->m;
    const intervention_kind *clamp = intervention_kind_by_name("clamp", &e),
                            *move = intervention_kind_by_name("direction", &e);
    intervention strong = {.kind = clamp, .feature = 3, .value = 9}, nothing = {.kind = move, .value = 0, .direction = b->u};
    intervention_list lists[2] = {{&strong, 1}, {&nothing, 1}};
    steer_arm arms[4] = {{"unsteered", NULL, 0}, {"again", NULL, 0}, {"clamp", &lists[0], 1}, {"nothing", &lists[1], 1}};
    steer_opts o = options();
    o.max_batch = max_batch;
    assert_ok(steer_run(&c, &m, b->s, b->at, arms, 4, prompts, N_PROMPTS, &o, out, &e), &e);
}

static void arms_differ_in_the_intervention_only(void **state) {
    (void)state;
    bench b;
    steer_result r;
    bench_open(&b);
    run_arms(&b, 1, 64, &r);
    int changed_texts = 0;
    for (int p = 0; p < N_PROMPTS; p++) {
        assert_string_not_equal(steer_text_of(&r, 0, p, 0)->text,
                                steer_text_of(&r, 0, p, 1)->text); /* streams of their own */
        for (int i = 0; i < N_SAMPLES; i++) {
            const steer_text *plain = steer_text_of(&r, 0, p, i), *clamped = steer_text_of(&r, 2, p, i);
            assert_string_equal(plain->text, steer_text_of(&r, 1, p, i)->text);
            assert_string_equal(plain->text, steer_text_of(&r, 3, p, i)->text);
            changed_texts += strcmp(plain->text, clamped->text) != 0;
            assert_int_equal(plain->positions_changed, 0);
            assert_int_equal(steer_text_of(&r, 3, p, i)->positions_changed, 0);
            assert_true(plain->nll > 0 && isfinite(plain->nll));
        }
    }
    assert_int_equal(changed_texts, N_PROMPTS * N_SAMPLES);
    assert_int_equal(r.scores[0].positions_changed, 0);
    assert_near(r.scores[0].perplexity, r.scores[1].perplexity, 1e-3);
    assert_true(r.scores[2].perplexity > r.scores[0].perplexity);
    steer_result_release(&r);
    bench_close(&b);
}

/* Every position but the sink, prompt and output alike, and the last token that was drawn never passes the hook. */
static void changes_every_position_but_the_sink(void **state) {
    (void)state;
    bench b;
    steer_result r;
    bench_open(&b);
    run_arms(&b, 1, 64, &r);
    for (int p = 0; p < N_PROMPTS; p++)
        for (int i = 0; i < N_SAMPLES; i++)
            assert_int_equal(steer_text_of(&r, 2, p, i)->positions_changed, (int64_t)strlen(prompts[p]) + N_TOKENS - 1 - 1);
    steer_result_release(&r);
    bench_close(&b);
}

static void threads_and_batches_do_not_matter(void **state) {
    (void)state;
    bench b;
    steer_result one, two, small;
    bench_open(&b);
    run_arms(&b, 1, 64, &one);
    run_arms(&b, 2, 64, &two);
    run_arms(&b, 1, 5, &small);
    for (int i = 0; i < 4 * N_PROMPTS * N_SAMPLES; i++) {
        assert_string_equal(one.texts[i].text, two.texts[i].text);
        assert_true(one.texts[i].nll == two.texts[i].nll);
        assert_string_equal(one.texts[i].text, small.texts[i].text);
        assert_int_equal(one.texts[i].positions_changed, small.texts[i].positions_changed);
    }
    steer_result_release(&one);
    steer_result_release(&two);
    steer_result_release(&small);
    bench_close(&b);
}

/* In closed form, with an empty output among the texts and more texts than one batch holds. */
static void nll_is_the_sum_of_log_probabilities(void **state) {
    (void)state;
    enum { N = 600 };
    err e = {0};
    ctx c = test_ctx(1);
    bench b;
    bench_open(&b);
    uint32_t ids[10];
    generate_seq *seqs = calloc(N, sizeof *seqs);
    double nll[N];
    for (uint32_t i = 0; i < 10; i++) ids[i] = 10 * i + 5;
    for (size_t i = 0; i < N; i++) {
        size_t n_prompt = 1 + i % 5;
        seqs[i].prompt = (token_ids){ids, n_prompt, 0};
        seqs[i].output = (token_ids){ids + n_prompt, i % 4, 0};
    }
    assert_ok(judge_nll(&c, &b.m, seqs, N, nll, &e), &e);
    for (size_t i = 0; i < N; i++) {
        double expected = 0;
        for (size_t t = 1 + i % 5; t < 1 + i % 5 + i % 4; t++) expected -= logprob_of(ids[t - 1], (uint32_t)t - 1, ids[t]);
        assert_near(nll[i], expected, 1e-6);
    }
    free(seqs);
    bench_close(&b);
}

/* The model's template stands around every prompt, and texts leave both out. */
static void chat_prompts_are_rendered(void **state) {
    (void)state;
    err e = {0};
    ctx c = test_ctx(1);
    bench b;
    steer_result plain, answered;
    const struct chat template = {0};
    steer_arm arm = {"unsteered", NULL, 0};
    steer_opts o = options();
    const char *bare = "hello", *rendered = "[user]hello";
    bench_open(&b);
    assert_ok(steer_run(&c, &b.m, b.s, b.at, &arm, 1, &rendered, 1, &o, &plain, &e), &e);
    o.chat = &template;
    assert_ok(steer_run(&c, &b.m, b.s, b.at, &arm, 1, &bare, 1, &o, &answered, &e), &e);
    assert_string_equal(plain.texts[0].text, answered.texts[0].text);
    assert_int_equal(strlen(answered.texts[0].text), N_TOKENS);
    steer_result_release(&plain);
    steer_result_release(&answered);
    const char *empty = "";
    o.chat = NULL;
    assert_int_equal(steer_run(&c, &b.m, b.s, b.at, &arm, 1, &empty, 1, &o, &plain, &e), ERR_USAGE);
    bench_close(&b);
}

/* An SAE of another hook, model or width is refused before anything runs. */
static void foreign_saes_are_refused(void **state) {
    (void)state;
    err e = {0};
    bench b;
    bench_open(&b);
    memset(b.s->cfg.model_sha256, 'b', SHA256_HEX - 1);
    assert_int_equal(steer_hook_point(&b.m, b.s, &b.at, &e), ERR_MISMATCH);
    memset(b.s->cfg.model_sha256, 0, SHA256_HEX);
    b.m.cfg.d_model = D + 1;
    assert_int_equal(steer_hook_point(&b.m, b.s, &b.at, &e), ERR_MISMATCH);
    b.m.cfg.d_model = D;
    b.s->cfg.hook_name[0] = '\0';
    assert_int_equal(steer_hook_point(&b.m, b.s, &b.at, &e), ERR_MISMATCH);
    bench_close(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_stand_whole_words_begin),
        cmocka_unit_test(places_are_byte_offsets),
        cmocka_unit_test(repetition_is_a_share_of_trigrams),
        cmocka_unit_test(arms_differ_in_the_intervention_only),
        cmocka_unit_test(changes_every_position_but_the_sink),
        cmocka_unit_test(threads_and_batches_do_not_matter),
        cmocka_unit_test(nll_is_the_sum_of_log_probabilities),
        cmocka_unit_test(chat_prompts_are_rendered),
        cmocka_unit_test(foreign_saes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
