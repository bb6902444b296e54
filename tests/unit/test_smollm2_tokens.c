/* The default model's ids for 76 texts, special tokens parsed and not, against those of two other programs (the fixture); decoding
 * gives the texts back. */
#include "support/test.h"

#include "text/tokenizer.h"

#include <jansson.h>

typedef struct fixture {
    weights *w;
    tokenizer *t;
    json_t *cases;
} fixture;

static void check_ids(const fixture *f, const char *text, size_t n, bool special, const json_t *expected) {
    err e = {0};
    token_ids ids = {0};
    strbuf back = STRBUF_INIT;
    tokenize_opts o = {.parse_special = special, .add_bos = true}; /* this model adds none */
    assert_ok(tokenizer_encode(f->t, text, n, &o, &ids, &e), &e);
    assert_int_equal(ids.len, json_array_size(expected));
    for (size_t i = 0; i < ids.len; i++) assert_int_equal(ids.ids[i], json_integer_value(json_array_get(expected, i)));
    tokenizer_decode(f->t, ids.ids, ids.len, true, &back);
    assert_int_equal(back.len, n);
    assert_memory_equal(back.data, text, n);
    strbuf_release(&back);
    free(ids.ids);
}

static void ids_are_those_of_other_programs(void **state) {
    const fixture *f = *state;
    size_t i;
    json_t *item;
    assert_int_equal(json_array_size(f->cases), 76);
    json_array_foreach(f->cases, i, item) {
        const json_t *text = json_object_get(item, "text"), *ids = json_object_get(item, "ids"),
                     *plain = json_object_get(item, "ids_plain");
        check_ids(f, json_string_value(text), json_string_length(text), true, ids);
        check_ids(f, json_string_value(text), json_string_length(text), false, plain ? plain : ids);
    }
}

static void what_ends_a_text(void **state) {
    const fixture *f = *state;
    err e = {0};
    static const struct {
        const char *text;
        bool ends;
    } cases[] = {{"<|im_end|>", true}, {"<|endoftext|>", true}, {"<|im_start|>", false}, {".", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        token_ids ids = {0};
        assert_ok(tokenizer_encode(f->t, cases[i].text, strlen(cases[i].text), &TOKENIZE_DEFAULTS, &ids, &e), &e);
        assert_int_equal(ids.len, 1);
        assert_int_equal(tokenizer_ends_text(f->t, ids.ids[0]), cases[i].ends);
        free(ids.ids);
    }
}

int main(void) {
    err e = {0};
    fixture f = {0};
    const char *path = test_model_path();
    if (!path) return TEST_SKIP;
    char *name = test_fixture("tokenizers/smollm2_tokens.json");
    f.cases = json_load_file(name, 0, NULL);
    free(name);
    if (!f.cases || weights_open(path, &f.w, &e) || tokenizer_open(f.w, &f.t, &e)) {
        fprintf(stderr, "%s\n", e.message);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(ids_are_those_of_other_programs, &f),
        cmocka_unit_test_prestate(what_ends_a_text, &f),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    tokenizer_close(f.t);
    weights_close(f.w);
    json_decref(f.cases);
    return failed;
}
