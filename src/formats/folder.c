/* folder.c — a model as a folder, in Hugging Face's layout: config.json, and tensors in one file or in several with an index.
 *
 *   config.json            becomes the metadata: {"a": {"b": 1}} is the key "a.b"; null and arrays of mixed kinds are left out
 *   <name>                 all tensors, or
 *   <name>.index.json      {"weight_map": {tensor: file in this folder}}
 */
#include "core/strbuf.h"
#include "formats/weights_internal.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { CONFIG_BYTES_MAX = 4 << 20, CONFIG_DEPTH_MAX = 8 };

/* How to add one: a row here; the first that a folder has is taken. */
static const struct {
    const char *name;
    err_code (*read)(weights *w, const uint8_t *data, size_t size, err *e); /* one file of tensors, without metadata */
} tensor_files[] = {
    {"model.safetensors", safetensors_read_part},
    {"pytorch_model.bin", archive_read},
};
enum { N_TENSOR_FILES = sizeof tensor_files / sizeof *tensor_files };

/* ---- config.json as metadata ---- */

static bool scalar_from_json(const json_t *v, meta_value *out) {
    switch (json_typeof(v)) {
    case JSON_TRUE:
    case JSON_FALSE:
        out->kind = META_BOOL;
        out->boolean = json_is_true(v);
        return true;
    case JSON_INTEGER:
        out->kind = META_INT;
        out->integer = json_integer_value(v);
        return true;
    case JSON_REAL:
        out->kind = META_FLOAT;
        out->real = json_real_value(v);
        return true;
    case JSON_STRING:
        out->kind = META_STRING;
        out->string.bytes = json_string_value(v);
        out->string.len = json_string_length(v);
        return true;
    default: return false;
    }
}

static err_code keep_string(weights *w, meta_value *v, err *e) {
    return v->kind == META_STRING ? weights_copy_text(w, v->string.bytes, v->string.len, &v->string.bytes, e) : ERR_OK;
}

/* The kind that all items have, whole numbers among others being numbers; false when there is none. */
static bool common_kind(const json_t *array, meta_kind *kind) {
    size_t i;
    json_t *item;
    meta_value v = {0};
    *kind = META_INT;
    json_array_foreach(array, i, item) {
        if (!scalar_from_json(item, &v)) return false;
        if (i == 0 || (*kind == META_INT && v.kind == META_FLOAT))
            *kind = v.kind;
        else if (v.kind != *kind && !(*kind == META_FLOAT && v.kind == META_INT))
            return false;
    }
    return true;
}

static err_code array_from_json(weights *w, const json_t *array, meta_kind kind, meta_value *out, err *e) {
    meta_value *items;
    size_t n = json_array_size(array);
    err_code rc = weights_items(w, (int64_t)n, &items, e);
    for (size_t i = 0; !rc && i < n; i++) {
        items[i] = (meta_value){0};
        scalar_from_json(json_array_get(array, i), &items[i]);
        if (kind == META_FLOAT && items[i].kind == META_INT)
            items[i] = (meta_value){.kind = META_FLOAT, .real = (double)items[i].integer};
        rc = keep_string(w, &items[i], e);
    }
    if (rc) return rc;
    out->kind = META_ARRAY;
    out->array.kind = kind;
    out->array.count = (int64_t)n;
    out->array.items = items;
    return ERR_OK;
}

static err_code add_object(weights *w, const json_t *object, strbuf *key, int depth, err *e);

/* Adds v, whose key stands in key. */
static err_code add_value(weights *w, const json_t *v, strbuf *key, int depth, err *e) {
    meta_value added = {0};
    meta_kind kind;
    err_code rc = ERR_OK;
    if (json_is_object(v)) return depth < CONFIG_DEPTH_MAX ? add_object(w, v, key, depth + 1, e) : ERR_OK;
    if (json_is_array(v) && common_kind(v, &kind))
        rc = array_from_json(w, v, kind, &added, e);
    else if (scalar_from_json(v, &added))
        rc = keep_string(w, &added, e);
    else
        return ERR_OK;
    if (!rc) rc = strbuf_check(key, e);
    return rc ? rc : weights_add_meta(w, &added, key->data, key->len, e);
}

static err_code add_object(weights *w, const json_t *object, strbuf *key, int depth, err *e) {
    const char *name;
    json_t *value;
    size_t len = key->len;
    err_code rc = ERR_OK;
    json_object_foreach((json_t *)object, name, value) {
        strbuf_addf(key, "%s%s", len ? "." : "", name);
        rc = add_value(w, value, key, depth, e);
        if (rc) break;
        key->len = len; /* back to the object's own key */
        if (key->cap) key->data[len] = '\0';
    }
    return rc;
}

static err_code load_json(const char *path, size_t max, json_t **out, err *e) {
    char *text;
    size_t size;
    json_error_t wrong;
    err_code rc = file_read(path, max, &text, &size, e);
    if (rc) return rc;
    *out = json_loadb(text, size, JSON_REJECT_DUPLICATES, &wrong);
    free(text);
    if (!*out) return err_set(e, ERR_FORMAT, "%s: byte %d: %s", path, wrong.position, wrong.text);
    return json_is_object(*out) ? ERR_OK : err_set(e, ERR_FORMAT, "%s: expected a JSON object", path);
}

static err_code read_config(weights *w, err *e) {
    err_code rc;
    char *path = NULL;
    json_t *root = NULL;
    strbuf key = STRBUF_INIT;
    TRY(path_join(w->path, "config.json", &path, e));
    if (!file_exists(path)) goto done;
    TRY(load_json(path, CONFIG_BYTES_MAX, &root, e));
    rc = add_object(w, root, &key, 0, e);
    if (rc) err_prefix(e, rc, "%s", path);
done:
    strbuf_release(&key);
    json_decref(root);
    free(path);
    return rc;
}

/* ---- tensors ---- */

static err_code read_one(weights *w, int kind, const char *name, err *e) {
    const uint8_t *data;
    size_t size;
    char *path = NULL;
    err_code rc = path_join(w->path, name, &path, e);
    if (!rc) rc = weights_map(w, path, &data, &size, e);
    if (!rc) {
        rc = tensor_files[kind].read(w, data, size, e);
        if (rc) err_prefix(e, rc, "%s", path);
    }
    free(path);
    return rc;
}

/* A file of the index: in this folder, and not an earlier entry's. */
static err_code read_shard(weights *w, int kind, const char *tensor, const json_t *file, json_t *seen, err *e) {
    const char *name = json_string_value(file);
    if (!name || !*name || strchr(name, '/') || name[0] == '.')
        return err_set(e, ERR_FORMAT, "weight_map: %.100s: expected the name of a file in this folder", tensor);
    if (json_object_get(seen, name)) return ERR_OK;
    if (json_object_size(seen) >= WEIGHTS_PARTS_MAX)
        return err_set(e, ERR_UNSUPPORTED, "weight_map: expected at most %d files", WEIGHTS_PARTS_MAX);
    if (json_object_set_new(seen, name, json_true())) return err_nomem(e, "file names", strlen(name));
    return read_one(w, kind, name, e);
}

static err_code read_indexed(weights *w, int kind, const char *index, json_t **root, err *e) {
    err_code rc;
    json_t *seen = json_object(), *file;
    const char *tensor;
    TRY(load_json(index, WEIGHTS_HEADER_MAX, root, e));
    json_t *map = json_object_get(*root, "weight_map");
    if (!json_is_object(map)) {
        rc = err_set(e, ERR_FORMAT, "%s: weight_map: expected an object", index);
        goto done;
    }
    json_object_foreach(map, tensor, file) TRY(read_shard(w, kind, tensor, file, seen, e));
    rc = weights_index(w, e);
    if (rc) {
        err_prefix(e, rc, "%s", index);
        goto done;
    }
    json_object_foreach(map, tensor, file) {
        if (weights_find(w, tensor)) continue;
        rc = err_set(e, ERR_FORMAT, "%s: tensor %.200s: expected it in %.100s, found none of this name", index, tensor,
                     json_string_value(file));
        goto done;
    }
done:
    json_decref(seen);
    return rc;
}

static err_code no_tensors(const weights *w, err *e) {
    strbuf known = STRBUF_INIT;
    for (int i = 0; i < N_TENSOR_FILES; i++) strbuf_addf(&known, "%s%s", i ? " or " : "", tensor_files[i].name);
    err_code rc = strbuf_check(&known, e);
    if (!rc)
        rc = err_set(e, ERR_FORMAT, "%s: expected %s (or its .index.json) in this folder, found none", w->path, known.data);
    strbuf_release(&known);
    return rc;
}

/* Reads the tensors if they are of this kind; *found says so. */
static err_code read_kind(weights *w, int kind, bool *found, err *e) {
    err_code rc;
    char *path = NULL, *index = NULL;
    json_t *root = NULL;
    strbuf name = STRBUF_INIT;
    strbuf_addf(&name, "%s.index.json", tensor_files[kind].name);
    TRY(strbuf_check(&name, e));
    TRY(path_join(w->path, tensor_files[kind].name, &path, e));
    TRY(path_join(w->path, name.data, &index, e));
    *found = true;
    if (file_exists(path))
        rc = read_one(w, kind, tensor_files[kind].name, e);
    else if (file_exists(index))
        rc = read_indexed(w, kind, index, &root, e);
    else
        *found = false;
done:
    strbuf_release(&name);
    json_decref(root);
    free(index);
    free(path);
    return rc;
}

err_code folder_read(weights *w, err *e) {
    bool found = false;
    err_code rc = read_config(w, e);
    for (int kind = 0; !rc && !found && kind < N_TENSOR_FILES; kind++) rc = read_kind(w, kind, &found, e);
    return rc || found ? rc : no_tensors(w, e);
}
