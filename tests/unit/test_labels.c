/* labels.c: features that follow a rule by construction must get that rule, with the score it deserves on documents that did not
 * choose it. */
#include "support/mini_corpus.h"
#include "support/oom.h"
#include "support/test.h"

#include "analysis/labels.h"
#include "core/rng.h"

#define assert_near(a, b, tolerance) assert_true(fabs((a) - (b)) <= (tolerance))

enum { DOCS = 240 };

/* Sentences of filler with a poet, a river or a "Dubai" in some of them. */
static void make_corpus(mini_corpus *m) {
    static const char *const filler[] = {"| the",    "| of",     "| a",   "| house", "| tree",
                                         "| walked", "| slowly", "| and", "| blue",  "| old"};
    static const char *const middle[] = {
        "| the| poet| Li| Bai| drank", "| Uncle| Li| Ming| drove", "| in| Du|b|ai| today",
        "| the| poet| Li| Bai| sang",  "| a| river| and| Li| Na",  "| CHINA| is",
        "| the| tang| wall",           "| a| poet| laughed",       "| a| tower| and| Li| Jie"};
    mini_corpus_init(m);
    rng r = rng_stream(1, RNG_SYNTHETIC, 0);
    for (int d = 0; d < DOCS; d++) {
        strbuf s = STRBUF_INIT;
        char source[32];
        strbuf_add_str(&s, "Once");
        for (int i = 0; i < 20; i++) {
            if (i == 8) strbuf_add_str(&s, middle[rng_below(&r, 9)]);
            strbuf_add_str(&s, filler[rng_below(&r, 10)]);
        }
        snprintf(source, sizeof source, "t.jsonl:%d", d);
        mini_corpus_add(m, source, s.data);
        strbuf_release(&s);
    }
    mini_corpus_finish(m, 1);
}

typedef struct fixture {
    mini_corpus m;
    label_index *index;
    label_scratch *scratch;
} fixture;

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    err e;
    make_corpus(&f->m);
    assert_ok(label_index_new(&f->m.index, 7, &f->index, &e), &e);
    assert_ok(label_scratch_new(f->index, &f->scratch, &e), &e);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    label_scratch_free(f->scratch);
    label_index_free(f->index);
    mini_corpus_release(&f->m);
    free(f);
    return 0;
}

/* One feature that fires with this value at every row's token; 0: not there. */
typedef float firing_fn(const fixture *f, int64_t token, rng *r);

static void label_of(fixture *f, firing_fn *fires, char text[FEATURE_LABEL_MAX], label_score *score) {
    int64_t *indptr = calloc((size_t)f->m.n_rows + 1, sizeof *indptr), n = 0;
    uint32_t *indices = calloc((size_t)f->m.n_rows, sizeof *indices);
    float *values = calloc((size_t)f->m.n_rows, sizeof *values);
    rng r = rng_stream(9, RNG_SYNTHETIC, 0);
    for (int64_t row = 0; row < f->m.n_rows; row++) {
        float v = fires(f, (int64_t)f->m.row_token[row], &r);
        if (v > 0) values[n++] = v;
        indptr[row + 1] = n;
    }
    postings p;
    label_rule rule;
    err e;
    assert_ok(postings_build(1, f->m.n_rows, indptr, indices, values, &p, &e), &e);
    assert_ok(label_feature(f->index, &p, 0, f->scratch, &rule, score, &e), &e);
    if (rule.n_terms)
        label_rule_text(f->index, &rule, text);
    else
        text[0] = '\0';
    postings_release(&p);
    free(indptr);
    free(indices);
    free(values);
}

static bool is_token(const fixture *f, int64_t t, const char *piece) {
    uint32_t id = f->m.k.tokens[t];
    size_t n = f->m.offsets[id + 1] - f->m.offsets[id];
    return n == strlen(piece) && !memcmp(f->m.pieces.data + f->m.offsets[id], piece, n);
}

static bool after(const fixture *f, int64_t t, const char *piece) { return is_token(f, t - 1, piece); }

static bool near(const fixture *f, int64_t t, const char *piece) {
    int64_t start = (int64_t)f->m.k.doc_offsets[f->m.index.token_doc[t]];
    for (int64_t i = t; i >= start && i >= t - LABEL_NEAR; i--)
        if (is_token(f, i, piece)) return true;
    return false;
}

static float on_bai(const fixture *f, int64_t t, rng *r) { return is_token(f, t, " Bai") ? 1 + (float)rng_uniform(r) : 0; }
static float on_either(const fixture *f, int64_t t, rng *r) {
    (void)r;
    return is_token(f, t, " Bai") || is_token(f, t, " river");
}
static float on_li_of_poet(const fixture *f, int64_t t, rng *r) {
    (void)r;
    return is_token(f, t, " Li") && after(f, t, " poet");
}
static float behind_li(const fixture *f, int64_t t, rng *r) {
    (void)r;
    return after(f, t, " Li");
}
static float near_tang(const fixture *f, int64_t t, rng *r) {
    (void)r;
    return near(f, t, " tang");
}
static float on_dubai(const fixture *f, int64_t t, rng *r) {
    (void)r;
    return is_token(f, t, " Du") || is_token(f, t, "b") || is_token(f, t, "ai");
}
static float on_li_near_poet_or_river(const fixture *f, int64_t t, rng *r) {
    (void)r;
    return is_token(f, t, " Li") && near(f, t, " river");
}
static float at_start(const fixture *f, int64_t t, rng *r) {
    (void)r;
    return t - (int64_t)f->m.k.doc_offsets[f->m.index.token_doc[t]] < 4;
}
static float at_random(const fixture *f, int64_t t, rng *r) {
    (void)f, (void)t;
    return rng_uniform(r) < 0.05;
}
static float rarely(const fixture *f, int64_t t, rng *r) {
    (void)r;
    return is_token(f, t, " CHINA") && t < 900;
}
static float never(const fixture *f, int64_t t, rng *r) {
    (void)f, (void)t, (void)r;
    return 0;
}

static void test_planted_rules_are_found(void **state) {
    static const struct {
        firing_fn *fires;
        const char *label;
        double f1;
    } cases[] = {
        {on_bai, "token \" Bai\"", 1},
        {on_either, "token \" Bai\" or \" river\"", 1},
        {on_li_of_poet, "token \" Li\" after \" poet\"", 1},
        {behind_li, "after token \" Li\"", 1},
        {near_tang, "context word \"tang\"", 1},
        {on_dubai, "word \"dubai\"", 1}, /* three tokens, one word: the shorter rule wins */
        {on_li_near_poet_or_river, "token \" Li\" near word \"river\"", 1},
        {at_start, "first 4 tokens", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[FEATURE_LABEL_MAX];
        label_score s;
        label_of(*state, cases[i].fires, text, &s);
        assert_string_equal(text, cases[i].label);
        assert_near(s.f1, cases[i].f1, 1e-9);
        assert_near(s.auroc, 1, 1e-9);
    }
}

/* Firing at random has no rule. Scored on the choosing half, the luckiest candidate would look better than it is. */
static void test_noise_is_not_explained(void **state) {
    char text[FEATURE_LABEL_MAX];
    label_score s;
    label_of(*state, at_random, text, &s);
    assert_true(s.f1 < 0.2);
    assert_true(s.auroc > 0.4 && s.auroc < 0.65);
}

static void test_rare_and_dead_features(void **state) {
    char text[FEATURE_LABEL_MAX];
    label_score s;
    label_of(*state, rarely, text, &s);
    assert_string_equal(text, "token \" CHINA\"");
    assert_true(isnan(s.f1));
    label_of(*state, never, text, &s);
    assert_string_equal(text, "");
    assert_true(isnan(s.f1));
}

/* Each kind of rule against a slow reading of its definition. */
static void test_rules_hold_where_they_say(void **state) {
    fixture *f = *state;
    label_rule rules[] = {
        {.kind = RULE_NEAR, .n_terms = 1, .terms = {corpus_find_word(&f->m.index, "li")}},
        {.kind = RULE_DOCUMENT, .n_terms = 1, .terms = {corpus_find_word(&f->m.index, "poet")}},
        {.kind = RULE_AFTER, .n_terms = 1, .terms = {(int32_t)mini_corpus_token(&f->m, " Li")}},
    };
    for (int i = 0; i < 3; i++) {
        int64_t named = 0;
        for (int64_t row = 0; row < f->m.n_rows; row++) {
            int64_t t = (int64_t)f->m.row_token[row], d = f->m.index.token_doc[t];
            bool slow = i == 0 ? near(f, t, " Li") : i == 2 ? after(f, t, " Li") : false;
            for (uint64_t j = f->m.k.doc_offsets[d]; i == 1 && j < f->m.k.doc_offsets[d + 1]; j++)
                slow |= is_token(f, (int64_t)j, " poet");
            assert_int_equal(label_rule_holds(f->index, &rules[i], t), slow);
            named += slow;
        }
        assert_true(named > 0);
    }
}

static err_code index_and_label(void *arg, err *e) {
    const mini_corpus *m = arg;
    const int64_t indptr[] = {0, 1, 1, 2};
    const uint32_t indices[] = {0, 0};
    const float values[] = {1, 2};
    corpus_index x;
    label_index *labels = NULL;
    label_scratch *scratch = NULL;
    postings p = {0};
    label_rule rule;
    label_score score;
    err_code rc;
    TRY(corpus_index_build(&m->k, m->index.vocab, m->row_token, 3, &x, e));
    TRY(label_index_new(&x, 0, &labels, e));
    TRY(label_scratch_new(labels, &scratch, e));
    TRY(postings_build(1, 3, indptr, indices, values, &p, e));
    TRY(label_feature(labels, &p, 0, scratch, &rule, &score, e));
done:
    postings_release(&p);
    label_scratch_free(scratch);
    label_index_free(labels);
    corpus_index_release(&x);
    return rc;
}

static void test_failing_allocations(void **state) {
    fixture *f = *state;
    oom_sweep(index_and_label, &f->m, 200);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_planted_rules_are_found), cmocka_unit_test(test_noise_is_not_explained),
        cmocka_unit_test(test_rare_and_dead_features),  cmocka_unit_test(test_rules_hold_where_they_say),
        cmocka_unit_test(test_failing_allocations),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
