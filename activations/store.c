/* store.c — activations.h5 as it is read: every size and number is checked before anything relies on it. */
#include "activations/store.h"

#include "activations/store_internal.h"
#include "core/mem.h"
#include "core/strbuf.h"

#include <assert.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const store_text store_texts[STORE_TEXTS] = {
    {"model_name", offsetof(store_info, model_name), false},
    {"model_path", offsetof(store_info, model_path), false},
    {"model_sha256", offsetof(store_info, model_sha256), true},
    {"architecture", offsetof(store_info, architecture), true},
    {"tokenizer_sha256", offsetof(store_info, tokenizer_sha256), true},
    {"tool_version", offsetof(store_info, tool_version), false},
    {"command", offsetof(store_info, command), false},
};

/* ---- life ---- */

static void close_hooks(store *s) {
    for (int i = 0; i < STORE_HOOKS_MAX; i++) {
        h5_rows_close(&s->hooks[i].rows);
        free(s->hooks[i].progress);
        free(s->hooks[i].chunk_at);
        s->hooks[i] = (hook_file){0};
    }
}

void store_close_contents(store *s) {
    close_hooks(s);
    h5_close(&s->file, NULL);
    for (int i = 0; i < STORE_TEXTS; i++) {
        free(s->texts[i]);
        s->texts[i] = NULL;
    }
    free(s->vocab_bytes);
    free(s->vocab_offsets);
    s->vocab_bytes = NULL;
    s->vocab_offsets = NULL;
    free(s->scratch);
    s->scratch = NULL;
    if (s->fd >= 0) close(s->fd);
    s->fd = -1;
}

void store_close(store *s) {
    if (!s) return;
    store_close_contents(s);
    free(s->path);
    free(s);
}

err_code store_new(const char *path, store **out, err *e) {
    store *s;
    *out = NULL;
    err_code rc = mem_new0(&s, 1, sizeof *s, "an activation file", e);
    if (rc) return rc;
    s->file = H5_FILE_INIT;
    s->fd = -1;
    if (!(s->path = strdup(path))) {
        store_close(s);
        return err_nomem(e, "path", strlen(path));
    }
    *out = s;
    return ERR_OK;
}

const store_info *store_info_of(const store *s) { return &s->info; }

int store_find_hook(const store *s, const char *name, err *e) {
    strbuf known = STRBUF_INIT;
    for (int i = 0; i < s->info.n_hooks; i++) {
        if (!strcmp(s->info.hooks[i].name, name)) {
            strbuf_release(&known);
            return i;
        }
        strbuf_addf(&known, "%s%s", i ? ", " : "", s->info.hooks[i].name);
    }
    err_set(e, ERR_MISMATCH, "expected rows of %s, found %s", name, s->info.n_hooks ? known.data : "no hook");
    strbuf_release(&known);
    return -1;
}

bool store_chunk_done(const store *s, int hook, int64_t chunk) { return s->hooks[hook].progress[chunk]; }

/* ---- reading: what the file says of itself ---- */

static err_code check_format(const h5_file *f, err *e) {
    char *format = NULL;
    int64_t version = 0;
    err_code rc = h5_get_string(f, f->id, "/", "format", &format, e);
    if (rc && rc != ERR_FORMAT) return rc;
    if (rc || strcmp(format, STORE_FORMAT) != 0)
        rc = err_set(e, ERR_FORMAT, "%s: expected an activation file (format " STORE_FORMAT "), found %s", f->path,
                     format ? "another format" : "an HDF5 file that names no format");
    else if (!(rc = h5_get_int(f, f->id, "/", "version", &version, e)) && version != STORE_VERSION)
        rc = err_set(e, ERR_UNSUPPORTED, "%s: expected version %d of the format, found %" PRId64, f->path, STORE_VERSION,
                     version);
    free(format);
    return rc;
}

static err_code read_hash(const h5_file *f, uint64_t *hash, err *e) {
    char *text, *end;
    err_code rc = h5_get_string(f, f->id, "/", "corpus_hash", &text, e);
    if (rc) return rc;
    *hash = strtoull(text, &end, 16);
    if (end == text || *end) rc = err_set(e, ERR_FORMAT, "%s: attribute corpus_hash: expected hex digits", f->path);
    free(text);
    return rc;
}

static err_code read_precision(const h5_file *f, model_precision *out, err *e) {
    char *name = NULL;
    *out = MODEL_F32;
    if (!h5_has(f->id, "precision")) return ERR_OK;
    err_code rc = h5_get_string(f, f->id, "/", "precision", &name, e);
    if (rc) return rc;
    while (*out < MODEL_PRECISIONS && strcmp(model_precision_names[*out], name) != 0) ++*out;
    if (*out == MODEL_PRECISIONS)
        rc = err_set(e, ERR_UNSUPPORTED, "%s: attribute precision: \"%s\" is not known here", f->path, name);
    free(name);
    return rc;
}

static err_code read_attributes(store *s, err *e) {
    const h5_file *f = &s->file;
    store_info *info = &s->info;
    int64_t bos;
    err_code rc;
    TRY(check_format(f, e));
    for (int i = 0; i < STORE_TEXTS; i++) {
        TRY(h5_get_string(f, f->id, "/", store_texts[i].name, &s->texts[i], e));
        *text_of(info, i) = s->texts[i];
    }
    TRY(read_precision(f, &info->precision, e));
    TRY(h5_get_int(f, f->id, "/", "context", &info->context, e));
    TRY(h5_get_int(f, f->id, "/", "skip_first", &info->skip_first, e));
    TRY(h5_get_int(f, f->id, "/", "bos", &bos, e));
    info->bos = bos != 0;
    TRY(read_hash(f, &info->corpus_hash, e));
done:
    return rc;
}

static err_code array_length(const h5_file *f, const char *name, H5T_class_t cls, uint64_t least, int64_t *n, err *e) {
    hid_t dataset;
    uint64_t length;
    err_code rc = h5_open_array(f, name, cls, &dataset, &length, e);
    if (rc) return rc;
    H5Dclose(dataset);
    if (length < least) return err_set(e, ERR_FORMAT, "%s: %s: expected at least %" PRIu64 " items", f->path, name, least);
    *n = (int64_t)length;
    return ERR_OK;
}

static err_code read_sizes(store *s, err *e) {
    const h5_file *f = &s->file;
    store_info *info = &s->info;
    int64_t n_sources = 0;
    err_code rc;
    TRY(array_length(f, "/tokens", H5T_INTEGER, 1, &info->n_tokens, e));
    TRY(array_length(f, "/doc_offsets", H5T_INTEGER, 2, &info->n_docs, e));
    TRY(array_length(f, "/doc_source", H5T_STRING, 1, &n_sources, e));
    TRY(array_length(f, "/row_token", H5T_INTEGER, 1, &info->n_rows, e));
    TRY(array_length(f, "/vocab/offsets", H5T_INTEGER, 1, &info->n_vocab, e));
    info->n_docs--;
    info->n_vocab--;
    if (n_sources != info->n_docs || info->n_rows > info->n_tokens)
        rc = err_set(e, ERR_FORMAT, "%s: the sizes of its corpus contradict each other", f->path);
done:
    return rc;
}

static err_code read_progress(store *s, int i, err *e) {
    const h5_file *f = &s->file;
    store_hook *h = &s->info.hooks[i];
    char name[STORE_PATH_MAX];
    uint64_t n = 0;
    name_in_file(name, "/progress/", h->name, "");
    err_code rc = h5_get_array(f, name, H5T_INTEGER, H5T_NATIVE_UINT8, 1, &s->hooks[i].progress, &n, e);
    if (rc) return rc;
    if ((int64_t)n != n_chunks_of(s->info.n_rows))
        return err_set(e, ERR_FORMAT, "%s: %s: expected %" PRId64 " chunks, found %" PRIu64, f->path, name,
                       n_chunks_of(s->info.n_rows), n);
    h->rows_done = 0;
    for (int64_t j = 0; j < (int64_t)n; j++)
        if (s->hooks[i].progress[j]) h->rows_done += chunk_rows(s->info.n_rows, j);
    return ERR_OK;
}

static err_code read_hook_attributes(const h5_file *f, const char *group_name, store_hook *h, err *e) {
    char *dtype_name = NULL;
    int64_t layer = 0;
    err_code rc;
    if (h5_type_at(f, group_name) != H5O_TYPE_GROUP)
        return err_set(e, ERR_FORMAT, "%s: expected a group %s in the file, found none", f->path, group_name);
    hid_t group = H5Gopen2(f->id, group_name, H5P_DEFAULT);
    if (group < 0) return h5_fail(f, e, ERR_FORMAT, "cannot open %s", group_name);
    TRY(h5_get_int(f, group, group_name, "layer", &layer, e));
    TRY(h5_get_int(f, group, group_name, "d_model", &h->d_model, e));
    TRY(h5_get_string(f, group, group_name, "dtype", &dtype_name, e));
    TRY(h5_get_real(f, group, group_name, "mean_norm", &h->mean_norm, e));
    TRY(h5_get_real(f, group, group_name, "rms", &h->rms, e));
    TRY(h5_get_real(f, group, group_name, "max_norm", &h->max_norm, e));
    if (h5_has(group, "deviation_mean")) {
        TRY(h5_get_real(f, group, group_name, "deviation_mean", &h->deviation.mean, e));
        TRY(h5_get_real(f, group, group_name, "deviation_max", &h->deviation.max, e));
    }
    const dtype *t = dtype_named(dtype_name, e);
    if (!t)
        rc = err_prefix(e, ERR_FORMAT, "%s: %s", f->path, group_name);
    else
        h->dtype = t->id;
    if (layer < 0 || layer > INT_MAX)
        rc = err_set(e, ERR_FORMAT, "%s: %s: attribute layer: expected a number of a block, found %" PRId64, f->path,
                     group_name, layer);
    h->layer = (int)layer;
done:
    H5Gclose(group);
    free(dtype_name);
    return rc;
}

static err_code read_hook(store *s, int i, err *e) {
    const h5_file *f = &s->file;
    store_hook *h = &s->info.hooks[i];
    h5_rows *rows = &s->hooks[i].rows;
    char name[STORE_PATH_MAX];
    err_code rc;
    name_in_file(name, "/hooks/", h->name, "");
    TRY(read_hook_attributes(f, name, h, e));
    name_in_file(name, "/hooks/", h->name, "/activations");
    TRY(h5_rows_open(f, name, rows, e));
    if (rows->n_rows != s->info.n_rows || rows->d != h->d_model || rows->type->id != h->dtype) {
        rc = err_set(e, ERR_FORMAT, "%s: %s: expected [%" PRId64 ", %" PRId64 "] %s, found [%" PRId64 ", %" PRId64 "] %s",
                     f->path, name, s->info.n_rows, h->d_model, dtype_of(h->dtype)->name, rows->n_rows, rows->d,
                     rows->type->name);
        goto done;
    }
    TRY(read_progress(s, i, e));
done:
    return rc;
}

/* The hooks' order is that of their making, which our groups keep; where a group does not, that of their names. */
static err_code read_hook_name(const h5_file *f, hid_t group, int i, char name[HOOK_NAME_MAX], err *e) {
    static const H5_index_t orders[] = {H5_INDEX_CRT_ORDER, H5_INDEX_NAME};
    ssize_t n = -1;
    for (int j = 0; j < 2 && n < 0; j++)
        n = H5Lget_name_by_idx(group, ".", orders[j], H5_ITER_INC, (hsize_t)i, name, HOOK_NAME_MAX, H5P_DEFAULT);
    if (n < 0) return h5_fail(f, e, ERR_FORMAT, "cannot list /hooks");
    if (n < HOOK_NAME_MAX) return ERR_OK;
    return err_set(e, ERR_FORMAT, "%s: expected hooks with names of at most %d bytes, found %zd", f->path, HOOK_NAME_MAX - 1,
                   n);
}

static err_code read_hooks(store *s, err *e) {
    const h5_file *f = &s->file;
    H5G_info_t about;
    err_code rc = ERR_OK;
    hid_t group = h5_type_at(f, "/hooks") == H5O_TYPE_GROUP ? H5Gopen2(f->id, "/hooks", H5P_DEFAULT) : H5I_INVALID_HID;
    if (group < 0) return err_set(e, ERR_FORMAT, "%s: expected a group /hooks, found none", f->path);
    if (H5Gget_info(group, &about) < 0 || about.nlinks < 1 || about.nlinks > STORE_HOOKS_MAX) {
        rc = err_set(e, ERR_FORMAT, "%s: expected 1 to %d hooks", f->path, STORE_HOOKS_MAX);
        goto done;
    }
    for (int i = 0; i < (int)about.nlinks; i++) {
        TRY(read_hook_name(f, group, i, s->info.hooks[i].name, e));
        TRY(read_hook(s, i, e));
    }
    s->info.n_hooks = (int)about.nlinks;
done:
    H5Gclose(group);
    return rc;
}

err_code store_read_contents(store *s, err *e) {
    err_code rc;
    s->info = (store_info){0};
    TRY(h5_open(s->path, false, &s->file, e));
    TRY(read_attributes(s, e));
    TRY(read_sizes(s, e));
    TRY(read_hooks(s, e));
done:
    return rc;
}

err_code store_open(const char *path, store **out, err *e) {
    store *s;
    *out = NULL;
    err_code rc = store_new(path, &s, e);
    if (rc) return rc;
    rc = store_read_contents(s, e);
    if (rc)
        store_close(s);
    else
        *out = s;
    return rc;
}

/* ---- reading: rows, corpus, vocabulary ---- */

err_code store_read_rows(const store *s, const ctx *c, int hook, int64_t first, int64_t n, float *x, err *e) {
    const h5_rows *rows = &s->hooks[hook].rows;
    void *stored = NULL;
    assert(s->fd < 0 && first >= 0 && n >= 0 && n <= s->info.n_rows - first);
    if (rows->type->id == STORE_F32) return h5_rows_read(&s->file, rows, first, n, x, e);
    int64_t step = n < STORE_CHUNK_ROWS ? n : STORE_CHUNK_ROWS;
    err_code rc = mem_new(&stored, (size_t)step, (size_t)rows->d * rows->type->bytes, "rows", e);
    for (int64_t at = 0; at < n && !rc; at += step) {
        int64_t more = n - at < step ? n - at : step;
        rc = h5_rows_read(&s->file, rows, first + at, more, stored, e);
        if (!rc) dtype_to_f32(c, rows->type, stored, NULL, more, rows->d, x + at * rows->d);
    }
    free(stored);
    return rc;
}

err_code store_read_row_token(const store *s, uint64_t *row_token, err *e) {
    uint64_t *values, n;
    err_code rc = h5_get_array(&s->file, "/row_token", H5T_INTEGER, H5T_NATIVE_UINT64, sizeof *values, &values, &n, e);
    if (rc) return rc;
    for (uint64_t i = 0; i < n && !rc; i++)
        if (values[i] >= (uint64_t)s->info.n_tokens || (i && values[i] <= values[i - 1]))
            rc = err_set(e, ERR_FORMAT, "%s: /row_token: row %" PRIu64 ": expected ascending tokens below %" PRId64, s->path,
                         i, s->info.n_tokens);
    if (!rc) memcpy(row_token, values, n * sizeof *values);
    free(values);
    return rc;
}

err_code store_read_long(const store *s, int hook, uint8_t *is_long, int64_t *n_long, err *e) {
    const store_hook *h = &s->info.hooks[hook];
    char name[STORE_PATH_MAX];
    float *norms = NULL;
    uint64_t n;
    *n_long = 0;
    memset(is_long, 0, (size_t)s->info.n_rows);
    if (!isfinite(h->max_norm)) return ERR_OK;
    name_in_file(name, "/hooks/", h->name, "/row_norm");
    err_code rc = h5_get_array(&s->file, name, H5T_FLOAT, H5T_NATIVE_FLOAT, sizeof *norms, &norms, &n, e);
    if (rc) return rc;
    if (n != (uint64_t)s->info.n_rows)
        rc = err_set(e, ERR_FORMAT, "%s: %s: expected %" PRId64 " lengths, found %" PRIu64, s->path, name, s->info.n_rows, n);
    for (uint64_t i = 0; i < n && !rc; i++) *n_long += is_long[i] = norms[i] > h->max_norm;
    free(norms);
    return rc;
}

/* Offsets ascend from 0 to `end`. */
static err_code check_offsets(const store *s, const char *name, const uint64_t *offsets, uint64_t n, uint64_t end, err *e) {
    bool fine = offsets[0] == 0 && offsets[n] == end;
    for (uint64_t i = 0; fine && i < n; i++) fine = offsets[i] <= offsets[i + 1];
    return fine ? ERR_OK
                : err_set(e, ERR_FORMAT, "%s: %s: expected numbers that ascend from 0 to %" PRIu64, s->path, name, end);
}

static err_code read_sources(const store *s, char **out, err *e) {
    const h5_file *f = &s->file;
    hid_t dataset, type = H5I_INVALID_HID;
    uint64_t n;
    char *all = NULL;
    err_code rc = h5_open_array(f, "/doc_source", H5T_STRING, &dataset, &n, e);
    if (rc) return rc;
    type = H5Dget_type(dataset);
    size_t width = H5Tget_size(type);
    TRY(mem_new(&all, n, width, "names of documents", e));
    if (H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, all) < 0) {
        rc = h5_fail(f, e, ERR_FORMAT, "cannot read /doc_source");
        goto done;
    }
    for (uint64_t i = 0; i < n; i++)
        if (!(out[i] = strndup(all + i * width, width))) {
            rc = err_nomem(e, "names of documents", width);
            goto done;
        }
done:
    free(all);
    if (type >= 0) H5Tclose(type);
    H5Dclose(dataset);
    return rc;
}

err_code store_read_corpus(const store *s, token_corpus *out, err *e) {
    const h5_file *f = &s->file;
    uint64_t n_tokens, n_offsets;
    err_code rc;
    *out = (token_corpus){.hash = s->info.corpus_hash};
    TRY(h5_get_array(f, "/tokens", H5T_INTEGER, H5T_NATIVE_UINT32, sizeof *out->tokens, &out->tokens, &n_tokens, e));
    for (uint64_t i = 0; i < n_tokens; i++)
        if (out->tokens[i] >= s->info.n_vocab) {
            rc = err_set(e, ERR_FORMAT, "%s: /tokens: item %" PRIu64 " is %u, expected a token below %" PRId64, s->path, i,
                         out->tokens[i], s->info.n_vocab);
            goto done;
        }
    TRY(h5_get_array(f, "/doc_offsets", H5T_INTEGER, H5T_NATIVE_UINT64, sizeof *out->doc_offsets, &out->doc_offsets,
                     &n_offsets, e));
    TRY(check_offsets(s, "/doc_offsets", out->doc_offsets, n_offsets - 1, n_tokens, e));
    TRY(mem_new0(&out->doc_source, n_offsets - 1, sizeof *out->doc_source, "names of documents", e));
    out->n_tokens = (int64_t)n_tokens;
    out->n_docs = (int64_t)n_offsets - 1;
    TRY(read_sources(s, out->doc_source, e));
done:
    if (rc) corpus_release(out);
    return rc;
}

err_code store_vocab(store *s, const char **bytes, const uint64_t **offsets, err *e) {
    const h5_file *f = &s->file;
    err_code rc = ERR_OK;
    uint64_t n_bytes, n_offsets;
    if (!s->vocab_offsets) {
        TRY(h5_get_array(f, "/vocab/bytes", H5T_INTEGER, H5T_NATIVE_UINT8, 1, &s->vocab_bytes, &n_bytes, e));
        TRY(h5_get_array(f, "/vocab/offsets", H5T_INTEGER, H5T_NATIVE_UINT64, sizeof *s->vocab_offsets, &s->vocab_offsets,
                         &n_offsets, e));
        TRY(check_offsets(s, "/vocab/offsets", s->vocab_offsets, n_offsets - 1, n_bytes, e));
    }
    *bytes = s->vocab_bytes;
    *offsets = s->vocab_offsets;
done:
    if (rc) {
        free(s->vocab_bytes);
        free(s->vocab_offsets);
        s->vocab_bytes = NULL;
        s->vocab_offsets = NULL;
    }
    return rc;
}
