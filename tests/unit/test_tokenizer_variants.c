/* Small tokenizer.json and tokenizer.model files, each with other parts (golden/tokenizers/make_variants.py), against the ids of the
 * libraries they are written for; and files that are broken, or have parts that are not known: each refusal names what it is. */
#include "support/oom.h"
#include "support/test.h"
#include "support/tokens.h"

#include "core/file.h"
#include "text/kinds.h"

static err_code build(err_code parsed, tokenizer_def *d, tokenizer **t, err *e) {
    err_code rc = parsed ? parsed : tokenizer_build(d, t, e);
    definition_release(d);
    return rc;
}

static err_code open_json(const char *text, size_t n, tokenizer **t, err *e) {
    tokenizer_def d;
    return build(definition_parse_json(text, n, &d, e), &d, t, e);
}

static size_t decode_base64(const char *text, char *out) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n = 0;
    unsigned bits = 0, value = 0;
    for (; *text && *text != '='; text++) {
        value = value << 6 | (unsigned)(strchr(digits, *text) - digits);
        bits += 6;
        if (bits >= 8) out[n++] = (char)(value >> (bits -= 8));
    }
    return n;
}

static void check_variant(const json_t *item) {
    err e = {0};
    tokenizer *t = NULL;
    tokenizer_def d;
    const char *model = json_string_value(json_object_get(item, "model"));
    char *text = model ? malloc(strlen(model)) : json_dumps(json_object_get(item, "tokenizer"), JSON_COMPACT);
    assert_non_null(text);
    print_message("%s\n", json_string_value(json_object_get(item, "name")));
    if (model)
        assert_ok(build(definition_parse_sentencepiece(text, decode_base64(model, text), &d, &e), &d, &t, &e), &e);
    else
        assert_ok(open_json(text, strlen(text), &t, &e), &e);
    tokens_check_cases(t, json_object_get(item, "cases"), false);
    tokenizer_close(t);
    free(text);
}

static void ids_are_the_libraries(void **state) {
    (void)state;
    char *path = test_fixture("tokenizers/variants.json");
    json_t *item, *all = json_load_file(path, JSON_ALLOW_NUL, NULL);
    size_t i;
    assert_int_equal(json_array_size(all), 22);
    json_array_foreach(all, i, item) check_variant(item);
    json_decref(all);
    free(path);
}

/* ---- pre-tokenizers of GGUF files ---- */

/* A vocabulary with the pre-tokenizer of that name, as from_gguf.c puts it there. */
static err_code open_with(const char *json, const char *pre, tokenizer **t, err *e) {
    tokenizer_def d;
    err_code rc = definition_parse_json(json, strlen(json), &d, e);
    if (rc) return build(rc, &d, t, e);
    pretok_close(d.pretok);
    d.pretok = NULL;
    rc = pretok_open(pre, false, &d.pretok, e);
    if (!rc) d.whole_pieces = pretok_whole_pieces(d.pretok);
    return build(rc, &d, t, e);
}

/* Merges of this vocabulary cross every border: a pattern that cuts elsewhere gives other ids. */
static void pretokenizers_by_name(void **state) {
    (void)state;
    err e = {0};
    char *path = test_fixture("tokenizers/pretokenizers.json");
    json_t *row, *name, *all = json_load_file(path, 0, NULL), *rows = json_object_get(all, "rows");
    char *vocabulary = json_dumps(json_object_get(all, "tokenizer"), JSON_COMPACT);
    size_t i, j, n = 0, n_known = 1;
    tokenizer *t;
    json_array_foreach(rows, i, row) json_array_foreach(json_object_get(row, "names"), j, name) {
        print_message("%s\n", json_string_value(name));
        assert_ok(open_with(vocabulary, json_string_value(name), &t, &e), &e);
        tokens_check_cases(t, json_object_get(row, "cases"), true);
        tokenizer_close(t);
        n++;
    }
    assert_int_equal(open_with(vocabulary, "none", &t, &e), ERR_UNSUPPORTED); /* and lists the table */
    for (const char *comma = strstr(e.message, "known:"); (comma = strchr(comma, ',')); comma++) n_known++;
    assert_int_equal(n + 1, n_known); /* all but Phi-3's, which is no pattern: */
    assert_int_equal(open_with(vocabulary, "phi-3", &t, &e), ERR_UNSUPPORTED);
    assert_non_null(strstr(e.message, "SentencePiece"));
    free(vocabulary);
    json_decref(all);
    free(path);
}

/* ---- refusals ---- */

#define BPE         "\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2}, \"merges\": [[\"a\", \"b\"]]}"
#define BPE_WITH(x) "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2}, \"merges\": []" x "}}"

static const struct {
    const char *json, *word;
} refused[] = {
    {"{" BPE ", \"normalizer\": {\"type\": \"BertNormalizer\"}}", "BertNormalizer"},
    {"{" BPE ", \"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFK\"}]}}", "NFKC"},
    {"{" BPE ", \"normalizer\": {\"type\": \"Precompiled\", \"precompiled_charsmap\": \"/////w==\"}}", "character map"},
    {"{" BPE ", \"normalizer\": {\"type\": \"Replace\", \"pattern\": {\"Regex\": \"(\"}, \"content\": \"\"}}", "PCRE2"},
    {"{" BPE ", \"pre_tokenizer\": {\"type\": \"UnicodeScripts\"}}", "UnicodeScripts"},
    {"{" BPE ", \"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"a{1,2}+\"}}}", "}+"},
    {"{" BPE ", \"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"(?R)\"}}}", "(?R"},
    {"{" BPE ", \"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"String\": \"a\"}, \"behavior\": \"Kept\"}}", "Kept"},
    {"{" BPE ", \"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"_\"}}", "replacement"},
    {"{" BPE
     ", \"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"ByteLevel\"}, {\"type\": \"Digits\"}]}}",
     "behind ByteLevel"},
    {"{" BPE ", \"decoder\": {\"type\": \"WordPiece\"}}", "WordPiece"},
    {"{" BPE ", \"post_processor\": {\"type\": \"BertProcessing\"}}", "BertProcessing"},
    {"{" BPE ", \"added_tokens\": [{\"id\": 9000000, \"content\": \"x\"}]}", "9000000"},
    {"{" BPE ", \"added_tokens\": [{\"id\": 1, \"content\": \"x\"}]}", "another piece"},
    {"{" BPE ", \"added_tokens\": [{\"id\": -1, \"content\": \"x\"}]}", "added_tokens"},
    {BPE_WITH(", \"dropout\": 0.1"), "dropout"},
    {BPE_WITH(", \"end_of_word_suffix\": \"</w>\""), "end_of_word_suffix"},
    {BPE_WITH(", \"unk_token\": \"?\""), "unk_token"},
    {"{\"model\": {\"type\": \"WordPiece\", \"vocab\": {}}}", "WordPiece"},
    {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 0}, \"merges\": []}}", "two pieces"},
    {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [\"a c\"]}}", "lacks"},
    {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [\"abc\"]}}", "two pieces"},
    {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}}}", "merges"},
    {"{\"model\": {\"type\": \"BPE\", \"vocab\": [], \"merges\": []}}", "object"},
    {"{\"model\": {\"type\": \"BPE\", \"vocab\": {}, \"merges\": []}}", "0 tokens"},
    {"{\"model\": {\"type\": \"Unigram\", \"vocab\": [[\"a\", \"b\"]]}}", "score"},
    {"{\"model\": {\"type\": \"Unigram\", \"vocab\": [[\"a\", -1]], \"unk_id\": 1}}", "unk_id"},
    {"{\"model\": {\"type\": \"Unigram\", \"vocab\": [[\"a\", -1]]}, \"pre_tokenizer\": {\"type\": \"ByteLevel\"}}",
     "ByteLevel"},
    {"{\"pre_tokenizer\": {\"type\": \"ByteLevel\"}, " BPE "}", "byte-level"},
    {"[]", "object"},
    {"{\"model\": ", "byte"},
};

static void refusals_name_what_it_is(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        err e = {0};
        tokenizer *t = NULL;
        err_code rc = open_json(refused[i].json, strlen(refused[i].json), &t, &e);
        if ((rc != ERR_FORMAT && rc != ERR_UNSUPPORTED) || !strstr(e.message, refused[i].word))
            fail_msg("%s: expected a sentence with '%s', got '%s'", refused[i].json, refused[i].word,
                     rc ? e.message : "none");
    }
}

/* Nested quantifiers take time that doubles with every letter: PCRE2 must give up, not go on. */
static void a_pattern_cannot_take_for_ever(void **state) {
    (void)state;
    err e = {0};
    tokenizer *t = NULL;
    token_ids ids = {0};
    static const char json[] = "{" BPE ", \"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"(a+)+c\"}}}";
    assert_ok(open_json(json, strlen(json), &t, &e), &e);
    static const char text[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab";
    err_code rc = tokenizer_encode(t, text, strlen(text), &TOKENIZE_DEFAULTS, &ids, &e);
    assert_true(rc == ERR_OK || rc == ERR_FAILED);
    free(ids.ids);
    tokenizer_close(t);
}

static err_code encode_with(const char *json, const char *text, err *e) {
    tokenizer *t = NULL;
    token_ids ids = {0};
    err_code rc = open_json(json, strlen(json), &t, e);
    if (!rc) rc = tokenizer_encode(t, text, strlen(text), &TOKENIZE_DEFAULTS, &ids, e);
    free(ids.ids);
    tokenizer_close(t);
    return rc;
}

/* Each step makes two letters of one: sixty of them would make more than any memory holds. */
static void a_text_cannot_grow_without_bound(void **state) {
    (void)state;
    err e = {0};
    strbuf json = STRBUF_INIT, longest = STRBUF_INIT;
    strbuf_add_str(&json, "{" BPE ", \"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [");
    for (int i = 0; i < 60; i++)
        strbuf_addf(&json, "%s{\"type\": \"Replace\", \"pattern\": {\"String\": \"a\"}, \"content\": \"aa\"}", i ? "," : "");
    strbuf_add_str(&json, "]}}");
    assert_int_equal(encode_with(json.data, "aaaa", &e), ERR_UNSUPPORTED);
    assert_non_null(strstr(e.message, "normalizer makes"));
    for (int i = 0; i < 100000; i++) strbuf_add_char(&longest, 'a');
    strbuf_reset(&json);
    strbuf_addf(&json, "{" BPE ", \"normalizer\": {\"type\": \"Prepend\", \"prepend\": \"%s\"}}", longest.data);
    assert_int_equal(encode_with(json.data, "a", &e), ERR_UNSUPPORTED);
    assert_non_null(strstr(e.message, "100000 bytes"));
    strbuf_release(&json);
    strbuf_release(&longest);
}

/* PCRE2 is told that texts are UTF-8: a character map (here: 'a' becomes the byte FF) may not make them something else. */
static void a_character_map_makes_text(void **state) {
    (void)state;
    err e = {0};
    enum { UNITS = 98 };
    uint32_t trie[1 + UNITS] = {[0] = 4 * UNITS, [1 + 'a'] = 'a' | 1 << 8 | 1 << 10};
    char map[sizeof trie + 2];
    normalizer *n;
    strbuf out = STRBUF_INIT;
    memcpy(map, trie, sizeof trie);
    memcpy(map + sizeof trie, "\xff", 2);
    assert_ok(normalizer_new(&n, &e), &e);
    assert_ok(normalizer_add_charsmap(n, map, sizeof map, false, &e), &e);
    assert_ok(normalizer_add_regex(n, "b", "c", &e), &e);
    assert_ok(normalizer_apply(n, "bb", 2, &out, &e), &e);
    assert_string_equal(out.data, "cc");
    assert_int_equal(normalizer_apply(n, "bab", 3, &out, &e), ERR_FORMAT);
    assert_non_null(strstr(e.message, "UTF-8"));
    normalizer_free(n);
    strbuf_release(&out);
}

/* Bytes that are not UTF-8 come back from a vocabulary with byte tokens. */
static void bytes_that_are_no_text(void **state) {
    (void)state;
    err e = {0};
    tokenizer *t;
    char *folder = test_fixture("tokenizers/spm_small");
    assert_ok(tokenizer_open_folder(folder, &t, &e), &e);
    static const char text[] = "\xe6\x9d moon \xff\xfe \xf0\x9f\x8c\x99\xc0";
    token_ids ids = {0};
    strbuf back = STRBUF_INIT;
    assert_ok(tokenizer_encode(t, text, strlen(text), &TOKENIZE_DEFAULTS, &ids, &e), &e);
    tokenizer_decode(t, ids.ids, ids.len, true, &back);
    assert_string_equal(back.data, text);
    for (size_t cut = 0; cut <= back.len; cut++) { /* what a stream shows is whole, whatever has come */
        size_t whole = text_whole_chars(back.data, cut);
        assert_true(whole <= cut && cut - whole < 4);
        assert_true(cut < 18 || cut > 20 || whole == 17); /* the moon's four bytes */
    }
    strbuf_release(&back);
    free(ids.ids);
    tokenizer_close(t);
    free(folder);
}

/* ---- memory ---- */

static err_code open_and_encode(void *arg, err *e) {
    const json_t *json = arg;
    tokenizer *t = NULL;
    token_ids ids = {0};
    const char *text = json_string_value(json);
    err_code rc = open_json(text, strlen(text), &t, e);
    if (!rc) rc = tokenizer_encode(t, "ab <r>  a\xff bab", 13, &TOKENIZE_DEFAULTS, &ids, e);
    free(ids.ids);
    tokenizer_close(t);
    return rc;
}

static void out_of_memory(void **state) {
    (void)state;
    json_t *text =
        json_string("{" BPE ", \"added_tokens\": [{\"id\": 3, \"content\": \"<r>\", \"rstrip\": true, \"normalized\": true}],"
                    "\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFC\"}, {\"type\": \"Prepend\", "
                    "\"prepend\": \"a\"},"
                    "{\"type\": \"Replace\", \"pattern\": {\"Regex\": \" +\"}, \"content\": \" \"}]},"
                    "\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Digits\"}, {\"type\": "
                    "\"Metaspace\"}]}}");
    oom_sweep(open_and_encode, text, 2000);
    json_decref(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_the_libraries),          cmocka_unit_test(pretokenizers_by_name),
        cmocka_unit_test(refusals_name_what_it_is),       cmocka_unit_test(bytes_that_are_no_text),
        cmocka_unit_test(a_pattern_cannot_take_for_ever), cmocka_unit_test(a_text_cannot_grow_without_bound),
        cmocka_unit_test(a_character_map_makes_text),     cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
