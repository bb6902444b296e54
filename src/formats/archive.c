/* archive.c — zip archives of tensors: PyTorch's (pytorch_model.bin, .pt, .pth) and NumPy's (.npz).
 *
 *   PyTorch: <name>/data.pkl, a pickle that says which tensors there are, <name>/data/<key>, the bytes of one storage each,
 *            <name>/byteorder. Dictionaries within the dictionary become names with dots; numbers, strings and lists of
 *            them become metadata.
 *   NumPy:   <tensor>.npy
 *
 * A tensor whose values lie in row-major order in a stored member is borrowed from the file; others are copied. */
#include "core/strbuf.h"
#include "formats/pickle.h"
#include "formats/weights_internal.h"
#include "formats/zip.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 16, VISITS_MAX = 1 << 18 };

typedef struct torch_reader {
    weights *w;
    const uint8_t *data; /* of the whole archive, for offsets */
    const zip_archive *zip;
    const char *prefix; /* "archive/" */
    int prefix_len;
    int64_t n_visits;
    const uint8_t **unpacked; /* by member: what was inflated */
} torch_reader;

static bool ends_in(const char *text, const char *ending) {
    size_t n = strlen(text), m = strlen(ending);
    return n >= m && !strcmp(text + n - m, ending);
}

/* The member's bytes, for as long as the weights live. */
static err_code member_bytes(weights *w, const zip_member *m, const uint8_t **out, err *e) {
    uint8_t *bytes;
    *out = m->packed;
    if (m->method == 0) return ERR_OK;
    err_code rc = weights_take_bytes(w, m->size, &bytes, e);
    if (!rc) rc = zip_inflate(m, bytes, e);
    *out = bytes;
    return rc;
}

/* ---- PyTorch: tensors ---- */

static err_code find_storage(torch_reader *r, const pickle_tensor *t, const uint8_t **bytes, size_t *size, err *e) {
    strbuf name = STRBUF_INIT;
    strbuf_addf(&name, "%.*sdata/%.*s", r->prefix_len, r->prefix, (int)(t->key_len < 1000 ? t->key_len : 1000), t->key);
    err_code rc = strbuf_check(&name, e);
    const zip_member *m = rc ? NULL : zip_find(r->zip, name.data);
    if (!rc && !m) rc = err_set(e, ERR_FORMAT, "expected its values in %.200s, found no such member", name.data);
    if (!rc) {
        size_t i = (size_t)(m - r->zip->members);
        if (!r->unpacked[i]) rc = member_bytes(r->w, m, &r->unpacked[i], e);
        *bytes = r->unpacked[i];
        *size = m->size;
    }
    strbuf_release(&name);
    return rc;
}

/* Values from the first to behind the last that the tensor reads; 0 when it has none. */
static bool values_spanned(const pickle_tensor *t, int64_t count, int64_t *span) {
    *span = count ? 1 : 0;
    for (int i = 0; count && i < t->n_dims; i++) {
        int64_t step;
        if (__builtin_mul_overflow(t->shape[i] - 1, t->strides[i], &step) || __builtin_add_overflow(*span, step, span))
            return false;
    }
    return !__builtin_add_overflow(*span, t->offset, span);
}

static bool is_row_major(const pickle_tensor *t) {
    int64_t expected = 1;
    for (int i = t->n_dims; i-- > 0;) {
        if (t->shape[i] == 1) continue;
        if (t->strides[i] != expected) return false;
        expected *= t->shape[i];
    }
    return true;
}

static err_code place_tensor(torch_reader *r, const pickle_tensor *t, tensor_view *out, err *e) {
    const uint8_t *bytes;
    size_t size, needed;
    int64_t count, span;
    char text[SHAPE_TEXT];
    *out = (tensor_view){.type = t->type, .n_dims = t->n_dims};
    memcpy(out->shape, t->shape, sizeof out->shape);
    shape_text(t->n_dims, t->shape, text);
    err_code rc = find_storage(r, t, &bytes, &size, e);
    if (rc) return rc;
    if (!shape_count(t->n_dims, t->shape, &count) || !quant_bytes(t->type, count, &out->size) ||
        !values_spanned(t, count, &span) || !quant_bytes(t->type, span, &needed))
        return err_set(e, ERR_FORMAT, "shape %s is larger than any file", text);
    if (needed > size)
        return err_set(e, ERR_FORMAT, "shape %s: expected a storage of at least %zu bytes, found %zu", text, needed, size);
    if (out->size > size) return err_set(e, ERR_UNSUPPORTED, "shape %s: a view that repeats its values", text);
    size_t start = count ? (size_t)t->offset * t->type->block_bytes : 0;
    out->data = bytes + start;
    if (bytes >= r->data && bytes < r->data + r->w->file_size) out->offset = (uint64_t)(bytes - r->data) + start;
    return is_row_major(t) || !count ? ERR_OK : weights_gather(r->w, out, t->strides, e);
}

/* ---- PyTorch: the tree of values ---- */

static bool scalar_from_pickle(const pickle_value *v, meta_value *out) {
    const char *dtype = pickle_dtype_name(v);
    *out = (meta_value){0};
    switch (v->kind) {
    case PICKLE_BOOL:
        out->kind = META_BOOL;
        out->boolean = v->boolean;
        return true;
    case PICKLE_INT:
        out->kind = META_INT;
        out->integer = v->integer;
        return true;
    case PICKLE_FLOAT:
        out->kind = META_FLOAT;
        out->real = v->real;
        return true;
    case PICKLE_STRING:
        out->kind = META_STRING;
        out->string.bytes = v->string.bytes;
        out->string.len = v->string.len;
        return true;
    default:
        out->kind = META_STRING;
        out->string.bytes = dtype;
        out->string.len = dtype ? strlen(dtype) : 0;
        return dtype != NULL;
    }
}

/* A list becomes an array when its items are scalars of one kind, and is left out otherwise. */
static err_code array_from_pickle(torch_reader *r, const pickle_value *v, meta_value *out, bool *added, err *e) {
    meta_value *items;
    *added = true;
    for (size_t i = 0; *added && i < v->list.n; i++) {
        meta_value first, item;
        *added = scalar_from_pickle(v->list.items[0], &first) && scalar_from_pickle(v->list.items[i], &item) &&
                 item.kind == first.kind;
    }
    if (!*added) return ERR_OK;
    err_code rc = weights_items(r->w, (int64_t)v->list.n, &items, e);
    if (rc) return rc;
    for (size_t i = 0; i < v->list.n; i++) scalar_from_pickle(v->list.items[i], &items[i]);
    *out = (meta_value){.kind = META_ARRAY};
    out->array.kind = v->list.n ? items[0].kind : META_INT;
    out->array.count = (int64_t)v->list.n;
    out->array.items = items;
    return ERR_OK;
}

static err_code add_dict(torch_reader *r, const pickle_value *dict, strbuf *name, int depth, err *e);

/* Adds v, whose name stands in name. */
static err_code add_value(torch_reader *r, const pickle_value *v, strbuf *name, int depth, err *e) {
    meta_value meta;
    tensor_view t;
    bool added = false;
    err_code rc = strbuf_check(name, e);
    if (rc) return rc;
    if (++r->n_visits > VISITS_MAX) return err_set(e, ERR_UNSUPPORTED, "more than %d values", VISITS_MAX);
    if (v->kind == PICKLE_DICT) return add_dict(r, v, name, depth + 1, e);
    if (v->kind == PICKLE_TENSOR) {
        rc = place_tensor(r, v->tensor, &t, e);
        return rc ? err_prefix(e, rc, "tensor %.200s", name->data) : weights_add_tensor(r->w, &t, name->data, name->len, e);
    }
    if (v->kind == PICKLE_LIST || v->kind == PICKLE_TUPLE)
        rc = array_from_pickle(r, v, &meta, &added, e);
    else
        added = scalar_from_pickle(v, &meta);
    return !rc && added ? weights_add_meta(r->w, &meta, name->data, name->len, e) : rc;
}

static err_code add_dict(torch_reader *r, const pickle_value *dict, strbuf *name, int depth, err *e) {
    size_t len = name->len;
    err_code rc = ERR_OK;
    if (depth > DEPTH_MAX) return err_set(e, ERR_UNSUPPORTED, "dictionaries more than %d deep", DEPTH_MAX);
    for (size_t i = 0; !rc && i < dict->list.n; i += 2) {
        const pickle_value *key = dict->list.items[i];
        if (len) strbuf_add_char(name, '.');
        if (key->kind == PICKLE_STRING)
            strbuf_add(name, key->string.bytes, key->string.len);
        else if (key->kind == PICKLE_INT)
            strbuf_addf(name, "%" PRId64, key->integer);
        else
            return err_set(e, ERR_UNSUPPORTED, "a dictionary with keys that are neither strings nor whole numbers");
        rc = add_value(r, dict->list.items[i + 1], name, depth, e);
        name->len = len;
    }
    return rc;
}

err_code torch_add_pickle(weights *w, const uint8_t *data, const zip_archive *zip, const char *prefix, int prefix_len,
                          const uint8_t *pickle, size_t size, err *e) {
    torch_reader r = {.w = w, .data = data, .zip = zip, .prefix = prefix, .prefix_len = prefix_len};
    const pickle_value *root;
    strbuf name = STRBUF_INIT;
    err_code rc;
    TRY(mem_new0(&r.unpacked, zip->n, sizeof *r.unpacked, "members", e));
    TRY(pickle_read(pickle, size, &w->memory, &root, e));
    if (root->kind == PICKLE_DICT)
        rc = add_dict(&r, root, &name, 0, e);
    else
        rc = err_set(e, ERR_UNSUPPORTED, "expected a dictionary of tensors in %.*sdata.pkl", prefix_len, prefix);
done:
    strbuf_release(&name);
    free(r.unpacked);
    return rc;
}

static err_code check_byte_order(weights *w, const zip_archive *zip, const char *prefix, int prefix_len, err *e) {
    const uint8_t *bytes;
    strbuf name = STRBUF_INIT;
    strbuf_addf(&name, "%.*sbyteorder", prefix_len, prefix);
    err_code rc = strbuf_check(&name, e);
    const zip_member *m = rc ? NULL : zip_find(zip, name.data);
    if (m) rc = member_bytes(w, m, &bytes, e);
    if (m && !rc && (m->size != 6 || memcmp(bytes, "little", 6) != 0))
        rc = err_set(e, ERR_UNSUPPORTED, "%s: expected little, found %.*s", name.data, (int)(m->size < 20 ? m->size : 20),
                     bytes);
    strbuf_release(&name);
    return rc;
}

static err_code read_torch(weights *w, const uint8_t *data, const zip_archive *zip, const zip_member *pickle, err *e) {
    const uint8_t *bytes;
    int prefix_len = (int)(strlen(pickle->name) - strlen("data.pkl"));
    snprintf(w->format, sizeof w->format, "PyTorch zip");
    err_code rc = check_byte_order(w, zip, pickle->name, prefix_len, e);
    if (!rc) rc = member_bytes(w, pickle, &bytes, e);
    return rc ? rc : torch_add_pickle(w, data, zip, pickle->name, prefix_len, bytes, pickle->size, e);
}

/* ---- NumPy ---- */

static err_code read_numpy(weights *w, const uint8_t *data, const zip_archive *zip, err *e) {
    err_code rc = ERR_OK;
    snprintf(w->format, sizeof w->format, "NumPy zip");
    for (size_t i = 0; !rc && i < zip->n; i++) {
        const zip_member *m = &zip->members[i];
        const uint8_t *bytes;
        const char *name;
        size_t len = strlen(m->name);
        if (!ends_in(m->name, ".npy")) return err_set(e, ERR_FORMAT, "member %.200s: expected .npy files only", m->name);
        rc = member_bytes(w, m, &bytes, e);
        if (!rc) rc = weights_copy_text(w, m->name, len - 4, &name, e);
        if (!rc) {
            rc = npy_add(w, name, bytes, m->size, m->method ? 0 : (uint64_t)(bytes - data), e);
            if (rc) err_prefix(e, rc, "member %.200s", m->name);
        }
    }
    return rc;
}

/* ---- which of them ---- */

err_code archive_read(weights *w, const uint8_t *data, size_t size, err *e) {
    zip_archive zip;
    bool numpy = false;
    if (size >= 2 && data[0] == 0x80 && data[1] >= 2 && data[1] <= 5)
        return err_set(
            e, ERR_UNSUPPORTED,
            "a bare pickle, as PyTorch wrote before version 1.6 (if you trust it, load it with PyTorch and save it "
            "again, or as safetensors)");
    if (size < 4 || memcmp(data, "PK", 2) != 0) return err_set(e, ERR_FORMAT, "expected a zip archive with tensors");
    err_code rc = zip_read_directory(data, size, &w->memory, &zip, e);
    if (rc) return rc;
    for (size_t i = 0; i < zip.n; i++) {
        const char *name = zip.members[i].name;
        if (!strcmp(name, "data.pkl") || ends_in(name, "/data.pkl")) return read_torch(w, data, &zip, &zip.members[i], e);
        numpy |= ends_in(name, ".npy");
    }
    if (numpy) return read_numpy(w, data, &zip, e);
    return err_set(e, ERR_FORMAT, "a zip archive without tensors: expected a data.pkl or .npy files in it");
}
