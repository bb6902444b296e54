#include "formats/safetensors.h"
#include "core/strbuf.h"
#include "formats/weights_internal.h"

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LENGTH_BYTES = 8, HEADER_ALIGNMENT = 8 };

/* ---- reading ---- */

static err_code read_type(const json_t *entry, const quant_type **out, err *e) {
    const char *name = json_string_value(json_object_get(entry, "dtype"));
    if (!name) return err_set(e, ERR_FORMAT, "dtype: expected a string");
    *out = quant_by_name(name);
    if (*out && (*out)->block_size == 1 && !strcmp((*out)->name, name)) return ERR_OK;
    return err_set(e, ERR_UNSUPPORTED, "dtype: '%.40s' is unknown", name);
}

static err_code read_shape(const json_t *entry, tensor_view *t, err *e) {
    const json_t *shape = json_object_get(entry, "shape");
    if (!json_is_array(shape)) return err_set(e, ERR_FORMAT, "shape: expected an array");
    if (json_array_size(shape) > WEIGHTS_DIMS_MAX)
        return err_set(e, ERR_UNSUPPORTED, "shape: expected at most %d dimensions, found %zu", WEIGHTS_DIMS_MAX,
                       json_array_size(shape));
    t->n_dims = (int)json_array_size(shape);
    for (int i = 0; i < t->n_dims; i++) {
        const json_t *dim = json_array_get(shape, (size_t)i);
        if (!json_is_integer(dim) || json_integer_value(dim) < 0)
            return err_set(e, ERR_FORMAT, "shape: expected whole numbers, none negative");
        t->shape[i] = json_integer_value(dim);
    }
    return ERR_OK;
}

/* data_offsets [begin, end) within the data, of exactly the bytes that type and shape take. */
static err_code read_place(const json_t *entry, const uint8_t *data, size_t size, tensor_view *t, err *e) {
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *first = json_array_get(offsets, 0), *second = json_array_get(offsets, 1);
    char text[SHAPE_TEXT];
    int64_t count;
    shape_text(t->n_dims, t->shape, text);
    if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(second))
        return err_set(e, ERR_FORMAT, "data_offsets: expected two whole numbers");
    json_int_t begin = json_integer_value(first), end = json_integer_value(second);
    if (begin < 0 || end < begin || (uint64_t)end > size)
        return err_set(e, ERR_FORMAT, "data_offsets [%lld, %lld]: expected a range within the %zu bytes of data",
                       (long long)begin, (long long)end, size);
    if (!shape_count(t->n_dims, t->shape, &count) || !quant_bytes(t->type, count, &t->size))
        return err_set(e, ERR_FORMAT, "shape %s is larger than any file", text);
    if ((uint64_t)(end - begin) != t->size)
        return err_set(e, ERR_FORMAT, "data_offsets [%lld, %lld]: expected %zu bytes, for %s of %s", (long long)begin,
                       (long long)end, t->size, text, t->type->name);
    t->offset = (uint64_t)begin; /* from the start of the data, until all are there */
    t->data = data + begin;
    return ERR_OK;
}

static err_code read_entry(weights *w, const char *name, const json_t *entry, const uint8_t *data, size_t size, err *e) {
    tensor_view t = {0};
    if (!json_is_object(entry)) return err_set(e, ERR_FORMAT, "tensor %.200s: expected an object", name);
    err_code rc = read_type(entry, &t.type, e);
    if (!rc) rc = read_shape(entry, &t, e);
    if (!rc) rc = read_place(entry, data, size, &t, e);
    return rc ? err_prefix(e, rc, "tensor %.200s", name) : weights_add_tensor(w, &t, name, strlen(name), e);
}

static err_code read_metadata(weights *w, const json_t *metadata, err *e) {
    const char *key;
    json_t *value;
    if (!json_is_object(metadata)) return err_set(e, ERR_FORMAT, "__metadata__: expected an object");
    json_object_foreach((json_t *)metadata, key, value) {
        meta_value v = {.kind = META_STRING};
        if (!json_is_string(value)) return err_set(e, ERR_FORMAT, "__metadata__: %.100s: expected a string", key);
        v.string.len = json_string_length(value);
        err_code rc = weights_copy_text(w, json_string_value(value), v.string.len, &v.string.bytes, e);
        if (!rc) rc = weights_add_meta(w, &v, key, strlen(key), e);
        if (rc) return rc;
    }
    return ERR_OK;
}

static int by_place(const void *a, const void *b) {
    const tensor_view *s = a, *t = b;
    if (s->offset != t->offset) return s->offset < t->offset ? -1 : 1;
    return (s->size > t->size) - (s->size < t->size);
}

/* Every byte of the data belongs to exactly one tensor. */
static err_code check_places(weights *w, size_t first, size_t header, size_t size, err *e) {
    uint64_t end = 0;
    size_t n = w->n_tensors - first;
    tensor_view *tensors = n ? w->tensors + first : NULL;
    if (n) qsort(tensors, n, sizeof *tensors, by_place);
    for (size_t i = 0; i < n; i++) {
        if (tensors[i].offset != end)
            return err_set(e, ERR_FORMAT, "tensor %s: expected it to begin at offset %llu of the data, found %llu",
                           tensors[i].name, (unsigned long long)end, (unsigned long long)tensors[i].offset);
        end += tensors[i].size;
        tensors[i].offset += header;
    }
    if (end == size) return ERR_OK;
    return err_set(e, ERR_FORMAT, "expected %llu bytes of data, found %zu", (unsigned long long)end, size);
}

static err_code parse_header(const uint8_t *data, size_t size, size_t *header, json_t **root, err *e) {
    uint64_t n;
    json_error_t wrong;
    if (size < LENGTH_BYTES)
        return err_set(e, ERR_FORMAT, "expected a header after %d bytes, found a file of %zu", LENGTH_BYTES, size);
    memcpy(&n, data, sizeof n);
    if (n > size - LENGTH_BYTES)
        return err_set(e, ERR_FORMAT, "expected a header of %llu bytes, found %zu bytes behind its length",
                       (unsigned long long)n, size - LENGTH_BYTES);
    if (n > WEIGHTS_HEADER_MAX)
        return err_set(e, ERR_UNSUPPORTED, "expected a header of at most %d bytes, found %llu", WEIGHTS_HEADER_MAX,
                       (unsigned long long)n);
    *root = json_loadb((const char *)data + LENGTH_BYTES, (size_t)n, JSON_REJECT_DUPLICATES, &wrong);
    if (!*root) return err_set(e, ERR_FORMAT, "header, byte %d: %s", wrong.position + LENGTH_BYTES, wrong.text);
    if (!json_is_object(*root)) return err_set(e, ERR_FORMAT, "header: expected a JSON object");
    *header = LENGTH_BYTES + (size_t)n;
    return ERR_OK;
}

static err_code read_file(weights *w, const uint8_t *data, size_t size, bool with_metadata, err *e) {
    err_code rc;
    json_t *root = NULL, *value;
    size_t header = 0, first = w->n_tensors;
    const char *name;
    TRY(parse_header(data, size, &header, &root, e));
    json_object_foreach(root, name, value) {
        if (strcmp(name, "__metadata__") != 0)
            TRY(read_entry(w, name, value, data + header, size - header, e));
        else if (with_metadata)
            TRY(read_metadata(w, value, e));
    }
    TRY(check_places(w, first, header, size - header, e));
done:
    json_decref(root);
    return rc;
}

err_code safetensors_read(weights *w, const uint8_t *data, size_t size, err *e) {
    snprintf(w->format, sizeof w->format, "safetensors");
    return read_file(w, data, size, true, e);
}

err_code safetensors_read_part(weights *w, const uint8_t *data, size_t size, err *e) {
    snprintf(w->format, sizeof w->format, "safetensors");
    return read_file(w, data, size, false, e);
}

/* ---- writing ---- */

static json_t *entry_to_json(const safetensors_entry *t, size_t begin) {
    json_t *shape = json_array();
    for (int i = 0; i < t->n_dims; i++) json_array_append_new(shape, json_integer(t->shape[i]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", t->dtype, "shape", shape, "data_offsets", (json_int_t)begin,
                     (json_int_t)(begin + t->size));
}

static err_code build_header(const safetensors_entry *entries, int n, strbuf *out, err *e) {
    json_t *root = json_object();
    size_t at = 0;
    int failed = !root;
    for (int i = 0; !failed && i < n; i++) {
        failed = json_object_set_new(root, entries[i].name, entry_to_json(&entries[i], at));
        at += entries[i].size;
    }
    char *text = failed ? NULL : json_dumps(root, JSON_COMPACT);
    json_decref(root);
    if (!text) return err_set(e, ERR_FAILED, "the names of the tensors cannot be put into JSON");
    uint64_t padded = (strlen(text) + HEADER_ALIGNMENT - 1) / HEADER_ALIGNMENT * HEADER_ALIGNMENT;
    strbuf_add(out, &padded, sizeof padded);
    strbuf_add_str(out, text);
    while (out->len < LENGTH_BYTES + padded && !out->failed) strbuf_add_char(out, ' ');
    free(text);
    return strbuf_check(out, e);
}

static err_code write_parts(FILE *f, const char *path, const strbuf *header, const safetensors_entry *entries, int n,
                            err *e) {
    bool written = fwrite(header->data, 1, header->len, f) == header->len;
    for (int i = 0; written && i < n; i++)
        if (entries[i].size) written = fwrite(entries[i].data, 1, entries[i].size, f) == entries[i].size;
    return written && fflush(f) == 0 ? ERR_OK : err_set_errno(e, "%s: cannot write", path);
}

err_code safetensors_write(const char *path, const safetensors_entry *entries, int n, err *e) {
    err_code rc;
    strbuf header = STRBUF_INIT, tmp = STRBUF_INIT;
    FILE *f = NULL;
    for (int i = 0; i < n; i++) {
        int64_t count;
        size_t size;
        assert(shape_count(entries[i].n_dims, entries[i].shape, &count));
        assert(quant_bytes(quant_by_name(entries[i].dtype), count, &size) && size == entries[i].size);
        (void)count, (void)size;
    }
    rc = build_header(entries, n, &header, e);
    if (rc) {
        err_prefix(e, rc, "%s", path);
        goto done;
    }
    strbuf_addf(&tmp, "%s.tmp", path);
    TRY(strbuf_check(&tmp, e));
    f = fopen(tmp.data, "wbe");
    if (!f) {
        rc = err_set_errno(e, "%s: cannot create", tmp.data);
        goto done;
    }
    rc = write_parts(f, path, &header, entries, n, e);
    if (fclose(f) && !rc) rc = err_set_errno(e, "%s: cannot write", path);
    if (!rc) rc = file_commit(tmp.data, path, e);
    if (rc) unlink(tmp.data);
done:
    strbuf_release(&header);
    strbuf_release(&tmp);
    return rc;
}
