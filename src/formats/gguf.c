/* gguf.c — the GGUF container, versions 2 and 3, little endian; written as version 3.
 *
 *   magic "GGUF", u32 version, u64 n_tensors, u64 n_keys
 *   n_keys    x  string key, u32 kind, value         string: u64 length, bytes; array: u32 kind of items, u64 count, items
 *   n_tensors x  string name, u32 n_dims, u64 dims[n_dims] fastest first, u32 type, u64 offset from the start of the data
 *   padding to `general.alignment` (32 unless given), then the data: each tensor padded to the alignment, in this order
 *
 * A model may be split into files <name>-00001-of-0000N.gguf: the first has the keys, each has its own tensors. Each says
 * split.no (from 0), split.count and split.tensors.count (of all parts); any of them may be opened.
 * Format: docs/gguf.md of the ggml project. */
#include "formats/gguf.h"
#include "core/strbuf.h"
#include "formats/weights_internal.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum {
    VERSION_MIN = 2,
    VERSION_MAX = 3,
    ALIGNMENT = 32,
    KEY_BYTES_MIN = 8 + 4 + 1, /* what a key takes at least: no count is larger than the file allows */
    TENSOR_BYTES_MIN = 8 + 4 + 4 + 8,
};

typedef struct parser {
    weights *w;
    const uint8_t *data;
    size_t size, at;
    int64_t n_tensors, n_keys;
    int64_t alignment, split_no, split_count, split_tensors; /* from the keys; split_tensors is -1 where none says it */
    bool keys_count;                                         /* those of the other parts of a split model do not */
} parser;

/* ---- bytes ---- */

static err_code take(parser *p, uint64_t n, const char *what, const uint8_t **out, err *e) {
    *out = p->data + p->at;
    if (n > p->size - p->at)
        return err_set(e, ERR_FORMAT, "byte %zu: expected %llu bytes of %s, found the end of the file after %zu", p->at,
                       (unsigned long long)n, what, p->size - p->at);
    p->at += (size_t)n;
    return ERR_OK;
}

static err_code take_u32(parser *p, const char *what, uint32_t *out, err *e) {
    const uint8_t *bytes;
    err_code rc = take(p, sizeof *out, what, &bytes, e);
    if (!rc) memcpy(out, bytes, sizeof *out);
    return rc;
}

/* A count, length or offset: at most INT64_MAX. */
static err_code take_count(parser *p, const char *what, int64_t *out, err *e) {
    const uint8_t *bytes;
    err_code rc = take(p, sizeof *out, what, &bytes, e);
    if (rc) return rc;
    memcpy(out, bytes, sizeof *out);
    if (*out >= 0) return ERR_OK;
    return err_set(e, ERR_FORMAT, "byte %zu: %s is %llu, which no file holds", p->at - sizeof *out, what,
                   (unsigned long long)*out);
}

static err_code take_string(parser *p, const char *what, const char **bytes, size_t *len, err *e) {
    int64_t n;
    const uint8_t *start;
    err_code rc = take_count(p, what, &n, e);
    if (!rc) rc = take(p, (uint64_t)n, what, &start, e);
    if (rc) return rc;
    *bytes = (const char *)start;
    *len = (size_t)n;
    return ERR_OK;
}

/* ---- header ---- */

static err_code read_version(parser *p, err *e) {
    uint32_t version;
    err_code rc = take_u32(p, "version", &version, e);
    if (rc) return rc;
    if (version && !(version & 0xffff))
        return err_set(e, ERR_UNSUPPORTED, "a big-endian GGUF file (convert it on the machine that wrote it)");
    if (version < VERSION_MIN || version > VERSION_MAX)
        return err_set(e, ERR_UNSUPPORTED, "GGUF version %u: expected 2 or 3%s", version,
                       version == 1 ? " (convert the model again with a current converter)" : "");
    if (p->keys_count) snprintf(p->w->format, sizeof p->w->format, "GGUF v%u", version);
    return ERR_OK;
}

static err_code check_count(const parser *p, const char *what, int64_t n, size_t bytes_each, err *e) {
    size_t left = p->size - p->at;
    if ((uint64_t)n <= left / bytes_each) return ERR_OK;
    return err_set(e, ERR_FORMAT, "the header speaks of %lld %s, for which the file's %zu bytes are too few", (long long)n,
                   what, p->size);
}

static err_code read_header(parser *p, err *e) {
    err_code rc;
    const uint8_t *magic;
    TRY(take(p, 4, "magic", &magic, e));
    if (memcmp(magic, "GGUF", 4) != 0) return err_set(e, ERR_FORMAT, "expected a file that starts with GGUF");
    TRY(read_version(p, e));
    TRY(take_count(p, "the number of tensors", &p->n_tensors, e));
    TRY(take_count(p, "the number of keys", &p->n_keys, e));
    TRY(check_count(p, "tensors", p->n_tensors, TENSOR_BYTES_MIN, e));
    TRY(check_count(p, "keys", p->n_keys, KEY_BYTES_MIN, e));
done:
    return rc;
}

/* ---- keys ---- */

#define INT(ctype)                                                                                                           \
    do {                                                                                                                     \
        ctype x;                                                                                                             \
        memcpy(&x, b, sizeof x);                                                                                             \
        v->kind = META_INT;                                                                                                  \
        v->integer = (int64_t)x;                                                                                             \
    } while (0)

#define REAL(ctype)                                                                                                          \
    do {                                                                                                                     \
        ctype x;                                                                                                             \
        memcpy(&x, b, sizeof x);                                                                                             \
        v->kind = META_FLOAT;                                                                                                \
        v->real = (double)x;                                                                                                 \
    } while (0)

/* by the number of the kind in the file; 0 for those without a fixed size */
static const uint8_t kind_bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
enum { N_KINDS = sizeof kind_bytes };

static err_code read_scalar(parser *p, uint32_t kind, meta_value *v, err *e) {
    const uint8_t *b;
    err_code rc = take(p, kind_bytes[kind], "a value", &b, e);
    if (rc) return rc;
    v->stored = (uint8_t)(kind + 1);
    switch (kind) {
    case GGUF_U8: INT(uint8_t); break;
    case GGUF_I8: INT(int8_t); break;
    case GGUF_U16: INT(uint16_t); break;
    case GGUF_I16: INT(int16_t); break;
    case GGUF_U32: INT(uint32_t); break;
    case GGUF_I32: INT(int32_t); break;
    case GGUF_F32: REAL(float); break;
    case GGUF_BOOL:
        v->kind = META_BOOL;
        v->boolean = *b;
        if (*b > 1) return err_set(e, ERR_FORMAT, "byte %zu: expected true (1) or false (0), found %u", p->at - 1, *b);
        break;
    case GGUF_U64:
        INT(uint64_t);
        if (v->integer < 0)
            return err_set(e, ERR_UNSUPPORTED, "byte %zu: expected a number below 2^63, found %llu", p->at - 8,
                           (unsigned long long)v->integer);
        break;
    case GGUF_I64: INT(int64_t); break;
    default: REAL(double); break;
    }
    return ERR_OK;
}

static err_code take_kind(parser *p, uint32_t *kind, err *e) {
    err_code rc = take_u32(p, "the kind of a value", kind, e);
    if (!rc && *kind >= N_KINDS) rc = err_set(e, ERR_FORMAT, "byte %zu: values of kind %u are unknown", p->at - 4, *kind);
    return rc;
}

static err_code read_plain(parser *p, uint32_t kind, meta_value *v, err *e) {
    if (kind != GGUF_STRING) return read_scalar(p, kind, v, e);
    v->kind = META_STRING;
    v->stored = GGUF_STRING + 1;
    return take_string(p, "a string", &v->string.bytes, &v->string.len, e);
}

static err_code read_array(parser *p, meta_value *v, err *e) {
    err_code rc;
    uint32_t kind;
    int64_t count;
    meta_value *items = NULL;
    TRY(take_kind(p, &kind, e));
    if (kind == GGUF_ARRAY) return err_set(e, ERR_UNSUPPORTED, "byte %zu: an array of arrays", p->at - 4);
    TRY(take_count(p, "the length of an array", &count, e));
    size_t bytes_each = kind == GGUF_STRING ? 8 : kind_bytes[kind];
    if ((uint64_t)count > (p->size - p->at) / bytes_each)
        return err_set(e, ERR_FORMAT, "byte %zu: an array of %lld items goes beyond the end of the file", p->at - 8,
                       (long long)count);
    TRY(weights_items(p->w, count, &items, e));
    for (int64_t i = 0; i < count; i++) {
        items[i] = (meta_value){0};
        TRY(read_plain(p, kind, &items[i], e));
    }
    v->kind = META_ARRAY;
    v->stored = (uint8_t)(kind + 1);
    v->array.kind = count ? items[0].kind : META_INT;
    v->array.count = count;
    v->array.items = items;
done:
    return rc;
}

static bool is_key(const char *key, size_t len, const char *name) { return len == strlen(name) && !memcmp(key, name, len); }

/* The keys that say how to read the file itself. */
static err_code note_key(parser *p, const char *key, size_t len, const meta_value *v, err *e) {
    const struct {
        const char *name;
        int64_t *value;
    } known[] = {{"general.alignment", &p->alignment},
                 {"split.no", &p->split_no},
                 {"split.count", &p->split_count},
                 {"split.tensors.count", &p->split_tensors}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (!is_key(key, len, known[i].name)) continue;
        if (v->kind != META_INT) return err_set(e, ERR_FORMAT, "key %s: expected a whole number", known[i].name);
        *known[i].value = v->integer;
    }
    return ERR_OK;
}

static err_code read_value(parser *p, meta_value *v, err *e) {
    uint32_t kind;
    err_code rc = take_kind(p, &kind, e);
    if (rc) return rc;
    return kind == GGUF_ARRAY ? read_array(p, v, e) : read_plain(p, kind, v, e);
}

static err_code read_key(parser *p, err *e) {
    const char *key;
    size_t len;
    meta_value v = {0};
    err_code rc = take_string(p, "a key", &key, &len, e);
    if (rc) return rc;
    rc = read_value(p, &v, e);
    if (rc) return err_prefix(e, rc, "key %.*s", (int)(len < 100 ? len : 100), key);
    rc = note_key(p, key, len, &v, e);
    return !rc && p->keys_count ? weights_add_meta(p->w, &v, key, len, e) : rc;
}

/* ---- tensors ---- */

/* Tensors lie one behind the other, each padded to the alignment: *end is where the next one has to start. */
static err_code read_tensor(parser *p, int64_t *end, err *e) {
    err_code rc;
    const char *name;
    size_t len;
    uint32_t n_dims, type;
    int64_t offset, count;
    tensor_view t = {0};
    char text[SHAPE_TEXT];
    TRY(take_string(p, "a tensor's name", &name, &len, e));
    TRY(take_u32(p, "a number of dimensions", &n_dims, e));
    if (n_dims > WEIGHTS_DIMS_MAX)
        return err_set(e, ERR_FORMAT, "byte %zu: expected at most %d dimensions, found %u", p->at - 4, WEIGHTS_DIMS_MAX,
                       n_dims);
    t.n_dims = (int)n_dims;
    for (int i = t.n_dims; i-- > 0;) TRY(take_count(p, "a dimension", &t.shape[i], e));
    TRY(take_u32(p, "a type", &type, e));
    TRY(take_count(p, "an offset", &offset, e));
    t.type = quant_by_id(type);
    if (!t.type) return err_set(e, ERR_UNSUPPORTED, "byte %zu: values of type %u are unknown", p->at - 12, type);
    shape_text(t.n_dims, t.shape, text);
    if (!shape_count(t.n_dims, t.shape, &count))
        return err_set(e, ERR_FORMAT, "byte %zu: shape %s is larger than any file", p->at, text);
    if ((t.n_dims ? t.shape[t.n_dims - 1] : 1) % t.type->block_size || !quant_bytes(t.type, count, &t.size))
        return err_set(e, ERR_FORMAT, "byte %zu: shape %s: expected rows of whole blocks of %lld values, as %s has", p->at,
                       text, (long long)t.type->block_size, t.type->name);
    if (offset != *end)
        return err_set(e, ERR_FORMAT, "byte %zu: expected the tensor at offset %lld of the data, found %lld", p->at - 8,
                       (long long)*end, (long long)offset);
    int64_t padded;
    if (t.size > INT64_MAX || __builtin_add_overflow(offset, (int64_t)t.size, end) ||
        __builtin_add_overflow(*end, p->alignment - 1, &padded))
        return err_set(e, ERR_FORMAT, "byte %zu: shape %s is larger than any file", p->at, text);
    *end = padded - padded % p->alignment;
    t.offset = (uint64_t)offset; /* from the start of the data, until that is known */
    TRY(weights_add_tensor(p->w, &t, name, len, e));
done:
    return rc;
}

/* Points the tensors from number `first` on into the data, which starts at `data`. */
static err_code place_tensors(parser *p, size_t first, size_t data, err *e) {
    for (size_t i = first; i < p->w->n_tensors; i++) {
        tensor_view *t = &p->w->tensors[i];
        size_t available = data < p->size ? p->size - data : 0;
        if (t->offset > available || t->size > available - t->offset)
            return err_set(e, ERR_FORMAT, "tensor %s: expected %zu bytes at byte %llu, found the end of the file at %zu",
                           t->name, t->size, (unsigned long long)(data + t->offset), p->size);
        t->offset += data;
        t->data = p->data + t->offset;
    }
    return ERR_OK;
}

static err_code read_tensors(parser *p, err *e) {
    err_code rc;
    size_t first = p->w->n_tensors;
    int64_t end = 0;
    for (int64_t i = 0; i < p->n_tensors; i++) {
        rc = read_tensor(p, &end, e);
        if (rc) return err_prefix(e, rc, "tensor %lld of %lld", (long long)i + 1, (long long)p->n_tensors);
    }
    size_t padding = (size_t)p->alignment - 1, data;
    if (!mem_add(p->at, padding, &data)) return err_set(e, ERR_FORMAT, "alignment %lld", (long long)p->alignment);
    return place_tensors(p, first, data & ~padding, e);
}

/* ---- files ---- */

static err_code parse(parser *p, err *e) {
    err_code rc;
    p->alignment = ALIGNMENT;
    p->split_count = 1;
    p->split_tensors = -1;
    TRY(read_header(p, e));
    for (int64_t i = 0; i < p->n_keys; i++) TRY(read_key(p, e));
    if (p->alignment < 1 || p->alignment > UINT32_MAX || p->alignment & (p->alignment - 1))
        return err_set(e, ERR_FORMAT, "general.alignment: expected a power of two, found %lld", (long long)p->alignment);
    TRY(read_tensors(p, e));
done:
    return rc;
}

/* The name of part i (from 0) of n, made from the name of any part. */
static err_code part_path(const char *path, int64_t i, int64_t n, strbuf *out, err *e) {
    strbuf ending = STRBUF_INIT;
    size_t len = strlen(path), tail = strlen("-00001-of-00002.gguf");
    strbuf_addf(&ending, "-of-%05lld.gguf", (long long)n);
    err_code rc = strbuf_check(&ending, e);
    if (!rc &&
        (len < tail || ending.len > tail || strcmp(path + len - ending.len, ending.data) != 0 || path[len - tail] != '-'))
        rc = err_set(e, ERR_FORMAT, "one of %lld parts: expected a name that ends in -00001-of-%05lld.gguf", (long long)n,
                     (long long)n);
    if (!rc) strbuf_addf(out, "%.*s-%05lld%s", (int)(len - tail), path, (long long)i + 1, ending.data);
    if (!rc) rc = strbuf_check(out, e);
    strbuf_release(&ending);
    return rc;
}

static err_code read_part(weights *w, const char *path, int64_t i, const parser *opened, err *e) {
    parser p = {.w = w, .keys_count = i == 0};
    long long n = opened->split_count;
    if (!file_exists(path))
        return err_set(e, ERR_IO, "one of %lld parts: expected part %lld beside it, %s, found no such file", n,
                       (long long)i + 1, path_base(path));
    err_code rc = weights_map(w, path, &p.data, &p.size, e);
    if (rc) return rc;
    rc = parse(&p, e);
    if (!rc && (p.split_no != i || p.split_count != n))
        rc = err_set(e, ERR_FORMAT, "expected part %lld of %lld, found part %lld of %lld", (long long)i + 1, n,
                     (long long)p.split_no + 1, (long long)p.split_count);
    if (!rc && p.split_tensors != opened->split_tensors)
        rc = err_set(e, ERR_FORMAT, "split.tensors.count: expected %lld, as another part says, found %lld",
                     (long long)opened->split_tensors, (long long)p.split_tensors);
    return rc ? err_prefix(e, rc, "%s", path_base(path)) : ERR_OK;
}

/* The part that was opened has to be where its keys say, and so have all others. */
static err_code read_parts(weights *w, const parser *opened, err *e) {
    strbuf path = STRBUF_INIT;
    err_code rc = ERR_OK;
    int64_t n = opened->split_count, no = opened->split_no;
    if (n < 0 || n > WEIGHTS_PARTS_MAX)
        return err_set(e, ERR_UNSUPPORTED, "split.count: expected at most %d, found %lld", WEIGHTS_PARTS_MAX, (long long)n);
    if (no < 0 || no >= n)
        return err_set(e, ERR_FORMAT, "split.no: expected 0 .. %lld, found %lld", (long long)n - 1, (long long)no);
    TRY(part_path(w->path, no, n, &path, e));
    if (strcmp(path.data, w->path) != 0)
        TRY(err_set(e, ERR_FORMAT, "split.no: part %lld of %lld: expected the name %s", (long long)no + 1, (long long)n,
                    path_base(path.data)));
    weights_clear(w);
    for (int64_t i = 0; i < n; i++) {
        strbuf_reset(&path);
        TRY(part_path(w->path, i, n, &path, e));
        TRY(read_part(w, path.data, i, opened, e));
    }
    if (opened->split_tensors >= 0 && (uint64_t)opened->split_tensors != w->n_tensors)
        rc = err_set(e, ERR_FORMAT, "split.tensors.count: expected the %lld parts to have %lld tensors, found %zu",
                     (long long)n, (long long)opened->split_tensors, w->n_tensors);
done:
    strbuf_release(&path);
    return rc;
}

/* Merged files keep a split.count of 0. */
err_code gguf_read(weights *w, const uint8_t *data, size_t size, err *e) {
    parser p = {.w = w, .data = data, .size = size, .keys_count = true};
    err_code rc = parse(&p, e);
    return rc || p.split_count == 0 || p.split_count == 1 ? rc : read_parts(w, &p, e);
}

/* ---- writing ---- */

static void put_u32(strbuf *s, uint32_t x) { strbuf_add(s, &x, sizeof x); }
static void put_u64(strbuf *s, uint64_t x) { strbuf_add(s, &x, sizeof x); }

static void put_text(strbuf *s, const char *bytes, size_t len) {
    put_u64(s, len);
    strbuf_add(s, bytes, len);
}

/* What a value is stored as: as in the file it comes from, else as programs expect it. */
static gguf_kind kind_of(const meta_value *v) {
    if (v->stored) return (gguf_kind)(v->stored - 1);
    switch (v->kind) {
    case META_BOOL: return GGUF_BOOL;
    case META_INT:
        return v->integer >= 0 && v->integer <= UINT32_MAX          ? GGUF_U32
               : v->integer >= INT32_MIN && v->integer <= INT32_MAX ? GGUF_I32
                                                                    : GGUF_I64;
    case META_FLOAT: return GGUF_F32;
    case META_STRING: return GGUF_STRING;
    default: break;
    }
    switch (v->array.kind) {
    case META_BOOL: return GGUF_BOOL;
    case META_FLOAT: return GGUF_F32;
    case META_STRING: return GGUF_STRING;
    default: return GGUF_I32;
    }
}

/* Little endian, as this machine is: the low bytes come first. */
static void put_plain(strbuf *s, gguf_kind kind, const meta_value *v) {
    float real = (float)v->real;
    switch (kind) {
    case GGUF_STRING: put_text(s, v->string.bytes, v->string.len); break;
    case GGUF_BOOL: strbuf_add_char(s, v->boolean); break;
    case GGUF_F32: strbuf_add(s, &real, sizeof real); break;
    case GGUF_F64: strbuf_add(s, &v->real, sizeof v->real); break;
    default: strbuf_add(s, &v->integer, kind_bytes[kind]); break;
    }
}

static void put_key(strbuf *s, const meta_value *v) {
    gguf_kind kind = kind_of(v);
    put_text(s, v->key, strlen(v->key));
    if (v->kind != META_ARRAY) {
        put_u32(s, kind);
        put_plain(s, kind, v);
        return;
    }
    put_u32(s, GGUF_ARRAY);
    put_u32(s, kind);
    put_u64(s, (uint64_t)v->array.count);
    for (int64_t i = 0; i < v->array.count; i++) put_plain(s, kind, v->array.items + i);
}

static uint64_t aligned(uint64_t size, uint64_t alignment) { return (size + alignment - 1) / alignment * alignment; }

static void put_tensor(strbuf *s, const tensor_view *t, uint64_t offset) {
    put_text(s, t->name, strlen(t->name));
    put_u32(s, (uint32_t)t->n_dims);
    for (int i = t->n_dims; i-- > 0;) put_u64(s, (uint64_t)t->shape[i]);
    put_u32(s, t->type->ggml_id);
    put_u64(s, offset);
}

/* Keys of a split file speak of its parts: what is written is one. */
static bool is_written(const meta_value *v) { return strncmp(v->key, "split.", 6) != 0; }

static err_code build_header(const weights *w, uint64_t alignment, strbuf *s, uint64_t *data_size, err *e) {
    uint64_t at = 0, n_keys = 0;
    for (size_t i = 0; i < w->n_meta; i++) n_keys += is_written(w->meta + i);
    strbuf_add(s, "GGUF", 4);
    put_u32(s, VERSION_MAX);
    put_u64(s, w->n_tensors);
    put_u64(s, n_keys);
    for (size_t i = 0; i < w->n_meta; i++)
        if (is_written(w->meta + i)) put_key(s, w->meta + i);
    for (size_t i = 0; i < w->n_tensors; i++) {
        assert(w->tensors[i].type->ggml_id != QUANT_NO_ID);
        put_tensor(s, w->tensors + i, at);
        at = aligned(at + w->tensors[i].size, alignment);
    }
    while (s->len % alignment && !s->failed) strbuf_add_char(s, 0);
    *data_size = at;
    return strbuf_check(s, e);
}

err_code gguf_write(const char *path, const weights *w, tensor_producer produce, void *user, err *e) {
    static const char zeros[ALIGNMENT];
    strbuf header = STRBUF_INIT;
    tensor_sink *out = NULL;
    uint64_t data_size = 0;
    int64_t alignment;
    err_code rc;
    TRY(weights_meta_int_or(w, "general.alignment", ALIGNMENT, &alignment, e));
    TRY(build_header(w, (uint64_t)alignment, &header, &data_size, e));
    TRY(tensor_sink_open(path, header.len + data_size, &out, e));
    TRY(tensor_sink_add(out, header.data, header.len, e));
    for (size_t i = 0; i < w->n_tensors; i++) {
        TRY(tensor_sink_produce(out, produce, user, w->tensors + i, (int64_t)i, e));
        for (uint64_t left = aligned(w->tensors[i].size, (uint64_t)alignment) - w->tensors[i].size; left;) {
            size_t n = left < sizeof zeros ? (size_t)left : sizeof zeros;
            TRY(tensor_sink_add(out, zeros, n, e));
            left -= n;
        }
    }
    rc = tensor_sink_commit(out, e);
done:
    tensor_sink_close(out);
    strbuf_release(&header);
    return rc;
}
