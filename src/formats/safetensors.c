#include "formats/safetensors.h"
#include "core/strbuf.h"
#include "formats/weights_internal.h"

#include <assert.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static json_t *entry_to_json(const tensor_view *t, size_t begin) {
    json_t *shape = json_array();
    for (int i = 0; i < t->n_dims; i++) json_array_append_new(shape, json_integer(t->shape[i]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", t->type->name, "shape", shape, "data_offsets", (json_int_t)begin,
                     (json_int_t)(begin + t->size));
}

/* {"__metadata__": {"format": "pt"}}: transformers refuses a model without. */
static bool add_metadata(json_t *root, const weights *w) {
    json_t *metadata = weights_meta_count(w) ? json_object() : NULL;
    for (int64_t i = 0; i < weights_meta_count(w); i++) {
        const meta_value *v = weights_meta_at(w, i);
        assert(v->kind == META_STRING);
        if (json_object_set_new(metadata, v->key, json_stringn(v->string.bytes, v->string.len))) {
            json_decref(metadata);
            return false;
        }
    }
    return !metadata || !json_object_set_new(root, "__metadata__", metadata);
}

static err_code build_header(const weights *w, strbuf *out, uint64_t *data_size, err *e) {
    json_t *root = json_object();
    size_t at = 0;
    bool built = root && add_metadata(root, w);
    for (int64_t i = 0; built && i < weights_tensor_count(w); i++) {
        const tensor_view *t = weights_tensor_at(w, i);
        built = !json_object_set_new(root, t->name, entry_to_json(t, at));
        at += t->size;
    }
    char *text = built ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    if (!text) return err_set(e, ERR_FAILED, "the names of the tensors cannot be put into JSON");
    uint64_t padded = (strlen(text) + HEADER_ALIGNMENT - 1) / HEADER_ALIGNMENT * HEADER_ALIGNMENT;
    strbuf_add(out, &padded, sizeof padded);
    strbuf_add_str(out, text);
    while (out->len < LENGTH_BYTES + padded && !out->failed) strbuf_add_char(out, ' ');
    free(text);
    *data_size = at;
    return strbuf_check(out, e);
}

err_code safetensors_write_described(const char *path, const weights *w, tensor_producer produce, void *user, err *e) {
    err_code rc;
    strbuf header = STRBUF_INIT;
    tensor_sink *out = NULL;
    uint64_t data_size = 0;
    rc = build_header(w, &header, &data_size, e);
    if (rc) {
        err_prefix(e, rc, "%s", path);
        goto done;
    }
    TRY(tensor_sink_open(path, header.len + data_size, &out, e));
    TRY(tensor_sink_add(out, header.data, header.len, e));
    for (int64_t i = 0; i < weights_tensor_count(w); i++)
        TRY(tensor_sink_produce(out, produce, user, weights_tensor_at(w, i), i, e));
    rc = tensor_sink_commit(out, e);
done:
    tensor_sink_close(out);
    strbuf_release(&header);
    return rc;
}

static err_code produce_entry(void *user, int64_t i, const tensor_view *t, tensor_sink *to, err *e) {
    const safetensors_entry *entries = user;
    return tensor_sink_add(to, entries[i].data, t->size, e);
}

err_code safetensors_write(const char *path, const safetensors_entry *entries, int n, err *e) {
    weights *w;
    err_code rc = weights_new(path, &w, e);
    for (int i = 0; !rc && i < n; i++) {
        tensor_view t = {.type = quant_by_name(entries[i].dtype), .n_dims = entries[i].n_dims, .size = entries[i].size};
        int64_t count;
        size_t size;
        memcpy(t.shape, entries[i].shape, sizeof t.shape);
        assert(shape_count(t.n_dims, t.shape, &count) && quant_bytes(t.type, count, &size) && size == t.size);
        (void)count, (void)size;
        rc = weights_add_tensor(w, &t, entries[i].name, strlen(entries[i].name), e);
    }
    if (!rc) rc = safetensors_write_described(path, w, produce_entry, (void *)entries, e);
    weights_close(w);
    return rc;
}
