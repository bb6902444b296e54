/* Gemma 3's ids for 76 texts against the SentencePiece library's (the fixture), special tokens parsed and not; decoding gives the
 * texts back. The file is $SAE_TEST_GEMMA, or in ~/.cache/sae; its licence forbids to bundle it. */
#include "support/test.h"
#include "support/tokens.h"

#include "core/file.h"

static const char *path;

static void ids_are_sentencepieces(void **state) {
    (void)state;
    err e = {0};
    weights *w;
    tokenizer *t;
    char *name = test_fixture("tokenizers/gemma3_tokens.json");
    json_t *cases = json_load_file(name, 0, NULL);
    assert_int_equal(json_array_size(cases), 76);
    assert_ok(weights_open(path, &w, &e), &e);
    assert_ok(tokenizer_open(w, &t, &e), &e);
    tokens_check_cases(t, cases, true);
    tokenizer_close(t);
    weights_close(w);
    json_decref(cases);
    free(name);
}

int main(void) {
    path = test_gemma_path();
    if (!path) return TEST_SKIP;
    const struct CMUnitTest tests[] = {cmocka_unit_test(ids_are_sentencepieces)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
