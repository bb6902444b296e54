#include "formats/weights.h"
#include "core/strbuf.h"
#include "formats/weights_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- life ---- */

err_code weights_new(const char *path, weights **out, err *e) {
    err_code rc = mem_new0(out, 1, sizeof **out, "weights", e);
    if (rc) return rc;
    (*out)->path = strdup(path);
    if ((*out)->path) return ERR_OK;
    weights_close(*out);
    *out = NULL;
    return err_nomem(e, "path", strlen(path));
}

void weights_clear(weights *w) {
    for (size_t i = 0; i < w->n_maps; i++) file_map_close(&w->maps[i]);
    arena_release(&w->memory);
    free(w->maps);
    free(w->tensors);
    free(w->meta);
    free(w->tensors_by_name);
    free(w->meta_by_key);
    *w = (weights){.path = w->path};
}

void weights_close(weights *w) {
    if (!w) return;
    weights_clear(w);
    free(w->path);
    free(w);
}

/* ---- filling ---- */

err_code weights_map(weights *w, const char *path, const uint8_t **data, size_t *size, err *e) {
    err_code rc = mem_grow(&w->maps, &w->cap_maps, w->n_maps + 1, sizeof *w->maps, "files", e);
    if (!rc) rc = file_map_open(path, &w->maps[w->n_maps], e);
    if (rc) return rc;
    *data = w->maps[w->n_maps].data;
    *size = w->maps[w->n_maps].size;
    w->file_size += *size;
    w->n_maps++;
    return ERR_OK;
}

err_code weights_copy_text(weights *w, const char *bytes, size_t len, const char **out, err *e) {
    char *copy;
    err_code rc = arena_take(&w->memory, &copy, len + 1, 1, e);
    if (rc) return rc;
    if (len) memcpy(copy, bytes, len);
    copy[len] = '\0';
    *out = copy;
    return ERR_OK;
}

static err_code check_name(const char *what, const char *name, size_t len, err *e) {
    if (!len) return err_set(e, ERR_FORMAT, "a %s has an empty name", what);
    if (len > WEIGHTS_NAME_MAX)
        return err_set(e, ERR_FORMAT, "the name of %s '%.40s..': expected at most %d bytes, found %zu", what, name,
                       WEIGHTS_NAME_MAX, len);
    if (memchr(name, '\0', len)) return err_set(e, ERR_FORMAT, "the name of %s '%.40s' has a zero byte", what, name);
    return ERR_OK;
}

err_code weights_add_tensor(weights *w, const tensor_view *t, const char *name, size_t len, err *e) {
    err_code rc = check_name("tensor", name, len, e);
    if (!rc) rc = mem_grow(&w->tensors, &w->cap_tensors, w->n_tensors + 1, sizeof *w->tensors, "tensor list", e);
    tensor_view added = *t;
    if (!rc) rc = weights_copy_text(w, name, len, &added.name, e);
    if (!rc) w->tensors[w->n_tensors++] = added;
    return rc;
}

err_code weights_add_meta(weights *w, const meta_value *v, const char *key, size_t len, err *e) {
    err_code rc = check_name("key", key, len, e);
    if (!rc) rc = mem_grow(&w->meta, &w->cap_meta, w->n_meta + 1, sizeof *w->meta, "metadata", e);
    meta_value added = *v;
    if (!rc) rc = weights_copy_text(w, key, len, &added.key, e);
    if (!rc) w->meta[w->n_meta++] = added;
    return rc;
}

err_code weights_items(weights *w, int64_t count, meta_value **items, err *e) {
    if (count > WEIGHTS_ITEMS_MAX - w->n_items)
        return err_set(e, ERR_UNSUPPORTED, "arrays with more than %d items in all", WEIGHTS_ITEMS_MAX);
    w->n_items += count;
    return arena_take(&w->memory, items, (size_t)count, sizeof **items, e);
}

err_code weights_set_bool(weights *w, const char *key, bool value, err *e) {
    return weights_add_meta(w, &(meta_value){.kind = META_BOOL, .boolean = value}, key, strlen(key), e);
}

err_code weights_set_int(weights *w, const char *key, int64_t value, err *e) {
    return weights_add_meta(w, &(meta_value){.kind = META_INT, .integer = value}, key, strlen(key), e);
}

err_code weights_set_real(weights *w, const char *key, double value, err *e) {
    return weights_add_meta(w, &(meta_value){.kind = META_FLOAT, .real = value}, key, strlen(key), e);
}

err_code weights_set_text(weights *w, const char *key, const char *bytes, size_t len, err *e) {
    meta_value v = {.kind = META_STRING, .string.len = len};
    err_code rc = weights_copy_text(w, bytes, len, &v.string.bytes, e);
    return rc ? rc : weights_add_meta(w, &v, key, strlen(key), e);
}

/* ---- tensors that cannot be borrowed ---- */

err_code weights_take_bytes(weights *w, size_t size, uint8_t **out, err *e) {
    size_t most;
    if (!mem_mul(w->file_size, WEIGHTS_COPY_RATIO, &most) || !mem_add(most, WEIGHTS_COPY_MIN, &most)) most = SIZE_MAX;
    if (size > most - w->n_copied)
        return err_set(e, ERR_UNSUPPORTED, "its tensors unpack to more than %zu bytes, out of a file of %zu", most,
                       w->file_size);
    w->n_copied += size;
    return arena_take(&w->memory, out, size, 1, e);
}

/* Values of `bytes` bytes: the innermost dimension in one loop, the others as an odometer. */
static void gather(const uint8_t *from, size_t bytes, int n_dims, const int64_t *shape, const int64_t *strides, uint8_t *to) {
    int64_t at[WEIGHTS_DIMS_MAX] = {0};
    int last = n_dims - 1;
    for (;;) {
        int64_t start = 0;
        for (int i = 0; i < last; i++) start += at[i] * strides[i];
        for (int64_t j = 0; j < shape[last]; j++, to += bytes)
            memcpy(to, from + (size_t)(start + j * strides[last]) * bytes, bytes);
        int i = last - 1;
        while (i >= 0 && ++at[i] == shape[i]) at[i--] = 0;
        if (i < 0) return;
    }
}

err_code weights_gather(weights *w, tensor_view *t, const int64_t *strides, err *e) {
    uint8_t *copy;
    if (!t->n_dims || !t->size) return ERR_OK;
    err_code rc = weights_take_bytes(w, t->size, &copy, e);
    if (rc) return rc;
    gather(t->data, t->type->block_bytes, t->n_dims, t->shape, strides, copy);
    t->data = copy;
    return ERR_OK;
}

/* ---- names: sorted, so that no choice of names makes looking them up slow ---- */

static int by_name(const void *a, const void *b) { return strcmp(((const named *)a)->name, ((const named *)b)->name); }

static err_code sort_names(named *list, size_t n, const char *what, err *e) {
    qsort(list, n, sizeof *list, by_name);
    for (size_t i = 1; i < n; i++)
        if (!strcmp(list[i - 1].name, list[i].name))
            return err_set(e, ERR_FORMAT, "%s '%.200s' appears twice", what, list[i].name);
    return ERR_OK;
}

err_code weights_index(weights *w, err *e) {
    err_code rc = ERR_OK;
    if (w->meta_by_key) return rc;
    TRY(mem_new(&w->tensors_by_name, w->n_tensors, sizeof(named), "tensor names", e));
    TRY(mem_new(&w->meta_by_key, w->n_meta, sizeof(named), "keys", e));
    for (size_t i = 0; i < w->n_tensors; i++) w->tensors_by_name[i] = (named){w->tensors[i].name, &w->tensors[i]};
    for (size_t i = 0; i < w->n_meta; i++) w->meta_by_key[i] = (named){w->meta[i].key, &w->meta[i]};
    TRY(sort_names(w->tensors_by_name, w->n_tensors, "tensor", e));
    TRY(sort_names(w->meta_by_key, w->n_meta, "key", e));
done:
    return rc;
}

static const void *find(const named *list, size_t n, const char *name) {
    const named wanted = {.name = name};
    const named *found = n ? bsearch(&wanted, list, n, sizeof *list, by_name) : NULL;
    return found ? found->item : NULL;
}

/* ---- looking ---- */

const char *weights_path(const weights *w) { return w->path; }
const char *weights_format(const weights *w) { return w->format; }
size_t weights_file_size(const weights *w) { return w->file_size; }
int64_t weights_file_count(const weights *w) { return (int64_t)w->n_maps; }

err_code weights_sha256(const weights *w, char out[SHA256_HEX], err *e) {
    enum { DIGITS = SHA256_HEX - 1 };
    char *config = NULL, *digests = NULL;
    size_t n = 0;
    bool folder = file_is_dir(w->path);
    err_code rc = ERR_OK;
    if (!folder && w->n_maps == 1) {
        file_map_sha256(&w->maps[0], out);
        return ERR_OK;
    }
    TRY(mem_new(&digests, w->n_maps + 2, DIGITS, "digests", e));
    if (folder) TRY(path_join(w->path, "config.json", &config, e));
    if (folder && file_exists(config)) TRY(file_sha256(config, digests + DIGITS * n++, e));
    for (size_t i = 0; i < w->n_maps; i++) file_map_sha256(&w->maps[i], digests + DIGITS * n++);
    bytes_sha256(digests, DIGITS * n, out);
done:
    free(config), free(digests);
    return rc;
}

void weights_forget(const weights *w, const tensor_view *t) {
    for (size_t i = 0; i < w->n_maps; i++) file_map_forget(&w->maps[i], t->data, t->size);
}

int64_t weights_tensor_count(const weights *w) { return (int64_t)w->n_tensors; }
const tensor_view *weights_tensor_at(const weights *w, int64_t i) { return &w->tensors[i]; }
const tensor_view *weights_find(const weights *w, const char *name) { return find(w->tensors_by_name, w->n_tensors, name); }
int64_t weights_meta_count(const weights *w) { return (int64_t)w->n_meta; }
const meta_value *weights_meta_at(const weights *w, int64_t i) { return &w->meta[i]; }
const meta_value *weights_meta(const weights *w, const char *key) { return find(w->meta_by_key, w->n_meta, key); }

bool shape_count(int n_dims, const int64_t *shape, int64_t *count) {
    *count = 1;
    for (int i = 0; i < n_dims; i++)
        if (shape[i] < 0 || __builtin_mul_overflow(*count, shape[i], count)) return false;
    return true;
}

int64_t tensor_count(const tensor_view *t) {
    int64_t count = 0;
    return shape_count(t->n_dims, t->shape, &count) ? count : 0;
}

const char *shape_text(int n_dims, const int64_t *shape, char out[SHAPE_TEXT]) {
    int at = snprintf(out, SHAPE_TEXT, "[");
    for (int i = 0; i < n_dims && at < SHAPE_TEXT - 24; i++)
        at += snprintf(out + at, (size_t)(SHAPE_TEXT - at), "%s%lld", i ? ", " : "", (long long)shape[i]);
    snprintf(out + at, (size_t)(SHAPE_TEXT - at), "]");
    return out;
}

err_code weights_require(const weights *w, const char *name, int n_dims, const int64_t *shape, const tensor_view **out,
                         err *e) {
    char expected[SHAPE_TEXT], found[SHAPE_TEXT];
    shape_text(n_dims, shape, expected);
    const tensor_view *t = weights_find(w, name);
    if (!t) return err_set(e, ERR_FORMAT, "tensor %s: expected %s, found none of this name", name, expected);
    bool same = t->n_dims == n_dims;
    for (int i = 0; same && i < n_dims; i++) same = t->shape[i] == shape[i];
    if (!same)
        return err_set(e, ERR_FORMAT, "tensor %s: expected %s, found %s", name, expected,
                       shape_text(t->n_dims, t->shape, found));
    *out = t;
    return ERR_OK;
}

/* ---- typed metadata ---- */

static const char *const kind_names[] = {
    [META_BOOL] = "true or false", [META_INT] = "a whole number", [META_FLOAT] = "a number",
    [META_STRING] = "a string",    [META_ARRAY] = "an array",
};

static err_code wrong_kind(const char *key, meta_kind expected, const meta_value *found, err *e) {
    return err_set(e, ERR_FORMAT, "key %s: expected %s, found %s", key, kind_names[expected],
                   found ? kind_names[found->kind] : "no such key");
}

err_code weights_meta_int(const weights *w, const char *key, int64_t *out, err *e) {
    const meta_value *v = weights_meta(w, key);
    if (!v || v->kind != META_INT) return wrong_kind(key, META_INT, v, e);
    *out = v->integer;
    return ERR_OK;
}

err_code weights_meta_int_or(const weights *w, const char *key, int64_t fallback, int64_t *out, err *e) {
    *out = fallback;
    return weights_meta(w, key) ? weights_meta_int(w, key, out, e) : ERR_OK;
}

err_code weights_meta_float(const weights *w, const char *key, double *out, err *e) {
    const meta_value *v = weights_meta(w, key);
    if (!v || (v->kind != META_FLOAT && v->kind != META_INT)) return wrong_kind(key, META_FLOAT, v, e);
    *out = v->kind == META_FLOAT ? v->real : (double)v->integer;
    return ERR_OK;
}

err_code weights_meta_float_or(const weights *w, const char *key, double fallback, double *out, err *e) {
    *out = fallback;
    return weights_meta(w, key) ? weights_meta_float(w, key, out, e) : ERR_OK;
}

err_code weights_meta_bool_or(const weights *w, const char *key, bool fallback, bool *out, err *e) {
    const meta_value *v = weights_meta(w, key);
    if (v && v->kind != META_BOOL) return wrong_kind(key, META_BOOL, v, e);
    *out = v ? v->boolean : fallback;
    return ERR_OK;
}

err_code weights_meta_string(const weights *w, const char *key, char **out, err *e) {
    const meta_value *v = weights_meta(w, key);
    if (!v || v->kind != META_STRING) return wrong_kind(key, META_STRING, v, e);
    if (memchr(v->string.bytes, '\0', v->string.len))
        return err_set(e, ERR_FORMAT, "key %s: expected a text, found a zero byte in it", key);
    *out = strndup(v->string.bytes, v->string.len);
    return *out ? ERR_OK : err_nomem(e, key, v->string.len);
}

err_code weights_meta_string_or(const weights *w, const char *key, const char *fallback, char **out, err *e) {
    if (weights_meta(w, key)) return weights_meta_string(w, key, out, e);
    *out = strdup(fallback);
    return *out ? ERR_OK : err_nomem(e, key, strlen(fallback));
}
