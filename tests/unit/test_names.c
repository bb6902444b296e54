/* Nearest names: which typing mistakes are recognised, and which words are left alone. */
#include "support/test.h"

#include "core/names.h"

static const struct {
    const char *name;
    int n;
} table[] = {{"capture", 1}, {"encode", 2}, {"eval", 3}, {"features", 4}, {"find", 5}, {"train", 6}, {"k", 7}};
#define TABLE table, sizeof table / sizeof *table, sizeof *table

static void finds_mistakes(void **state) {
    (void)state;
    assert_string_equal(names_nearest("capure", TABLE), "capture");   /* a letter left out */
    assert_string_equal(names_nearest("captture", TABLE), "capture"); /* one too many */
    assert_string_equal(names_nearest("tarin", TABLE), "train");      /* two swapped: distance 1, not 2 */
    assert_string_equal(names_nearest("EVAL", TABLE), "eval");        /* case */
    assert_string_equal(names_nearest("feat", TABLE), "features");    /* a beginning */
}

static void leaves_other_words_alone(void **state) {
    (void)state;
    assert_null(names_nearest("banana", TABLE));
    assert_null(names_nearest("x", TABLE)); /* replacing all of "k" is no typing mistake */
    assert_null(names_nearest("", TABLE));
    char huge[500];
    memset(huge, 'a', sizeof huge - 1);
    huge[sizeof huge - 1] = '\0';
    assert_null(names_nearest(huge, TABLE)); /* and no table of 500 x 500 on the stack */
    assert_null(names_nearest("train", table, 0, sizeof *table));
}

static void says_what_there_is(void **state) {
    (void)state;
    err e = {0};
    assert_int_equal(names_unknown(&e, ERR_USAGE, "command", "trian", TABLE), ERR_USAGE);
    assert_string_equal(e.message, "unknown command 'trian', did you mean 'train'? "
                                   "(known: capture, encode, eval, features, find, train, k)");
    assert_int_equal(names_find("find", TABLE), 4);
    assert_int_equal(names_find("fin", TABLE), -1);
}

/* The same table as pointers to its rows: rows of another size, in another order. */
static void pointers_to_rows(void **state) {
    (void)state;
    const void *const pointers[] = {&table[5], &table[1], &table[3]};
    err e = {0};
    assert_int_equal(names_find("encode", pointers, 3, NAMES_OF_POINTERS), 1);
    assert_int_equal(names_find("find", pointers, 3, NAMES_OF_POINTERS), -1);
    assert_string_equal(names_nearest("feature", pointers, 3, NAMES_OF_POINTERS), "features");
    assert_int_equal(names_unknown(&e, ERR_USAGE, "command", "zz", pointers, 3, NAMES_OF_POINTERS), ERR_USAGE);
    assert_string_equal(e.message, "unknown command 'zz' (known: train, encode, features)");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_mistakes),
        cmocka_unit_test(leaves_other_words_alone),
        cmocka_unit_test(says_what_there_is),
        cmocka_unit_test(pointers_to_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
