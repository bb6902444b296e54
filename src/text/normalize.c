#include "text/normalize.h"

#include "core/mem.h"
#include "text/regex.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* SentencePiece's precompiled map: 4 bytes with the trie's size, the trie, then the replacements, each with a NUL behind it.
 * A unit of the trie is one of Darts-clone's: value or label with a leaf bit and an offset. */
typedef struct charsmap {
    uint32_t *trie; /* [n_units] */
    size_t n_units;
    char *replacements;
    size_t replacements_size; /* with the NUL behind the last */
    bool by_grapheme;
} charsmap;

typedef struct step {
    normal_kind kind;
    char *from, *to;
    bool left, right;   /* NORMAL_STRIP: which ends */
    pcre2_code *code;   /* NORMAL_REPLACE by pattern, else NULL */
    charsmap *charsmap; /* not NULL: this alone counts */
} step;

struct normalizer {
    step *steps;
    size_t n, cap;
};

/* A text may grow by what files are known to ask for (11 bytes for one by NFKD), and not without bound. */
enum { STEPS_MAX = 64, REPLACEMENT_MAX = 1024, GROWTH_MAX = 64, GROWTH_START = 4096 };

/* ---- characters ---- */

size_t utf8_prefix(const char *text, size_t n) {
    size_t i = 0;
    while (i < n) {
        utf8proc_int32_t letter;
        utf8proc_ssize_t len = utf8proc_iterate((const utf8proc_uint8_t *)text + i, (utf8proc_ssize_t)(n - i), &letter);
        if (len <= 0) break;
        i += (size_t)len;
    }
    return i;
}

/* The character at text + *i, which is UTF-8; *i moves behind it. */
static utf8proc_int32_t next_letter(const char *text, size_t n, size_t *i) {
    utf8proc_int32_t letter;
    utf8proc_ssize_t len = utf8proc_iterate((const utf8proc_uint8_t *)text + *i, (utf8proc_ssize_t)(n - *i), &letter);
    *i += len > 0 ? (size_t)len : 1;
    return letter;
}

static void add_letter(strbuf *out, utf8proc_int32_t letter) {
    utf8proc_uint8_t bytes[4];
    strbuf_add(out, bytes, (size_t)utf8proc_encode_char(letter, bytes));
}

static bool is_space(utf8proc_int32_t c) {
    return (c >= '\t' && c <= '\r') || c == ' ' || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) ||
           c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

/* ---- steps ---- */

static err_code unicode_form(const char *text, size_t n, utf8proc_option_t options, strbuf *out, err *e) {
    utf8proc_uint8_t *form = NULL;
    utf8proc_ssize_t len =
        utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)n, &form, UTF8PROC_STABLE | options);
    if (len < 0) return err_set(e, ERR_NOMEM, "Unicode normalization of %zu bytes: %s", n, utf8proc_errmsg(len));
    strbuf_add(out, form, (size_t)len);
    free(form);
    return ERR_OK;
}

static void lowercase(const char *text, size_t n, strbuf *out) {
    for (size_t i = 0; i < n;) {
        utf8proc_int32_t c = next_letter(text, n, &i);
        if (c == 0x130) /* the one character whose small form is two */
            strbuf_add_str(out, "i\xcc\x87");
        else
            add_letter(out, utf8proc_tolower(c));
    }
}

static void strip_accents(const char *text, size_t n, strbuf *out) {
    for (size_t i = 0; i < n;) {
        utf8proc_int32_t c = next_letter(text, n, &i);
        if (utf8proc_category(c) != UTF8PROC_CATEGORY_MN) add_letter(out, c);
    }
}

static void strip(const char *text, size_t n, bool left, bool right, strbuf *out) {
    size_t from = 0, to = 0, first = n;
    for (size_t i = 0; i < n;) {
        size_t start = i;
        if (is_space(next_letter(text, n, &i))) continue;
        if (first == n) first = start;
        to = i;
    }
    from = left ? first : 0;
    to = right ? to : n;
    if (to > from) strbuf_add(out, text + from, to - from);
}

/* SentencePiece's remove_extra_whitespaces. At the end U+2581 counts as a space, and so does what that leaves at the end. */
static void collapse(const char *text, size_t n, strbuf *out) {
    size_t start = out->len;
    bool waiting = false;
    for (;;) {
        if (n >= 1 && text[n - 1] == ' ')
            n--;
        else if (n >= 3 && !memcmp(text + n - 3, "\xe2\x96\x81", 3))
            n -= 3;
        else
            break;
    }
    for (size_t i = 0; i < n; i++) {
        if (text[i] == ' ') {
            waiting = out->len > start;
            continue;
        }
        if (waiting) strbuf_add_char(out, ' ');
        waiting = false;
        strbuf_add_char(out, text[i]);
    }
}

static void replace(const step *s, const char *text, size_t n, strbuf *out) {
    size_t n_from = strlen(s->from);
    for (size_t i = 0; i < n;) {
        if (n_from && n - i >= n_from && !memcmp(text + i, s->from, n_from)) {
            strbuf_add_str(out, s->to);
            i += n_from;
        } else
            strbuf_add_char(out, text[i++]);
    }
}

static err_code replace_pattern(const step *s, const char *text, size_t n, strbuf *out, err *e) {
    regex_search search;
    err_code rc = regex_search_init(&search, s->code, text, n, e);
    size_t at = 0, from, to;
    while (!rc && regex_search_next(&search, at, &from, &to, &rc, e)) {
        strbuf_add(out, text + at, from - at);
        strbuf_add_str(out, s->to);
        at = to;
    }
    if (!rc) strbuf_add(out, text + at, n - at);
    regex_search_release(&search);
    return rc;
}

/* ---- character maps ---- */

static uint32_t unit_offset(uint32_t unit) { return (unit >> 10) << ((unit & 1u << 9) >> 6); }

/* The replacement of a prefix of text, NULL when there is none; *used: its length. The longest one, or the shortest. */
static const char *map_prefix(const charsmap *m, const char *text, size_t n, bool longest, size_t *used) {
    const char *found = NULL;
    size_t at = 0;
    if (!m->n_units) return NULL;
    at = unit_offset(m->trie[0]);
    for (size_t i = 0; i < n && text[i]; i++) {
        unsigned char c = (unsigned char)text[i];
        at ^= c;
        if (at >= m->n_units || (m->trie[at] & (1u << 31 | 0xff)) != c) break;
        bool has_leaf = m->trie[at] >> 8 & 1;
        at ^= unit_offset(m->trie[at]);
        if (!has_leaf) continue;
        if (at >= m->n_units) break;
        size_t value = m->trie[at] & 0x7fffffff;
        if (value >= m->replacements_size) break;
        found = m->replacements + value;
        *used = i + 1;
        if (!longest) break;
    }
    return found;
}

static void map_characters(const charsmap *m, const char *text, size_t n, strbuf *out) {
    for (size_t i = 0; i < n;) {
        size_t start = i, used = 0;
        const char *to = NULL;
        next_letter(text, n, &i);
        to = map_prefix(m, text + start, m->by_grapheme ? i - start : n - start, !m->by_grapheme, &used);
        if (!to)
            strbuf_add(out, text + start, i - start);
        else {
            strbuf_add_str(out, to);
            if (!m->by_grapheme) i = start + used;
        }
    }
}

/* Hugging Face looks a grapheme of less than 6 bytes up first, by the shortest prefix of it that the map has. */
static void map_graphemes(const charsmap *m, const char *text, size_t n, strbuf *out) {
    for (size_t i = 0; i < n;) {
        size_t start = i, end, used;
        utf8proc_int32_t state = 0, before = next_letter(text, n, &i);
        for (end = i; end < n; end = i) {
            utf8proc_int32_t c = next_letter(text, n, &i);
            if (utf8proc_grapheme_break_stateful(before, c, &state)) break;
            before = c;
        }
        const char *to = end - start < 6 ? map_prefix(m, text + start, end - start, false, &used) : NULL;
        if (to)
            strbuf_add_str(out, to);
        else
            map_characters(m, text + start, end - start, out);
        i = end;
    }
}

/* ---- a text ---- */

/* `first`: text begins a section of size > 0, though text itself may be empty. */
static err_code apply_step(const step *s, const char *text, size_t n, bool first, strbuf *out, err *e) {
    if (s->charsmap) {
        if (s->charsmap->by_grapheme)
            map_graphemes(s->charsmap, text, n, out);
        else
            map_characters(s->charsmap, text, n, out);
        return ERR_OK;
    }
    switch (s->kind) {
    case NORMAL_NFC: return unicode_form(text, n, UTF8PROC_COMPOSE, out, e);
    case NORMAL_NFD: return unicode_form(text, n, UTF8PROC_DECOMPOSE, out, e);
    case NORMAL_NFKC: return unicode_form(text, n, UTF8PROC_COMPOSE | UTF8PROC_COMPAT, out, e);
    case NORMAL_NFKD: return unicode_form(text, n, UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, out, e);
    case NORMAL_LOWERCASE: lowercase(text, n, out); return ERR_OK;
    case NORMAL_STRIP_ACCENTS: strip_accents(text, n, out); return ERR_OK;
    case NORMAL_PREPEND:
        if (first) strbuf_add_str(out, s->to);
        strbuf_add(out, text, n);
        return ERR_OK;
    case NORMAL_REPLACE:
        if (s->code) return replace_pattern(s, text, n, out, e);
        replace(s, text, n, out);
        return ERR_OK;
    case NORMAL_STRIP: strip(text, n, s->left, s->right, out); return ERR_OK;
    case NORMAL_COLLAPSE: collapse(text, n, out); return ERR_OK;
    }
    return ERR_OK;
}

static err_code check_step(const step *s, const strbuf *made, size_t n, err *e) {
    err_code rc = strbuf_check(made, e);
    if (!rc && made->len > GROWTH_START && (made->len - GROWTH_START) / GROWTH_MAX > n)
        rc = err_set(e, ERR_UNSUPPORTED, "the normalizer makes more than %zu bytes of %zu", made->len, n);
    if (!rc && s->charsmap && utf8_prefix(made->data, made->len) < made->len)
        rc = err_set(e, ERR_FORMAT, "the normalizer's character map makes bytes that are not UTF-8");
    return rc;
}

static err_code apply_steps(const normalizer *nm, const char *text, size_t n, bool first, bool alone, strbuf *out, err *e) {
    strbuf now = STRBUF_INIT, then = STRBUF_INIT;
    err_code rc = ERR_OK;
    strbuf_add(&now, text, n);
    for (size_t i = 0; i < nm->n; i++) {
        strbuf_reset(&then);
        TRY(apply_step(&nm->steps[i], now.data, now.len, first && (now.len || !alone), &then, e));
        TRY(check_step(&nm->steps[i], &then, n, e));
        strbuf swap = now;
        now = then;
        then = swap;
    }
    strbuf_add(out, now.data, now.len);
    rc = strbuf_check(out, e);
done:
    strbuf_release(&now);
    strbuf_release(&then);
    return rc;
}

err_code normalizer_apply(const normalizer *n, const char *text, size_t size, strbuf *out, err *e) {
    if (!n) {
        strbuf_add(out, text, size);
        return strbuf_check(out, e);
    }
    err_code rc = ERR_OK;
    for (size_t at = 0; at < size && !rc;) {
        size_t whole = utf8_prefix(text + at, size - at);
        rc = apply_steps(n, text + at, whole, at == 0, whole == size, out, e);
        at += whole;
        if (at < size) strbuf_add_char(out, text[at++]);
    }
    return rc ? rc : strbuf_check(out, e);
}

/* ---- life ---- */

err_code normalizer_new(normalizer **out, err *e) { return mem_new0(out, 1, sizeof **out, "a normalizer", e); }

static void charsmap_free(charsmap *m) {
    if (!m) return;
    free(m->trie);
    free(m->replacements);
    free(m);
}

void normalizer_free(normalizer *n) {
    if (!n) return;
    for (size_t i = 0; i < n->n; i++) {
        free(n->steps[i].from);
        free(n->steps[i].to);
        pcre2_code_free(n->steps[i].code);
        charsmap_free(n->steps[i].charsmap);
    }
    free(n->steps);
    free(n);
}

static err_code new_step(normalizer *n, step **out, err *e) {
    if (n->n == STEPS_MAX) return err_set(e, ERR_UNSUPPORTED, "a normalizer of more than %d steps", STEPS_MAX);
    err_code rc = mem_grow(&n->steps, &n->cap, n->n + 1, sizeof *n->steps, "a normalizer", e);
    if (rc) return rc;
    *out = &n->steps[n->n++];
    **out = (step){0};
    return ERR_OK;
}

err_code normalizer_add(normalizer *n, normal_kind kind, const char *from, const char *to, err *e) {
    step *s = NULL;
    if (strlen(to) > REPLACEMENT_MAX)
        return err_set(e, ERR_UNSUPPORTED, "a replacement of %zu bytes, expected at most %d", strlen(to), REPLACEMENT_MAX);
    err_code rc = new_step(n, &s, e);
    if (rc) return rc;
    *s = (step){.kind = kind, .from = strdup(from), .to = strdup(to)};
    return s->from && s->to ? ERR_OK : err_nomem(e, "a normalizer", strlen(from) + strlen(to));
}

err_code normalizer_add_strip(normalizer *n, bool left, bool right, err *e) {
    step *s = NULL;
    err_code rc = new_step(n, &s, e);
    if (!rc) *s = (step){.kind = NORMAL_STRIP, .left = left, .right = right};
    return rc;
}

err_code normalizer_add_regex(normalizer *n, const char *pattern, const char *to, err *e) {
    err_code rc = normalizer_add(n, NORMAL_REPLACE, "", to, e);
    return rc ? rc : regex_compile(pattern, &n->steps[n->n - 1].code, e);
}

err_code normalizer_add_charsmap(normalizer *n, const char *bytes, size_t size, bool by_grapheme, err *e) {
    step *s = NULL;
    uint32_t trie_size = 0;
    err_code rc = new_step(n, &s, e);
    if (rc) return rc;
    if (size >= 4) memcpy(&trie_size, bytes, 4);
    if (size < 4 || trie_size > size - 4 || trie_size % 4)
        return err_set(e, ERR_FORMAT, "a character map of %zu bytes whose trie has %u", size, trie_size);
    charsmap *m;
    if ((rc = mem_new0(&m, 1, sizeof *m, "a character map", e))) return rc;
    s->charsmap = m;
    *m = (charsmap){.n_units = trie_size / 4, .replacements_size = size - 4 - trie_size + 1, .by_grapheme = by_grapheme};
    if ((rc = mem_new(&m->trie, m->n_units, sizeof *m->trie, "a character map", e))) return rc;
    if ((rc = mem_new(&m->replacements, m->replacements_size, 1, "a character map", e))) return rc;
    if (trie_size) memcpy(m->trie, bytes + 4, trie_size);
    memcpy(m->replacements, bytes + 4 + trie_size, m->replacements_size - 1);
    m->replacements[m->replacements_size - 1] = '\0';
    for (size_t i = 0, length; i < m->replacements_size; i += length + 1)
        if ((length = strlen(m->replacements + i)) > REPLACEMENT_MAX)
            return err_set(e, ERR_UNSUPPORTED, "a character map with a replacement of %zu bytes, expected at most %d", length,
                           REPLACEMENT_MAX);
    return ERR_OK;
}

void normalizer_charsmap(const normalizer *n, strbuf *out) {
    for (size_t i = 0; n && i < n->n; i++) {
        const charsmap *m = n->steps[i].charsmap;
        uint32_t trie_size = m ? (uint32_t)(4 * m->n_units) : 0;
        if (!m) continue;
        strbuf_add(out, &trie_size, sizeof trie_size);
        strbuf_add(out, m->trie, trie_size);
        strbuf_add(out, m->replacements, m->replacements_size - 1); /* without the NUL that was put behind */
        return;
    }
}
