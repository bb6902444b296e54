/* from_json.c — Hugging Face's tokenizer.json as a tokenizer_def.
 *
 * The file is a chain: added_tokens cut the text, a normalizer rewrites what lies between, a pre_tokenizer cuts it further, a
 * model makes tokens, a post_processor puts BOS in front, and a decoder says what pieces look like as text. Every link has a
 * "type"; one that is not known here is refused by its name, never skipped.
 */
#include "core/mem.h"
#include "core/names.h"
#include "text/folder.h"
#include "text/kinds.h"
#include "text/regex.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define METASPACE "\xe2\x96\x81" /* U+2581 */

enum { NESTING_MAX = 8 };

typedef struct reading {
    tokenizer_def *d;
    json_t *root;
    bool byte_level; /* the pre-tokenizer ends with ByteLevel */
    int depth;
} reading;

typedef err_code (*link_reader)(reading *r, const json_t *link, err *e);

typedef struct link_row {
    const char *type;
    link_reader read;
} link_row;

/* ---- fields ---- */

static bool field_bool(const json_t *o, const char *name, bool fallback) {
    const json_t *v = json_object_get(o, name);
    return json_is_boolean(v) ? json_is_true(v) : fallback;
}

static const char *field_string(const json_t *o, const char *name, const char *fallback) {
    const json_t *v = json_object_get(o, name);
    return json_is_string(v) && strlen(json_string_value(v)) == json_string_length(v) ? json_string_value(v) : fallback;
}

static bool is_absent(const json_t *v) { return !v || json_is_null(v); }

/* Reads a link of the chain (`what` names it) by its type. */
static err_code read_link(reading *r, const char *what, const json_t *link, const link_row *rows, int n, err *e) {
    const char *type = field_string(link, "type", NULL);
    if (is_absent(link)) return ERR_OK;
    if (!type) return err_set(e, ERR_FORMAT, "%s: expected an object with a type", what);
    int i = names_find(type, rows, n, sizeof *rows);
    if (i < 0) return names_unknown(e, ERR_UNSUPPORTED, what, type, rows, n, sizeof *rows);
    if (r->depth == NESTING_MAX) return err_set(e, ERR_UNSUPPORTED, "%s: more than %d levels of Sequence", what, NESTING_MAX);
    r->depth++;
    err_code rc = rows[i].read(r, link, e);
    r->depth--;
    return rc ? err_prefix(e, rc, "%s", type) : ERR_OK;
}

static err_code read_links(reading *r, const char *what, const json_t *links, const link_row *rows, int n, err *e) {
    size_t i;
    const json_t *link;
    if (!json_is_array(links)) return err_set(e, ERR_FORMAT, "%s: expected an array", what);
    json_array_foreach(links, i, link) {
        err_code rc = read_link(r, what, link, rows, n, e);
        if (rc) return rc;
    }
    return ERR_OK;
}

/* {"String": ".."} or {"Regex": ".."} as a PCRE2 pattern. */
static err_code read_pattern(const json_t *pattern, strbuf *out, err *e) {
    const char *text = field_string(pattern, "String", NULL), *regex = field_string(pattern, "Regex", NULL);
    if (json_is_string(pattern)) text = json_string_value(pattern);
    if (regex) return regex_translate(regex, out, e);
    if (!text || !*text) return err_set(e, ERR_FORMAT, "expected a pattern {\"String\": ..} or {\"Regex\": ..}");
    regex_quote(text, out);
    return strbuf_check(out, e);
}

/* ---- the normalizer ---- */

static err_code add_normal(reading *r, normal_kind kind, const char *from, const char *to, err *e) {
    return normalizer_add(r->d->normalizer, kind, from, to, e);
}

static err_code normal_nfc(reading *r, const json_t *link, err *e) {
    (void)link;
    return add_normal(r, NORMAL_NFC, "", "", e);
}

static err_code normal_nfd(reading *r, const json_t *link, err *e) {
    (void)link;
    return add_normal(r, NORMAL_NFD, "", "", e);
}

static err_code normal_nfkc(reading *r, const json_t *link, err *e) {
    (void)link;
    return add_normal(r, NORMAL_NFKC, "", "", e);
}

static err_code normal_nfkd(reading *r, const json_t *link, err *e) {
    (void)link;
    return add_normal(r, NORMAL_NFKD, "", "", e);
}

static err_code normal_lowercase(reading *r, const json_t *link, err *e) {
    (void)link;
    return add_normal(r, NORMAL_LOWERCASE, "", "", e);
}

static err_code normal_strip_accents(reading *r, const json_t *link, err *e) {
    (void)link;
    return add_normal(r, NORMAL_STRIP_ACCENTS, "", "", e);
}

static err_code normal_strip(reading *r, const json_t *link, err *e) {
    return normalizer_add_strip(r->d->normalizer, field_bool(link, "strip_left", true), field_bool(link, "strip_right", true),
                                e);
}

static err_code normal_prepend(reading *r, const json_t *link, err *e) {
    const char *prefix = field_string(link, "prepend", NULL);
    if (!prefix) return err_set(e, ERR_FORMAT, "expected a string \"prepend\"");
    if (!strcmp(prefix, METASPACE)) r->d->prefix = PREFIX_ALWAYS;
    return add_normal(r, NORMAL_PREPEND, "", prefix, e);
}

static err_code normal_replace(reading *r, const json_t *link, err *e) {
    const json_t *pattern = json_object_get(link, "pattern");
    const char *from = field_string(pattern, "String", NULL), *to = field_string(link, "content", NULL);
    strbuf regex = STRBUF_INIT;
    if (!to) return err_set(e, ERR_FORMAT, "expected a string \"content\"");
    if (from && *from) return add_normal(r, NORMAL_REPLACE, from, to, e);
    err_code rc = read_pattern(pattern, &regex, e);
    if (!rc) rc = normalizer_add_regex(r->d->normalizer, regex.data, to, e);
    strbuf_release(&regex);
    return rc;
}

static int base64_value(char c) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

static err_code normal_precompiled(reading *r, const json_t *link, err *e) {
    const char *text = field_string(link, "precompiled_charsmap", NULL);
    strbuf bytes = STRBUF_INIT;
    unsigned waiting = 0;
    int bits = 0;
    if (!text) return err_set(e, ERR_FORMAT, "expected a string \"precompiled_charsmap\"");
    for (; base64_value(*text) >= 0; text++) {
        waiting = (waiting << 6 | (unsigned)base64_value(*text)) & 0xffff;
        bits += 6;
        if (bits >= 8) strbuf_add_char(&bytes, (char)(waiting >> (bits -= 8)));
    }
    err_code rc = strbuf_check(&bytes, e);
    if (!rc && text[strspn(text, "=")]) rc = err_set(e, ERR_FORMAT, "precompiled_charsmap is not base64");
    if (!rc && bytes.len) rc = normalizer_add_charsmap(r->d->normalizer, bytes.data, bytes.len, true, e);
    strbuf_release(&bytes);
    return rc;
}

static err_code normal_sequence(reading *r, const json_t *link, err *e);

/* How to add one: a function and a row, here and in the tables below. */
static const link_row normalizers[] = {
    {"Sequence", normal_sequence},
    {"NFC", normal_nfc},
    {"NFD", normal_nfd},
    {"NFKC", normal_nfkc},
    {"NFKD", normal_nfkd},
    {"Lowercase", normal_lowercase},
    {"Strip", normal_strip},
    {"StripAccents", normal_strip_accents},
    {"Prepend", normal_prepend},
    {"Replace", normal_replace},
    {"Precompiled", normal_precompiled},
};
enum { N_NORMALIZERS = sizeof normalizers / sizeof *normalizers };

static err_code normal_sequence(reading *r, const json_t *link, err *e) {
    return read_links(r, "normalizer", json_object_get(link, "normalizers"), normalizers, N_NORMALIZERS, e);
}

static err_code read_normalizer(reading *r, err *e) {
    const json_t *link = json_object_get(r->root, "normalizer");
    if (is_absent(link)) return ERR_OK;
    err_code rc = normalizer_new(&r->d->normalizer, e);
    return rc ? rc : read_link(r, "normalizer", link, normalizers, N_NORMALIZERS, e);
}

/* ---- the pre-tokenizer ---- */

static err_code read_cut(const json_t *link, pretok_cut fallback, pretok_cut *out, err *e) {
    static const struct {
        const char *name;
        pretok_cut cut;
    } cuts[] = {
        {"Isolated", CUT_ISOLATED},        {"Removed", CUT_REMOVED},       {"MergedWithPrevious", CUT_WITH_PREVIOUS},
        {"MergedWithNext", CUT_WITH_NEXT}, {"Contiguous", CUT_CONTIGUOUS},
    };
    const char *name = field_string(link, "behavior", NULL);
    *out = fallback;
    if (!name) return ERR_OK;
    int i = names_find(name, cuts, sizeof cuts / sizeof *cuts, sizeof *cuts);
    if (i < 0) return names_unknown(e, ERR_UNSUPPORTED, "behavior", name, cuts, sizeof cuts / sizeof *cuts, sizeof *cuts);
    *out = cuts[i].cut;
    return ERR_OK;
}

static err_code pre_byte_level(reading *r, const json_t *link, err *e) {
    err_code rc = ERR_OK;
    r->byte_level = true;
    if (field_bool(link, "add_prefix_space", true)) rc = pretok_add_prefix(r->d->pretok, " ", false, e);
    if (!rc && field_bool(link, "use_regex", true)) rc = pretok_add_cut(r->d->pretok, pretok_gpt2, CUT_ISOLATED, false, e);
    return rc;
}

static err_code pre_split(reading *r, const json_t *link, err *e) {
    strbuf pattern = STRBUF_INIT;
    pretok_cut cut = CUT_ISOLATED;
    err_code rc = read_pattern(json_object_get(link, "pattern"), &pattern, e);
    if (!rc) rc = read_cut(link, CUT_ISOLATED, &cut, e);
    if (!rc) rc = pretok_add_cut(r->d->pretok, pattern.data, cut, field_bool(link, "invert", false), e);
    strbuf_release(&pattern);
    return rc;
}

static err_code pre_digits(reading *r, const json_t *link, err *e) {
    bool single = field_bool(link, "individual_digits", false);
    return pretok_add_cut(r->d->pretok, single ? "\\p{N}" : "\\p{N}+", CUT_ISOLATED, false, e);
}

static err_code pre_punctuation(reading *r, const json_t *link, err *e) {
    pretok_cut cut;
    err_code rc = read_cut(link, CUT_ISOLATED, &cut, e);
    return rc ? rc : pretok_add_cut(r->d->pretok, "[\\p{P}$+<=>^`|~]", cut, false, e);
}

static err_code pre_whitespace(reading *r, const json_t *link, err *e) {
    strbuf pattern = STRBUF_INIT;
    (void)link;
    err_code rc = regex_translate("\\w+|[^\\w\\s]+", &pattern, e);
    if (!rc) rc = pretok_add_cut(r->d->pretok, pattern.data, CUT_REMOVED, true, e);
    strbuf_release(&pattern);
    return rc;
}

static err_code pre_whitespace_split(reading *r, const json_t *link, err *e) {
    (void)link;
    return pretok_add_cut(r->d->pretok, SPACE, CUT_REMOVED, false, e);
}

static err_code pre_metaspace(reading *r, const json_t *link, err *e) {
    const char *with = field_string(link, "replacement", METASPACE);
    const char *scheme =
        field_string(link, "prepend_scheme", field_bool(link, "add_prefix_space", true) ? "always" : "never");
    bool always = !strcmp(scheme, "always"), first = !strcmp(scheme, "first");
    if (strcmp(with, METASPACE)) return err_set(e, ERR_UNSUPPORTED, "replacement '%.20s' is not supported", with);
    if (!always && !first && strcmp(scheme, "never"))
        return err_set(e, ERR_UNSUPPORTED, "prepend_scheme '%.40s' is not supported", scheme);
    r->d->prefix = always ? PREFIX_ALWAYS : first ? PREFIX_FIRST : PREFIX_NEVER;
    err_code rc = pretok_add_replace_spaces(r->d->pretok, with, e);
    if (!rc && (always || first)) rc = pretok_add_prefix(r->d->pretok, with, first, e);
    if (!rc && field_bool(link, "split", true)) rc = pretok_add_cut(r->d->pretok, with, CUT_WITH_NEXT, false, e);
    return rc;
}

static err_code pre_sequence(reading *r, const json_t *link, err *e);

static const link_row pretokenizers[] = {
    {"Sequence", pre_sequence},
    {"ByteLevel", pre_byte_level},
    {"Split", pre_split},
    {"Digits", pre_digits},
    {"Punctuation", pre_punctuation},
    {"Whitespace", pre_whitespace},
    {"Metaspace", pre_metaspace},
    {"WhitespaceSplit", pre_whitespace_split},
};
enum { N_PRETOKENIZERS = sizeof pretokenizers / sizeof *pretokenizers };

/* ByteLevel rewrites the text in another alphabet, which a step behind it would see; it does not here, so it must be last. */
static err_code pre_sequence(reading *r, const json_t *link, err *e) {
    const json_t *links = json_object_get(link, "pretokenizers");
    if (!json_is_array(links)) return err_set(e, ERR_FORMAT, "expected an array \"pretokenizers\"");
    for (size_t i = 0; i < json_array_size(links); i++) {
        if (r->byte_level) return err_set(e, ERR_UNSUPPORTED, "a pre-tokenizer behind ByteLevel is not supported");
        err_code rc = read_link(r, "pre-tokenizer", json_array_get(links, i), pretokenizers, N_PRETOKENIZERS, e);
        if (rc) return rc;
    }
    return ERR_OK;
}

static err_code read_pretokenizer(reading *r, err *e) {
    const json_t *link = json_object_get(r->root, "pre_tokenizer");
    if (is_absent(link)) return ERR_OK;
    err_code rc = pretok_new(&r->d->pretok, e);
    return rc ? rc : read_link(r, "pre-tokenizer", link, pretokenizers, N_PRETOKENIZERS, e);
}

/* ---- the decoder: what it would do is done when the vocabulary is built ---- */

static err_code decode_nothing(reading *r, const json_t *link, err *e) {
    (void)r, (void)link, (void)e;
    return ERR_OK;
}

static err_code decode_metaspace(reading *r, const json_t *link, err *e) {
    if (strcmp(field_string(link, "replacement", METASPACE), METASPACE))
        return err_set(e, ERR_UNSUPPORTED, "a replacement other than U+2581 is not supported");
    r->d->spelling = SPELLED_SENTENCEPIECE;
    return ERR_OK;
}

static err_code decode_replace(reading *r, const json_t *link, err *e) {
    const char *from = field_string(json_object_get(link, "pattern"), "String", "");
    if (strcmp(from, METASPACE) || strcmp(field_string(link, "content", ""), " "))
        return err_set(e, ERR_UNSUPPORTED, "another replacement than of U+2581 by a space is not supported");
    r->d->spelling = SPELLED_SENTENCEPIECE;
    return ERR_OK;
}

/* Takes the space away that the normalizer put in front: tokenizer_decode does, wherever one was put. */
static err_code decode_strip(reading *r, const json_t *link, err *e) {
    (void)r;
    const json_t *stop = json_object_get(link, "stop");
    if (strcmp(field_string(link, "content", " "), " ") || (json_is_integer(stop) && json_integer_value(stop)))
        return err_set(e, ERR_UNSUPPORTED, "anything but spaces at the start is not supported");
    return ERR_OK;
}

static err_code decode_sequence(reading *r, const json_t *link, err *e);

static const link_row decoders[] = {
    {"Sequence", decode_sequence}, {"ByteLevel", decode_nothing}, {"ByteFallback", decode_nothing}, {"Fuse", decode_nothing},
    {"Strip", decode_strip},       {"Replace", decode_replace},   {"Metaspace", decode_metaspace},
};
enum { N_DECODERS = sizeof decoders / sizeof *decoders };

static err_code decode_sequence(reading *r, const json_t *link, err *e) {
    return read_links(r, "decoder", json_object_get(link, "decoders"), decoders, N_DECODERS, e);
}

/* ---- the post-processor: BOS ---- */

static err_code post_nothing(reading *r, const json_t *link, err *e) {
    (void)r, (void)link, (void)e;
    return ERR_OK;
}

static err_code post_template(reading *r, const json_t *link, err *e) {
    const json_t *first = json_object_get(json_array_get(json_object_get(link, "single"), 0), "SpecialToken");
    const char *name = field_string(first, "id", NULL);
    if (!name) return ERR_OK;
    const json_t *ids = json_object_get(json_object_get(json_object_get(link, "special_tokens"), name), "ids");
    const json_t *id = json_array_get(ids, 0);
    if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= r->d->n_pieces)
        return err_set(e, ERR_FORMAT, "special token %.100s: expected the id of a token", name);
    r->d->bos = json_integer_value(id);
    r->d->adds_bos = true;
    return ERR_OK;
}

static err_code post_sequence(reading *r, const json_t *link, err *e);

static const link_row post_processors[] = {
    {"Sequence", post_sequence},
    {"ByteLevel", post_nothing},
    {"TemplateProcessing", post_template},
};
enum { N_POST_PROCESSORS = sizeof post_processors / sizeof *post_processors };

static err_code post_sequence(reading *r, const json_t *link, err *e) {
    return read_links(r, "post-processor", json_object_get(link, "processors"), post_processors, N_POST_PROCESSORS, e);
}

/* ---- pieces ---- */

static bool is_byte_name(const char *text, size_t n) {
    return n == 6 && !memcmp(text, "<0x", 3) && text[5] == '>' && strchr("0123456789ABCDEF", text[3]) &&
           strchr("0123456789ABCDEF", text[4]);
}

static err_code set_piece(reading *r, int64_t id, const char *bytes, size_t n, double score, err *e) {
    piece_def *p = &r->d->pieces[id];
    if (p->bytes) return err_set(e, ERR_FORMAT, "two pieces have the id %lld", (long long)id);
    if (!isfinite(score)) return err_set(e, ERR_FORMAT, "the score of token %lld is not finite", (long long)id);
    *p = (piece_def){.bytes = bytes, .n = n, .score = score, .type = TOKEN_NORMAL, .listed = true};
    if (r->d->byte_fallback && is_byte_name(bytes, n)) p->type = TOKEN_BYTE;
    return ERR_OK;
}

static bool is_id(const json_t *v) {
    return json_is_integer(v) && json_integer_value(v) >= 0 && json_integer_value(v) < PIECES_MAX;
}

/* One more than the largest id of the vocabulary and the added tokens; ids may have holes, but not be mostly holes. */
static err_code count_pieces(const json_t *vocabulary, const json_t *added, int64_t *out, err *e) {
    int64_t n = json_is_array(vocabulary) ? (int64_t)json_array_size(vocabulary) : 0, known = n;
    const char *key;
    json_t *v;
    size_t i;
    if (json_is_object(vocabulary)) {
        known = (int64_t)json_object_size(vocabulary);
        json_object_foreach((json_t *)vocabulary, key, v) {
            if (!is_id(v)) return err_set(e, ERR_FORMAT, "model: the id of the piece %.100s is not one", key);
            if (json_integer_value(v) >= n) n = json_integer_value(v) + 1;
        }
    }
    json_array_foreach(added, i, v) {
        const json_t *id = json_object_get(v, "id");
        if (!is_id(id) || !json_is_string(json_object_get(v, "content")))
            return err_set(e, ERR_FORMAT, "added_tokens: expected an id and a content in number %zu", i);
        if (json_integer_value(id) >= n) n = json_integer_value(id) + 1;
    }
    known += (int64_t)json_array_size(added);
    if (n > 4 * known + 1000)
        return err_set(e, ERR_FORMAT, "ids up to %lld in a vocabulary of %lld pieces", (long long)n - 1, (long long)known);
    *out = n;
    return ERR_OK;
}

static err_code read_bpe_pieces(reading *r, const json_t *vocabulary, err *e) {
    for (void *at = json_object_iter((json_t *)vocabulary); at; at = json_object_iter_next((json_t *)vocabulary, at)) {
        int64_t id = json_integer_value(json_object_iter_value(at));
        err_code rc = set_piece(r, id, json_object_iter_key(at), json_object_iter_key_len(at), 0, e);
        if (rc) return rc;
    }
    return ERR_OK;
}

static err_code read_unigram_pieces(reading *r, const json_t *vocabulary, err *e) {
    size_t i;
    const json_t *pair;
    json_array_foreach(vocabulary, i, pair) {
        const json_t *piece = json_array_get(pair, 0), *score = json_array_get(pair, 1);
        if (!json_is_string(piece) || !json_is_number(score))
            return err_set(e, ERR_FORMAT, "model: expected a piece and its score in number %zu", i);
        err_code rc =
            set_piece(r, (int64_t)i, json_string_value(piece), json_string_length(piece), json_number_value(score), e);
        if (rc) return rc;
    }
    return ERR_OK;
}

static err_code read_added(reading *r, const json_t *added, err *e) {
    size_t i;
    const json_t *v;
    json_array_foreach(added, i, v) {
        piece_def *p = &r->d->pieces[json_integer_value(json_object_get(v, "id"))];
        const json_t *content = json_object_get(v, "content");
        size_t n = json_string_length(content);
        if (p->bytes && (p->n != n || memcmp(p->bytes, json_string_value(content), n)))
            return err_set(e, ERR_FORMAT, "added_tokens: %.100s has the id of another piece", json_string_value(content));
        p->bytes = json_string_value(content);
        p->n = n;
        p->type = field_bool(v, "special", false) ? TOKEN_CONTROL : TOKEN_USER_DEFINED;
        p->marks = (uint8_t)((field_bool(v, "lstrip", false) ? MARK_LEFT_STRIP : 0) |
                             (field_bool(v, "rstrip", false) ? MARK_RIGHT_STRIP : 0) |
                             (field_bool(v, "single_word", false) ? MARK_WORD : 0) |
                             (field_bool(v, "normalized", false) ? MARK_NORMALIZED : 0));
    }
    for (int64_t id = 0; id < r->d->n_pieces; id++)
        if (!r->d->pieces[id].bytes) r->d->pieces[id] = (piece_def){.bytes = "", .type = TOKEN_UNUSED};
    return ERR_OK;
}

/* ---- merges ---- */

static err_code read_merge(const json_t *v, size_t rank, merge_def *out, err *e) {
    const json_t *left = json_array_get(v, 0), *right = json_array_get(v, 1);
    if (json_is_string(left) && json_is_string(right)) {
        *out = (merge_def){.left = json_string_value(left),
                           .right = json_string_value(right),
                           .n_left = json_string_length(left),
                           .n_right = json_string_length(right)};
        return ERR_OK;
    }
    const char *text = json_string_value(v);
    size_t n = json_string_length(v);
    const char *space = text && n > 2 ? memchr(text, ' ', n) : NULL;
    if (!space || space == text || space + 1 == text + n || memchr(space + 1, ' ', n - (size_t)(space + 1 - text)))
        return err_set(e, ERR_FORMAT, "model: merge %zu is not two pieces", rank);
    size_t half = (size_t)(space - text);
    *out = (merge_def){.left = text, .n_left = half, .right = space + 1, .n_right = n - half - 1};
    return ERR_OK;
}

static err_code read_merges(reading *r, const json_t *merges, err *e) {
    if (!json_is_array(merges)) return err_set(e, ERR_FORMAT, "model: expected an array \"merges\"");
    size_t n = json_array_size(merges);
    if (n > INT32_MAX) return err_set(e, ERR_FORMAT, "model: %zu merges", n);
    err_code rc = mem_new(&r->d->merges, n, sizeof *r->d->merges, "merges", e);
    r->d->n_merges = rc ? 0 : (int64_t)n;
    for (size_t i = 0; i < n && !rc; i++) rc = read_merge(json_array_get(merges, i), i, &r->d->merges[i], e);
    return rc;
}

/* ---- the model ---- */

/* Options that change what tokens come out, and that no model we know sets. */
static err_code check_bpe_options(const json_t *model, err *e) {
    static const char *const names[] = {"dropout", "continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const json_t *v = json_object_get(model, names[i]);
        bool is_nothing =
            is_absent(v) || (json_is_string(v) && !json_string_length(v)) || (json_is_number(v) && json_number_value(v) == 0);
        if (!is_nothing) return err_set(e, ERR_UNSUPPORTED, "model: %s is not supported", names[i]);
    }
    return ERR_OK;
}

static err_code read_bpe(reading *r, const json_t *model, err *e) {
    tokenizer_def *d = r->d;
    const char *unknown = field_string(model, "unk_token", NULL);
    err_code rc = check_bpe_options(model, e);
    if (rc) return rc;
    d->kind = r->byte_level ? &tokenizer_byte_bpe : &tokenizer_char_bpe;
    d->whole_pieces = field_bool(model, "ignore_merges", false);
    d->fuses_unknown = field_bool(model, "fuse_unk", false);
    if ((rc = read_bpe_pieces(r, json_object_get(model, "vocab"), e))) return rc;
    if (unknown) d->unknown = definition_find(d, unknown, strlen(unknown));
    if (unknown && d->unknown < 0) return err_set(e, ERR_FORMAT, "model: no token %.100s, the unk_token", unknown);
    return read_merges(r, json_object_get(model, "merges"), e);
}

static err_code read_unigram(reading *r, const json_t *model, err *e) {
    const json_t *unknown = json_object_get(model, "unk_id");
    const json_t *vocabulary = json_object_get(model, "vocab");
    if (r->byte_level) return err_set(e, ERR_UNSUPPORTED, "model: Unigram behind ByteLevel is not supported");
    r->d->kind = &tokenizer_unigram;
    r->d->fuses_unknown = true;
    if (!is_absent(unknown)) {
        if (!is_id(unknown) || json_integer_value(unknown) >= (int64_t)json_array_size(vocabulary))
            return err_set(e, ERR_FORMAT, "model: unk_id is not the id of a piece");
        r->d->unknown = json_integer_value(unknown);
    }
    return read_unigram_pieces(r, vocabulary, e);
}

static err_code read_model(reading *r, err *e) {
    const json_t *model = json_object_get(r->root, "model"), *vocabulary = json_object_get(model, "vocab");
    const json_t *added = json_object_get(r->root, "added_tokens");
    const char *type = field_string(model, "type", json_is_object(vocabulary) ? "BPE" : "Unigram");
    bool bpe = !strcmp(type, "BPE"), unigram = !strcmp(type, "Unigram");
    int64_t n = 0;
    if (!json_is_object(model)) return err_set(e, ERR_FORMAT, "expected an object \"model\"");
    if (!bpe && !unigram) return err_set(e, ERR_UNSUPPORTED, "model: %.40s is not supported (known: BPE, Unigram)", type);
    if (bpe ? !json_is_object(vocabulary) : !json_is_array(vocabulary))
        return err_set(e, ERR_FORMAT, "model: expected %s \"vocab\"", bpe ? "an object" : "an array");
    r->d->byte_fallback = field_bool(model, "byte_fallback", false);
    err_code rc = count_pieces(vocabulary, added, &n, e);
    if (rc || (rc = mem_new0(&r->d->pieces, (size_t)n, sizeof *r->d->pieces, "the vocabulary", e))) return rc;
    r->d->n_pieces = n;
    if ((rc = bpe ? read_bpe(r, model, e) : read_unigram(r, model, e))) return rc;
    return read_added(r, added, e);
}

/* ---- the file ---- */

static void release_json(void *owner) { json_decref(owner); }

err_code definition_parse_json(const char *text, size_t n, tokenizer_def *d, err *e) {
    json_error_t why;
    *d = TOKENIZER_DEF_EMPTY;
    d->source = "tokenizer.json";
    json_t *root = json_loadb(text, n, JSON_ALLOW_NUL, &why);
    if (!root) return err_set(e, ERR_FORMAT, "%s at byte %d", why.text, why.position);
    d->owner = root;
    d->release_owner = release_json;
    reading r = {.d = d, .root = root};
    err_code rc = json_is_object(root) ? ERR_OK : err_set(e, ERR_FORMAT, "expected an object");
    if (!rc) rc = read_normalizer(&r, e);
    if (!rc) rc = read_pretokenizer(&r, e);
    if (!rc) rc = read_model(&r, e);
    if (!rc) rc = read_link(&r, "decoder", json_object_get(root, "decoder"), decoders, N_DECODERS, e);
    if (!rc)
        rc = read_link(&r, "post-processor", json_object_get(root, "post_processor"), post_processors, N_POST_PROCESSORS, e);
    if (r.byte_level) d->spelling = SPELLED_BYTE_LEVEL;
    return rc;
}

err_code definition_from_json(const weights *w, const char *folder, tokenizer_def *d, err *e) {
    char *text = NULL;
    size_t n;
    *d = TOKENIZER_DEF_EMPTY;
    err_code rc = model_folder_read(folder, "tokenizer.json", &text, &n, e);
    if (rc) return rc;
    rc = definition_parse_json(text, n, d, e);
    free(text);
    if (rc) return err_prefix(e, rc, "tokenizer.json");
    return definition_from_config(w, folder, d, e);
}
