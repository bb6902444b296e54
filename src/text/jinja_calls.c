/* jinja_calls.c — the filters, tests, methods and functions that templates know: four tables, by name. */
#include "text/jinja_internal.h"

#include <inttypes.h>
#include <string.h>

/* ---- filters ---- */

static value argument(const arguments *a, int i) { return i < a->n ? a->v[i] : (value){.kind = VALUE_UNDEFINED}; }

typedef value (*value_call)(jinja_run *r, value of, const arguments *a);

typedef struct call_row {
    const char *name;
    value_call call;
    int min, max; /* arguments */
} call_row;

static value filter_trim(jinja_run *r, value of, const arguments *a) {
    return value_strip(r, value_to_text(r, of), argument(a, 0), true, true);
}

static value filter_length(jinja_run *r, value of, const arguments *a) {
    (void)a;
    if (of.kind == VALUE_UNDEFINED) return value_integer(0);
    if (of.kind == VALUE_STRING) return value_integer(value_count_chars(r, of));
    if (!value_is_list(of)) return REFUSE(r, "the length of %s", value_kind_name(of));
    return value_integer((int64_t)(of.kind == VALUE_LIST ? of.list->n : of.list->n / 2));
}

static value filter_tojson(jinja_run *r, value of, const arguments *a) {
    strbuf s = STRBUF_INIT;
    (void)a;
    value_add_json(r, of, 0, &s);
    return value_keep_text(r, &s);
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
    return value_change_case(r, value_to_text(r, of), CASE_LOWER);
}

static value filter_upper(jinja_run *r, value of, const arguments *a) {
    (void)a;
    return value_change_case(r, value_to_text(r, of), CASE_UPPER);
}

static value filter_capitalize(jinja_run *r, value of, const arguments *a) {
    (void)a;
    return value_change_case(r, value_to_text(r, of), CASE_CAPITALIZE);
}

static value filter_replace(jinja_run *r, value of, const arguments *a) {
    return value_replace(r, value_to_text(r, of), a->v[0], a->v[1]);
}

static value end_of(jinja_run *r, value of, bool first) {
    if (of.kind != VALUE_LIST) return REFUSE(r, "the %s of %s", first ? "first" : "last", value_kind_name(of));
    if (!of.list->n) return value_undefined("item of an empty list", 21);
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
    if (!value_is_mapping(of)) return REFUSE(r, "the items of %s", value_kind_name(of));
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
    return value_keep_text(r, &s);
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
    if (value_as_number(of, &number)) return value_integer(number);
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

static value method_strip(jinja_run *r, value of, const arguments *a) {
    return value_strip(r, of, argument(a, 0), true, true);
}

static value method_lstrip(jinja_run *r, value of, const arguments *a) {
    return value_strip(r, of, argument(a, 0), true, false);
}

static value method_rstrip(jinja_run *r, value of, const arguments *a) {
    return value_strip(r, of, argument(a, 0), false, true);
}

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

static value method_split(jinja_run *r, value of, const arguments *a) { return value_split(r, of, argument(a, 0)); }

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
    bool ok = value_as_number(a->v[a->n - 1], &to) && (a->n == 1 || value_as_number(a->v[0], &from));
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
    return value_keep_text(r, &s);
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

value value_filter(jinja_run *r, const char *name, size_t n, value of, const arguments *a) {
    return call(r, "filter", filters, COUNT(filters), name, n, of, a);
}

value value_test(jinja_run *r, const char *name, size_t n, value of, const arguments *a) {
    return call(r, "test", tests, COUNT(tests), name, n, of, a);
}

value value_method(jinja_run *r, const char *name, size_t n, value of, const arguments *a) {
    if (of.kind == VALUE_STRING) return call(r, "method", text_methods, COUNT(text_methods), name, n, of, a);
    if (value_is_mapping(of)) return call(r, "method", mapping_methods, COUNT(mapping_methods), name, n, of, a);
    return REFUSE(r, "the method '%.*s' of %s is not supported", (int)(n < 60 ? n : 60), name, value_kind_name(of));
}

value value_function(jinja_run *r, const char *name, size_t n, const arguments *a) {
    return call(r, "function", functions, COUNT(functions), name, n, (value){VALUE_NONE, {0}}, a);
}

bool value_is_function(const char *name, size_t n) { return find_call(functions, COUNT(functions), name, n); }
