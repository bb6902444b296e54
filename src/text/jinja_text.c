/* jinja_text.c — the texts of templates, by characters as Python counts them, and values as JSON. */
#include "text/jinja_internal.h"

#include <inttypes.h>
#include <string.h>
#include <utf8proc.h>

/* ---- characters ---- */

static size_t char_length(const char *s, size_t n, utf8proc_int32_t *c) {
    utf8proc_ssize_t len = utf8proc_iterate((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)n, c);
    if (len > 0) return (size_t)len;
    *c = -1;
    return 1;
}

static size_t last_char_length(const char *s, size_t n, utf8proc_int32_t *c) {
    size_t len = 1;
    while (len < 4 && len < n && ((unsigned char)s[n - len] & 0xc0) == 0x80) len++;
    if (char_length(s + n - len, len, c) == len) return len;
    *c = -1;
    return 1;
}

int64_t value_count_chars(jinja_run *r, value v) {
    int64_t n = 0;
    utf8proc_int32_t c;
    if (!jinja_charge(r, v.string.n)) return 0;
    for (size_t i = 0; i < v.string.n; i += char_length(v.string.bytes + i, v.string.n - i, &c)) n++;
    return n;
}

static bool is_white(utf8proc_int32_t c) {
    if (c < 0) return false;
    utf8proc_category_t kind = utf8proc_category(c);
    return (c >= '\t' && c <= '\r') || (c >= 0x1c && c <= 0x1f) || c == 0x85 || kind == UTF8PROC_CATEGORY_ZS ||
           kind == UTF8PROC_CATEGORY_ZL || kind == UTF8PROC_CATEGORY_ZP;
}

/* Of `set`, or white where that is undefined. */
static bool is_in_set(value set, utf8proc_int32_t c) {
    utf8proc_int32_t of;
    if (set.kind != VALUE_STRING) return is_white(c);
    for (size_t i = 0; i < set.string.n;) {
        i += char_length(set.string.bytes + i, set.string.n - i, &of);
        if (of == c && c >= 0) return true;
    }
    return false;
}

value value_strip(jinja_run *r, value v, value set, bool left, bool right) {
    utf8proc_int32_t c;
    size_t set_size = set.kind == VALUE_STRING ? set.string.n : 0;
    if (!jinja_charge(r, v.string.n)) return v;
    while (left && v.string.n && jinja_charge(r, set_size)) {
        size_t len = char_length(v.string.bytes, v.string.n, &c);
        if (!is_in_set(set, c)) break;
        v.string.bytes += len;
        v.string.n -= len;
    }
    while (right && v.string.n && jinja_charge(r, set_size)) {
        size_t len = last_char_length(v.string.bytes, v.string.n, &c);
        if (!is_in_set(set, c)) break;
        v.string.n -= len;
    }
    return v;
}

value value_change_case(jinja_run *r, value v, letter_case to) {
    strbuf s = STRBUF_INIT;
    if (!jinja_charge(r, v.string.n)) return v;
    for (size_t i = 0; i < v.string.n;) {
        utf8proc_int32_t c;
        utf8proc_uint8_t bytes[4];
        bool up = to == CASE_UPPER || (to == CASE_CAPITALIZE && !i);
        size_t len = char_length(v.string.bytes + i, v.string.n - i, &c);
        if (c >= 0)
            strbuf_add(&s, bytes, (size_t)utf8proc_encode_char(up ? utf8proc_toupper(c) : utf8proc_tolower(c), bytes));
        else
            strbuf_add(&s, v.string.bytes + i, len);
        i += len;
    }
    return value_keep_text(r, &s);
}

/* The first place of `what` at or behind `at`; SIZE_MAX when there is none. */
size_t value_find(jinja_run *r, value in, value what, size_t at) {
    size_t start = at, found = SIZE_MAX;
    for (; what.string.n <= in.string.n && at <= in.string.n - what.string.n; at++) {
        const char *text = in.string.bytes + at;
        if (what.string.n && *text != *what.string.bytes) continue;
        if (!memcmp(text, what.string.bytes, what.string.n)) {
            found = at;
            break;
        }
        if (what.string.n >= 256 && !jinja_charge(r, what.string.n)) break;
    }
    return jinja_charge(r, at - start) ? found : SIZE_MAX;
}

value value_part(value v, size_t from, size_t to) {
    return (value){.kind = VALUE_STRING, .string = {v.string.bytes + from, to - from}};
}

value value_split(jinja_run *r, value v, value separator) {
    value list = value_new_list(r, VALUE_LIST);
    size_t from = 0, at;
    if (r->m->rc) return list;
    if (separator.kind != VALUE_STRING || !separator.string.n) return REFUSE(r, "split without a separator is not supported");
    while ((at = value_find(r, v, separator, from)) != SIZE_MAX && !r->m->rc) {
        value_add(r, list, value_part(v, from, at));
        from = at + separator.string.n;
    }
    value_add(r, list, value_part(v, from, v.string.n));
    return list;
}

value value_replace(jinja_run *r, value v, value what, value with) {
    strbuf s = STRBUF_INIT;
    size_t from = 0, at;
    if (what.kind != VALUE_STRING || with.kind != VALUE_STRING || !what.string.n)
        return REFUSE(r, "replace needs two texts, the first not empty");
    while ((at = value_find(r, v, what, from)) != SIZE_MAX && s.len <= JINJA_MEMORY_MAX && jinja_step(r)) {
        strbuf_add(&s, v.string.bytes + from, at - from);
        strbuf_add(&s, with.string.bytes, with.string.n);
        from = at + what.string.n;
    }
    strbuf_add(&s, v.string.bytes + from, v.string.n - from);
    return value_keep_text(r, &s);
}

/* Byte offset of character i of a text; its length when there are fewer. */
size_t value_char_offset(value v, int64_t i) {
    size_t at = 0;
    utf8proc_int32_t c;
    for (; i > 0 && at < v.string.n; i--) at += char_length(v.string.bytes + at, v.string.n - at, &c);
    return at;
}

/* ---- JSON, as Python's json.dumps writes it ---- */

static void add_json_text(value v, strbuf *s) {
    static const char letters[] = "\"\\\n\r\t\b\f", names[] = "\"\\nrtbf";
    strbuf_add_char(s, '"');
    for (size_t i = 0; i < v.string.n; i++) {
        char c = v.string.bytes[i];
        const char *escaped = c ? strchr(letters, c) : NULL;
        if (escaped)
            strbuf_addf(s, "\\%c", names[escaped - letters]);
        else if ((unsigned char)c < 0x20)
            strbuf_addf(s, "\\u%04x", (unsigned)(unsigned char)c);
        else
            strbuf_add_char(s, c);
    }
    strbuf_add_char(s, '"');
}

void value_add_json(jinja_run *r, value v, int depth, strbuf *s) {
    if (!jinja_step(r) || s->len > JINJA_MEMORY_MAX) return;
    if (depth == JINJA_DEPTH_MAX) jinja_fail(r->m, ERR_UNSUPPORTED, r->line, "tojson of values that deep is not supported");
    switch (v.kind) {
    case VALUE_NONE: strbuf_add_str(s, "null"); break;
    case VALUE_BOOLEAN: strbuf_add_str(s, v.boolean ? "true" : "false"); break;
    case VALUE_INTEGER: strbuf_addf(s, "%" PRId64, v.integer); break;
    case VALUE_STRING: add_json_text(v, s); break;
    case VALUE_LIST:
    case VALUE_DICT:
        strbuf_add_char(s, v.kind == VALUE_LIST ? '[' : '{');
        for (size_t i = 0; i < v.list->n && !r->m->rc; i++) {
            bool is_value = v.kind == VALUE_DICT && i % 2;
            if (i) strbuf_add_str(s, is_value ? ": " : ", ");
            value_add_json(r, v.list->items[i], depth + 1, s);
        }
        strbuf_add_char(s, v.kind == VALUE_LIST ? ']' : '}');
        break;
    default: jinja_fail(r->m, ERR_UNSUPPORTED, r->line, "tojson of %s is not supported", value_kind_name(v));
    }
}
