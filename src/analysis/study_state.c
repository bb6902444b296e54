#include "analysis/study_state.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { STATE_BYTES_MAX = 64 << 20, STATE_VERSION = 1 };

/* ---- the file ---- */

static err_code check_format(const char *path, const json_t *doc, err *e) {
    const char *format = json_string_value(json_object_get(doc, "format"));
    json_int_t version = json_integer_value(json_object_get(doc, "version"));
    if (!format || strcmp(format, "sae.study") || version < 1)
        return err_set(e, ERR_FORMAT, "%s: expected the state of a study, found other JSON; give another folder with --out",
                       path);
    if (version > STATE_VERSION)
        return err_set(e, ERR_UNSUPPORTED, "%s: version %lld, this program reads up to %d", path, (long long)version,
                       STATE_VERSION);
    if (!json_is_array(json_object_get(doc, "stages")) || !json_is_object(json_object_get(doc, "files")))
        return err_set(e, ERR_FORMAT, "%s: expected 'stages' and 'files', one is missing", path);
    return ERR_OK;
}

static err_code read_state(study_state *s, err *e) {
    char *text;
    size_t size;
    json_error_t error;
    err_code rc = file_read(s->path, STATE_BYTES_MAX, &text, &size, e);
    if (rc) return rc;
    s->doc = json_loadb(text, size, 0, &error);
    free(text);
    if (!s->doc) return err_set(e, ERR_FORMAT, "%s: line %d: %s", s->path, error.line, error.text);
    return check_format(s->path, s->doc, e);
}

err_code study_state_open(const char *folder, study_state *out, err *e) {
    *out = (study_state){0};
    err_code rc;
    TRY(path_join(folder, "study.json", &out->path, e));
    if (file_exists(out->path)) {
        TRY(read_state(out, e));
    } else {
        out->doc = json_pack("{s:s s:i s:s s:[] s:{}}", "format", "sae.study", "version", STATE_VERSION, "tool_version",
                             SAE_VERSION, "stages", "files");
        if (!out->doc) rc = err_nomem(e, "the study's state", 0);
    }
done:
    if (rc) study_state_release(out);
    return rc;
}

void study_state_release(study_state *s) {
    json_decref(s->doc);
    free(s->path);
    *s = (study_state){0};
}

static err_code save(const study_state *s, err *e) {
    char *text = json_dumps(s->doc, JSON_INDENT(2));
    if (!text) return err_nomem(e, "the study's state", 0);
    err_code rc = file_write(s->path, text, strlen(text), e);
    free(text);
    return rc;
}

/* ---- files ---- */

static bool is_integer(const json_t *object, const char *key, json_int_t value) {
    const json_t *x = json_object_get(object, key);
    return json_is_integer(x) && json_integer_value(x) == value;
}

err_code study_state_hash(study_state *s, const char *path, char out[SHA256_HEX], err *e) {
    json_t *files = json_object_get(s->doc, "files"), *known = json_object_get(files, path);
    const char *sha256 = json_string_value(json_object_get(known, "sha256"));
    struct stat st;
    if (stat(path, &st)) return err_set_errno(e, "%s: cannot look at it", path);
    json_int_t changed = (json_int_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    if (sha256 && strlen(sha256) == SHA256_HEX - 1 && is_integer(known, "size", (json_int_t)st.st_size) &&
        is_integer(known, "mtime_ns", changed)) {
        memcpy(out, sha256, SHA256_HEX);
        return ERR_OK;
    }
    err_code rc = file_sha256(path, out, e);
    if (rc) return rc;
    json_t *entry = json_pack("{s:I s:I s:s}", "size", (json_int_t)st.st_size, "mtime_ns", changed, "sha256", out);
    if (json_object_set_new(files, path, entry)) return err_nomem(e, "the study's state", 0);
    return ERR_OK;
}

/* ---- stages ---- */

json_t *study_state_stage(const study_state *s, const char *name) {
    size_t i;
    json_t *stage;
    json_array_foreach(json_object_get(s->doc, "stages"), i, stage) {
        const char *known = json_string_value(json_object_get(stage, "name"));
        if (known && !strcmp(known, name)) return stage;
    }
    return NULL;
}

stage_status study_state_status(const study_state *s, const char *name, const json_t *inputs) {
    json_t *stage = study_state_stage(s, name);
    if (!stage) return STAGE_NEW;
    if (!json_equal(json_object_get(stage, "inputs"), inputs)) return STAGE_CHANGED;
    return json_is_true(json_object_get(stage, "done")) ? STAGE_DONE : STAGE_STOPPED;
}

err_code study_state_begin(study_state *s, const char *name, const char *command, const json_t *inputs, err *e) {
    json_t *stage = study_state_stage(s, name), *copy = json_deep_copy(inputs);
    if (!stage) {
        stage = json_object();
        if (json_array_append_new(json_object_get(s->doc, "stages"), stage)) stage = NULL;
    }
    json_object_clear(stage);
    if (json_object_set_new(stage, "name", json_string(name)) ||
        json_object_set_new(stage, "command", json_string(command)) || json_object_set_new(stage, "inputs", copy) ||
        json_object_set_new(stage, "done", json_false()))
        return err_nomem(e, "the study's state", 0);
    return save(s, e);
}

err_code study_state_finish(study_state *s, const char *name, double seconds, const json_t *result, err *e) {
    json_t *stage = study_state_stage(s, name), *copy = json_deep_copy(result);
    if (json_object_set_new(stage, "done", json_true()) || json_object_set_new(stage, "seconds", json_real(seconds)) ||
        json_object_set_new(stage, "result", copy))
        return err_nomem(e, "the study's state", 0);
    return save(s, e);
}
