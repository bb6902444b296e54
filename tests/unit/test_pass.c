/* The parts of the feature pass on corpora and codes in memory: words, postings, windows, examples, neighbours. */
#include "support/mini_corpus.h"
#include "support/test.h"

#include "analysis/examples.h"
#include "analysis/neighbours.h"
#include "core/rng.h"
#include "math/stats.h"

#define assert_near(a, b, tolerance) assert_true(fabs((a) - (b)) <= (tolerance))

/* ---- words ---- */

static void assert_word(const mini_corpus *m, int64_t i, const char *text, int64_t first, int64_t last, bool capital) {
    const word_at *w = &m->index.occurrences[i];
    assert_string_equal(corpus_word(&m->index, w->word), text);
    assert_int_equal(w->first, first);
    assert_int_equal(w->last, last);
    assert_int_equal(w->capital, capital);
}

/* Words come from joined bytes, not from tokens: split words, split characters, apostrophes, Han. */
static void test_words_of_tokens(void **state) {
    (void)state;
    mini_corpus m;
    mini_corpus_init(&m);
    mini_corpus_add(&m, "a", "Du|b|ai|'s| don|'|t| \xE6\x9D|\x8E\xE7\x99\xBD| \xC3\x89T\xC3\x89|!");
    mini_corpus_add(&m, "b", "dubai");
    mini_corpus_finish(&m, 0);
    assert_int_equal(m.index.n_occurrences, 7);
    assert_word(&m, 0, "dubai", 0, 2, true);
    assert_word(&m, 1, "s", 3, 3, false);
    assert_word(&m, 2, "don't", 4, 6, false);
    assert_word(&m, 3, "李", 7, 8, false);
    assert_word(&m, 4, "白", 8, 8, false);
    assert_word(&m, 5, "été", 9, 9, true);
    assert_word(&m, 6, "dubai", 11, 11, false);
    assert_int_equal(m.index.token_word[10], -1);
    assert_int_equal(m.index.token_word[8], 4);
    int32_t li = corpus_find_word(&m.index, "李");
    assert_int_equal(corpus_word_before(&m.index, li, 7), -1); /* not yet complete */
    assert_int_equal(corpus_word_before(&m.index, li, 10), 3);
    assert_int_equal(corpus_word_before(&m.index, li, 11), -1); /* another document */
    assert_true(corpus_doc_has_word(&m.index, li, 0) && !corpus_doc_has_word(&m.index, li, 1));
    mini_corpus_release(&m);
}

/* More words than a first hash table holds. */
static void test_many_words(void **state) {
    (void)state;
    mini_corpus m;
    mini_corpus_init(&m);
    for (int d = 0; d < 40; d++) {
        strbuf s = STRBUF_INIT;
        for (int i = 0; i < 60; i++) strbuf_addf(&s, "%s w%dx%d", i ? "|" : "", d / 2, i);
        mini_corpus_add(&m, "a", s.data);
        strbuf_release(&s);
    }
    mini_corpus_finish(&m, 1);
    assert_int_equal(m.index.n_words, 20 * 60);
    assert_int_equal(m.index.n_occurrences, 40 * 60);
    for (int32_t w = 0; w < m.index.n_words; w++) {
        assert_int_equal(m.index.of_word_start[w + 1] - m.index.of_word_start[w], 2);
        for (int64_t i = m.index.of_word_start[w]; i < m.index.of_word_start[w + 1]; i++)
            assert_int_equal(m.index.occurrences[m.index.of_word[i]].word, w);
    }
    for (int64_t v = 0; v < m.n_vocab; v++)
        for (int64_t i = m.index.of_token_start[v]; i < m.index.of_token_start[v + 1]; i++)
            assert_int_equal(m.k.tokens[m.index.of_token[i]], v);
    mini_corpus_release(&m);
}

static void test_contradictions_are_refused(void **state) {
    (void)state;
    mini_corpus m;
    corpus_index x;
    err e;
    mini_corpus_init(&m);
    mini_corpus_add(&m, "a", "a|b|c");
    mini_corpus_finish(&m, 0);
    vocab_view v = m.index.vocab;
    uint64_t rows[] = {2, 1}, far[] = {3};
    assert_int_equal(corpus_index_build(&m.k, v, rows, 2, &x, &e), ERR_FORMAT);
    assert_int_equal(corpus_index_build(&m.k, v, far, 1, &x, &e), ERR_FORMAT);
    m.k.tokens[1] = 99;
    assert_int_equal(corpus_index_build(&m.k, v, m.row_token, 3, &x, &e), ERR_FORMAT);
    m.k.tokens[1] = 1;
    m.k.doc_offsets[1] = 7;
    assert_int_equal(corpus_index_build(&m.k, v, m.row_token, 3, &x, &e), ERR_FORMAT);
    m.k.doc_offsets[1] = 3;
    mini_corpus_release(&m);
}

/* ---- windows ---- */

static void assert_token_text(const text_window *w, int64_t i, const char *text) {
    assert_int_equal(w->end[i] - w->start[i], strlen(text));
    assert_memory_equal(w->text.data + w->start[i], text, strlen(text));
}

static void test_windows_read_as_text(void **state) {
    (void)state;
    mini_corpus m;
    text_window w = TEXT_WINDOW_INIT;
    err e;
    mini_corpus_init(&m);
    mini_corpus_add(&m, "a", "so| \xE6\x9D|\x8E|\xE7\x99|\xBD| sang|\xFF| on");
    mini_corpus_finish(&m, 0);
    assert_ok(text_window_set(&w, &m.index, 0, 8, 2, &e), &e);
    assert_string_equal(w.text.data, "so 李白 sang<0xFF> on");
    assert_token_text(&w, 0, "so");
    assert_token_text(&w, 1, " 李"); /* both halves of a character show the whole */
    assert_token_text(&w, 2, "李");
    assert_token_text(&w, 4, "白");
    assert_token_text(&w, 6, "<0xFF>");
    assert_token_text(&w, 7, " on");
    /* A window that cuts characters at both edges leaves their rests out ... */
    assert_ok(text_window_set(&w, &m.index, 2, 4, 3, &e), &e);
    assert_token_text(&w, 1, "<0xE7><0x99>"); /* ... but always shows its focus */
    assert_int_equal(w.start[0], w.end[0]);
    assert_ok(text_window_set(&w, &m.index, 4, 8, 5, &e), &e);
    assert_string_equal(w.text.data, " sang<0xFF> on");
    assert_int_equal(w.end[0], 0);
    text_window_release(&w);
    mini_corpus_release(&m);
}

/* ---- postings ---- */

static void test_postings_turn_codes_around(void **state) {
    (void)state;
    enum { ROWS = 200, FEATURES = 31 };
    int64_t indptr[ROWS + 1] = {0};
    uint32_t indices[ROWS * FEATURES];
    float values[ROWS * FEATURES], dense[ROWS][FEATURES] = {{0}};
    rng r = rng_stream(2, RNG_SYNTHETIC, 0);
    int64_t n = 0;
    for (int row = 0; row < ROWS; row++) {
        for (uint32_t f = 0; f < FEATURES; f++)
            if (f != 7 && rng_uniform(&r) < 0.2) {
                indices[n] = f;
                dense[row][f] = values[n++] = (float)(rng_uniform(&r) + 0.01);
            }
        indptr[row + 1] = n;
    }
    postings p;
    err e;
    assert_ok(postings_build(FEATURES, ROWS, indptr, indices, values, &p, &e), &e);
    assert_int_equal(p.start[FEATURES], n);
    assert_int_equal(postings_fires(&p, 7), 0);
    for (int row = 0; row < ROWS; row++)
        for (int f = 0; f < FEATURES; f++) assert_true(postings_value(&p, f, row) == dense[row][f]);

    int32_t counts[FEATURES] = {0};
    top_entry best[4];
    int64_t together[4];
    assert_int_equal(cooccurring(&p, indptr, indices, 3, 4, counts, best, together), 4);
    for (int i = 0; i < 4; i++) {
        int both = 0, either = 0;
        for (int row = 0; row < ROWS; row++) {
            bool a = dense[row][3] > 0, b = dense[row][best[i].key] > 0;
            both += a && b;
            either += a || b;
        }
        assert_int_equal(together[i], both);
        assert_near(best[i].score, (double)both / either, 1e-12);
        assert_true(i == 0 || best[i].score <= best[i - 1].score);
    }
    for (int f = 0; f < FEATURES; f++) assert_int_equal(counts[f], 0);
    postings_release(&p);

    values[5] = NAN;
    assert_int_equal(postings_build(FEATURES, ROWS, indptr, indices, values, &p, &e), ERR_FORMAT);
    values[5] = 1, indices[5] = FEATURES;
    assert_int_equal(postings_build(FEATURES, ROWS, indptr, indices, values, &p, &e), ERR_FORMAT);
    indices[5] = 0, indptr[3] = n + 1;
    assert_int_equal(postings_build(FEATURES, ROWS, indptr, indices, values, &p, &e), ERR_FORMAT);
}

/* ---- examples ---- */

static void test_examples_are_the_strongest_and_differ(void **state) {
    (void)state;
    enum { DOCS = 60, LONG = 40 };
    mini_corpus m;
    mini_corpus_init(&m);
    for (int d = 0; d < DOCS; d++) { /* documents 50 to 59 are copies of each other */
        strbuf s = STRBUF_INIT;
        char source[32];
        for (int i = 0; i < LONG; i++) strbuf_addf(&s, "%s w%d", i ? "|" : "", d < 50 ? d * LONG + i : i);
        snprintf(source, sizeof source, "c.jsonl:%d#1", d);
        mini_corpus_add(&m, source, s.data);
        strbuf_release(&s);
    }
    mini_corpus_finish(&m, 1);
    /* Fires everywhere: position i of document d with value d + i / 100, so a document's best is its last token. */
    int64_t *indptr = calloc((size_t)m.n_rows + 1, sizeof *indptr);
    uint32_t *indices = calloc((size_t)m.n_rows, sizeof *indices);
    float *values = calloc((size_t)m.n_rows, sizeof *values);
    for (int64_t r = 0; r < m.n_rows; r++) {
        int64_t t = (int64_t)m.row_token[r];
        values[r] = (float)(t / LONG) + 0.01f * (float)(t % LONG) + 1;
        indptr[r + 1] = r + 1;
    }
    postings p;
    err e;
    example_scratch s = EXAMPLE_SCRATCH_INIT;
    feature_card card = {0};
    assert_ok(postings_build(1, m.n_rows, indptr, indices, values, &p, &e), &e);
    assert_ok(examples_fill(&m.index, &p, 0, &s, &card, &e), &e);
    assert_int_equal(card.n_examples, EXAMPLES_TOP + 5 * EXAMPLES_PER_QUANTILE);
    for (int i = 0; i < EXAMPLES_TOP; i++) { /* the copies give one example, then one from each document, strongest first */
        const feature_example *x = &card.examples[i];
        int64_t doc = i == 0 ? 59 : 50 - i;
        assert_string_equal(x->kind, "top");
        assert_int_equal(x->rank, i + 1);
        assert_int_equal(x->doc, doc);
        assert_int_equal(x->token, doc * LONG + LONG - 1);
        assert_string_equal(x->after, "");
        assert_int_equal(x->n_spans, EXAMPLE_BEFORE + 1);
    }
    for (int64_t i = EXAMPLES_TOP; i < card.n_examples; i++) { /* quantiles of values that ascend with the row */
        const feature_example *x = &card.examples[i];
        double q = x->kind[1] == '9'   ? 0.95
                   : x->kind[1] == '7' ? 0.75
                   : x->kind[1] == '5' ? 0.5
                   : x->kind[1] == '2' ? 0.25
                                       : 0.05;
        double rank = (double)m.index.token_row[x->token] / (double)m.n_rows;
        assert_near(rank, q, 2.5 / DOCS); /* the nearest ones of different documents are up to two documents away */
        if (x->rank == 1) assert_int_equal(m.index.token_row[x->token], stats_quantile_index(m.n_rows, q));
    }
    int64_t total = 0;
    for (int64_t i = 0; i < card.n_bins; i++) total += card.histogram[i].count;
    assert_int_equal(total, m.n_rows);
    feature_card_release(&card);
    example_scratch_release(&s);
    postings_release(&p);
    free(indptr);
    free(indices);
    free(values);
    mini_corpus_release(&m);
}

/* ---- neighbours ---- */

static void test_decoder_neighbours(void **state) {
    (void)state;
    enum { N = 1500, D = 8, TOP = 3 }; /* more than one tile */
    float *W = calloc(N * D, sizeof *W);
    top_entry *best = calloc(N * TOP, sizeof *best), *again = calloc(N * TOP, sizeof *again);
    rng r = rng_stream(4, RNG_SYNTHETIC, 0);
    for (int i = 0; i < N * D; i++) W[i] = (float)rng_normal(&r);
    for (int j = 0; j < D; j++) W[1300 * D + j] = 2.5f * W[11 * D + j]; /* the same direction at another length */
    memset(W + 77 * D, 0, D * sizeof *W);
    ctx one = test_ctx(1), two = test_ctx(2);
    err e;
    assert_ok(decoder_neighbours(&one, W, N, D, TOP, best, &e), &e);
    assert_ok(decoder_neighbours(&two, W, N, D, TOP, again, &e), &e);
    assert_memory_equal(best, again, N * TOP * sizeof *best);
    assert_int_equal(best[11 * TOP].key, 1300);
    assert_int_equal(best[1300 * TOP].key, 11);
    assert_near(best[11 * TOP].score, 1, 1e-5);
    for (int i = 0; i < N; i += 97) {
        double highest = -2;
        for (int j = 0; j < N; j++) {
            double dot = 0, a = 0, b = 0;
            for (int k = 0; k < D; k++) {
                dot += (double)W[i * D + k] * W[j * D + k];
                a += (double)W[i * D + k] * W[i * D + k];
                b += (double)W[j * D + k] * W[j * D + k];
            }
            double cosine = a > 0 && b > 0 ? dot / sqrt(a * b) : 0;
            if (j != i && cosine > highest) highest = cosine;
        }
        assert_near(best[i * TOP].score, highest, 1e-5);
        assert_true(best[i * TOP].score >= best[i * TOP + 1].score);
    }
    free(W);
    free(best);
    free(again);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words_of_tokens),
        cmocka_unit_test(test_many_words),
        cmocka_unit_test(test_contradictions_are_refused),
        cmocka_unit_test(test_windows_read_as_text),
        cmocka_unit_test(test_postings_turn_codes_around),
        cmocka_unit_test(test_examples_are_the_strongest_and_differ),
        cmocka_unit_test(test_decoder_neighbours),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
