/* jinja_parse.c — template text to a tree of nodes, by recursive descent. */
#include "text/jinja_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

typedef enum token_kind { T_END, T_TAG_END, T_NAME, T_STRING, T_INTEGER, T_OPERATOR } token_kind;

typedef struct token {
    token_kind kind;
    const char *text; /* of a string: what it says */
    size_t n;
    int64_t integer;
} token;

typedef struct parser {
    const char *s;
    size_t n, at;
    int line, depth;
    bool trim_text;  /* the tag before ended with - : text loses its leading white space */
    bool trim_line;  /* or was a block: text loses a line end */
    bool line_start; /* the text to come begins a line */
    token now;
    jinja_memory *m;
} parser;

void *jinja_take(jinja_memory *m, size_t count, size_t size) {
    size_t total;
    void *p = NULL;
    if (m->rc) return NULL;
    if (!mem_mul(count ? count : 1, size, &total) || total > JINJA_MEMORY_MAX || m->used > JINJA_MEMORY_MAX - total) {
        m->rc = err_set(m->e, ERR_UNSUPPORTED, "the chat template needs more than %d MiB", JINJA_MEMORY_MAX >> 20);
        return NULL;
    }
    m->used += (total + 63) / 64 * 64; /* arenas align */
    m->rc = arena_take(&m->arena, &p, total, 1, m->e);
    if (p) memset(p, 0, total);
    return p;
}

void jinja_fail(jinja_memory *m, err_code code, int line, const char *fmt, ...) {
    char why[400];
    va_list args;
    if (m->rc) return;
    va_start(args, fmt);
    vsnprintf(why, sizeof why, fmt, args);
    va_end(args);
    m->rc = err_set(m->e, code, "line %d of the chat template: %s", line, why);
}

static void fail(parser *p, const char *what) {
    jinja_fail(p->m, ERR_FORMAT, p->line, "expected %s, found '%.*s'", what, (int)(p->now.n < 40 ? p->now.n : 40),
               p->now.kind == T_END ? "" : p->now.text);
}

static node *new_node(parser *p, node_kind kind) {
    node *x = jinja_take(p->m, 1, sizeof *x);
    if (x) {
        x->kind = kind;
        x->line = p->line;
    }
    return x;
}

/* ---- tokens within a tag ---- */

static bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

static char peek(const parser *p, size_t ahead) { return p->at + ahead < p->n ? p->s[p->at + ahead] : '\0'; }

static void skip(parser *p, size_t n) {
    for (; n && p->at < p->n; n--)
        if (p->s[p->at++] == '\n') p->line++;
}

static int digit_value(char c) {
    if (is_digit(c)) return c - '0';
    return (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : 16;
}

/* Appends the character that `digits` digits at p->s + at stand for; false when they are none, or no character. */
static bool add_coded(const parser *p, size_t at, size_t digits, int base, char *out, size_t *n) {
    int32_t code = 0;
    for (size_t i = 0; i < digits; i++) {
        int digit = at + i < p->n ? digit_value(p->s[at + i]) : base;
        if (digit >= base || code > 0x10ffff) return false;
        code = code * base + digit;
    }
    if (!utf8proc_codepoint_valid(code)) return false;
    *n += (size_t)utf8proc_encode_char(code, (utf8proc_uint8_t *)out + *n);
    return true;
}

/* A backslash at p->s + at: appends what it and the characters behind it mean, as in Python; returns how many there are. */
static size_t read_escape(parser *p, size_t at, char *out, size_t *n) {
    static const char letters[] = "ntr\\'\"abfv", bytes[] = "\n\t\r\\'\"\a\b\f\v";
    char c = p->s[at + 1];
    const char *letter = c ? strchr(letters, c) : NULL;
    size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0, octal = 0;
    while (octal < 3 && at + 1 + octal < p->n && digit_value(p->s[at + 1 + octal]) < 8) octal++;
    if (c == '\n') return 2;
    if (letter) {
        out[(*n)++] = bytes[letter - letters];
        return 2;
    }
    if (octal && add_coded(p, at + 1, octal, 8, out, n)) return 1 + octal;
    if (digits && add_coded(p, at + 2, digits, 16, out, n)) return 2 + digits;
    if (digits || octal || c == 'N') jinja_fail(p->m, ERR_UNSUPPORTED, p->line, "the escape \\%c is not supported here", c);
    out[(*n)++] = '\\'; /* stands for itself */
    return 1;
}

static void read_string(parser *p) {
    char quote = p->s[p->at];
    size_t start = p->at + 1, end = start, n = 0;
    while (end < p->n && p->s[end] != quote) end += p->s[end] == '\\' ? 2 : 1;
    if (end >= p->n) {
        jinja_fail(p->m, ERR_FORMAT, p->line, "a string without an end");
        return;
    }
    char *text = jinja_take(p->m, end - start + 1, 1);
    for (size_t i = start; text && i < end;) {
        if (p->s[i] == '\\')
            i += read_escape(p, i, text, &n);
        else
            text[n++] = p->s[i++];
    }
    p->now = (token){.kind = T_STRING, .text = text ? text : "", .n = n};
    skip(p, end + 1 - p->at);
}

static void read_integer(parser *p) {
    int64_t v = 0;
    const char *start = p->s + p->at;
    while (is_digit(peek(p, 0))) {
        if (v > (INT64_MAX - 9) / 10) jinja_fail(p->m, ERR_UNSUPPORTED, p->line, "a number that large is not supported");
        v = p->m->rc ? 0 : v * 10 + (peek(p, 0) - '0');
        p->at++;
    }
    if (peek(p, 0) == '.' && is_digit(peek(p, 1)))
        jinja_fail(p->m, ERR_UNSUPPORTED, p->line, "numbers with a fraction are not supported");
    p->now = (token){.kind = T_INTEGER, .text = start, .n = (size_t)(p->s + p->at - start), .integer = v};
}

/* "%}", "-%}", "}}", .. : ends the tag and says what becomes of the text behind it. */
static bool read_tag_end(parser *p) {
    char sign = peek(p, 0);
    size_t ahead = sign == '-' || sign == '+' ? 1 : 0;
    bool block = peek(p, ahead) == '%', variable = peek(p, ahead) == '}';
    if (!(block || variable) || peek(p, ahead + 1) != '}' || (variable && sign == '+')) return false;
    p->now = (token){.kind = T_TAG_END, .text = p->s + p->at, .n = ahead + 2};
    skip(p, ahead + 2);
    p->trim_text = ahead && sign == '-';
    p->trim_line = block && !ahead;
    p->line_start = false;
    return true;
}

static void advance(parser *p) {
    static const char *const operators[] = {"==", "!=", "<=", ">=", "//", "**"};
    while (p->at < p->n && is_blank(p->s[p->at])) skip(p, 1);
    p->now = (token){.kind = T_END};
    if (p->at >= p->n || p->m->rc || read_tag_end(p)) return;
    char c = p->s[p->at];
    if (c == '\'' || c == '"') {
        read_string(p);
        return;
    }
    if (is_digit(c)) {
        read_integer(p);
        return;
    }
    p->now = (token){.kind = T_OPERATOR, .text = p->s + p->at, .n = 1};
    if (is_letter(c)) {
        p->now.kind = T_NAME;
        while (is_letter(peek(p, p->now.n)) || is_digit(peek(p, p->now.n))) p->now.n++;
    }
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++)
        if (c == operators[i][0] && peek(p, 1) == operators[i][1]) p->now.n = 2;
    skip(p, p->now.n);
}

static bool is(const parser *p, token_kind kind, const char *text) {
    return p->now.kind == kind && p->now.n == strlen(text) && !memcmp(p->now.text, text, p->now.n);
}

static bool accept(parser *p, token_kind kind, const char *text) {
    bool yes = is(p, kind, text);
    if (yes) advance(p);
    return yes;
}

static void expect(parser *p, const char *operator) {
    if (!accept(p, T_OPERATOR, operator)) fail(p, operator);
}

static void expect_tag_end(parser *p) {
    if (p->now.kind != T_TAG_END) fail(p, "the end of the tag");
}

/* ---- expressions ---- */

static node *parse_expression(parser *p);
static node *parse_unary(parser *p, bool filters);

static node *named(parser *p, node_kind kind) {
    node *x = new_node(p, kind);
    if (p->now.kind != T_NAME) fail(p, "a name");
    if (!x || p->m->rc) return NULL;
    x->text = p->now.text;
    x->n = p->now.n;
    advance(p);
    return x;
}

/* Items up to `end`, which is taken too; in turn keys and values when `pairs`. */
static node *parse_items(parser *p, const char *end, bool pairs) {
    node *first = NULL, **last = &first;
    while (!p->m->rc && !is(p, T_OPERATOR, end)) {
        *last = parse_expression(p);
        if (p->m->rc) return NULL;
        last = &(*last)->next;
        if (pairs) {
            expect(p, ":");
            *last = parse_expression(p);
            if (p->m->rc) return NULL;
            last = &(*last)->next;
        }
        if (!accept(p, T_OPERATOR, ",")) break;
    }
    expect(p, end);
    return first;
}

/* The arguments of a call, behind the opening parenthesis. */
static node *parse_arguments(parser *p) {
    node *first = NULL, **last = &first;
    while (!p->m->rc && !is(p, T_OPERATOR, ")")) {
        const char *keyword = NULL;
        size_t n_keyword = 0;
        if (is(p, T_OPERATOR, "*") || is(p, T_OPERATOR, "**"))
            jinja_fail(p->m, ERR_UNSUPPORTED, p->line, "a call with %.*s is not supported", (int)p->now.n, p->now.text);
        if (p->now.kind == T_NAME) { /* a keyword, if = follows */
            parser before = *p;
            keyword = p->now.text;
            n_keyword = p->now.n;
            advance(p);
            if (!accept(p, T_OPERATOR, "=")) {
                *p = before;
                keyword = NULL;
            }
        }
        node *x = parse_expression(p);
        if (!x) return NULL;
        x->keyword = keyword;
        x->n_keyword = n_keyword;
        *last = x;
        last = &x->next;
        if (!accept(p, T_OPERATOR, ",")) break;
    }
    expect(p, ")");
    return first;
}

static node *parse_primary(parser *p) {
    static const struct {
        const char *name;
        node_kind kind;
        int64_t value;
    } words[] = {{"true", NODE_BOOLEAN, 1},  {"True", NODE_BOOLEAN, 1}, {"false", NODE_BOOLEAN, 0},
                 {"False", NODE_BOOLEAN, 0}, {"none", NODE_NONE, 0},    {"None", NODE_NONE, 0}};
    node *x;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (accept(p, T_NAME, words[i].name)) {
            if ((x = new_node(p, words[i].kind))) x->integer = words[i].value;
            return x;
        }
    if (p->now.kind == T_NAME) return named(p, NODE_NAME);
    if (p->now.kind == T_INTEGER) {
        if ((x = new_node(p, NODE_INTEGER))) x->integer = p->now.integer;
        advance(p);
        return x;
    }
    if (p->now.kind == T_STRING) {
        x = new_node(p, NODE_STRING);
        if (!x) return NULL;
        x->text = p->now.text;
        x->n = p->now.n;
        advance(p);
        while (p->now.kind == T_STRING) { /* strings side by side are one */
            char *joined = jinja_take(p->m, x->n + p->now.n + 1, 1);
            if (!joined) return NULL;
            memcpy(joined, x->text, x->n);
            memcpy(joined + x->n, p->now.text, p->now.n);
            x->text = joined;
            x->n += p->now.n;
            advance(p);
        }
        return x;
    }
    if (accept(p, T_OPERATOR, "(")) {
        x = parse_expression(p);
        if (is(p, T_OPERATOR, ",")) jinja_fail(p->m, ERR_UNSUPPORTED, p->line, "tuples are not supported");
        expect(p, ")");
        return x;
    }
    bool list = is(p, T_OPERATOR, "["), dict = is(p, T_OPERATOR, "{");
    if (!list && !dict) {
        fail(p, "an expression");
        return NULL;
    }
    advance(p);
    if ((x = new_node(p, list ? NODE_LIST : NODE_DICT))) x->a = parse_items(p, list ? "]" : "}", dict);
    return x;
}

/* [i], [from:to:step] */
static node *parse_subscript(parser *p, node *of) {
    node *x = new_node(p, NODE_INDEX), *parts[3] = {NULL};
    int n = 0;
    if (!x) return NULL;
    for (;;) {
        if (!is(p, T_OPERATOR, ":") && !is(p, T_OPERATOR, "]")) parts[n] = parse_expression(p);
        if (p->m->rc || n == 2 || !accept(p, T_OPERATOR, ":")) break;
        x->kind = NODE_SLICE;
        n++;
    }
    if (x->kind == NODE_INDEX && !parts[0]) fail(p, "an index");
    expect(p, "]");
    x->a = of;
    x->b = parts[0];
    x->c = parts[1];
    x->d = parts[2];
    return x;
}

static node *parse_postfix(parser *p, node *x) {
    for (int i = 0; x && !p->m->rc; i++) {
        node *of = x;
        if (i == JINJA_DEPTH_MAX) jinja_fail(p->m, ERR_UNSUPPORTED, p->line, "an expression that long is not supported");
        if (accept(p, T_OPERATOR, ".")) {
            if ((x = named(p, NODE_ATTR))) x->a = of;
        } else if (accept(p, T_OPERATOR, "[")) {
            x = parse_subscript(p, of);
        } else if (accept(p, T_OPERATOR, "(")) {
            if ((x = new_node(p, NODE_CALL))) {
                x->a = of;
                x->b = parse_arguments(p);
            }
        } else
            break;
    }
    return x;
}

static node *negate(parser *p, node *of) {
    node *x = new_node(p, NODE_NOT);
    if (x) x->a = of;
    return x;
}

/* is [not] name, is name(arguments), is name argument */
static node *parse_test(parser *p, node *of) {
    bool negated = accept(p, T_NAME, "not");
    node *x = named(p, NODE_TEST);
    if (!x) return NULL;
    x->a = of;
    if (accept(p, T_OPERATOR, "("))
        x->b = parse_arguments(p);
    else if (p->now.kind == T_STRING || p->now.kind == T_INTEGER || is(p, T_OPERATOR, "[") ||
             (p->now.kind == T_NAME && !is(p, T_NAME, "else") && !is(p, T_NAME, "or") && !is(p, T_NAME, "and") &&
              !is(p, T_NAME, "if") && !is(p, T_NAME, "is") && !is(p, T_NAME, "not") && !is(p, T_NAME, "in")))
        x->b = parse_postfix(p, parse_primary(p));
    return negated ? negate(p, x) : x;
}

static node *parse_filters(parser *p, node *x) {
    for (int i = 0; x && !p->m->rc; i++) {
        node *of = x;
        if (i == JINJA_DEPTH_MAX) jinja_fail(p->m, ERR_UNSUPPORTED, p->line, "an expression that long is not supported");
        if (accept(p, T_OPERATOR, "|")) {
            if (!(x = named(p, NODE_FILTER))) return NULL;
            x->a = of;
            if (accept(p, T_OPERATOR, "(")) x->b = parse_arguments(p);
        } else if (accept(p, T_NAME, "is")) {
            x = parse_test(p, of);
        } else if (is(p, T_OPERATOR, "(") || is(p, T_OPERATOR, ".") || is(p, T_OPERATOR, "[")) {
            x = parse_postfix(p, of);
        } else
            break;
    }
    return x;
}

static node *parse_unary(parser *p, bool filters) {
    node *x;
    if (++p->depth > JINJA_DEPTH_MAX) jinja_fail(p->m, ERR_UNSUPPORTED, p->line, "an expression that deep is not supported");
    if (p->m->rc) return NULL;
    if (accept(p, T_OPERATOR, "-")) {
        if ((x = new_node(p, NODE_NEGATIVE))) x->a = parse_unary(p, false);
    } else
        x = parse_primary(p);
    x = parse_postfix(p, x);
    if (filters) x = parse_filters(p, x);
    p->depth--;
    return p->m->rc ? NULL : x;
}

/* Operators by how tightly they bind, loosest first; comparisons and "not" have functions of their own between. */
typedef struct operator_row {
    int level;
    token_kind kind;
    const char *text;
    binary_op op;
} operator_row;

static const operator_row operators[] = {
    {0, T_NAME, "or", OP_OR},          {1, T_NAME, "and", OP_AND},
    {3, T_OPERATOR, "==", OP_EQUAL},   {3, T_OPERATOR, "!=", OP_UNEQUAL},
    {3, T_OPERATOR, "<", OP_LESS},     {3, T_OPERATOR, "<=", OP_AT_MOST},
    {3, T_OPERATOR, ">", OP_GREATER},  {3, T_OPERATOR, ">=", OP_AT_LEAST},
    {3, T_NAME, "in", OP_IN},          {4, T_OPERATOR, "+", OP_ADD},
    {4, T_OPERATOR, "-", OP_SUBTRACT}, {5, T_OPERATOR, "~", OP_CONCAT},
    {6, T_OPERATOR, "*", OP_MULTIPLY}, {6, T_OPERATOR, "//", OP_FLOOR_DIVIDE},
    {6, T_OPERATOR, "%", OP_MODULO},
};
enum { LEVEL_NOT = 2, LEVEL_COMPARE = 3, LEVEL_UNARY = 7 };

/* Takes an operator of this level, if one is next. */
static bool accept_operator(parser *p, int level, binary_op *op) {
    if (level == LEVEL_COMPARE && is(p, T_NAME, "not")) { /* not in */
        parser before = *p;
        advance(p);
        if (accept(p, T_NAME, "in")) {
            *op = OP_NOT_IN;
            return true;
        }
        *p = before;
    }
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++)
        if (operators[i].level == level && accept(p, operators[i].kind, operators[i].text)) {
            *op = operators[i].op;
            return true;
        }
    return false;
}

static node *parse_level(parser *p, int level) {
    if (level == LEVEL_UNARY) return parse_unary(p, true);
    if (level == LEVEL_NOT) {
        int nots = 0;
        while (!p->m->rc && accept(p, T_NAME, "not")) nots++;
        if (nots > JINJA_DEPTH_MAX) jinja_fail(p->m, ERR_UNSUPPORTED, p->line, "an expression that deep is not supported");
        node *x = parse_level(p, level + 1);
        for (; x && nots; nots--) x = negate(p, x);
        return x;
    }
    node *x = parse_level(p, level + 1);
    binary_op op;
    for (int i = 0; x && !p->m->rc && accept_operator(p, level, &op); i++) {
        node *pair = new_node(p, NODE_BINARY);
        if (i == JINJA_DEPTH_MAX) jinja_fail(p->m, ERR_UNSUPPORTED, p->line, "an expression that long is not supported");
        if (level == LEVEL_COMPARE && i)
            jinja_fail(p->m, ERR_UNSUPPORTED, p->line, "chains of comparisons are not supported");
        if (!pair) return NULL;
        pair->op = op;
        pair->a = x;
        pair->b = parse_level(p, level + 1);
        x = pair->b ? pair : NULL;
    }
    if (is(p, T_OPERATOR, "/") || is(p, T_OPERATOR, "**"))
        jinja_fail(p->m, ERR_UNSUPPORTED, p->line, "the operator %.*s is not supported", (int)p->now.n, p->now.text);
    return x;
}

static node *parse_expression(parser *p) {
    if (++p->depth > JINJA_DEPTH_MAX) jinja_fail(p->m, ERR_UNSUPPORTED, p->line, "an expression that deep is not supported");
    node *x = p->m->rc ? NULL : parse_level(p, 0);
    for (int i = 0; x && !p->m->rc && accept(p, T_NAME, "if"); i++) {
        node *cond = new_node(p, NODE_COND);
        if (i == JINJA_DEPTH_MAX) jinja_fail(p->m, ERR_UNSUPPORTED, p->line, "an expression that long is not supported");
        if (!cond) return NULL;
        cond->a = x;
        cond->b = parse_level(p, 0);
        if (accept(p, T_NAME, "else")) cond->c = parse_expression(p);
        x = cond;
    }
    p->depth--;
    return p->m->rc ? NULL : x;
}

/* ---- statements ---- */

static node *parse_body(parser *p, const char *const *ends);

/* Behind the name of a block tag that opened a body: its end is "end<name>". */
static void close_block(parser *p, const char *name) {
    if (!accept(p, T_NAME, name)) fail(p, name);
    expect_tag_end(p);
}

static node *parse_if(parser *p) {
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    node *first = NULL, **at = &first;
    do {
        node *x = new_node(p, NODE_IF);
        if (!x) return NULL;
        *at = x;
        at = &x->c;
        x->a = parse_expression(p);
        expect_tag_end(p);
        x->b = parse_body(p, ends);
    } while (!p->m->rc && accept(p, T_NAME, "elif"));
    if (accept(p, T_NAME, "else")) {
        expect_tag_end(p);
        *at = parse_body(p, ends + 2);
    }
    close_block(p, "endif");
    return first;
}

static node *parse_for(parser *p) {
    static const char *const ends[] = {"else", "endfor", NULL};
    node *x = new_node(p, NODE_FOR);
    if (!x || !(x->a = named(p, NODE_NAME))) return NULL;
    if (accept(p, T_OPERATOR, ",")) x->a->next = named(p, NODE_NAME);
    if (!accept(p, T_NAME, "in")) fail(p, "in");
    x->b = p->m->rc ? NULL : parse_level(p, 0);
    if (accept(p, T_NAME, "if")) x->d = parse_expression(p);
    if (is(p, T_NAME, "recursive")) jinja_fail(p->m, ERR_UNSUPPORTED, p->line, "recursive is not supported");
    expect_tag_end(p);
    x->c = parse_body(p, ends);
    if (accept(p, T_NAME, "else")) {
        expect_tag_end(p);
        x->e = parse_body(p, ends + 1);
    }
    close_block(p, "endfor");
    return x;
}

static node *parse_set(parser *p) {
    node *x = new_node(p, NODE_SET), *target = named(p, NODE_NAME);
    if (!x || !target) return NULL;
    if (accept(p, T_OPERATOR, ".")) {
        node *of = target;
        if ((target = named(p, NODE_ATTR))) target->a = of;
    }
    if (!is(p, T_OPERATOR, "="))
        jinja_fail(p->m, ERR_UNSUPPORTED, p->line, "set without '=' or with several names is not supported");
    expect(p, "=");
    x->a = target;
    x->b = parse_expression(p);
    if (is(p, T_OPERATOR, ",")) jinja_fail(p->m, ERR_UNSUPPORTED, p->line, "tuples are not supported");
    expect_tag_end(p);
    return x;
}

/* Marks what trainers learn from; the text is the same. */
static node *parse_generation(parser *p) {
    static const char *const ends[] = {"endgeneration", NULL};
    expect_tag_end(p);
    node *x = new_node(p, NODE_IF), *yes = new_node(p, NODE_BOOLEAN);
    if (!x || !yes) return NULL;
    yes->integer = 1;
    x->a = yes;
    x->b = parse_body(p, ends);
    close_block(p, "endgeneration");
    return x;
}

/* Behind "{%"; NULL without an error when the tag ends the body: its name is then p->now. */
static node *parse_block(parser *p, const char *const *ends) {
    for (; *ends; ends++)
        if (is(p, T_NAME, *ends)) return NULL;
    if (accept(p, T_NAME, "if")) return parse_if(p);
    if (accept(p, T_NAME, "for")) return parse_for(p);
    if (accept(p, T_NAME, "set")) return parse_set(p);
    if (accept(p, T_NAME, "generation")) return parse_generation(p);
    bool leaves = is(p, T_NAME, "break"), goes_on = is(p, T_NAME, "continue");
    if (leaves || goes_on) {
        node *x = new_node(p, leaves ? NODE_BREAK : NODE_CONTINUE);
        advance(p);
        expect_tag_end(p);
        return x;
    }
    if (p->now.kind == T_NAME)
        jinja_fail(p->m, ERR_UNSUPPORTED, p->line, "the statement '%.*s' is not supported",
                   (int)(p->now.n < 40 ? p->now.n : 40), p->now.text);
    fail(p, "a statement");
    return NULL;
}

static size_t next_tag(const parser *p) {
    for (size_t i = p->at; i + 1 < p->n; i++)
        if (p->s[i] == '{' && (p->s[i + 1] == '{' || p->s[i + 1] == '%' || p->s[i + 1] == '#')) return i;
    return p->n;
}

/* The text up to the next tag, without what the tags at its ends take away. */
static node *parse_text(parser *p) {
    size_t from = p->at, to = next_tag(p);
    char tag = to < p->n ? p->s[to + 1] : '\0', sign = to + 2 < p->n ? p->s[to + 2] : '\0';
    if (p->trim_text)
        while (from < to && is_blank(p->s[from])) from++;
    else if (p->trim_line && from < to && p->s[from] == '\n') {
        from++;
        p->line_start = true;
    }
    size_t end = to;
    if (tag && sign == '-')
        while (end > from && is_blank(p->s[end - 1])) end--;
    else if ((tag == '%' || tag == '#') && sign != '+') {
        size_t line = end;
        while (line > from && p->s[line - 1] != '\n' && is_blank(p->s[line - 1])) line--;
        if (line > from ? p->s[line - 1] == '\n' : p->line_start) end = line;
    }
    skip(p, to - p->at);
    p->trim_text = p->trim_line = false;
    if (end == from) return NULL;
    node *x = new_node(p, NODE_TEXT);
    if (x) {
        x->text = p->s + from;
        x->n = end - from;
    }
    return x;
}

static void skip_comment(parser *p) {
    size_t end = p->at + 2;
    while (end + 1 < p->n && !(p->s[end] == '#' && p->s[end + 1] == '}')) end++;
    if (end + 1 >= p->n) {
        jinja_fail(p->m, ERR_FORMAT, p->line, "a comment without an end");
        return;
    }
    p->trim_text = p->s[end - 1] == '-' && end > p->at + 2;
    p->trim_line = !p->trim_text && p->s[end - 1] != '+';
    p->line_start = false;
    skip(p, end + 2 - p->at);
}

/* Statements up to a tag named in `ends`, or to the end of the template where there are none. */
static node *parse_body(parser *p, const char *const *ends) {
    node *first = NULL, **last = &first;
    if (++p->depth > JINJA_DEPTH_MAX) jinja_fail(p->m, ERR_UNSUPPORTED, p->line, "statements that deep are not supported");
    while (!p->m->rc) {
        if ((*last = parse_text(p))) last = &(*last)->next;
        if (p->at >= p->n) {
            const char *missing = NULL;
            for (; *ends; ends++) missing = *ends; /* the last is the one that closes */
            if (missing) jinja_fail(p->m, ERR_FORMAT, p->line, "expected %s, found the end of the template", missing);
            break;
        }
        char tag = p->s[p->at + 1];
        if (tag == '#') {
            skip_comment(p);
            continue;
        }
        char sign = peek(p, 2);
        skip(p, sign == '-' || (sign == '+' && tag == '%') ? 3 : 2);
        advance(p);
        node *x = NULL;
        if (tag == '%') {
            x = parse_block(p, ends);
            if (!x) break;
        } else if ((x = new_node(p, NODE_OUTPUT))) {
            x->a = parse_expression(p);
            expect_tag_end(p);
        }
        *last = x;
        last = x ? &x->next : last;
    }
    p->depth--;
    return p->m->rc ? NULL : first;
}

node *jinja_parse(const char *template, size_t n, jinja_memory *m) {
    static const char *const none[] = {NULL};
    parser p = {.s = template, .n = n, .line = 1, .line_start = true, .m = m};
    if (n > JINJA_TEMPLATE_MAX)
        jinja_fail(m, ERR_UNSUPPORTED, 1, "%zu bytes are more than the %d that are read", n, JINJA_TEMPLATE_MAX);
    if (n && template[n - 1] == '\n') p.n--; /* one line end at the end is the file's, not the text's */
    return parse_body(&p, none);
}
