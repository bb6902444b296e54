/* jinja_values.c — the values of templates: made, compared, printed, their parts, and operators on them. */
#include "text/jinja_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

bool jinja_step(jinja_run *r) {
    if (++r->steps > JINJA_STEPS_MAX) jinja_fail(r->m, ERR_UNSUPPORTED, r->line, "more than %d steps", JINJA_STEPS_MAX);
    return !r->m->rc;
}

/* Work on long texts is many steps. */
bool jinja_charge(jinja_run *r, size_t bytes) {
    r->steps += (int64_t)(bytes / 256);
    return jinja_step(r);
}

/* ---- making values ---- */

value value_text(jinja_run *r, const char *bytes, size_t n) {
    (void)r;
    return (value){.kind = VALUE_STRING, .string = {bytes, n}};
}

value value_word(const char *text) { return (value){.kind = VALUE_STRING, .string = {text, strlen(text)}}; }
value value_integer(int64_t i) { return (value){.kind = VALUE_INTEGER, .integer = i}; }
value value_boolean(bool b) { return (value){.kind = VALUE_BOOLEAN, .boolean = b}; }

value value_undefined(const char *name, size_t n) { return (value){.kind = VALUE_UNDEFINED, .string = {name, n}}; }

/* The text that a strbuf holds, kept with the template's memory; releases the strbuf. */
value value_keep_text(jinja_run *r, strbuf *s) {
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
    return jinja_charge(r, a.string.n) && a.string.n == b.string.n && !memcmp(a.string.bytes, b.string.bytes, a.string.n);
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

bool value_as_number(value v, int64_t *out) {
    if (v.kind == VALUE_BOOLEAN) *out = v.boolean;
    if (v.kind == VALUE_INTEGER) *out = v.integer;
    return v.kind == VALUE_BOOLEAN || v.kind == VALUE_INTEGER;
}

static bool equal_at(jinja_run *r, value a, value b, int depth) {
    int64_t x, y;
    if (!jinja_step(r)) return false;
    if (value_as_number(a, &x) && value_as_number(b, &y)) return x == y;
    if (a.kind != b.kind) return false;
    if (a.kind == VALUE_STRING) return same_text(r, a, b);
    if (!value_is_list(a)) return true; /* none, undefined */
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
        return value_keep_text(r, &s);
    default:
        jinja_fail(r->m, ERR_UNSUPPORTED, r->line, "%s as text is not supported", value_kind_name(v));
        return value_word("");
    }
}

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
    return value_undefined(name, n);
}

static value missing(jinja_run *r, value of) {
    return REFUSE(r, "'%.*s' is undefined", (int)(of.string.n < 60 ? of.string.n : 60),
                  of.string.bytes ? of.string.bytes : "");
}

value value_attribute(jinja_run *r, value of, const char *name, size_t n) {
    value found = value_undefined(name, n);
    if (of.kind == VALUE_UNDEFINED) return missing(r, of);
    if (of.kind == VALUE_LOOP) {
        found = loop_attribute(*of.loop, name, n);
        if (found.kind == VALUE_UNDEFINED) return REFUSE(r, "loop.%.*s is not supported", (int)(n < 60 ? n : 60), name);
        return found;
    }
    if (value_is_mapping(of)) value_get(r, of, value_text(r, name, n), &found);
    return found;
}

value value_index(jinja_run *r, value of, value index) {
    int64_t i, n;
    if (of.kind == VALUE_UNDEFINED) return missing(r, of);
    if (index.kind == VALUE_STRING) return value_attribute(r, of, index.string.bytes, index.string.n);
    if ((of.kind != VALUE_LIST && of.kind != VALUE_STRING) || !value_as_number(index, &i))
        return REFUSE(r, "%s with an index that is %s", value_kind_name(of), value_kind_name(index));
    n = of.kind == VALUE_LIST ? (int64_t)of.list->n : value_count_chars(r, of);
    if (i < 0) i += n;
    if (i < 0 || i >= n) return value_undefined("item of a list", 14);
    return of.kind == VALUE_LIST ? of.list->items[i] : value_part(of, value_char_offset(of, i), value_char_offset(of, i + 1));
}

static int64_t clamp(int64_t v, int64_t low, int64_t high) { return v < low ? low : v > high ? high : v; }

/* Python's: from and to may be missing, count from the end when negative; steps of 1 and -1. */
value value_slice(jinja_run *r, value of, value from, value to, value step) {
    int64_t a = 0, b = 0, by = 1;
    if (of.kind == VALUE_UNDEFINED) return missing(r, of);
    if (of.kind != VALUE_LIST && of.kind != VALUE_STRING) return REFUSE(r, "a slice of %s", value_kind_name(of));
    if (step.kind != VALUE_UNDEFINED && (!value_as_number(step, &by) || (by != 1 && by != -1)))
        return REFUSE(r, "slices with another step than 1 and -1 are not supported");
    int64_t n = of.kind == VALUE_LIST ? (int64_t)of.list->n : value_count_chars(r, of);
    bool has_from = value_as_number(from, &a), has_to = value_as_number(to, &b);
    if (!has_from) a = by > 0 ? 0 : n - 1;
    if (!has_to) b = by > 0 ? n : -1;
    if (has_from && a < 0) a = a < -n ? -1 : a + n;
    if (has_to && b < 0) b = b < -n ? -1 : b + n;
    a = clamp(a, by > 0 ? 0 : -1, by > 0 ? n : n - 1);
    b = clamp(b, by > 0 ? 0 : -1, by > 0 ? n : n - 1);
    if (of.kind == VALUE_STRING) {
        if (!jinja_charge(r, of.string.n)) return of;
        if (by < 0) return REFUSE(r, "texts backwards are not supported");
        size_t start = value_char_offset(of, a), end = value_char_offset(of, b > a ? b : a);
        return value_part(of, start, end);
    }
    value list = value_new_list(r, VALUE_LIST);
    for (int64_t i = a; (by > 0 ? i < b : i > b) && !r->m->rc; i += by) value_add(r, list, of.list->items[i]);
    return list;
}

/* ---- operators ---- */

static value contains(jinja_run *r, value what, value in) {
    value ignored;
    if (in.kind == VALUE_UNDEFINED) return value_boolean(false);
    if (value_is_mapping(in)) return value_boolean(value_get(r, in, what, &ignored));
    if (in.kind == VALUE_STRING && what.kind == VALUE_STRING) return value_boolean(value_find(r, in, what, 0) != SIZE_MAX);
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
    if (value_as_number(a, &x) && value_as_number(b, &y))
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
    if (value_as_number(a, &x) && value_as_number(b, &y)) return calculate(r, op, x, y);
    if (op == OP_ADD && a.kind == VALUE_STRING && b.kind == VALUE_STRING) return join_texts(r, a, b);
    if (op == OP_ADD && a.kind == VALUE_LIST && b.kind == VALUE_LIST) {
        value list = value_new_list(r, VALUE_LIST);
        for (size_t i = 0; i < a.list->n && !r->m->rc; i++) value_add(r, list, a.list->items[i]);
        for (size_t i = 0; i < b.list->n && !r->m->rc; i++) value_add(r, list, b.list->items[i]);
        return list;
    }
    return REFUSE(r, "arithmetic with %s and %s is not supported", value_kind_name(a), value_kind_name(b));
}
