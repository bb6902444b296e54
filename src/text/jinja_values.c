/* jinja_values.c — the values of templates, and the filters, tests, methods and functions they know. */
#include "text/jinja_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

bool jinja_step(jinja_run *r) {
    if (++r->steps > JINJA_STEPS_MAX) jinja_fail(r->m, ERR_UNSUPPORTED, r->line, "more than %d steps", JINJA_STEPS_MAX);
    return !r->m->rc;
}

/* Work on long texts is many steps. */
static bool charge(jinja_run *r, size_t bytes) {
    r->steps += (int64_t)(bytes / 256);
    return jinja_step(r);
}

#define REFUSE(r, ...) (jinja_fail((r)->m, ERR_UNSUPPORTED, (r)->line, __VA_ARGS__), (value){VALUE_NONE, {0}})

/* ---- making values ---- */

value value_text(jinja_run *r, const char *bytes, size_t n) {
    (void)r;
    return (value){.kind = VALUE_STRING, .string = {bytes, n}};
}

value value_word(const char *text) { return (value){.kind = VALUE_STRING, .string = {text, strlen(text)}}; }
value value_integer(int64_t i) { return (value){.kind = VALUE_INTEGER, .integer = i}; }
value value_boolean(bool b) { return (value){.kind = VALUE_BOOLEAN, .boolean = b}; }

static value undefined(const char *name, size_t n) { return (value){.kind = VALUE_UNDEFINED, .string = {name, n}}; }

/* The text that a strbuf holds, kept with the template's memory; releases the strbuf. */
static value keep_text(jinja_run *r, strbuf *s) {
    char *copy = s->failed ? NULL : jinja_take(r->m, s->len + 1, 1);
    value v = value_text(r, copy ? copy : "", copy ? s->len : 0);
    if (copy) memcpy(copy, s->data, s->len);
    if (s->failed && !r->m->rc) r->m->rc = strbuf_check(s, r->m->e);
    strbuf_release(s);
    return v;
}

value value_new_list(jinja_run *r, value_kind kind) {
    value v = {.kind = kind, .list = jinja_take(r->m, 1, sizeof *v.list)};
    return v.list ? v : (value){VALUE_NONE, {0}};
}

void value_add(jinja_run *r, value list, value item) {
    if (!jinja_step(r)) return;
    value_list *l = list.list;
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 4;
        value *items = jinja_take(r->m, cap, sizeof *items);
        if (!items) return;
        if (l->n) memcpy(items, l->items, l->n * sizeof *items);
        l->items = items;
        l->cap = cap;
    }
    l->items[l->n++] = item;
}

static bool same_text(jinja_run *r, value a, value b) {
    return charge(r, a.string.n) && a.string.n == b.string.n && !memcmp(a.string.bytes, b.string.bytes, a.string.n);
}

static value *find_key(jinja_run *r, value dict, value key) {
    if (r->m->rc) return NULL;
    for (size_t i = 0; i + 1 < dict.list->n && jinja_step(r); i += 2)
        if (value_equal(r, dict.list->items[i], key)) return &dict.list->items[i + 1];
    return NULL;
}

void value_put(jinja_run *r, value dict, value key, value item) {
    value *old = find_key(r, dict, key);
    if (old) {
        *old = item;
        return;
    }
    value_add(r, dict, key);
    value_add(r, dict, item);
}

bool value_get(jinja_run *r, value dict, value key, value *out) {
    const value *found = find_key(r, dict, key);
    if (found) *out = *found;
    return found;
}

/* ---- what values are ---- */

const char *value_kind_name(value v) {
    static const char *const names[] = {"undefined", "none",      "a boolean",   "a number", "a text",
                                        "a list",    "a mapping", "a namespace", "loop",     "a function"};
    return names[v.kind];
}

static bool is_list(value v) { return v.kind == VALUE_LIST || v.kind == VALUE_DICT || v.kind == VALUE_NAMESPACE; }
static bool is_mapping(value v) { return v.kind == VALUE_DICT || v.kind == VALUE_NAMESPACE; }

bool value_is_true(value v) {
    switch (v.kind) {
    case VALUE_UNDEFINED:
    case VALUE_NONE: return false;
    case VALUE_BOOLEAN: return v.boolean;
    case VALUE_INTEGER: return v.integer != 0;
    case VALUE_STRING: return v.string.n;
    case VALUE_LIST:
    case VALUE_DICT: return v.list->n;
    default: return true;
    }
}

static bool as_number(value v, int64_t *out) {
    if (v.kind == VALUE_BOOLEAN) *out = v.boolean;
    if (v.kind == VALUE_INTEGER) *out = v.integer;
    return v.kind == VALUE_BOOLEAN || v.kind == VALUE_INTEGER;
}

static bool equal_at(jinja_run *r, value a, value b, int depth) {
    int64_t x, y;
    if (!jinja_step(r)) return false;
    if (as_number(a, &x) && as_number(b, &y)) return x == y;
    if (a.kind != b.kind) return false;
    if (a.kind == VALUE_STRING) return same_text(r, a, b);
    if (!is_list(a)) return true; /* none, undefined */
    if (a.list == b.list) return true;
    if (a.list->n != b.list->n || depth == JINJA_DEPTH_MAX) return false;
    for (size_t i = 0; i < a.list->n; i++)
        if (!equal_at(r, a.list->items[i], b.list->items[i], depth + 1)) return false;
    return true;
}

bool value_equal(jinja_run *r, value a, value b) { return equal_at(r, a, b, 0); }

value value_to_text(jinja_run *r, value v) {
    char digits[32];
    strbuf s = STRBUF_INIT;
    switch (v.kind) {
    case VALUE_UNDEFINED: return value_word("");
    case VALUE_NONE: return value_word("None");
    case VALUE_BOOLEAN: return value_word(v.boolean ? "True" : "False");
    case VALUE_STRING: return v;
    case VALUE_INTEGER:
        snprintf(digits, sizeof digits, "%" PRId64, v.integer);
        strbuf_add_str(&s, digits);
        return keep_text(r, &s);
    default:
        jinja_fail(r->m, ERR_UNSUPPORTED, r->line, "%s as text is not supported", value_kind_name(v));
        return value_word("");
    }
}

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

static int64_t count_chars(jinja_run *r, value v) {
    int64_t n = 0;
    utf8proc_int32_t c;
    if (!charge(r, v.string.n)) return 0;
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

static value strip(jinja_run *r, value v, value set, bool left, bool right) {
    utf8proc_int32_t c;
    size_t set_size = set.kind == VALUE_STRING ? set.string.n : 0;
    if (!charge(r, v.string.n)) return v;
    while (left && v.string.n && charge(r, set_size)) {
        size_t len = char_length(v.string.bytes, v.string.n, &c);
        if (!is_in_set(set, c)) break;
        v.string.bytes += len;
        v.string.n -= len;
    }
    while (right && v.string.n && charge(r, set_size)) {
        size_t len = last_char_length(v.string.bytes, v.string.n, &c);
        if (!is_in_set(set, c)) break;
        v.string.n -= len;
    }
    return v;
}

typedef enum letter_case { CASE_LOWER, CASE_UPPER, CASE_CAPITALIZE } letter_case;

static value change_case(jinja_run *r, value v, letter_case to) {
    strbuf s = STRBUF_INIT;
    if (!charge(r, v.string.n)) return v;
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
    return keep_text(r, &s);
}

/* The first place of `what` at or behind `at`; SIZE_MAX when there is none. */
static size_t find_text(jinja_run *r, value in, value what, size_t at) {
    size_t start = at, found = SIZE_MAX;
    for (; what.string.n <= in.string.n && at <= in.string.n - what.string.n; at++) {
        const char *text = in.string.bytes + at;
        if (what.string.n && *text != *what.string.bytes) continue;
        if (!memcmp(text, what.string.bytes, what.string.n)) {
            found = at;
            break;
        }
        if (what.string.n >= 256 && !charge(r, what.string.n)) break;
    }
    return charge(r, at - start) ? found : SIZE_MAX;
}

static value part(value v, size_t from, size_t to) {
    return (value){.kind = VALUE_STRING, .string = {v.string.bytes + from, to - from}};
}

static value split(jinja_run *r, value v, value separator) {
    value list = value_new_list(r, VALUE_LIST);
    size_t from = 0, at;
    if (r->m->rc) return list;
    if (separator.kind != VALUE_STRING || !separator.string.n) return REFUSE(r, "split without a separator is not supported");
    while ((at = find_text(r, v, separator, from)) != SIZE_MAX && !r->m->rc) {
        value_add(r, list, part(v, from, at));
        from = at + separator.string.n;
    }
    value_add(r, list, part(v, from, v.string.n));
    return list;
}

static value replace(jinja_run *r, value v, value what, value with) {
    strbuf s = STRBUF_INIT;
    size_t from = 0, at;
    if (what.kind != VALUE_STRING || with.kind != VALUE_STRING || !what.string.n)
        return REFUSE(r, "replace needs two texts, the first not empty");
    while ((at = find_text(r, v, what, from)) != SIZE_MAX && s.len <= JINJA_MEMORY_MAX && jinja_step(r)) {
        strbuf_add(&s, v.string.bytes + from, at - from);
        strbuf_add(&s, with.string.bytes, with.string.n);
        from = at + what.string.n;
    }
    strbuf_add(&s, v.string.bytes + from, v.string.n - from);
    return keep_text(r, &s);
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

static void add_json(jinja_run *r, value v, int depth, strbuf *s) {
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
            add_json(r, v.list->items[i], depth + 1, s);
        }
        strbuf_add_char(s, v.kind == VALUE_LIST ? ']' : '}');
        break;
    default: jinja_fail(r->m, ERR_UNSUPPORTED, r->line, "tojson of %s is not supported", value_kind_name(v));
    }
}

/* ---- filters ---- */

static value argument(const arguments *a, int i) { return i < a->n ? a->v[i] : (value){.kind = VALUE_UNDEFINED}; }

typedef value (*value_call)(jinja_run *r, value of, const arguments *a);

typedef struct call_row {
    const char *name;
    value_call call;
    int min, max; /* arguments */
} call_row;

static value filter_trim(jinja_run *r, value of, const arguments *a) {
    return strip(r, value_to_text(r, of), argument(a, 0), true, true);
}

static value filter_length(jinja_run *r, value of, const arguments *a) {
    (void)a;
    if (of.kind == VALUE_UNDEFINED) return value_integer(0);
    if (of.kind == VALUE_STRING) return value_integer(count_chars(r, of));
    if (!is_list(of)) return REFUSE(r, "the length of %s", value_kind_name(of));
    return value_integer((int64_t)(of.kind == VALUE_LIST ? of.list->n : of.list->n / 2));
}

static value filter_tojson(jinja_run *r, value of, const arguments *a) {
    strbuf s = STRBUF_INIT;
    (void)a;
    add_json(r, of, 0, &s);
    return keep_text(r, &s);
}

static value filter_string(jinja_run *r, value of, const arguments *a) {
    (void)a;
    return value_to_text(r, of);
}

static value filter_default(jinja_run *r, value of, const arguments *a) {
    (void)r;
    bool missing = of.kind == VALUE_UNDEFINED || (a->n > 1 && value_is_true(a->v[1]) && !value_is_true(of));
    return !missing ? of : a->n ? a->v[0] : value_word("");
}

static value filter_lower(jinja_run *r, value of, const arguments *a) {
    (void)a;
    return change_case(r, value_to_text(r, of), CASE_LOWER);
}

static value filter_upper(jinja_run *r, value of, const arguments *a) {
    (void)a;
    return change_case(r, value_to_text(r, of), CASE_UPPER);
}

static value filter_capitalize(jinja_run *r, value of, const arguments *a) {
    (void)a;
    return change_case(r, value_to_text(r, of), CASE_CAPITALIZE);
}

static value filter_replace(jinja_run *r, value of, const arguments *a) {
    return replace(r, value_to_text(r, of), a->v[0], a->v[1]);
}

static value end_of(jinja_run *r, value of, bool first) {
    if (of.kind != VALUE_LIST) return REFUSE(r, "the %s of %s", first ? "first" : "last", value_kind_name(of));
    if (!of.list->n) return undefined("item of an empty list", 21);
    return of.list->items[first ? 0 : of.list->n - 1];
}

static value filter_first(jinja_run *r, value of, const arguments *a) {
    (void)a;
    return end_of(r, of, true);
}

static value filter_last(jinja_run *r, value of, const arguments *a) {
    (void)a;
    return end_of(r, of, false);
}

static value filter_list(jinja_run *r, value of, const arguments *a) {
    (void)a;
    if (of.kind == VALUE_LIST) return of;
    value list = value_new_list(r, VALUE_LIST);
    if (of.kind != VALUE_DICT) return REFUSE(r, "a list of %s", value_kind_name(of));
    for (size_t i = 0; i < of.list->n && !r->m->rc; i += 2) value_add(r, list, of.list->items[i]);
    return list;
}

static value filter_items(jinja_run *r, value of, const arguments *a) {
    (void)a;
    value list = value_new_list(r, VALUE_LIST);
    if (!is_mapping(of)) return REFUSE(r, "the items of %s", value_kind_name(of));
    for (size_t i = 0; i + 1 < of.list->n && !r->m->rc; i += 2) {
        value pair = value_new_list(r, VALUE_LIST);
        if (r->m->rc) break;
        value_add(r, pair, of.list->items[i]);
        value_add(r, pair, of.list->items[i + 1]);
        value_add(r, list, pair);
    }
    return list;
}

static value filter_join(jinja_run *r, value of, const arguments *a) {
    strbuf s = STRBUF_INIT;
    value between = a->n ? value_to_text(r, a->v[0]) : value_word("");
    if (of.kind != VALUE_LIST) return REFUSE(r, "join of %s", value_kind_name(of));
    for (size_t i = 0; i < of.list->n && s.len <= JINJA_MEMORY_MAX && jinja_step(r); i++) {
        value item = value_to_text(r, of.list->items[i]);
        if (r->m->rc) break;
        if (i) strbuf_add(&s, between.string.bytes, between.string.n);
        strbuf_add(&s, item.string.bytes, item.string.n);
    }
    return keep_text(r, &s);
}

static value select_by(jinja_run *r, value of, const arguments *a, bool wanted) {
    value list = value_new_list(r, VALUE_LIST);
    arguments rest = {.n = a->n > 2 ? a->n - 2 : 0};
    if (of.kind != VALUE_LIST || a->v[0].kind != VALUE_STRING) return REFUSE(r, "selectattr of %s", value_kind_name(of));
    for (int i = 0; i < rest.n; i++) rest.v[i] = a->v[i + 2];
    for (size_t i = 0; i < of.list->n && !r->m->rc; i++) {
        value item = of.list->items[i], got = value_attribute(r, item, a->v[0].string.bytes, a->v[0].string.n);
        if (a->n > 1 && a->v[1].kind != VALUE_STRING) return REFUSE(r, "selectattr without the name of a test");
        if (a->n > 1) got = value_test(r, a->v[1].string.bytes, a->v[1].string.n, got, &rest);
        if (value_is_true(got) == wanted) value_add(r, list, item);
    }
    return list;
}

static value filter_selectattr(jinja_run *r, value of, const arguments *a) { return select_by(r, of, a, true); }
static value filter_rejectattr(jinja_run *r, value of, const arguments *a) { return select_by(r, of, a, false); }

static value filter_int(jinja_run *r, value of, const arguments *a) {
    int64_t number = 0;
    (void)a;
    if (as_number(of, &number)) return value_integer(number);
    return REFUSE(r, "%s as a number is not supported", value_kind_name(of));
}

/* How to add one: a function and a row, and a template in tests/golden/chat/make.py that uses it. */
static const call_row filters[] = {
    {"trim", filter_trim, 0, 1},
    {"length", filter_length, 0, 0},
    {"count", filter_length, 0, 0},
    {"tojson", filter_tojson, 0, 0},
    {"string", filter_string, 0, 0},
    {"safe", filter_string, 0, 0},
    {"default", filter_default, 0, 2},
    {"d", filter_default, 0, 2},
    {"lower", filter_lower, 0, 0},
    {"upper", filter_upper, 0, 0},
    {"first", filter_first, 0, 0},
    {"last", filter_last, 0, 0},
    {"list", filter_list, 0, 0},
    {"items", filter_items, 0, 0},
    {"join", filter_join, 0, 1},
    {"replace", filter_replace, 2, 2},
    {"int", filter_int, 0, 0},
    {"capitalize", filter_capitalize, 0, 0},
    {"selectattr", filter_selectattr, 1, 4},
    {"rejectattr", filter_rejectattr, 1, 4},
};

/* ---- methods of texts and mappings ---- */

static value method_strip(jinja_run *r, value of, const arguments *a) { return strip(r, of, argument(a, 0), true, true); }

static value method_lstrip(jinja_run *r, value of, const arguments *a) { return strip(r, of, argument(a, 0), true, false); }

static value method_rstrip(jinja_run *r, value of, const arguments *a) { return strip(r, of, argument(a, 0), false, true); }

static bool has_at(value of, value what, size_t at) {
    return what.kind == VALUE_STRING && what.string.n <= of.string.n - at &&
           !memcmp(of.string.bytes + at, what.string.bytes, what.string.n);
}

static value method_startswith(jinja_run *r, value of, const arguments *a) {
    if (a->v[0].kind != VALUE_STRING) return REFUSE(r, "startswith needs a text");
    return value_boolean(has_at(of, a->v[0], 0));
}

static value method_endswith(jinja_run *r, value of, const arguments *a) {
    if (a->v[0].kind != VALUE_STRING) return REFUSE(r, "endswith needs a text");
    return value_boolean(a->v[0].string.n <= of.string.n && has_at(of, a->v[0], of.string.n - a->v[0].string.n));
}

static value method_split(jinja_run *r, value of, const arguments *a) { return split(r, of, argument(a, 0)); }

static const call_row text_methods[] = {
    {"strip", method_strip, 0, 1},           {"lstrip", method_lstrip, 0, 1},         {"rstrip", method_rstrip, 0, 1},
    {"split", method_split, 1, 1},           {"startswith", method_startswith, 1, 1}, {"endswith", method_endswith, 1, 1},
    {"replace", filter_replace, 2, 2},       {"lower", filter_lower, 0, 0},           {"upper", filter_upper, 0, 0},
    {"capitalize", filter_capitalize, 0, 0},
};

static value method_get(jinja_run *r, value of, const arguments *a) {
    value found = a->n > 1 ? a->v[1] : (value){.kind = VALUE_NONE};
    value_get(r, of, a->v[0], &found);
    return found;
}

static const call_row mapping_methods[] = {
    {"items", filter_items, 0, 0},
    {"keys", filter_list, 0, 0},
    {"get", method_get, 1, 2},
};

/* ---- tests ---- */

static value test_defined(jinja_run *r, value of, const arguments *a) {
    (void)r, (void)a;
    return value_boolean(of.kind != VALUE_UNDEFINED);
}

static value test_undefined(jinja_run *r, value of, const arguments *a) {
    (void)r, (void)a;
    return value_boolean(of.kind == VALUE_UNDEFINED);
}

static value test_none(jinja_run *r, value of, const arguments *a) {
    (void)r, (void)a;
    return value_boolean(of.kind == VALUE_NONE);
}

static value test_string(jinja_run *r, value of, const arguments *a) {
    (void)r, (void)a;
    return value_boolean(of.kind == VALUE_STRING);
}

static value test_number(jinja_run *r, value of, const arguments *a) {
    (void)r, (void)a;
    return value_boolean(of.kind == VALUE_INTEGER || of.kind == VALUE_BOOLEAN);
}

static value test_boolean(jinja_run *r, value of, const arguments *a) {
    (void)r, (void)a;
    return value_boolean(of.kind == VALUE_BOOLEAN);
}

static value test_true(jinja_run *r, value of, const arguments *a) {
    (void)r, (void)a;
    return value_boolean(of.kind == VALUE_BOOLEAN && of.boolean);
}

static value test_false(jinja_run *r, value of, const arguments *a) {
    (void)r, (void)a;
    return value_boolean(of.kind == VALUE_BOOLEAN && !of.boolean);
}

static value test_mapping(jinja_run *r, value of, const arguments *a) {
    (void)r, (void)a;
    return value_boolean(of.kind == VALUE_DICT);
}

static value test_iterable(jinja_run *r, value of, const arguments *a) {
    (void)r, (void)a;
    return value_boolean(of.kind == VALUE_LIST || of.kind == VALUE_DICT || of.kind == VALUE_STRING ||
                         of.kind == VALUE_UNDEFINED);
}

static value test_equal(jinja_run *r, value of, const arguments *a) { return value_boolean(value_equal(r, of, a->v[0])); }
static value test_unequal(jinja_run *r, value of, const arguments *a) { return value_boolean(!value_equal(r, of, a->v[0])); }
static value test_in(jinja_run *r, value of, const arguments *a) { return value_binary(r, OP_IN, of, a->v[0]); }

static const call_row tests[] = {
    {"defined", test_defined, 0, 0},   {"undefined", test_undefined, 0, 0},
    {"none", test_none, 0, 0},         {"string", test_string, 0, 0},
    {"number", test_number, 0, 0},     {"boolean", test_boolean, 0, 0},
    {"true", test_true, 0, 0},         {"false", test_false, 0, 0},
    {"mapping", test_mapping, 0, 0},   {"iterable", test_iterable, 0, 0},
    {"sequence", test_iterable, 0, 0}, {"equalto", test_equal, 1, 1},
    {"eq", test_equal, 1, 1},          {"==", test_equal, 1, 1},
    {"ne", test_unequal, 1, 1},        {"in", test_in, 1, 1},
};

/* ---- functions ---- */

static value call_raise(jinja_run *r, value of, const arguments *a) {
    (void)of;
    value why = value_to_text(r, a->v[0]);
    return REFUSE(r, "%.*s", (int)(why.string.n < 300 ? why.string.n : 300), why.string.bytes);
}

static value call_namespace(jinja_run *r, value of, const arguments *a) {
    (void)of;
    value space = value_new_list(r, VALUE_NAMESPACE);
    for (int i = 0; i < a->n && !r->m->rc; i++) {
        if (!a->keyword[i]) return REFUSE(r, "namespace with an argument without a name");
        value_put(r, space, value_text(r, a->keyword[i], a->n_keyword[i]), a->v[i]);
    }
    return space;
}

static value call_range(jinja_run *r, value of, const arguments *a) {
    int64_t from = 0, to = 0;
    (void)of;
    value list = value_new_list(r, VALUE_LIST);
    bool ok = as_number(a->v[a->n - 1], &to) && (a->n == 1 || as_number(a->v[0], &from));
    if (!ok) return REFUSE(r, "range of something else than numbers");
    for (; from < to && !r->m->rc; from++) value_add(r, list, value_integer(from));
    return list;
}

/* Only what cannot depend on a locale's calendar. */
static value call_strftime(jinja_run *r, value of, const arguments *a) {
    char text[256];
    (void)of;
    value format = a->v[0];
    if (format.kind != VALUE_STRING || format.string.n >= 64) return REFUSE(r, "strftime_now of such a format");
    char copy[64];
    memcpy(copy, format.string.bytes, format.string.n);
    copy[format.string.n] = '\0';
    for (const char *p = copy; (p = strchr(p, '%')); p += 2)
        if (!p[1] || !strchr("dmYybBaAHMSj%", p[1]))
            return REFUSE(r, "strftime_now with %%%c is not supported", p[1] ? p[1] : ' ');
    strbuf s = STRBUF_INIT;
    strbuf_add(&s, text, strftime(text, sizeof text, copy, &r->context->today));
    return keep_text(r, &s);
}

static const call_row functions[] = {
    {"raise_exception", call_raise, 1, 1},
    {"namespace", call_namespace, 0, 8},
    {"range", call_range, 1, 2},
    {"strftime_now", call_strftime, 1, 1},
};

/* ---- looking them up ---- */

static const call_row *find_call(const call_row *rows, size_t n_rows, const char *name, size_t n) {
    for (size_t i = 0; i < n_rows; i++)
        if (strlen(rows[i].name) == n && !memcmp(rows[i].name, name, n)) return &rows[i];
    return NULL;
}

static value call(jinja_run *r, const char *what, const call_row *rows, size_t n_rows, const char *name, size_t n, value of,
                  const arguments *a) {
    const call_row *row = find_call(rows, n_rows, name, n);
    int shown = (int)(n < 60 ? n : 60);
    if (r->m->rc) return (value){VALUE_NONE, {0}};
    if (!row) return REFUSE(r, "the %s '%.*s' is not supported", what, shown, name);
    for (int i = 0; i < a->n; i++)
        if (a->keyword[i] && rows != functions)
            return REFUSE(r, "the %s '%.*s' with the argument %.*s is not supported", what, shown, name,
                          (int)(a->n_keyword[i] < 40 ? a->n_keyword[i] : 40), a->keyword[i]);
    if (a->n < row->min || a->n > row->max)
        return REFUSE(r, "the %s '%.*s' with %d arguments is not supported", what, shown, name, a->n);
    return row->call(r, of, a);
}

#define COUNT(rows) (sizeof(rows) / sizeof *(rows))

value value_filter(jinja_run *r, const char *name, size_t n, value of, const arguments *a) {
    return call(r, "filter", filters, COUNT(filters), name, n, of, a);
}

value value_test(jinja_run *r, const char *name, size_t n, value of, const arguments *a) {
    return call(r, "test", tests, COUNT(tests), name, n, of, a);
}

value value_method(jinja_run *r, const char *name, size_t n, value of, const arguments *a) {
    if (of.kind == VALUE_STRING) return call(r, "method", text_methods, COUNT(text_methods), name, n, of, a);
    if (is_mapping(of)) return call(r, "method", mapping_methods, COUNT(mapping_methods), name, n, of, a);
    return REFUSE(r, "the method '%.*s' of %s is not supported", (int)(n < 60 ? n : 60), name, value_kind_name(of));
}

value value_function(jinja_run *r, const char *name, size_t n, const arguments *a) {
    return call(r, "function", functions, COUNT(functions), name, n, (value){VALUE_NONE, {0}}, a);
}

bool value_is_function(const char *name, size_t n) { return find_call(functions, COUNT(functions), name, n); }

/* ---- parts of values ---- */

static value loop_attribute(value_loop l, const char *name, size_t n) {
    const struct {
        const char *name;
        value v;
    } fields[] = {
        {"first", value_boolean(l.index == 0)},
        {"last", value_boolean(l.index == l.n - 1)},
        {"index", value_integer(l.index + 1)},
        {"index0", value_integer(l.index)},
        {"length", value_integer(l.n)},
        {"revindex", value_integer(l.n - l.index)},
        {"revindex0", value_integer(l.n - l.index - 1)},
    };
    for (size_t i = 0; i < COUNT(fields); i++)
        if (strlen(fields[i].name) == n && !memcmp(fields[i].name, name, n)) return fields[i].v;
    return undefined(name, n);
}

static value missing(jinja_run *r, value of) {
    return REFUSE(r, "'%.*s' is undefined", (int)(of.string.n < 60 ? of.string.n : 60),
                  of.string.bytes ? of.string.bytes : "");
}

value value_attribute(jinja_run *r, value of, const char *name, size_t n) {
    value found = undefined(name, n);
    if (of.kind == VALUE_UNDEFINED) return missing(r, of);
    if (of.kind == VALUE_LOOP) {
        found = loop_attribute(*of.loop, name, n);
        if (found.kind == VALUE_UNDEFINED) return REFUSE(r, "loop.%.*s is not supported", (int)(n < 60 ? n : 60), name);
        return found;
    }
    if (is_mapping(of)) value_get(r, of, value_text(r, name, n), &found);
    return found;
}

/* Byte offset of character i of a text; its length when there are fewer. */
static size_t char_offset(value v, int64_t i) {
    size_t at = 0;
    utf8proc_int32_t c;
    for (; i > 0 && at < v.string.n; i--) at += char_length(v.string.bytes + at, v.string.n - at, &c);
    return at;
}

value value_index(jinja_run *r, value of, value index) {
    int64_t i, n;
    if (of.kind == VALUE_UNDEFINED) return missing(r, of);
    if (index.kind == VALUE_STRING) return value_attribute(r, of, index.string.bytes, index.string.n);
    if ((of.kind != VALUE_LIST && of.kind != VALUE_STRING) || !as_number(index, &i))
        return REFUSE(r, "%s with an index that is %s", value_kind_name(of), value_kind_name(index));
    n = of.kind == VALUE_LIST ? (int64_t)of.list->n : count_chars(r, of);
    if (i < 0) i += n;
    if (i < 0 || i >= n) return undefined("item of a list", 14);
    return of.kind == VALUE_LIST ? of.list->items[i] : part(of, char_offset(of, i), char_offset(of, i + 1));
}

static int64_t clamp(int64_t v, int64_t low, int64_t high) { return v < low ? low : v > high ? high : v; }

/* Python's: from and to may be missing, count from the end when negative; steps of 1 and -1. */
value value_slice(jinja_run *r, value of, value from, value to, value step) {
    int64_t a = 0, b = 0, by = 1;
    if (of.kind == VALUE_UNDEFINED) return missing(r, of);
    if (of.kind != VALUE_LIST && of.kind != VALUE_STRING) return REFUSE(r, "a slice of %s", value_kind_name(of));
    if (step.kind != VALUE_UNDEFINED && (!as_number(step, &by) || (by != 1 && by != -1)))
        return REFUSE(r, "slices with another step than 1 and -1 are not supported");
    int64_t n = of.kind == VALUE_LIST ? (int64_t)of.list->n : count_chars(r, of);
    bool has_from = as_number(from, &a), has_to = as_number(to, &b);
    if (!has_from) a = by > 0 ? 0 : n - 1;
    if (!has_to) b = by > 0 ? n : -1;
    if (has_from && a < 0) a = a < -n ? -1 : a + n;
    if (has_to && b < 0) b = b < -n ? -1 : b + n;
    a = clamp(a, by > 0 ? 0 : -1, by > 0 ? n : n - 1);
    b = clamp(b, by > 0 ? 0 : -1, by > 0 ? n : n - 1);
    if (of.kind == VALUE_STRING) {
        if (!charge(r, of.string.n)) return of;
        if (by < 0) return REFUSE(r, "texts backwards are not supported");
        size_t start = char_offset(of, a), end = char_offset(of, b > a ? b : a);
        return part(of, start, end);
    }
    value list = value_new_list(r, VALUE_LIST);
    for (int64_t i = a; (by > 0 ? i < b : i > b) && !r->m->rc; i += by) value_add(r, list, of.list->items[i]);
    return list;
}

/* ---- operators ---- */

static value contains(jinja_run *r, value what, value in) {
    value ignored;
    if (in.kind == VALUE_UNDEFINED) return value_boolean(false);
    if (is_mapping(in)) return value_boolean(value_get(r, in, what, &ignored));
    if (in.kind == VALUE_STRING && what.kind == VALUE_STRING) return value_boolean(find_text(r, in, what, 0) != SIZE_MAX);
    if (in.kind != VALUE_LIST) return REFUSE(r, "%s in %s", value_kind_name(what), value_kind_name(in));
    for (size_t i = 0; i < in.list->n; i++)
        if (value_equal(r, in.list->items[i], what)) return value_boolean(true);
    return value_boolean(false);
}

static value join_texts(jinja_run *r, value a, value b) {
    if (r->m->rc) return a;
    char *text = jinja_take(r->m, a.string.n + b.string.n + 1, 1);
    if (!text) return a;
    if (a.string.n) memcpy(text, a.string.bytes, a.string.n);
    if (b.string.n) memcpy(text + a.string.n, b.string.bytes, b.string.n);
    return value_text(r, text, a.string.n + b.string.n);
}

static value order(jinja_run *r, binary_op op, value a, value b) {
    int64_t x, y, sign;
    if (as_number(a, &x) && as_number(b, &y))
        sign = (x > y) - (x < y);
    else if (a.kind == VALUE_STRING && b.kind == VALUE_STRING) {
        size_t n = a.string.n < b.string.n ? a.string.n : b.string.n;
        sign = n ? memcmp(a.string.bytes, b.string.bytes, n) : 0;
        if (!sign) sign = (a.string.n > b.string.n) - (a.string.n < b.string.n);
    } else
        return REFUSE(r, "%s compared with %s", value_kind_name(a), value_kind_name(b));
    return value_boolean(op == OP_LESS ? sign < 0 : op == OP_AT_MOST ? sign <= 0 : op == OP_GREATER ? sign > 0 : sign >= 0);
}

static value calculate(jinja_run *r, binary_op op, int64_t x, int64_t y) {
    int64_t z = 0;
    bool over = false;
    if (op == OP_ADD) over = __builtin_add_overflow(x, y, &z);
    if (op == OP_SUBTRACT) over = __builtin_sub_overflow(x, y, &z);
    if (op == OP_MULTIPLY) over = __builtin_mul_overflow(x, y, &z);
    if (op == OP_FLOOR_DIVIDE || op == OP_MODULO) {
        if (y == 0 || (x == INT64_MIN && y == -1)) return REFUSE(r, "division of %" PRId64 " by %" PRId64, x, y);
        int64_t quotient = x / y, rest = x % y;
        bool towards = rest && (rest < 0) != (y < 0); /* Python rounds down */
        z = op == OP_MODULO ? rest + (towards ? y : 0) : quotient - towards;
    }
    return over ? REFUSE(r, "a number that large is not supported") : value_integer(z);
}

value value_binary(jinja_run *r, binary_op op, value a, value b) {
    int64_t x, y;
    if (r->m->rc) return a;
    switch (op) {
    case OP_EQUAL: return value_boolean(value_equal(r, a, b));
    case OP_UNEQUAL: return value_boolean(!value_equal(r, a, b));
    case OP_IN: return contains(r, a, b);
    case OP_NOT_IN: return value_boolean(!value_is_true(contains(r, a, b)));
    case OP_CONCAT: return join_texts(r, value_to_text(r, a), value_to_text(r, b));
    default: break;
    }
    if (a.kind == VALUE_UNDEFINED) return missing(r, a);
    if (b.kind == VALUE_UNDEFINED) return missing(r, b);
    if (op >= OP_LESS && op <= OP_AT_LEAST) return order(r, op, a, b);
    if (as_number(a, &x) && as_number(b, &y)) return calculate(r, op, x, y);
    if (op == OP_ADD && a.kind == VALUE_STRING && b.kind == VALUE_STRING) return join_texts(r, a, b);
    if (op == OP_ADD && a.kind == VALUE_LIST && b.kind == VALUE_LIST) {
        value list = value_new_list(r, VALUE_LIST);
        for (size_t i = 0; i < a.list->n && !r->m->rc; i++) value_add(r, list, a.list->items[i]);
        for (size_t i = 0; i < b.list->n && !r->m->rc; i++) value_add(r, list, b.list->items[i]);
        return list;
    }
    return REFUSE(r, "arithmetic with %s and %s is not supported", value_kind_name(a), value_kind_name(b));
}
