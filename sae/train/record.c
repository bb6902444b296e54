#include "sae/train/record.h"
#include "sae/train/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define NAME    "train.json"
#define FORMAT  "sae.train"
#define WEIGHTS "sae_weights.safetensors"

enum { VERSION = 1, BYTES_MAX = 1 << 20 };

static err_code no_memory(err *e) { return err_nomem(e, NAME, 0); }

static err_code write_doc(const record *r, err *e) {
    char *text = json_dumps(r->doc, JSON_INDENT(2));
    err_code rc = text ? file_write(r->path, text, strlen(text), e) : no_memory(e);
    free(text);
    return rc;
}

static err_code hash_run(const json_t *run, char out[SHA256_HEX], err *e) {
    char *text = json_dumps(run, JSON_COMPACT | JSON_SORT_KEYS);
    if (!text) return no_memory(e);
    bytes_sha256(text, strlen(text), out);
    free(text);
    return ERR_OK;
}

/* ---- what the folder holds ---- */

static err_code read_doc(const char *path, json_t **out, err *e) {
    char *text = NULL;
    size_t size;
    json_error_t problem;
    err_code rc = file_read(path, BYTES_MAX, &text, &size, e);
    if (rc) return rc;
    *out = json_loadb(text, size, 0, &problem);
    free(text);
    if (!*out) return err_set(e, ERR_FORMAT, "%s: line %d: %s", path, problem.line, problem.text);
    const char *format = json_string_value(json_object_get(*out, "format"));
    if (!format || strcmp(format, FORMAT) != 0) return err_set(e, ERR_FORMAT, "%s: not the record of a training run", path);
    json_int_t version = json_integer_value(json_object_get(*out, "version"));
    if (version > VERSION)
        return err_set(e, ERR_UNSUPPORTED, "%s: version %lld is newer than this program knows (%d)", path, (long long)version,
                       VERSION);
    return ERR_OK;
}

static char *text_of(const json_t *v) { return v ? json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT) : NULL; }

static err_code check_same_run(const char *path, const json_t *there, const json_t *wanted, err *e) {
    const char *key;
    json_t *want;
    json_object_foreach((json_t *)wanted, key, want) {
        const json_t *have = json_object_get(there, key);
        if (have && json_equal(have, want)) continue;
        char *a = text_of(have), *b = text_of(want);
        err_set(e, ERR_MISMATCH, "%s: the folder holds another run: its %s is %.80s, this one's %.80s; give another folder",
                path, key, a ? a : "missing", b ? b : "?");
        free(a);
        free(b);
        return ERR_MISMATCH;
    }
    return ERR_OK;
}

static double real_of(const json_t *o, const char *key) {
    const json_t *v = json_object_get(o, key);
    return json_is_number(v) ? json_number_value(v) : (double)NAN;
}

static void read_result(const json_t *o, train_result *out) {
    *out = (train_result){.rows = json_integer_value(json_object_get(o, "rows")),
                          .rows_per_second = real_of(o, "rows_per_second"),
                          .fvu = real_of(o, "fvu"),
                          .l0 = real_of(o, "l0"),
                          .dead = real_of(o, "dead")};
    out->resumed_from = out->rows;
}

static bool folder_has(const char *folder, const char *name) {
    char *path;
    bool there = !path_join(folder, name, &path, NULL) && file_exists(path);
    free(path);
    return there;
}

/* A record alone, of a run that was stopped before it kept anything, is no reason to refuse another run. */
static bool holds_work(const char *folder, const char *record_path) {
    return file_exists(record_path) && (folder_has(folder, WEIGHTS) || checkpoint_exists(folder));
}

static err_code read_existing(const train_opts *o, const json_t *run, record *r, record_status *status, train_result *result,
                              err *e) {
    bool has_weights = folder_has(o->out, WEIGHTS);
    err_code rc = read_doc(r->path, &r->doc, e);
    if (!rc) rc = check_same_run(r->path, json_object_get(r->doc, "run"), run, e);
    if (rc) return rc;
    const json_t *made = json_object_get(r->doc, "result");
    *status = RECORD_BEGUN;
    if (has_weights && json_is_object(made)) {
        *status = RECORD_COMPLETE;
        read_result(made, result);
    }
    return ERR_OK;
}

/* ---- a new run ---- */

static err_code describe(const ctx *c, const train_opts *o, const json_t *run, record *r, err *e) {
    /* An autoencoder that came from elsewhere is never written over. */
    if (folder_has(o->out, WEIGHTS))
        return err_set(e, ERR_MISMATCH,
                       "%s: there is an autoencoder, but no %s that says how it was made; give another folder", o->out, NAME);
    r->doc = json_pack("{s:s, s:i, s:s, s:s?, s:{s:i, s:s}, s:O}", "format", FORMAT, "version", VERSION, "tool_version",
                       SAE_VERSION, "command", o->command, "machine", "threads", c->threads, "kernels",
                       cpu_level_name(c->cpu), "run", run);
    return r->doc ? ERR_OK : no_memory(e);
}

err_code record_open(const ctx *c, const train_opts *o, const json_t *run, record *r, record_status *status,
                     train_result *result, err *e) {
    *r = (record){0};
    *status = RECORD_NEW;
    err_code rc = path_join(o->out, NAME, &r->path, e);
    if (!rc) rc = hash_run(run, r->run, e);
    if (!rc) rc = holds_work(o->out, r->path) ? read_existing(o, run, r, status, result, e) : describe(c, o, run, r, e);
    if (rc) record_release(r);
    return rc;
}

err_code record_lock(record *r, const char *folder, err *e) {
    err_code rc = file_make_dirs(folder, e);
    if (rc) return rc;
    r->lock = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r->lock < 0) return err_set_errno(e, "%s: cannot open", folder);
    /* file systems without such locks answer otherwise: then nobody is kept out */
    if (flock(r->lock, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK)
        return err_set(e, ERR_FAILED, "%s: another process is training there", folder);
    return ERR_OK;
}

err_code record_begin(const record *r, err *e) { return write_doc(r, e); }

static json_t *number(double x) { return isfinite(x) ? json_real(x) : json_null(); }

err_code record_finish(record *r, const train_result *t, err *e) {
    json_t *result =
        json_pack("{s:I, s:o, s:o, s:o, s:o}", "rows", (json_int_t)t->rows, "rows_per_second", number(t->rows_per_second),
                  "fvu", number(t->fvu), "l0", number(t->l0), "dead", number(t->dead));
    if (!result || json_object_set_new(r->doc, "result", result)) return no_memory(e);
    return write_doc(r, e);
}

void record_release(record *r) {
    json_decref(r->doc);
    free(r->path);
    if (r->lock > 0) close(r->lock);
    *r = (record){0};
}
