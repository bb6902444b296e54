#include "formats/pickle.h"

#include <stdlib.h>
#include <string.h>

enum {
    PICKLE_BYTES_MAX = 64 << 20,
    VALUES_MAX = 1 << 22, /* of 40 bytes */
    DIMS_MAX = 4,
    PROTOCOL_MAX = 5,
};

typedef struct machine {
    const uint8_t *data;
    size_t size, at, op_at;
    arena *memory;
    pickle_value **stack;
    size_t n_stack, cap_stack;
    size_t *marks; /* heights of the stack */
    size_t n_marks, cap_marks;
    pickle_value **memo;
    size_t n_memo, cap_memo;
    int64_t n_values;
    bool stopped;
} machine;

/* ---- names ---- */

typedef err_code (*call)(machine *m, const pickle_value *arguments, pickle_value *result, err *e);

typedef struct pickle_global {
    const char *module, *name;
    call meaning;     /* when it is called; NULL for a name that is only mentioned */
    const char *type; /* what a storage holds; "" for a type's own name */
} pickle_global;

static err_code rebuild_tensor(machine *m, const pickle_value *arguments, pickle_value *result, err *e);
static err_code rebuild_parameter(machine *m, const pickle_value *arguments, pickle_value *result, err *e);
static err_code new_dict(machine *m, const pickle_value *arguments, pickle_value *result, err *e);

/* All names a pickle may mention. How to add one: a row, with the function that does here what the name does in Python. */
static const pickle_global globals[] = {
    {"torch._utils", "_rebuild_tensor_v2", rebuild_tensor, NULL},
    {"torch._utils", "_rebuild_parameter", rebuild_parameter, NULL},
    {"collections", "OrderedDict", new_dict, NULL},
    {"torch", "FloatStorage", NULL, "F32"},
    {"torch", "DoubleStorage", NULL, "F64"},
    {"torch", "HalfStorage", NULL, "F16"},
    {"torch", "BFloat16Storage", NULL, "BF16"},
    {"torch", "LongStorage", NULL, "I64"},
    {"torch", "IntStorage", NULL, "I32"},
    {"torch", "ShortStorage", NULL, "I16"},
    {"torch", "CharStorage", NULL, "I8"},
    {"torch", "ByteStorage", NULL, "U8"},
    {"torch", "BoolStorage", NULL, "BOOL"},
    {"torch", "float32", NULL, ""},
    {"torch", "float64", NULL, ""},
    {"torch", "float16", NULL, ""},
    {"torch", "bfloat16", NULL, ""},
    {"torch", "int64", NULL, ""},
};

const char *pickle_dtype_name(const pickle_value *v) {
    return v->kind == PICKLE_GLOBAL && v->global->type && !*v->global->type ? v->global->name : NULL;
}

/* ---- the machine ---- */

static err_code damaged(const machine *m, const char *expected, err *e) {
    return err_set(e, ERR_FORMAT, "pickle, byte %zu: expected %s", m->op_at, expected);
}

static err_code take(machine *m, uint64_t n, const uint8_t **out, err *e) {
    *out = m->data + m->at;
    if (n > m->size - m->at) return damaged(m, "more bytes, found the end", e);
    m->at += (size_t)n;
    return ERR_OK;
}

/* n <= 8 bytes, little endian */
static err_code take_number(machine *m, size_t n, uint64_t *out, err *e) {
    const uint8_t *p;
    err_code rc = take(m, n, &p, e);
    *out = 0;
    for (size_t i = 0; !rc && i < n; i++) *out |= (uint64_t)p[i] << 8 * i;
    return rc;
}

static err_code push(machine *m, pickle_value *v, err *e) {
    err_code rc = mem_grow(&m->stack, &m->cap_stack, m->n_stack + 1, sizeof(pickle_value *), "pickle stack", e);
    if (!rc) m->stack[m->n_stack++] = v;
    return rc;
}

static err_code push_new(machine *m, pickle_value v, err *e) {
    pickle_value *added;
    if (m->n_values++ >= VALUES_MAX) return err_set(e, ERR_UNSUPPORTED, "pickle: more than %d values", VALUES_MAX);
    err_code rc = arena_take(m->memory, &added, 1, sizeof *added, e);
    if (rc) return rc;
    *added = v;
    return push(m, added, e);
}

/* How many values stand above the last mark. */
static size_t above_mark(const machine *m) { return m->n_stack - (m->n_marks ? m->marks[m->n_marks - 1] : 0); }

static err_code need(const machine *m, size_t n, err *e) {
    return above_mark(m) >= n ? ERR_OK : damaged(m, "more values on the stack", e);
}

static err_code pop_mark(machine *m, size_t *height, err *e) {
    if (!m->n_marks) return damaged(m, "a mark", e);
    *height = m->marks[--m->n_marks];
    return ERR_OK;
}

static err_code append(machine *m, pickle_value *to, pickle_value *const *items, size_t n, err *e) {
    if (to->list.n + n > to->list.cap) {
        size_t cap = to->list.cap * 2 > to->list.n + n ? to->list.cap * 2 : to->list.n + n;
        pickle_value **grown;
        err_code rc = arena_take(m->memory, &grown, cap, sizeof(pickle_value *), e);
        if (rc) return rc;
        if (to->list.n) memcpy(grown, to->list.items, to->list.n * sizeof(pickle_value *));
        to->list.items = grown;
        to->list.cap = cap;
    }
    if (n) memcpy(to->list.items + to->list.n, items, n * sizeof(pickle_value *));
    to->list.n += n;
    return ERR_OK;
}

/* The n values on top become one. */
static err_code collect(machine *m, pickle_kind kind, size_t n, err *e) {
    pickle_value v = {.kind = kind};
    if (kind == PICKLE_DICT && n % 2) return damaged(m, "a value for every key", e);
    err_code rc = n ? append(m, &v, m->stack + m->n_stack - n, n, e) : ERR_OK;
    if (rc) return rc;
    m->n_stack -= n;
    return push_new(m, v, e);
}

static err_code collect_marked(machine *m, pickle_kind kind, err *e) {
    size_t height = 0;
    err_code rc = pop_mark(m, &height, e);
    return rc ? rc : collect(m, kind, m->n_stack - height, e);
}

/* The n values on top go into the list or dictionary below them. */
static err_code put_into(machine *m, pickle_kind kind, size_t n, err *e) {
    err_code rc = need(m, n + 1, e);
    if (rc) return rc;
    pickle_value *to = m->stack[m->n_stack - n - 1];
    if (to->kind != kind) return damaged(m, kind == PICKLE_DICT ? "a dictionary" : "a list", e);
    if (kind == PICKLE_DICT && n % 2) return damaged(m, "a value for every key", e);
    rc = append(m, to, m->stack + m->n_stack - n, n, e);
    m->n_stack -= n;
    return rc;
}

static err_code put_marked_into(machine *m, pickle_kind kind, err *e) {
    size_t height = 0;
    err_code rc = pop_mark(m, &height, e);
    return rc ? rc : put_into(m, kind, m->n_stack - height, e);
}

/* ---- opcodes: plain values ---- */

static err_code op_proto(machine *m, err *e) {
    uint64_t version;
    err_code rc = take_number(m, 1, &version, e);
    if (!rc && version > PROTOCOL_MAX) rc = err_set(e, ERR_UNSUPPORTED, "pickle protocol %d", (int)version);
    return rc;
}

static err_code op_frame(machine *m, err *e) { /* how much the writer buffered */
    uint64_t ignored;
    return take_number(m, 8, &ignored, e);
}

static err_code op_stop(machine *m, err *e) {
    m->stopped = true;
    return m->n_stack == 1 && !m->n_marks ? ERR_OK : damaged(m, "one value left at the end", e);
}

static err_code op_none(machine *m, err *e) { return push_new(m, (pickle_value){.kind = PICKLE_NONE}, e); }
static err_code op_true(machine *m, err *e) { return push_new(m, (pickle_value){.kind = PICKLE_BOOL, .boolean = true}, e); }
static err_code op_false(machine *m, err *e) { return push_new(m, (pickle_value){.kind = PICKLE_BOOL}, e); }

static err_code push_int(machine *m, size_t n, bool is_signed, err *e) {
    uint64_t u;
    err_code rc = take_number(m, n, &u, e);
    if (rc) return rc;
    if (is_signed && n && n < 8 && u >> (8 * n - 1)) u |= ~0ull << 8 * n;
    return push_new(m, (pickle_value){.kind = PICKLE_INT, .integer = (int64_t)u}, e);
}

static err_code op_int1(machine *m, err *e) { return push_int(m, 1, false, e); }
static err_code op_int2(machine *m, err *e) { return push_int(m, 2, false, e); }
static err_code op_int4(machine *m, err *e) { return push_int(m, 4, true, e); }

static err_code op_long1(machine *m, err *e) {
    uint64_t n;
    err_code rc = take_number(m, 1, &n, e);
    if (!rc && n > 8) rc = err_set(e, ERR_UNSUPPORTED, "pickle, byte %zu: a whole number of %d bytes", m->op_at, (int)n);
    return rc ? rc : push_int(m, (size_t)n, true, e);
}

static err_code op_float(machine *m, err *e) { /* the one big-endian value */
    uint64_t u;
    pickle_value v = {.kind = PICKLE_FLOAT};
    err_code rc = take_number(m, 8, &u, e);
    if (rc) return rc;
    u = __builtin_bswap64(u);
    memcpy(&v.real, &u, sizeof u);
    return push_new(m, v, e);
}

static err_code push_string(machine *m, size_t length_bytes, err *e) {
    uint64_t n;
    const uint8_t *bytes;
    err_code rc = take_number(m, length_bytes, &n, e);
    if (!rc) rc = take(m, n, &bytes, e);
    return rc ? rc : push_new(m, (pickle_value){.kind = PICKLE_STRING, .string = {(const char *)bytes, (size_t)n}}, e);
}

static err_code op_string1(machine *m, err *e) { return push_string(m, 1, e); }
static err_code op_string4(machine *m, err *e) { return push_string(m, 4, e); }
static err_code op_string8(machine *m, err *e) { return push_string(m, 8, e); }

/* ---- opcodes: tuples, lists, dictionaries ---- */

static err_code op_mark(machine *m, err *e) {
    err_code rc = mem_grow(&m->marks, &m->cap_marks, m->n_marks + 1, sizeof *m->marks, "pickle marks", e);
    if (!rc) m->marks[m->n_marks++] = m->n_stack;
    return rc;
}

static err_code op_pop(machine *m, err *e) {
    err_code rc = need(m, 1, e);
    if (!rc) m->n_stack--;
    return rc;
}

static err_code tuple_of(machine *m, size_t n, err *e) {
    err_code rc = need(m, n, e);
    return rc ? rc : collect(m, PICKLE_TUPLE, n, e);
}

static err_code op_tuple0(machine *m, err *e) { return tuple_of(m, 0, e); }
static err_code op_tuple1(machine *m, err *e) { return tuple_of(m, 1, e); }
static err_code op_tuple2(machine *m, err *e) { return tuple_of(m, 2, e); }
static err_code op_tuple3(machine *m, err *e) { return tuple_of(m, 3, e); }
static err_code op_tuple(machine *m, err *e) { return collect_marked(m, PICKLE_TUPLE, e); }
static err_code op_list0(machine *m, err *e) { return collect(m, PICKLE_LIST, 0, e); }
static err_code op_list(machine *m, err *e) { return collect_marked(m, PICKLE_LIST, e); }
static err_code op_dict0(machine *m, err *e) { return collect(m, PICKLE_DICT, 0, e); }
static err_code op_dict(machine *m, err *e) { return collect_marked(m, PICKLE_DICT, e); }
static err_code op_append(machine *m, err *e) { return put_into(m, PICKLE_LIST, 1, e); }
static err_code op_appends(machine *m, err *e) { return put_marked_into(m, PICKLE_LIST, e); }
static err_code op_setitem(machine *m, err *e) { return put_into(m, PICKLE_DICT, 2, e); }
static err_code op_setitems(machine *m, err *e) { return put_marked_into(m, PICKLE_DICT, e); }

/* ---- opcodes: memo ---- */

static err_code memo_put(machine *m, uint64_t i, err *e) {
    err_code rc = need(m, 1, e);
    if (!rc && i >= VALUES_MAX) rc = damaged(m, "a smaller memo", e);
    if (!rc) rc = mem_grow(&m->memo, &m->cap_memo, (size_t)i + 1, sizeof(pickle_value *), "pickle memo", e);
    if (rc) return rc;
    for (; m->n_memo <= i; m->n_memo++) m->memo[m->n_memo] = NULL;
    m->memo[i] = m->stack[m->n_stack - 1];
    return ERR_OK;
}

static err_code memo_get(machine *m, uint64_t i, err *e) {
    return i < m->n_memo && m->memo[i] ? push(m, m->memo[i], e) : damaged(m, "a value in the memo", e);
}

static err_code op_put1(machine *m, err *e) {
    uint64_t i;
    err_code rc = take_number(m, 1, &i, e);
    return rc ? rc : memo_put(m, i, e);
}

static err_code op_put4(machine *m, err *e) {
    uint64_t i;
    err_code rc = take_number(m, 4, &i, e);
    return rc ? rc : memo_put(m, i, e);
}

static err_code op_memoize(machine *m, err *e) { return memo_put(m, m->n_memo, e); }

static err_code op_get1(machine *m, err *e) {
    uint64_t i;
    err_code rc = take_number(m, 1, &i, e);
    return rc ? rc : memo_get(m, i, e);
}

static err_code op_get4(machine *m, err *e) {
    uint64_t i;
    err_code rc = take_number(m, 4, &i, e);
    return rc ? rc : memo_get(m, i, e);
}

/* ---- opcodes: names and calls ---- */

static bool same(const char *text, const char *bytes, size_t len) { return strlen(text) == len && !memcmp(text, bytes, len); }

static err_code push_global(machine *m, const char *module, size_t module_len, const char *name, size_t name_len, err *e) {
    for (size_t i = 0; i < sizeof globals / sizeof *globals; i++)
        if (same(globals[i].module, module, module_len) && same(globals[i].name, name, name_len))
            return push_new(m, (pickle_value){.kind = PICKLE_GLOBAL, .global = &globals[i]}, e);
    return err_set(e, ERR_UNSUPPORTED,
                   "pickle, byte %zu: it names %.*s.%.*s, which describes no tensor; nothing was run (if you trust the file, "
                   "save its tensors as safetensors)",
                   m->op_at, (int)(module_len < 60 ? module_len : 60), module, (int)(name_len < 60 ? name_len : 60), name);
}

static err_code take_line(machine *m, const char **line, size_t *len, err *e) {
    const uint8_t *start = m->data + m->at, *end = m->at < m->size ? memchr(start, '\n', m->size - m->at) : NULL;
    if (!end) return damaged(m, "the end of a name", e);
    *line = (const char *)start;
    *len = (size_t)(end - start);
    m->at += *len + 1;
    return ERR_OK;
}

static err_code op_global(machine *m, err *e) {
    const char *module = NULL, *name = NULL;
    size_t module_len = 0, name_len = 0;
    err_code rc = take_line(m, &module, &module_len, e);
    if (!rc) rc = take_line(m, &name, &name_len, e);
    return rc ? rc : push_global(m, module, module_len, name, name_len, e);
}

static err_code op_stack_global(machine *m, err *e) {
    err_code rc = need(m, 2, e);
    if (rc) return rc;
    const pickle_value *module = m->stack[m->n_stack - 2], *name = m->stack[m->n_stack - 1];
    if (module->kind != PICKLE_STRING || name->kind != PICKLE_STRING) return damaged(m, "two strings", e);
    m->n_stack -= 2;
    return push_global(m, module->string.bytes, module->string.len, name->string.bytes, name->string.len, e);
}

/* ("storage", class, key, place, count): bytes in a member of the archive */
static err_code op_persistent(machine *m, err *e) {
    err_code rc = need(m, 1, e);
    if (rc) return rc;
    const pickle_value *id = m->stack[--m->n_stack];
    if (id->kind != PICKLE_TUPLE || id->list.n != 5 || id->list.items[0]->kind != PICKLE_STRING ||
        !same("storage", id->list.items[0]->string.bytes, id->list.items[0]->string.len))
        return damaged(m, "a storage", e);
    const pickle_value *class = id->list.items[1], *key = id->list.items[2];
    if (class->kind != PICKLE_GLOBAL || !class->global->type || !*class->global->type || key->kind != PICKLE_STRING)
        return damaged(m, "a storage's class and key", e);
    const pickle_value storage = {
        .kind = PICKLE_STORAGE,
        .storage = {quant_by_name(class->global->type), key->string.bytes, key->string.len},
    };
    return push_new(m, storage, e);
}

static err_code op_reduce(machine *m, err *e) {
    pickle_value result = {0};
    err_code rc = need(m, 2, e);
    if (rc) return rc;
    const pickle_value *function = m->stack[m->n_stack - 2], *arguments = m->stack[m->n_stack - 1];
    if (function->kind != PICKLE_GLOBAL || !function->global->meaning || arguments->kind != PICKLE_TUPLE)
        return damaged(m, "a call of something that can be called", e);
    m->n_stack -= 2;
    rc = function->global->meaning(m, arguments, &result, e);
    return rc ? rc : push_new(m, result, e);
}

/* Attributes of a dictionary (PyTorch puts versions of modules there) mean nothing to us. */
static err_code op_build(machine *m, err *e) {
    err_code rc = need(m, 2, e);
    if (!rc && m->stack[m->n_stack - 2]->kind != PICKLE_DICT) rc = damaged(m, "a dictionary to add attributes to", e);
    if (!rc) m->n_stack--;
    return rc;
}

/* ---- what the names mean ---- */

static err_code read_sizes(const machine *m, const pickle_value *tuple, int64_t *out, int n, err *e) {
    for (int i = 0; i < n; i++) {
        const pickle_value *v = tuple->list.items[i];
        if (v->kind != PICKLE_INT || v->integer < 0)
            return damaged(m, "whole numbers, none negative, as shape and strides", e);
        out[i] = v->integer;
    }
    return ERR_OK;
}

/* (storage, offset, shape, strides, requires_grad, hooks, ..) */
static err_code rebuild_tensor(machine *m, const pickle_value *arguments, pickle_value *result, err *e) {
    pickle_tensor *t;
    pickle_value *const *items = arguments->list.items;
    if (arguments->list.n < 4 || items[0]->kind != PICKLE_STORAGE || items[1]->kind != PICKLE_INT || items[1]->integer < 0 ||
        items[2]->kind != PICKLE_TUPLE || items[3]->kind != PICKLE_TUPLE || items[2]->list.n != items[3]->list.n)
        return damaged(m, "a storage, an offset, a shape and strides", e);
    if (items[2]->list.n > DIMS_MAX)
        return err_set(e, ERR_UNSUPPORTED, "pickle, byte %zu: a tensor of %zu dimensions (at most %d)", m->op_at,
                       items[2]->list.n, DIMS_MAX);
    err_code rc = arena_take(m->memory, &t, 1, sizeof *t, e);
    if (rc) return rc;
    *t = (pickle_tensor){.type = items[0]->storage.type,
                         .key = items[0]->storage.key,
                         .key_len = items[0]->storage.key_len,
                         .offset = items[1]->integer,
                         .n_dims = (int)items[2]->list.n};
    rc = read_sizes(m, items[2], t->shape, t->n_dims, e);
    if (!rc) rc = read_sizes(m, items[3], t->strides, t->n_dims, e);
    *result = (pickle_value){.kind = PICKLE_TENSOR, .tensor = t};
    return rc;
}

/* (tensor, requires_grad, hooks) */
static err_code rebuild_parameter(machine *m, const pickle_value *arguments, pickle_value *result, err *e) {
    if (!arguments->list.n || arguments->list.items[0]->kind != PICKLE_TENSOR) return damaged(m, "a tensor", e);
    *result = *arguments->list.items[0];
    return ERR_OK;
}

static err_code new_dict(machine *m, const pickle_value *arguments, pickle_value *result, err *e) {
    if (arguments->list.n) return damaged(m, "a new dictionary to be empty", e);
    *result = (pickle_value){.kind = PICKLE_DICT};
    return ERR_OK;
}

/* ---- the list of opcodes ---- */

static err_code (*const opcodes[256])(machine *m, err *e) = {
    [0x80] = op_proto,     [0x95] = op_frame,   ['.'] = op_stop,     ['N'] = op_none,     [0x88] = op_true,
    [0x89] = op_false,     ['K'] = op_int1,     ['M'] = op_int2,     ['J'] = op_int4,     [0x8a] = op_long1,
    ['G'] = op_float,      [0x8c] = op_string1, ['X'] = op_string4,  [0x8d] = op_string8, ['U'] = op_string1,
    ['C'] = op_string1,    ['T'] = op_string4,  ['B'] = op_string4,  ['('] = op_mark,     ['0'] = op_pop,
    [')'] = op_tuple0,     [0x85] = op_tuple1,  [0x86] = op_tuple2,  [0x87] = op_tuple3,  ['t'] = op_tuple,
    [']'] = op_list0,      ['l'] = op_list,     ['}'] = op_dict0,    ['d'] = op_dict,     ['a'] = op_append,
    ['e'] = op_appends,    ['s'] = op_setitem,  ['u'] = op_setitems, ['q'] = op_put1,     ['r'] = op_put4,
    [0x94] = op_memoize,   ['h'] = op_get1,     ['j'] = op_get4,     ['c'] = op_global,   [0x93] = op_stack_global,
    ['Q'] = op_persistent, ['R'] = op_reduce,   ['b'] = op_build,
};

err_code pickle_read(const uint8_t *data, size_t size, arena *memory, const pickle_value **out, err *e) {
    machine m = {.data = data, .size = size, .memory = memory};
    err_code rc = ERR_OK;
    if (size > PICKLE_BYTES_MAX)
        return err_set(e, ERR_UNSUPPORTED, "pickle: expected at most %d bytes, found %zu", PICKLE_BYTES_MAX, size);
    while (!rc && !m.stopped) {
        const uint8_t *op;
        m.op_at = m.at;
        rc = take(&m, 1, &op, e);
        if (!rc && !opcodes[*op])
            rc = err_set(e, ERR_UNSUPPORTED, "pickle, byte %zu: opcode 0x%02x is not one that describes tensors", m.op_at,
                         *op);
        if (!rc) rc = opcodes[*op](&m, e);
    }
    if (!rc) *out = m.stack[0];
    free(m.stack);
    free(m.marks);
    free(m.memo);
    return rc;
}
