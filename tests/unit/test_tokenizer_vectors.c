/* Token ids against those of other programs (golden/tokenizers): llama.cpp's on vocabulary-only GGUF files, Hugging Face's on
 * tokenizer.json; decoding gives the texts back where nothing is lost on the way. $SAE_TEST_VOCABS may name a folder with more
 * ggml-vocab-*.gguf files and their .inp and .out. */
#include "support/test.h"
#include "support/tokens.h"

#include "core/file.h"

#include <dirent.h>

static tokenizer *open_tokenizer(const char *path, weights **w) {
    err e = {0};
    tokenizer *t;
    assert_ok(weights_open(path, w, &e), &e);
    assert_ok(tokenizer_open(*w, &t, &e), &e);
    return t;
}

/* ---- llama.cpp's .inp and .out ---- */

static char *read_beside(const char *path, const char *suffix, size_t *n) {
    err e = {0};
    char name[5000], *text;
    snprintf(name, sizeof name, "%s%s", path, suffix);
    assert_ok(file_read(name, 1 << 20, &text, n, &e), &e);
    return text;
}

static size_t read_ids(const char **line, uint32_t *out, size_t max) {
    size_t n = 0;
    for (; **line && **line != '\n';) {
        char *end;
        unsigned long id = strtoul(*line, &end, 10);
        if (end == *line) break;
        if (n < max) out[n++] = (uint32_t)id;
        *line = end;
        while (**line == ' ') (*line)++;
    }
    if (**line) (*line)++;
    return n;
}

static void check_vocab_file(const char *path) {
    static const char separator[] = "\n__ggml_vocab_test__\n";
    enum { IDS_MAX = 4096 };
    uint32_t expected[IDS_MAX];
    weights *w;
    tokenizer *t = open_tokenizer(path, &w);
    size_t n_inp, n_out, n_texts = 0;
    char *inp = read_beside(path, ".inp", &n_inp), *out = read_beside(path, ".out", &n_out);
    const char *line = out;
    for (char *text = inp, *end; (end = strstr(text, separator)); text = end + strlen(separator)) {
        size_t n = read_ids(&line, expected, IDS_MAX);
        tokens_check(t, text, (size_t)(end - text), false, expected, n, true);
        n_texts++;
    }
    assert_int_equal(n_texts, 46);
    assert_int_equal(*line, '\0');
    free(inp);
    free(out);
    tokenizer_close(t);
    weights_close(w);
}

static void check_vocab_files(const char *folder, int at_least) {
    DIR *dir = opendir(folder);
    int n = 0;
    assert_non_null(dir);
    for (struct dirent *d; (d = readdir(dir));) {
        size_t len = strlen(d->d_name);
        char path[4096], out[4200];
        snprintf(path, sizeof path, "%s/%s", folder, d->d_name);
        snprintf(out, sizeof out, "%s.out", path);
        if (len < 5 || strcmp(d->d_name + len - 5, ".gguf") != 0 || !file_exists(out)) continue;
        print_message("%s\n", d->d_name);
        check_vocab_file(path);
        n++;
    }
    closedir(dir);
    assert_true(n >= at_least);
}

static void vocabulary_files(void **state) {
    (void)state;
    char *folder = test_fixture("tokenizers");
    check_vocab_files(folder, 2);
    free(folder);
    if (getenv("SAE_TEST_VOCABS")) check_vocab_files(getenv("SAE_TEST_VOCABS"), 1);
}

/* ---- {"text", "ids", "ids_plain"} ---- */

static void check_json_folder(const char *name, bool exact) {
    err e = {0};
    char path[256];
    snprintf(path, sizeof path, "tokenizers/%s/tokenizer.json", name);
    char *file = test_fixture(path);
    snprintf(path, sizeof path, "tokenizers/%s/tokens.json", name);
    char *cases = test_fixture(path);
    tokenizer *t;
    *strrchr(file, '/') = '\0';
    assert_ok(tokenizer_open_folder(file, &t, &e), &e);
    json_t *list = json_load_file(cases, 0, NULL);
    assert_int_equal(json_array_size(list), 96);
    tokens_check_cases(t, list, exact);
    json_decref(list);
    tokenizer_close(t);
    free(file);
    free(cases);
}

static void byte_level_json(void **state) {
    (void)state;
    check_json_folder("bpe_small", true);
}

/* A vocabulary without U+2581 U+2581 still gives every space back. */
static void sentencepiece_json(void **state) {
    (void)state;
    check_json_folder("spm_small", true);
}

static void unigram_json(void **state) { /* unknown characters and NFKC: not exact */
    (void)state;
    check_json_folder("unigram_small", false);
}

/* Phi-3's special tokens take white space along, in a file that calls its pre-tokenizer "default". */
static void phi3_file(void **state) {
    (void)state;
    char *file = test_fixture("tokenizers/phi3_small.gguf"), *cases = test_fixture("tokenizers/phi3_small.json");
    weights *w;
    tokenizer *t = open_tokenizer(file, &w);
    json_t *list = json_load_file(cases, 0, NULL);
    assert_int_equal(json_array_size(list), 31);
    tokens_check_cases(t, list, false); /* that white space does not come back */
    json_decref(list);
    tokenizer_close(t);
    weights_close(w);
    free(file);
    free(cases);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(byte_level_json),  cmocka_unit_test(sentencepiece_json), cmocka_unit_test(unigram_json),
        cmocka_unit_test(vocabulary_files), cmocka_unit_test(phi3_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
