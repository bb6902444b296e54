/* Corpora read from files that are written here: order, windows, samples that do not overlap, and what is refused. */
#include "support/test.h"

#include "activations/tokens.h"

static tokenizer *some_tokenizer(void) {
    char *path = test_fixture("models/llama/model.gguf");
    weights *w;
    tokenizer *t;
    err e = {0};
    assert_ok(weights_open(path, &w, &e), &e);
    assert_ok(tokenizer_open(w, &t, &e), &e);
    weights_close(w);
    free(path);
    return t;
}

typedef struct fixture {
    tokenizer *t;
    char *dir;
} fixture;

static int set_up(void **state) {
    static fixture f;
    f.t = some_tokenizer();
    f.dir = test_make_dir();
    *state = &f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    tokenizer_close(f->t);
    test_remove_dir(f->dir);
    return 0;
}

static void put(const char *dir, const char *name, const char *text, size_t n) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(text, 1, n, out), n);
    assert_int_equal(fclose(out), 0);
}

static token_corpus read_ok(const fixture *f, const char *path, corpus_opts o) {
    ctx c = test_ctx(2);
    err e = {0};
    token_corpus k = {0};
    assert_ok(corpus_read(&c, path, f->t, &o, &k, &e), &e);
    return k;
}

static void assert_document(const token_corpus *k, int64_t doc, const char *source, const uint32_t *ids, size_t n) {
    assert_string_equal(k->doc_source[doc], source);
    assert_int_equal(k->doc_offsets[doc + 1] - k->doc_offsets[doc], n);
    assert_memory_equal(k->tokens + k->doc_offsets[doc], ids, n * sizeof *ids);
}

/* Files in name order, lines in theirs; ids as they are; a text has the ids of the tokenizer; other files are not read. */
static void files_in_order(void **state) {
    fixture *f = *state;
    char *dir = test_make_dir();
    static const char jsonl[] =
        "{\"ids\": [5, 6, 7]}\n\n{\"text\": \"red fox\", \"topic\": 1}\r\n{\"text\": \"no\", \"ids\": [9]}";
    err e = {0};
    token_ids fox = {0};
    put(dir, "b.jsonl", jsonl, sizeof jsonl - 1);
    put(dir, "a.txt", "\xef\xbb\xbfred fox", 10);
    put(dir, "c.txt", "", 0);
    put(dir, "d.md", "\xff", 1);
    assert_ok(tokenizer_encode(f->t, "red fox", 7, &TOKENIZE_DEFAULTS, &fox, &e), &e);
    token_corpus k = read_ok(f, dir, CORPUS_DEFAULTS);
    assert_int_equal(k.n_docs, 4);
    assert_document(&k, 0, "a.txt", fox.ids, fox.len);
    assert_document(&k, 1, "b.jsonl:1", (const uint32_t[]){5, 6, 7}, 3);
    assert_document(&k, 2, "b.jsonl:3", fox.ids, fox.len);
    assert_document(&k, 3, "b.jsonl:4", (const uint32_t[]){9}, 1);
    corpus_release(&k);
    free(fox.ids);
    test_remove_dir(dir);
}

enum { N_TEXTS = 60, LONGEST = 13 };

/* Text i is the numbers i, i, ... 1 + i % LONGEST times. */
static void write_texts(const fixture *f, char *path, size_t size) {
    char line[256], all[1 << 14];
    size_t n = 0;
    for (int i = 0; i < N_TEXTS; i++) {
        int at = snprintf(line, sizeof line, "{\"ids\": [%d", i);
        for (int j = 0; j < i % LONGEST; j++) at += snprintf(line + at, sizeof line - (size_t)at, ",%d", i);
        n += (size_t)snprintf(all + n, sizeof all - n, "%s]}\n", line);
    }
    put(f->dir, "texts.jsonl", all, n);
    snprintf(path, size, "%s/texts.jsonl", f->dir);
}

/* Windows of one text stand together, none is longer than the context, the last holds the rest; corpus_texts joins them. */
static void windows_and_their_texts(void **state) {
    fixture *f = *state;
    char path[4096], name[64];
    write_texts(f, path, sizeof path);
    for (int64_t context = 1; context <= LONGEST + 1; context++) {
        token_corpus k = read_ok(f, path, (corpus_opts){.context = context});
        int32_t *text = malloc((size_t)k.n_docs * sizeof *text);
        assert_int_equal(corpus_texts(&k, text), N_TEXTS);
        int64_t doc = 0;
        for (int i = 0; i < N_TEXTS; i++)
            for (int64_t left = 1 + i % LONGEST, w = 0; left > 0; left -= context, w++, doc++) {
                uint32_t ids[LONGEST];
                size_t n = (size_t)(left < context ? left : context);
                for (size_t j = 0; j < n; j++) ids[j] = (uint32_t)i;
                snprintf(name, sizeof name, w ? "texts.jsonl:%d#%d" : "texts.jsonl:%d", i + 1, (int)w);
                assert_document(&k, doc, name, ids, n);
                assert_int_equal(text[doc], i);
            }
        assert_int_equal(doc, k.n_docs);
        free(text);
        corpus_release(&k);
    }
}

/* What a sample takes and what a reader who skips that sample gets are all documents, each once. */
static void a_sample_and_the_rest(void **state) {
    fixture *f = *state;
    char path[4096];
    write_texts(f, path, sizeof path);
    token_corpus all = read_ok(f, path, (corpus_opts){.context = 5});
    for (uint64_t seed = 0; seed < 3; seed++)
        for (int64_t tokens = 1; tokens < all.n_tokens - 5; tokens += 37) {
            token_corpus taken = read_ok(f, path, (corpus_opts){.context = 5, .max_tokens = tokens, .seed = seed});
            token_corpus rest = read_ok(f, path, (corpus_opts){.context = 5, .skip_tokens = tokens, .seed = seed});
            assert_in_range(taken.n_tokens, tokens, tokens + 4);
            assert_int_equal(taken.n_docs + rest.n_docs, all.n_docs);
            int64_t t = 0, r = 0;
            for (int64_t d = 0; d < all.n_docs; d++) {
                bool mine = t < taken.n_docs && !strcmp(taken.doc_source[t], all.doc_source[d]);
                const token_corpus *k = mine ? &taken : &rest;
                size_t n = (size_t)(all.doc_offsets[d + 1] - all.doc_offsets[d]);
                assert_document(k, mine ? t++ : r++, all.doc_source[d], all.tokens + all.doc_offsets[d], n);
            }
            token_corpus some =
                read_ok(f, path, (corpus_opts){.context = 5, .skip_tokens = tokens, .max_tokens = 4, .seed = seed});
            assert_in_range(some.n_tokens, 4, 8);
            for (int64_t d = 0; d < some.n_docs; d++)
                for (int64_t i = 0; i < taken.n_docs; i++) assert_string_not_equal(some.doc_source[d], taken.doc_source[i]);
            corpus_release(&taken);
            corpus_release(&rest);
            corpus_release(&some);
        }
    corpus_release(&all);
}

static void what_is_refused(void **state) {
    fixture *f = *state;
#define BYTES(text) text, sizeof text - 1
    static const struct {
        const char *name, *text;
        size_t n;
        const char *says[2];
    } files[] = {
        {"empty.txt", BYTES(""), {"empty.txt", ""}},
        {"nul.txt", BYTES("a\0b"), {"nul.txt", "NUL byte at offset 1"}},
        {"latin1.txt", BYTES("caf\xe9 au lait"), {"latin1.txt", "0xE9 at offset 3"}},
        {"cut.txt", BYTES("caf\xc3"), {"cut.txt", "0xC3 at offset 3"}},
        {"surrogate.txt", BYTES("\xed\xa0\x80"), {"surrogate.txt", "0xED at offset 0"}},
        {"big.jsonl", BYTES("{\"ids\": [1]}\n{\"ids\": [1, 70000]}"), {"big.jsonl: line 2", "70000"}},
        {"half.jsonl", BYTES("{\"ids\": [1.5]}"), {"half.jsonl: line 1", "not a whole number"}},
        {"neither.jsonl", BYTES("{\"tokens\": []}"), {"neither.jsonl: line 1", "an object with neither"}},
        {"broken.jsonl", BYTES("{\"text\": \"a\"}\n{\"text\""), {"broken.jsonl: line 2", "expected a JSON document"}},
        {"latin1.jsonl", BYTES("{\"text\": \"\xe9\"}"), {"latin1.jsonl: line 1", "expected a JSON document"}},
        {"a.md", BYTES("a"), {"a.md", ".txt or .jsonl"}}};
#undef BYTES
    ctx c = test_ctx(1);
    char path[4096];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        err e = {0};
        token_corpus k = {0};
        put(f->dir, files[i].name, files[i].text, files[i].n);
        snprintf(path, sizeof path, "%s/%s", f->dir, files[i].name);
        assert_int_equal(corpus_read(&c, path, f->t, &CORPUS_DEFAULTS, &k, &e), ERR_FORMAT);
        for (int s = 0; s < 2; s++)
            if (!strstr(e.message, files[i].says[s])) fail_msg("\"%s\" does not say \"%s\"", e.message, files[i].says[s]);
        corpus_release(&k);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(files_in_order), cmocka_unit_test(windows_and_their_texts),
                                       cmocka_unit_test(a_sample_and_the_rest), cmocka_unit_test(what_is_refused)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
