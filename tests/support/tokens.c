#include "support/tokens.h"

#include "support/test.h"

void tokens_check(const tokenizer *t, const char *text, size_t n, bool special, const uint32_t *expected, size_t n_expected,
                  bool exact) {
    err e = {0};
    token_ids ids = {0};
    strbuf back = STRBUF_INIT;
    tokenize_opts o = {.parse_special = special, .add_bos = false};
    assert_ok(tokenizer_encode(t, text, n, &o, &ids, &e), &e);
    size_t same = 0;
    while (same < ids.len && same < n_expected && ids.ids[same] == expected[same]) same++;
    if (same < ids.len || same < n_expected)
        fail_msg("'%.60s': id %zu is %lld of %zu, expected %lld of %zu", text, same,
                 same < ids.len ? (long long)ids.ids[same] : -1, ids.len, same < n_expected ? (long long)expected[same] : -1,
                 n_expected);
    if (exact) {
        tokenizer_decode(t, ids.ids, ids.len, true, &back);
        if (back.len != n || memcmp(back.data, text, n)) fail_msg("'%.60s' comes back as '%.60s'", text, back.data);
    }
    strbuf_release(&back);
    free(ids.ids);
}

enum { IDS_MAX = 4096 };

static size_t ids_of(const json_t *list, uint32_t *out) {
    size_t n = json_array_size(list);
    assert_true(n <= IDS_MAX);
    for (size_t i = 0; i < n; i++) out[i] = (uint32_t)json_integer_value(json_array_get(list, i));
    return n;
}

void tokens_check_cases(const tokenizer *t, const json_t *cases, bool exact) {
    uint32_t expected[IDS_MAX];
    size_t i;
    json_t *item;
    json_array_foreach(cases, i, item) {
        const json_t *text = json_object_get(item, "text"), *plain = json_object_get(item, "ids_plain");
        size_t n = ids_of(json_object_get(item, "ids"), expected);
        tokens_check(t, json_string_value(text), json_string_length(text), true, expected, n, exact);
        if (!plain) continue;
        n = ids_of(plain, expected);
        tokens_check(t, json_string_value(text), json_string_length(text), false, expected, n, exact);
    }
}
