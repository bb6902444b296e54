/* jinja_run.c — runs a template's tree: statements append to the output, expressions make values. */
#include "text/jinja_internal.h"

#include <stdlib.h>
#include <string.h>

enum { VARIABLES_MAX = 1024, OUTPUT_MAX = 16 << 20 };

typedef struct variable {
    const char *name;
    size_t n;
    value v;
} variable;

typedef struct running {
    jinja_run r;
    variable variables[VARIABLES_MAX];
    int n_variables;
    int scope; /* first variable of the innermost loop's body */
    int depth;
    strbuf *out;
    size_t out_start;
} running;

typedef enum flow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE } flow;

/* ---- names ---- */

static bool same_name(const variable *v, const char *name, size_t n) { return v->n == n && !memcmp(v->name, name, n); }

static value look_up(const running *x, const char *name, size_t n) {
    for (int i = x->n_variables; i-- > 0;)
        if (same_name(&x->variables[i], name, n)) return x->variables[i].v;
    value_kind kind = value_is_function(name, n) ? VALUE_FUNCTION : VALUE_UNDEFINED;
    return (value){.kind = kind, .string = {name, n}};
}

/* In the innermost scope: what a loop's body sets ends with the turn. */
static void set(running *x, const char *name, size_t n, value v) {
    for (int i = x->n_variables; i-- > x->scope;)
        if (same_name(&x->variables[i], name, n)) {
            x->variables[i].v = v;
            return;
        }
    if (x->n_variables == VARIABLES_MAX)
        jinja_fail(x->r.m, ERR_UNSUPPORTED, x->r.line, "more than %d variables", VARIABLES_MAX);
    else
        x->variables[x->n_variables++] = (variable){name, n, v};
}

/* ---- expressions ---- */

static value evaluate(running *x, const node *e);

static value evaluate_or_missing(running *x, const node *e) { return e ? evaluate(x, e) : (value){.kind = VALUE_UNDEFINED}; }

static void evaluate_arguments(running *x, const node *list, arguments *out) {
    *out = (arguments){.n = 0};
    for (; list && !x->r.m->rc; list = list->next) {
        if (out->n == (int)(sizeof out->v / sizeof *out->v)) {
            jinja_fail(x->r.m, ERR_UNSUPPORTED, list->line, "a call with more than %d arguments", out->n);
            return;
        }
        out->v[out->n] = evaluate(x, list);
        out->keyword[out->n] = list->keyword;
        out->n_keyword[out->n++] = list->n_keyword;
    }
}

static value evaluate_call(running *x, const node *e) {
    arguments a;
    const node *what = e->a;
    if (what->kind != NODE_ATTR && what->kind != NODE_NAME) {
        jinja_fail(x->r.m, ERR_UNSUPPORTED, e->line, "a call of something else than a name is not supported");
        return (value){.kind = VALUE_NONE};
    }
    value of = what->kind == NODE_ATTR ? evaluate(x, what->a) : (value){.kind = VALUE_NONE};
    evaluate_arguments(x, e->b, &a);
    if (x->r.m->rc) return of;
    x->r.line = e->line;
    return what->kind == NODE_ATTR ? value_method(&x->r, what->text, what->n, of, &a)
                                   : value_function(&x->r, what->text, what->n, &a);
}

static value evaluate_binary(running *x, const node *e) {
    value a = evaluate(x, e->a);
    if (x->r.m->rc || (e->op == OP_AND && !value_is_true(a)) || (e->op == OP_OR && value_is_true(a))) return a;
    value b = evaluate(x, e->b);
    x->r.line = e->line;
    return e->op == OP_AND || e->op == OP_OR ? b : value_binary(&x->r, e->op, a, b);
}

static value evaluate_list(running *x, const node *e) {
    value list = value_new_list(&x->r, e->kind == NODE_LIST ? VALUE_LIST : VALUE_DICT);
    for (const node *item = e->a; item && !x->r.m->rc; item = item->next) {
        value v = evaluate(x, item);
        if (e->kind == NODE_LIST) {
            value_add(&x->r, list, v);
            continue;
        }
        item = item->next;
        value_put(&x->r, list, v, evaluate(x, item));
    }
    return list;
}

static value evaluate_kind(running *x, const node *e) {
    arguments a;
    value of, from, to, zero = value_integer(0);
    switch (e->kind) {
    case NODE_STRING: return value_text(&x->r, e->text, e->n);
    case NODE_INTEGER: return value_integer(e->integer);
    case NODE_BOOLEAN: return value_boolean(e->integer);
    case NODE_NAME: return look_up(x, e->text, e->n);
    case NODE_ATTR: of = evaluate(x, e->a); return x->r.m->rc ? of : value_attribute(&x->r, of, e->text, e->n);
    case NODE_INDEX:
        of = evaluate(x, e->a);
        from = evaluate(x, e->b);
        return x->r.m->rc ? of : value_index(&x->r, of, from);
    case NODE_SLICE:
        of = evaluate(x, e->a);
        from = evaluate_or_missing(x, e->b);
        to = evaluate_or_missing(x, e->c);
        a.v[0] = evaluate_or_missing(x, e->d);
        return x->r.m->rc ? of : value_slice(&x->r, of, from, to, a.v[0]);
    case NODE_CALL: return evaluate_call(x, e);
    case NODE_FILTER:
    case NODE_TEST:
        of = evaluate(x, e->a);
        evaluate_arguments(x, e->b, &a);
        if (x->r.m->rc) return of;
        return e->kind == NODE_FILTER ? value_filter(&x->r, e->text, e->n, of, &a) : value_test(&x->r, e->text, e->n, of, &a);
    case NODE_NOT: return value_boolean(!value_is_true(evaluate(x, e->a)));
    case NODE_NEGATIVE: return value_binary(&x->r, OP_SUBTRACT, zero, evaluate(x, e->a));
    case NODE_BINARY: return evaluate_binary(x, e);
    case NODE_COND: return value_is_true(evaluate(x, e->b)) ? evaluate(x, e->a) : evaluate_or_missing(x, e->c);
    case NODE_LIST:
    case NODE_DICT: return evaluate_list(x, e);
    default: return (value){.kind = VALUE_NONE};
    }
}

/* Trees are no deeper than the parser lets them be, so the stack holds. */
static value evaluate(running *x, const node *e) {
    x->r.line = e->line;
    if (!jinja_step(&x->r)) return (value){.kind = VALUE_NONE};
    value v = evaluate_kind(x, e);
    x->r.line = e->line;
    return v;
}

/* ---- statements ---- */

static flow run_body(running *x, const node *s);

static void print(running *x, const char *bytes, size_t n) {
    if (n > OUTPUT_MAX - (x->out->len - x->out_start)) {
        jinja_fail(x->r.m, ERR_UNSUPPORTED, x->r.line, "a text of more than %d MiB", OUTPUT_MAX >> 20);
        return;
    }
    strbuf_add(x->out, bytes, n);
    if (x->out->failed && !x->r.m->rc) x->r.m->rc = strbuf_check(x->out, x->r.m->e);
}

/* Gives the loop's names their values of one turn. */
static void bind(running *x, const node *names, value item) {
    if (!names->next) {
        set(x, names->text, names->n, item);
        return;
    }
    if (item.kind != VALUE_LIST || item.list->n != 2) {
        jinja_fail(x->r.m, ERR_UNSUPPORTED, x->r.line, "two names for %s", value_kind_name(item));
        return;
    }
    set(x, names->text, names->n, item.list->items[0]);
    set(x, names->next->text, names->next->n, item.list->items[1]);
}

/* The items to loop over: all, or those that the loop's own `if` takes. */
static value loop_items(running *x, const node *s) {
    value all = evaluate(x, s->b), taken = value_new_list(&x->r, VALUE_LIST);
    if (x->r.m->rc || all.kind == VALUE_UNDEFINED) return taken;
    if (all.kind == VALUE_DICT) all = value_filter(&x->r, "list", 4, all, &(arguments){.n = 0});
    if (x->r.m->rc) return taken;
    if (all.kind != VALUE_LIST) {
        jinja_fail(x->r.m, ERR_UNSUPPORTED, s->line, "a loop over %s", value_kind_name(all));
        return taken;
    }
    if (!s->d) return all;
    int scope = x->scope, n_variables = x->n_variables;
    for (size_t i = 0; i < all.list->n && !x->r.m->rc; i++) {
        x->scope = n_variables;
        bind(x, s->a, all.list->items[i]);
        if (value_is_true(evaluate(x, s->d))) value_add(&x->r, taken, all.list->items[i]);
        x->n_variables = n_variables;
    }
    x->scope = scope;
    return taken;
}

static flow run_for(running *x, const node *s) {
    value items = loop_items(x, s);
    if (x->r.m->rc) return FLOW_ON;
    if (!items.list->n) return run_body(x, s->e);
    int scope = x->scope, n_variables = x->n_variables;
    value_loop *loop = jinja_take(x->r.m, 1, sizeof *loop);
    flow way = FLOW_ON;
    size_t n = loop ? items.list->n : 0;
    for (size_t i = 0; i < n && way != FLOW_BREAK && jinja_step(&x->r); i++) {
        x->scope = n_variables;
        *loop = (value_loop){.index = (int64_t)i, .n = (int64_t)n};
        bind(x, s->a, items.list->items[i]);
        set(x, "loop", 4, (value){.kind = VALUE_LOOP, .loop = loop});
        way = run_body(x, s->c);
        x->n_variables = n_variables;
    }
    x->scope = scope;
    return FLOW_ON;
}

static void run_set(running *x, const node *s) {
    value v = evaluate(x, s->b);
    if (x->r.m->rc) return;
    if (s->a->kind == NODE_NAME) {
        set(x, s->a->text, s->a->n, v);
        return;
    }
    value space = evaluate(x, s->a->a);
    if (space.kind != VALUE_NAMESPACE)
        jinja_fail(x->r.m, ERR_UNSUPPORTED, s->line, "set of an attribute of %s", value_kind_name(space));
    else
        value_put(&x->r, space, value_text(&x->r, s->a->text, s->a->n), v);
}

static flow run_if(running *x, const node *s) {
    bool yes = value_is_true(evaluate(x, s->a));
    return x->r.m->rc ? FLOW_ON : run_body(x, yes ? s->b : s->c);
}

static flow run_body(running *x, const node *s) {
    value v;
    flow way = FLOW_ON;
    for (; s && !x->r.m->rc && way == FLOW_ON && jinja_step(&x->r); s = s->next) {
        x->r.line = s->line;
        switch (s->kind) {
        case NODE_TEXT: print(x, s->text, s->n); break;
        case NODE_OUTPUT:
            v = value_to_text(&x->r, evaluate(x, s->a));
            if (!x->r.m->rc) print(x, v.string.bytes, v.string.n);
            break;
        case NODE_IF: way = run_if(x, s); break;
        case NODE_FOR: way = run_for(x, s); break;
        case NODE_SET: run_set(x, s); break;
        case NODE_BREAK: way = FLOW_BREAK; break;
        case NODE_CONTINUE: way = FLOW_CONTINUE; break;
        default: break;
        }
    }
    return way;
}

/* ---- a template ---- */

static value messages_value(running *x) {
    value list = value_new_list(&x->r, VALUE_LIST);
    for (int i = 0; i < x->r.context->n && !x->r.m->rc; i++) {
        value message = value_new_list(&x->r, VALUE_DICT);
        if (x->r.m->rc) break;
        value_put(&x->r, message, value_word("role"), value_word(x->r.context->messages[i].role));
        value_put(&x->r, message, value_word("content"), value_word(x->r.context->messages[i].content));
        value_add(&x->r, list, message);
    }
    return list;
}

/* What Hugging Face gives a template: no tools and no documents. */
static void set_context(running *x) {
    const jinja_context *c = x->r.context;
    set(x, "messages", 8, messages_value(x));
    set(x, "add_generation_prompt", 21, value_boolean(true));
    set(x, "tools", 5, (value){.kind = VALUE_NONE});
    set(x, "documents", 9, (value){.kind = VALUE_NONE});
    if (c->bos) set(x, "bos_token", 9, value_word(c->bos));
    if (c->eos) set(x, "eos_token", 9, value_word(c->eos));
    x->scope = 0;
}

/* Line ends are \n in templates, whatever the file has. */
static size_t unify_line_ends(const char *from, size_t n, char *to) {
    size_t n_to = 0;
    for (size_t i = 0; i < n; i++) {
        if (from[i] == '\r' && i + 1 < n && from[i + 1] == '\n') continue;
        to[n_to++] = from[i] == '\r' ? '\n' : from[i];
    }
    return n_to;
}

err_code jinja_render(const char *template, size_t n, const jinja_context *context, strbuf *out, err *e) {
    jinja_memory m = {.e = e};
    running *x = NULL;
    err_code rc = mem_new0(&x, 1, sizeof *x, "a template's variables", e);
    if (rc) return rc;
    *x = (running){.r = {.m = &m, .context = context}, .out = out, .out_start = out->len};
    char *copy = jinja_take(&m, n + 1, 1);
    if (copy) {
        const node *body = jinja_parse(copy, unify_line_ends(template, n, copy), &m);
        if (!m.rc) set_context(x);
        if (!m.rc) run_body(x, body);
    }
    arena_release(&m.arena);
    free(x);
    return m.rc;
}
