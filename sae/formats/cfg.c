#include "sae/formats/cfg.h"
#include "core/file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { JSON_BYTES_MAX = 1 << 20 };

err_code cfg_load(const char *path, json_t **out, err *e) {
    char *text = NULL;
    size_t size = 0;
    json_error_t wrong;
    err_code rc = file_read(path, JSON_BYTES_MAX, &text, &size, e);
    if (rc) return rc;
    *out = json_loadb(text, size, JSON_REJECT_DUPLICATES, &wrong);
    free(text);
    if (!*out) return err_set(e, ERR_FORMAT, "%s: not JSON: byte %d: %s", path, wrong.position, wrong.text);
    if (json_is_object(*out)) return ERR_OK;
    json_decref(*out);
    *out = NULL;
    return err_set(e, ERR_FORMAT, "%s: expected a JSON object", path);
}

err_code cfg_wrong_value(const char *key, const char *expected, const json_t *found, err *e) {
    char *text = json_dumps(found, JSON_ENCODE_ANY | JSON_COMPACT);
    err_code rc = err_set(e, ERR_FORMAT, "%s: expected %s, found %.60s", key, expected, text ? text : "something else");
    free(text);
    return rc;
}

static err_code read_whole(const cfg_key *k, int64_t least, const json_t *v, err *e) {
    if (!json_is_integer(v) || json_integer_value(v) < least)
        return cfg_wrong_value(k->name, least ? "a whole number of at least 1" : "a whole number of at least 0", v, e);
    *(int64_t *)k->to = json_integer_value(v);
    return ERR_OK;
}

static err_code read_text(const cfg_key *k, const json_t *v, err *e) {
    if (!json_is_string(v) || strlen(json_string_value(v)) != json_string_length(v))
        return cfg_wrong_value(k->name, "a string", v, e);
    *(const char **)k->to = json_string_value(v);
    return ERR_OK;
}

static err_code read_value(const cfg_key *k, const json_t *v, err *e) {
    if (k->kind == CFG_IGNORED || json_is_null(v)) return ERR_OK;
    switch (k->kind) {
    case CFG_IGNORED: break;
    case CFG_SIZE: return read_whole(k, 1, v, e);
    case CFG_COUNT: return read_whole(k, 0, v, e);
    case CFG_TEXT: return read_text(k, v, e);
    case CFG_NUMBER:
        if (!json_is_number(v) || !isfinite(json_number_value(v))) return cfg_wrong_value(k->name, "a number", v, e);
        *(double *)k->to = json_number_value(v);
        break;
    case CFG_BOOL:
        if (!json_is_boolean(v)) return cfg_wrong_value(k->name, "true or false", v, e);
        *(bool *)k->to = json_is_true(v);
        break;
    case CFG_OBJECT:
        if (!json_is_object(v)) return cfg_wrong_value(k->name, "an object", v, e);
        *(const json_t **)k->to = v;
        break;
    case CFG_ANY: *(const json_t **)k->to = v; break;
    }
    return ERR_OK;
}

static err_code read_keys(const json_t *object, const cfg_key *keys, size_t n, bool refuse_others, err *e) {
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)object, name, value) {
        size_t i = 0;
        while (i < n && strcmp(keys[i].name, name) != 0) i++;
        if (i == n && refuse_others)
            return err_set(e, ERR_UNSUPPORTED, "unknown key '%.60s', which may change what the autoencoder computes", name);
        err_code rc = i < n ? read_value(&keys[i], value, e) : ERR_OK;
        if (rc) return rc;
    }
    return ERR_OK;
}

err_code cfg_read(const json_t *object, const cfg_key *keys, size_t n, err *e) { return read_keys(object, keys, n, true, e); }

err_code cfg_read_some(const json_t *object, const cfg_key *keys, size_t n, err *e) {
    return read_keys(object, keys, n, false, e);
}

err_code cfg_copy(const char *key, const char *text, char *out, size_t size, err *e) {
    if (!text) return ERR_OK;
    if (strlen(text) >= size) return err_set(e, ERR_FORMAT, "%s: expected at most %zu characters", key, size - 1);
    memcpy(out, text, strlen(text) + 1);
    return ERR_OK;
}
