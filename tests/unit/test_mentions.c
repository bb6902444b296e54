/* Names and the words that go with them, on documents of a few words. Would catch: a mention split by a blank that is a token of
 * its own, a concept that is its own rival, and words of any text proposed as words of the concept. */
#include "support/test.h"

#include "analysis/mentions.h"
#include "support/mini_corpus.h"

static void make_poets(mini_corpus *m) {
    char source[32];
    mini_corpus_init(m);
    for (int i = 0; i < 8; i++) { /* of the concept: "was" in all, "moon" in all, "wine" in half */
        snprintf(source, sizeof source, "a.jsonl:%d", i);
        mini_corpus_add(m, source,
                        i % 2 ? "The| poet| Li| Bai| was| under| the| moon" : "Li| |Bai| was| with| wine| and| moon");
    }
    for (int i = 0; i < 12; i++) { /* others: "was" in two of three */
        snprintf(source, sizeof source, "b.jsonl:%d", i);
        mini_corpus_add(m, source, i % 3 ? "then| Jet| Li| was| seen| running" : "A| train| to| Dubai| left");
    }
    mini_corpus_finish(m, 0);
}

static void test_mentions(void **state) {
    (void)state;
    err e = {0};
    mini_corpus m;
    make_poets(&m);
    name_words name;
    mention_list found = {0};
    assert_ok(name_parse(&m.index, "Li Bai", &name, &e), &e);
    assert_int_equal(name.n, 2);
    assert_ok(mentions_find(&m.index, &name, &found, &e), &e);
    assert_int_equal(found.n, 8);
    for (int64_t i = 0; i < found.n; i++) assert_int_equal(found.items[i].last - found.items[i].first, i % 2 ? 1 : 2);
    assert_ok(name_parse(&m.index, "Zhuangzi", &name, &e), &e);
    assert_int_equal(name.n, 0);
    assert_int_equal(name_parse(&m.index, " ,", &name, &e), ERR_USAGE);
    free(found.items);
    mini_corpus_release(&m);
}

static bool has_rival(const rival_list *l, const char *text) {
    for (int i = 0; i < l->n; i++)
        if (!strcmp(l->items[i].text, text)) return true;
    return false;
}

static void test_rivals(void **state) {
    (void)state;
    err e = {0};
    mini_corpus m;
    make_poets(&m);
    name_words name;
    mention_list found = {0};
    rival_list rivals = {0};
    assert_ok(name_parse(&m.index, "Li Bai", &name, &e), &e);
    assert_ok(mentions_find(&m.index, &name, &found, &e), &e);
    assert_ok(rivals_propose(&m.index, &name, &found, &rivals, &e), &e);
    assert_true(has_rival(&rivals, "Jet Li"));
    assert_true(has_rival(&rivals, "Dubai"));
    assert_false(has_rival(&rivals, "Li Bai"));
    rivals_release(&rivals);
    free(found.items);
    mini_corpus_release(&m);
}

static void test_related_words(void **state) {
    (void)state;
    err e = {0};
    mini_corpus m;
    make_poets(&m);
    name_words name;
    mention_list found = {0};
    char *words[3] = {0};
    int n;
    assert_ok(name_parse(&m.index, "Li Bai", &name, &e), &e);
    assert_ok(mentions_find(&m.index, &name, &found, &e), &e);
    assert_ok(related_words(&m.index, &name, &found, 3, words, &n, &e), &e);
    assert_int_equal(n, 3);
    assert_string_equal(words[0], "moon"); /* in all of its documents and in no other */
    for (int i = 0; i < n; i++) {
        assert_string_not_equal(words[i], "was"); /* in all of them, but in most others as well */
        free(words[i]);
    }
    free(found.items);
    mini_corpus_release(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_mentions), cmocka_unit_test(test_rivals),
                                       cmocka_unit_test(test_related_words)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
