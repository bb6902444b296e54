/* jinja_internal.h — what the parts of the template language share: nodes (jinja_parse.c makes them, jinja_run.c runs them) and
 * values (jinja_values.c; their texts: jinja_text.c; what is called by name: jinja_calls.c). Everything lives in one arena until
 * the template is done. */
#ifndef TEXT_JINJA_INTERNAL_H
#define TEXT_JINJA_INTERNAL_H

#include "core/mem.h"
#include "text/jinja.h"

typedef enum node_kind {
    NODE_TEXT,   /* text */
    NODE_OUTPUT, /* a: expression */
    NODE_IF,     /* a: condition, b: body, c: else */
    NODE_FOR,    /* a: targets (names), b: iterable, c: body, d: filter, e: else */
    NODE_SET,    /* a: name or attribute, b: expression */
    NODE_BREAK,
    NODE_CONTINUE,
    NODE_STRING, /* text */
    NODE_INTEGER,
    NODE_BOOLEAN,
    NODE_NONE,
    NODE_NAME,  /* text */
    NODE_ATTR,  /* a . text */
    NODE_INDEX, /* a [ b ] */
    NODE_SLICE, /* a [ b : c : d ], each of these may be NULL */
    NODE_CALL,  /* a ( arguments b ); an argument's `text` is its keyword, or NULL */
    NODE_FILTER,
    NODE_TEST, /* a | text ( b ), a is text ( b ) */
    NODE_NOT,
    NODE_NEGATIVE,
    NODE_BINARY, /* a op b; op in `op` */
    NODE_COND,   /* a: then, b: condition, c: else or NULL */
    NODE_LIST,   /* a: items */
    NODE_DICT,   /* a: keys and values, in turn */
} node_kind;

typedef enum binary_op {
    OP_AND,
    OP_OR,
    OP_EQUAL,
    OP_UNEQUAL,
    OP_LESS,
    OP_AT_MOST,
    OP_GREATER,
    OP_AT_LEAST,
    OP_IN,
    OP_NOT_IN,
    OP_ADD,
    OP_SUBTRACT,
    OP_MULTIPLY,
    OP_FLOOR_DIVIDE,
    OP_MODULO,
    OP_CONCAT,
} binary_op;

typedef struct node {
    node_kind kind;
    int line;
    binary_op op;
    const char *text;
    size_t n;
    int64_t integer;
    const char *keyword;
    size_t n_keyword;
    struct node *a, *b, *c, *d, *e;
    struct node *next; /* in a body, a list or arguments */
} node;

/* Memory and the first error of a template; everything in it lasts until release. */
typedef struct jinja_memory {
    arena arena;
    size_t used;
    err_code rc;
    err *e;
} jinja_memory;

enum { JINJA_MEMORY_MAX = 64 << 20, JINJA_DEPTH_MAX = 100, JINJA_STEPS_MAX = 2000000 };

/* size bytes, zero; NULL with the error set when there are no more. */
void *jinja_take(jinja_memory *m, size_t count, size_t size);
/* Records the first error, with its line. */
void jinja_fail(jinja_memory *m, err_code code, int line, const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* The template's statements; NULL is an empty template or, with m->rc, an error. */
node *jinja_parse(const char *template, size_t n, jinja_memory *m);

/* ---- values ---- */

typedef enum value_kind {
    VALUE_UNDEFINED, /* string: the name that is missing */
    VALUE_NONE,
    VALUE_BOOLEAN,
    VALUE_INTEGER,
    VALUE_STRING,
    VALUE_LIST,
    VALUE_DICT, /* keys and values in turn */
    VALUE_NAMESPACE,
    VALUE_LOOP,
    VALUE_FUNCTION, /* string: its name */
} value_kind;

typedef struct value value;

typedef struct value_list {
    value *items; /* [n] */
    size_t n, cap;
} value_list;

typedef struct value_loop {
    int64_t index, n;
} value_loop;

struct value {
    value_kind kind;
    union {
        bool boolean;
        int64_t integer;
        struct {
            const char *bytes;
            size_t n;
        } string;
        value_list *list;
        value_loop *loop;
    };
};

typedef struct arguments {
    value v[8];
    const char *keyword[8]; /* NULL: by position */
    size_t n_keyword[8];
    int n;
} arguments;

typedef struct jinja_run {
    jinja_memory *m;
    const jinja_context *context;
    int line; /* of the node at work */
    int64_t steps;
} jinja_run;

/* One more step; false when there have been too many, or an error. */
bool jinja_step(jinja_run *r);
bool jinja_charge(jinja_run *r, size_t bytes); /* work on long texts is many steps */

/* Fails with a sentence; the value is none. */
#define REFUSE(r, ...) (jinja_fail((r)->m, ERR_UNSUPPORTED, (r)->line, __VA_ARGS__), (value){VALUE_NONE, {0}})
#define COUNT(rows)    (sizeof(rows) / sizeof *(rows))

value value_text(jinja_run *r, const char *bytes, size_t n); /* borrowed bytes */
value value_word(const char *text);
value value_undefined(const char *name, size_t n);
value value_keep_text(jinja_run *r, strbuf *s); /* a copy of what s holds; releases it */
value value_integer(int64_t i);
value value_boolean(bool b);
value value_new_list(jinja_run *r, value_kind kind);
void value_add(jinja_run *r, value list, value item);
void value_put(jinja_run *r, value dict, value key, value item); /* replaces */
bool value_get(jinja_run *r, value dict, value key, value *out);

static inline bool value_is_list(value v) {
    return v.kind == VALUE_LIST || v.kind == VALUE_DICT || v.kind == VALUE_NAMESPACE;
}
static inline bool value_is_mapping(value v) { return v.kind == VALUE_DICT || v.kind == VALUE_NAMESPACE; }
bool value_as_number(value v, int64_t *out); /* booleans too */
bool value_is_true(value v);
bool value_equal(jinja_run *r, value a, value b);
const char *value_kind_name(value v);
value value_to_text(jinja_run *r, value v); /* as it is printed */

/* ---- texts: v is a VALUE_STRING ---- */

typedef enum letter_case { CASE_LOWER, CASE_UPPER, CASE_CAPITALIZE } letter_case;

int64_t value_count_chars(jinja_run *r, value v);
size_t value_char_offset(value v, int64_t i);      /* of character i in bytes; the length when there are fewer */
value value_part(value v, size_t from, size_t to); /* bytes [from, to) */
value value_strip(jinja_run *r, value v, value set, bool left, bool right); /* set: characters, or white space if undefined */
value value_change_case(jinja_run *r, value v, letter_case to);
size_t value_find(jinja_run *r, value in, value what, size_t at); /* byte offset at or behind `at`, or SIZE_MAX */
value value_split(jinja_run *r, value v, value separator);
value value_replace(jinja_run *r, value v, value what, value with);
void value_add_json(jinja_run *r, value v, int depth, strbuf *s);

/* ---- calls ---- */

/* Tables by name; what is not in them is refused by name. */
value value_filter(jinja_run *r, const char *name, size_t n, value of, const arguments *a);
value value_test(jinja_run *r, const char *name, size_t n, value of, const arguments *a);
value value_method(jinja_run *r, const char *name, size_t n, value of, const arguments *a);
value value_function(jinja_run *r, const char *name, size_t n, const arguments *a);
bool value_is_function(const char *name, size_t n);

value value_attribute(jinja_run *r, value of, const char *name, size_t n);
value value_index(jinja_run *r, value of, value index);
value value_slice(jinja_run *r, value of, value from, value to, value step);
value value_binary(jinja_run *r, binary_op op, value a, value b); /* all but and, or */

#endif
