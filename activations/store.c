/* store.c — activations.h5. HDF5 lays the file out once and reads it; rows are written into it with pwrite.
 *
 * Laying out happens under "<path>.tmp": the corpus is written, the datasets of rows get their space (early allocation, no fill
 * values), the file is closed, its holes are filled by posix_fallocate, it is synced and renamed. From then on a writer knows
 * the byte at which every chunk begins, and HDF5 never opens the file for writing again until a hook is complete: there is no
 * metadata in memory that a kill could lose, and no flag that says "open". A chunk is on disk before its progress byte is written.
 * What store_finish_hook changes has its place in the file from the beginning, so that no object header grows. */
#define _GNU_SOURCE /* F_OFD_SETLK */
#include "activations/store.h"

#include "activations/h5.h"
#include "core/file.h"
#include "core/mem.h"
#include "core/strbuf.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { VERSION = 1, PATH_IN_FILE_MAX = HOOK_NAME_MAX + 32 };
#define FORMAT "sae.activations"

/* ---- what is open ---- */

typedef struct hook_file {
    uint8_t *progress;    /* [n_chunks] */
    h5_rows rows;         /* reading */
    uint64_t progress_at; /* writing: where the bytes are in the file */
    uint64_t *chunk_at;   /* [n_chunks] */
} hook_file;

struct store {
    char *path;
    store_info info; /* its strings are borrowed from texts */
    char **texts;    /* [N_TEXTS] */
    hook_file hooks[STORE_HOOKS_MAX];
    h5_file file; /* reading; closed while writing */
    char *vocab_bytes;
    uint64_t *vocab_offsets;
    int fd;        /* writing, else -1 */
    void *scratch; /* writing: one chunk as stored */
};

/* The attributes of the whole file that are strings, and where store_info has them. */
static const struct {
    const char *name;
    size_t offset; /* of a const char * in store_info */
    bool compared; /* a capture continues only where it is the same */
} texts[] = {
    {"model_name", offsetof(store_info, model_name), false},
    {"model_path", offsetof(store_info, model_path), false},
    {"model_sha256", offsetof(store_info, model_sha256), true},
    {"architecture", offsetof(store_info, architecture), true},
    {"tokenizer_sha256", offsetof(store_info, tokenizer_sha256), true},
    {"tool_version", offsetof(store_info, tool_version), false},
    {"command", offsetof(store_info, command), false},
};
enum { N_TEXTS = sizeof texts / sizeof *texts };

static const char **text_of(const store_info *info, int i) { return (const char **)((char *)info + texts[i].offset); }

static int64_t n_chunks_of(int64_t n_rows) { return (n_rows + STORE_CHUNK_ROWS - 1) / STORE_CHUNK_ROWS; }

static int64_t chunk_rows(int64_t n_rows, int64_t chunk) {
    int64_t left = n_rows - chunk * STORE_CHUNK_ROWS;
    return left < STORE_CHUNK_ROWS ? left : STORE_CHUNK_ROWS;
}

/* Rows a chunk has in the file, which stores the last one in full: a dataset of few rows has one smaller chunk. */
static int64_t stored_chunk_rows(int64_t n_rows) { return n_rows < STORE_CHUNK_ROWS ? n_rows : STORE_CHUNK_ROWS; }

static size_t chunk_bytes(const store_info *info, int hook) {
    const store_hook *h = &info->hooks[hook];
    return (size_t)stored_chunk_rows(info->n_rows) * (size_t)h->d_model * dtype_of(h->dtype)->bytes;
}

static void name_in_file(char out[PATH_IN_FILE_MAX], const char *format, const char *hook) {
    snprintf(out, PATH_IN_FILE_MAX, format, hook);
}

static void close_hooks(store *s) {
    for (int i = 0; i < STORE_HOOKS_MAX; i++) {
        h5_rows_close(&s->hooks[i].rows);
        free(s->hooks[i].progress);
        free(s->hooks[i].chunk_at);
        s->hooks[i] = (hook_file){0};
    }
}

/* Frees what belongs to the open file; the store can be opened again. */
static void close_contents(store *s) {
    close_hooks(s);
    h5_close(&s->file, NULL);
    for (int i = 0; s->texts && i < N_TEXTS; i++) free(s->texts[i]);
    free(s->texts);
    s->texts = NULL;
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
    close_contents(s);
    free(s->path);
    free(s);
}

static err_code store_new(const char *path, store **out, err *e) {
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
    err_code rc = h5_get_string(f, f->id, "/", "format", &format, NULL);
    if (rc || strcmp(format, FORMAT) != 0)
        rc = err_set(e, ERR_FORMAT, "%s: expected an activation file (format " FORMAT "), found %s", f->path,
                     format ? "another format" : "an HDF5 file that names no format");
    else if (!(rc = h5_get_int(f, f->id, "/", "version", &version, e)) && version != VERSION)
        rc = err_set(e, ERR_UNSUPPORTED, "%s: expected version %d of the format, found %" PRId64, f->path, VERSION, version);
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

static err_code read_attributes(store *s, err *e) {
    const h5_file *f = &s->file;
    store_info *info = &s->info;
    int64_t bos;
    err_code rc;
    TRY(check_format(f, e));
    TRY(mem_new0(&s->texts, N_TEXTS, sizeof *s->texts, "attributes", e));
    for (int i = 0; i < N_TEXTS; i++) {
        TRY(h5_get_string(f, f->id, "/", texts[i].name, &s->texts[i], e));
        *text_of(info, i) = s->texts[i];
    }
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
    char name[PATH_IN_FILE_MAX];
    uint64_t n = 0;
    name_in_file(name, "/progress/%s", h->name);
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
    hid_t group = H5Gopen2(f->id, group_name, H5P_DEFAULT);
    if (group < 0) return h5_fail(f, e, ERR_FORMAT, "cannot open %s", group_name);
    TRY(h5_get_int(f, group, group_name, "layer", &layer, e));
    TRY(h5_get_int(f, group, group_name, "d_model", &h->d_model, e));
    TRY(h5_get_string(f, group, group_name, "dtype", &dtype_name, e));
    TRY(h5_get_real(f, group, group_name, "mean_norm", &h->mean_norm, e));
    TRY(h5_get_real(f, group, group_name, "rms", &h->rms, e));
    const dtype *t = dtype_named(dtype_name, e);
    if (!t)
        rc = err_prefix(e, ERR_FORMAT, "%s: %s", f->path, group_name);
    else
        h->dtype = t->id;
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
    char name[PATH_IN_FILE_MAX];
    err_code rc;
    name_in_file(name, "/hooks/%s", h->name);
    TRY(read_hook_attributes(f, name, h, e));
    name_in_file(name, "/hooks/%s/activations", h->name);
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

static err_code read_hooks(store *s, err *e) {
    const h5_file *f = &s->file;
    H5G_info_t about;
    err_code rc = ERR_OK;
    hid_t group = H5Lexists(f->id, "/hooks", H5P_DEFAULT) > 0 ? H5Gopen2(f->id, "/hooks", H5P_DEFAULT) : H5I_INVALID_HID;
    if (group < 0) return err_set(e, ERR_FORMAT, "%s: expected a group /hooks, found none", f->path);
    if (H5Gget_info(group, &about) < 0 || about.nlinks < 1 || about.nlinks > STORE_HOOKS_MAX) {
        rc = err_set(e, ERR_FORMAT, "%s: expected 1 to %d hooks", f->path, STORE_HOOKS_MAX);
        goto done;
    }
    H5_index_t order = about.storage_type == H5G_STORAGE_TYPE_SYMBOL_TABLE ? H5_INDEX_NAME : H5_INDEX_CRT_ORDER;
    for (int i = 0; i < (int)about.nlinks; i++) {
        char *name = s->info.hooks[i].name;
        ssize_t n = H5Lget_name_by_idx(group, ".", order, H5_ITER_INC, (hsize_t)i, name, HOOK_NAME_MAX, H5P_DEFAULT);
        if (n < 1 || n >= HOOK_NAME_MAX) {
            rc = err_set(e, ERR_FORMAT, "%s: expected hooks with names of at most %d bytes", f->path, HOOK_NAME_MAX - 1);
            goto done;
        }
        TRY(read_hook(s, i, e));
    }
    s->info.n_hooks = (int)about.nlinks;
done:
    H5Gclose(group);
    return rc;
}

static err_code read_contents(store *s, err *e) {
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
    rc = read_contents(s, e);
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

/* ---- laying a file out ---- */

/* What stands in a new file beside the rows. */
typedef struct contents {
    const store_info *info;
    const token_corpus *k;
    const uint64_t *row_token;
    const tokenizer *t;
} contents;

/* Names of documents are stored at the width of the longest. */
static size_t source_width(const token_corpus *k) {
    size_t width = 1;
    for (int64_t i = 0; i < k->n_docs; i++) width = strlen(k->doc_source[i]) > width ? strlen(k->doc_source[i]) : width;
    return width;
}

static uint64_t bytes_needed(const contents *n) {
    const store_info *info = n->info;
    uint64_t total = 1 << 20; /* headers, attributes, chunk indices of small files */
    for (int i = 0; i < info->n_hooks; i++)
        total += (uint64_t)n_chunks_of(info->n_rows) * (chunk_bytes(info, i) + 128) + 8 * (uint64_t)info->hooks[i].d_model;
    for (int64_t i = 0; i < info->n_vocab; i++) {
        size_t len;
        tokenizer_piece(n->t, (uint32_t)i, &len);
        total += len + sizeof(uint64_t);
    }
    return total + 4 * (uint64_t)info->n_tokens + 8 * (uint64_t)info->n_rows +
           (8 + source_width(n->k)) * (uint64_t)info->n_docs;
}

/* Takes `bytes` bytes of the disk for the file at path. */
static err_code reserve(const char *path, bool create, uint64_t bytes, err *e) {
    int fd = open(path, O_RDWR | O_CLOEXEC | (create ? O_CREAT | O_TRUNC : 0), 0666);
    if (fd < 0) return err_set_errno(e, "%s: cannot create", path);
    int failed = posix_fallocate(fd, 0, (off_t)bytes);
    err_code rc = ERR_OK;
    errno = failed ? failed : 0;
    if (failed) rc = err_set_errno(e, "%s: cannot reserve %" PRIu64 " bytes on disk", path, bytes);
    if (!rc && fsync(fd)) rc = err_set_errno(e, "%s: cannot sync", path);
    close(fd);
    return rc;
}

static err_code put_sources(const h5_file *f, const token_corpus *k, err *e) {
    size_t width = source_width(k);
    char *all = NULL;
    err_code rc = mem_new0(&all, (size_t)k->n_docs, width, "names of documents", e);
    if (rc) return rc;
    for (int64_t i = 0; i < k->n_docs; i++) memcpy(all + (size_t)i * width, k->doc_source[i], strlen(k->doc_source[i]));
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, width);
    H5Tset_strpad(type, H5T_STR_NULLPAD);
    H5Tset_cset(type, H5T_CSET_UTF8);
    rc = h5_put_array(f, "/doc_source", type, (uint64_t)k->n_docs, all, e);
    H5Tclose(type);
    free(all);
    return rc;
}

static err_code put_vocab(const h5_file *f, const contents *n, err *e) {
    uint64_t *offsets = NULL, n_vocab = (uint64_t)n->info->n_vocab;
    strbuf bytes = STRBUF_INIT;
    err_code rc;
    TRY(mem_new(&offsets, n_vocab + 1, sizeof *offsets, "the vocabulary", e));
    offsets[0] = 0;
    for (uint64_t i = 0; i < n_vocab; i++) {
        size_t len;
        const char *piece = tokenizer_piece(n->t, (uint32_t)i, &len);
        strbuf_add(&bytes, piece, len);
        offsets[i + 1] = bytes.len;
    }
    TRY(strbuf_check(&bytes, e));
    TRY(h5_put_array(f, "/vocab/bytes", H5T_STD_U8LE, bytes.len, bytes.data, e));
    TRY(h5_put_array(f, "/vocab/offsets", H5T_STD_U64LE, n_vocab + 1, offsets, e));
done:
    strbuf_release(&bytes);
    free(offsets);
    return rc;
}

static err_code put_attributes(const h5_file *f, const contents *n, err *e) {
    const store_info *info = n->info;
    char hash[17];
    err_code rc;
    snprintf(hash, sizeof hash, "%016" PRIx64, n->k->hash);
    TRY(h5_put_string(f, f->id, "format", FORMAT, e));
    TRY(h5_put_int(f, f->id, "version", VERSION, e));
    for (int i = 0; i < N_TEXTS; i++) {
        const char *text = *text_of(info, i);
        TRY(h5_put_string(f, f->id, texts[i].name, text ? text : "", e));
    }
    TRY(h5_put_int(f, f->id, "context", info->context, e));
    TRY(h5_put_int(f, f->id, "bos", info->bos, e));
    TRY(h5_put_int(f, f->id, "skip_first", info->skip_first, e));
    TRY(h5_put_string(f, f->id, "corpus_hash", hash, e));
done:
    return rc;
}

/* A group whose members are listed as they were made. */
static err_code create_group(const h5_file *f, const char *name, hid_t *out, err *e) {
    hid_t list = H5Pcreate(H5P_GROUP_CREATE);
    H5Pset_link_creation_order(list, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED);
    *out = H5Gcreate2(f->id, name, H5P_DEFAULT, list, H5P_DEFAULT);
    H5Pclose(list);
    return *out < 0 ? h5_fail(f, e, ERR_IO, "cannot create %s", name) : ERR_OK;
}

static err_code create_rows(const h5_file *f, const store_info *info, int i, err *e) {
    const store_hook *h = &info->hooks[i];
    char name[PATH_IN_FILE_MAX];
    hsize_t dims[2] = {(hsize_t)info->n_rows, (hsize_t)h->d_model};
    hsize_t chunk[2] = {(hsize_t)stored_chunk_rows(info->n_rows), (hsize_t)h->d_model};
    name_in_file(name, "/hooks/%s/activations", h->name);
    hid_t space = H5Screate_simple(2, dims, NULL), list = H5Pcreate(H5P_DATASET_CREATE),
          type = h5_type_of(dtype_of(h->dtype));
    H5Pset_chunk(list, 2, chunk);
    H5Pset_alloc_time(list, H5D_ALLOC_TIME_EARLY);
    H5Pset_fill_time(list, H5D_FILL_TIME_NEVER);
    hid_t dataset = H5Dcreate2(f->id, name, type, space, H5P_DEFAULT, list, H5P_DEFAULT);
    err_code rc = dataset < 0 ? h5_fail(f, e, ERR_IO, "cannot create %s", name) : ERR_OK;
    if (dataset >= 0) H5Dclose(dataset);
    H5Tclose(type);
    H5Pclose(list);
    H5Sclose(space);
    return rc;
}

static err_code create_statistics(const h5_file *f, const store_hook *h, err *e) {
    char name[PATH_IN_FILE_MAX];
    float *unknown = NULL;
    err_code rc = mem_new(&unknown, (size_t)h->d_model, sizeof *unknown, "a mean row", e);
    if (rc) return rc;
    for (int64_t j = 0; j < h->d_model; j++) unknown[j] = NAN;
    name_in_file(name, "/hooks/%s/row_mean", h->name);
    rc = h5_put_array(f, name, H5T_IEEE_F32LE, (uint64_t)h->d_model, unknown, e);
    free(unknown);
    return rc;
}

static err_code create_progress(const h5_file *f, const store_info *info, int i, err *e) {
    char name[PATH_IN_FILE_MAX];
    uint8_t *none = NULL;
    int64_t n = n_chunks_of(info->n_rows);
    err_code rc = mem_new0(&none, (size_t)n, 1, "progress", e);
    if (rc) return rc;
    name_in_file(name, "/progress/%s", info->hooks[i].name);
    rc = h5_put_array(f, name, H5T_STD_U8LE, (uint64_t)n, none, e);
    free(none);
    return rc;
}

static err_code create_hook(const h5_file *f, const store_info *info, int i, err *e) {
    const store_hook *h = &info->hooks[i];
    char name[PATH_IN_FILE_MAX];
    hid_t group;
    name_in_file(name, "/hooks/%s", h->name);
    err_code rc = create_group(f, name, &group, e);
    if (rc) return rc;
    TRY(h5_put_string(f, group, "hook_name", h->name, e));
    TRY(h5_put_int(f, group, "layer", h->layer, e));
    TRY(h5_put_int(f, group, "d_model", h->d_model, e));
    TRY(h5_put_string(f, group, "dtype", dtype_of(h->dtype)->name, e));
    TRY(h5_put_real(f, group, "mean_norm", NAN, e));
    TRY(h5_put_real(f, group, "rms", NAN, e));
    TRY(create_rows(f, info, i, e));
    TRY(create_statistics(f, h, e));
    TRY(create_progress(f, info, i, e));
done:
    H5Gclose(group);
    return rc;
}

static err_code write_contents(const char *tmp, const contents *n, err *e) {
    const store_info *info = n->info;
    h5_file f = H5_FILE_INIT;
    hid_t group = H5I_INVALID_HID;
    err_code rc;
    TRY(h5_create(tmp, &f, e));
    TRY(put_attributes(&f, n, e));
    TRY(h5_put_array(&f, "/tokens", H5T_STD_U32LE, (uint64_t)info->n_tokens, n->k->tokens, e));
    TRY(h5_put_array(&f, "/doc_offsets", H5T_STD_U64LE, (uint64_t)info->n_docs + 1, n->k->doc_offsets, e));
    TRY(put_sources(&f, n->k, e));
    TRY(h5_put_array(&f, "/row_token", H5T_STD_U64LE, (uint64_t)info->n_rows, n->row_token, e));
    TRY(put_vocab(&f, n, e));
    TRY(create_group(&f, "/hooks", &group, e));
    H5Gclose(group);
    for (int i = 0; i < info->n_hooks; i++) TRY(create_hook(&f, info, i, e));
done:
    if (rc)
        h5_close(&f, NULL);
    else
        rc = h5_close(&f, e);
    return rc;
}

/* A complete file without rows at `tmp`, all of its space taken. */
static err_code lay_out(const char *tmp, const contents *n, err *e) {
    struct stat st;
    uint64_t bytes = bytes_needed(n);
    err_code rc;
    TRY(file_check_space(tmp, bytes, e));
    TRY(reserve(tmp, true, bytes, e)); /* a full disk is found here, before HDF5 meets it */
    TRY(write_contents(tmp, n, e));
    if (stat(tmp, &st)) {
        rc = err_set_errno(e, "%s: cannot stat", tmp);
        goto done;
    }
    TRY(reserve(tmp, false, (uint64_t)st.st_size, e));
done:
    if (rc) unlink(tmp);
    return rc;
}

/* ---- writing ---- */

/* One writer at a time. HDF5's own locks (flock) are of another kind, so readers are not disturbed; a killed process leaves
 * none. A file system without locks is fine. */
static err_code lock(const store *s, err *e) {
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (!fcntl(s->fd, F_OFD_SETLK, &whole) || (errno != EAGAIN && errno != EACCES)) return ERR_OK;
    return err_set(e, ERR_FAILED, "%s: another capture is writing this file", s->path);
}

static err_code not_ours(const store *s, const char *what, err *e) {
    return err_set(e, ERR_FORMAT, "%s: %s was not laid out by sae capture and cannot be continued", s->path, what);
}

static err_code find_chunks(store *s, int i, err *e) {
    const h5_file *f = &s->file;
    hook_file *h = &s->hooks[i];
    int64_t n = n_chunks_of(s->info.n_rows);
    err_code rc = mem_new0(&h->chunk_at, (size_t)n, sizeof *h->chunk_at, "places of chunks", e);
    hid_t space = H5Dget_space(h->rows.dataset);
    for (int64_t j = 0; j < n && !rc; j++) {
        hsize_t start[2] = {0}, bytes = 0;
        haddr_t at = HADDR_UNDEF;
        if (H5Dget_chunk_info(h->rows.dataset, space, (hsize_t)j, start, NULL, &at, &bytes) < 0)
            rc = h5_fail(f, e, ERR_FORMAT, "cannot find the chunks of %s", s->info.hooks[i].name);
        else if (at == HADDR_UNDEF || bytes != chunk_bytes(&s->info, i) || at > f->size || bytes > f->size - at ||
                 start[0] != (hsize_t)(j * STORE_CHUNK_ROWS))
            rc = not_ours(s, s->info.hooks[i].name, e);
        h->chunk_at[j] = at;
    }
    if (space >= 0) H5Sclose(space);
    return rc;
}

static err_code find_progress(store *s, int i, err *e) {
    const h5_file *f = &s->file;
    char name[PATH_IN_FILE_MAX];
    hid_t dataset;
    uint64_t n;
    name_in_file(name, "/progress/%s", s->info.hooks[i].name);
    err_code rc = h5_open_array(f, name, H5T_INTEGER, &dataset, &n, e);
    if (rc) return rc;
    haddr_t at = H5Dget_offset(dataset);
    H5Dclose(dataset);
    if (at == HADDR_UNDEF || at > f->size || n > f->size - at) return not_ours(s, name, e);
    s->hooks[i].progress_at = at;
    return ERR_OK;
}

/* Turns an open store from reading to writing. */
static err_code begin_writing(store *s, err *e) {
    size_t most = 0;
    err_code rc;
    s->fd = open(s->path, O_RDWR | O_CLOEXEC);
    if (s->fd < 0) return err_set_errno(e, "%s: cannot open for writing", s->path);
    TRY(lock(s, e));
    for (int i = 0; i < s->info.n_hooks; i++) {
        TRY(find_chunks(s, i, e));
        TRY(find_progress(s, i, e));
        most = chunk_bytes(&s->info, i) > most ? chunk_bytes(&s->info, i) : most;
        h5_rows_close(&s->hooks[i].rows);
    }
    TRY(h5_close(&s->file, e));
    TRY(mem_new(&s->scratch, most, 1, "a chunk of rows", e));
done:
    return rc;
}

static err_code differs(const store *s, const char *what, const char *expected, const char *found, err *e) {
    return err_set(
        e, ERR_MISMATCH,
        "%s: holds another capture: expected %s %s, found %s; continue with the same options or give another --out", s->path,
        what, expected, found);
}

static err_code compare_numbers(const store *s, const store_info *wanted, err *e) {
    const struct {
        const char *what;
        int64_t expected, found;
    } numbers[] = {
        {"context", wanted->context, s->info.context},
        {"BOS", wanted->bos, s->info.bos},
        {"skipped first positions", wanted->skip_first, s->info.skip_first},
        {"tokens of the corpus", wanted->n_tokens, s->info.n_tokens},
        {"documents of the corpus", wanted->n_docs, s->info.n_docs},
        {"rows", wanted->n_rows, s->info.n_rows},
        {"number of hooks", wanted->n_hooks, s->info.n_hooks},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char expected[24], found[24];
        if (numbers[i].expected == numbers[i].found) continue;
        snprintf(expected, sizeof expected, "%" PRId64, numbers[i].expected);
        snprintf(found, sizeof found, "%" PRId64, numbers[i].found);
        return differs(s, numbers[i].what, expected, found, e);
    }
    if (wanted->corpus_hash == s->info.corpus_hash) return ERR_OK;
    return err_set(e, ERR_MISMATCH, "%s: holds another capture: its corpus has other texts; give another --out", s->path);
}

/* Names the first difference between what is to be captured and what the file was made for. */
static err_code compare(const store *s, const store_info *wanted, err *e) {
    for (int i = 0; i < N_TEXTS; i++) {
        const char *expected = *text_of(wanted, i), *found = *text_of(&s->info, i);
        if (texts[i].compared && strcmp(expected ? expected : "", found) != 0)
            return differs(s, texts[i].name, expected ? expected : "none", found, e);
    }
    err_code rc = compare_numbers(s, wanted, e);
    for (int i = 0; i < wanted->n_hooks && !rc; i++) {
        const store_hook *a = &wanted->hooks[i], *b = &s->info.hooks[i];
        bool widened = a->dtype == STORE_F16 && b->dtype == STORE_BF16;
        if (strcmp(a->name, b->name) != 0)
            rc = differs(s, "hook", a->name, b->name, e);
        else if (a->d_model != b->d_model)
            rc = err_set(e, ERR_MISMATCH, "%s: %s: expected rows of %" PRId64 " numbers, found %" PRId64, s->path, a->name,
                         a->d_model, b->d_model);
        else if (a->dtype != b->dtype && !widened)
            rc = differs(s, "dtype", dtype_of(a->dtype)->name, dtype_of(b->dtype)->name, e);
    }
    return rc;
}

static store_info complete_info(const store_info *info, const token_corpus *k, int64_t n_rows, const tokenizer *t) {
    store_info all = *info;
    all.n_tokens = k->n_tokens;
    all.n_docs = k->n_docs;
    all.n_rows = n_rows;
    all.n_vocab = tokenizer_size(t);
    all.corpus_hash = k->hash;
    return all;
}

static err_code tmp_of(const char *path, strbuf *out, err *e) {
    strbuf_addf(out, "%s.tmp", path);
    return strbuf_check(out, e);
}

err_code store_create(const char *path, const store_info *info, const token_corpus *k, const uint64_t *row_token,
                      int64_t n_rows, const tokenizer *t, store **out, err *e) {
    store_info wanted = complete_info(info, k, n_rows, t);
    contents all = {&wanted, k, row_token, t};
    store *s = NULL;
    strbuf tmp = STRBUF_INIT;
    err_code rc;
    *out = NULL;
    assert(info->n_hooks > 0 && info->n_hooks <= STORE_HOOKS_MAX && n_rows > 0);
    TRY(store_new(path, &s, e));
    if (!file_exists(path)) {
        TRY(tmp_of(path, &tmp, e));
        TRY(lay_out(tmp.data, &all, e));
        TRY(file_commit(tmp.data, path, e));
    }
    TRY(read_contents(s, e));
    TRY(compare(s, &wanted, e));
    TRY(begin_writing(s, e));
    *out = s;
done:
    strbuf_release(&tmp);
    if (rc) store_close(s);
    return rc;
}

static err_code write_at(const store *s, uint64_t at, const void *bytes, size_t n, err *e) {
    const char *p = bytes;
    while (n) {
        ssize_t done = pwrite(s->fd, p, n, (off_t)at);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return err_set_errno(e, "%s: cannot write", s->path);
        p += done, at += (uint64_t)done, n -= (size_t)done;
    }
    return ERR_OK;
}

static err_code read_at(const store *s, uint64_t at, void *bytes, size_t n, err *e) {
    char *p = bytes;
    while (n) {
        ssize_t done = pread(s->fd, p, n, (off_t)at);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return err_set_errno(e, "%s: cannot read", s->path);
        if (done == 0) return err_set(e, ERR_FORMAT, "%s: was cut short while it was written", s->path);
        p += done, at += (uint64_t)done, n -= (size_t)done;
    }
    return ERR_OK;
}

static err_code sync_data(const store *s, err *e) {
    return fdatasync(s->fd) ? err_set_errno(e, "%s: cannot sync", s->path) : ERR_OK;
}

/* Data first, then the mark that says it is there. */
static err_code put_chunk(store *s, int hook, int64_t chunk, const void *stored, size_t bytes, err *e) {
    hook_file *h = &s->hooks[hook];
    static const uint8_t done_mark = 1;
    err_code rc;
    TRY(write_at(s, h->chunk_at[chunk], stored, bytes, e));
    TRY(sync_data(s, e));
    TRY(write_at(s, h->progress_at + (uint64_t)chunk, &done_mark, 1, e));
    TRY(sync_data(s, e));
    if (!h->progress[chunk]) s->info.hooks[hook].rows_done += chunk_rows(s->info.n_rows, chunk);
    h->progress[chunk] = 1;
done:
    return rc;
}

err_code store_write_chunk(store *s, const ctx *c, int hook, int64_t chunk, const float *x, err *e) {
    const store_hook *h = &s->info.hooks[hook];
    const dtype *t = dtype_of(h->dtype);
    int64_t n = chunk_rows(s->info.n_rows, chunk);
    assert(s->fd >= 0 && n > 0);
    dtype_from_f32(c, t, x, n, h->d_model, s->scratch);
    int64_t bad = dtype_find_not_finite(c, t, s->scratch, n, h->d_model);
    if (bad >= 0)
        return err_set(e, ERR_FORMAT,
                       "%s: row %" PRId64 " of %s holds a number that %s cannot hold, infinite or not a number", s->path,
                       chunk * STORE_CHUNK_ROWS + bad, h->name, t->name);
    return put_chunk(s, hook, chunk, s->scratch, (size_t)n * (size_t)h->d_model * t->bytes, e);
}

/* ---- another dtype for a hook ---- */

static err_code copy_finished(store *from, store *to, int skipped, err *e) {
    err_code rc = ERR_OK;
    for (int i = 0; i < from->info.n_hooks; i++)
        for (int64_t j = 0; i != skipped && j < n_chunks_of(from->info.n_rows) && !rc; j++) {
            if (!from->hooks[i].progress[j]) continue;
            size_t bytes = (size_t)(chunk_rows(from->info.n_rows, j) * from->info.hooks[i].d_model) *
                           dtype_of(from->info.hooks[i].dtype)->bytes;
            TRY(read_at(from, from->hooks[i].chunk_at[j], from->scratch, bytes, e));
            TRY(put_chunk(to, i, j, from->scratch, bytes, e));
        }
done:
    return rc;
}

err_code store_restart_hook(store *s, int hook, store_dtype wanted_dtype, const token_corpus *k, const uint64_t *row_token,
                            const tokenizer *t, err *e) {
    store_info wanted = s->info;
    contents all = {&wanted, k, row_token, t};
    store *fresh = NULL;
    strbuf tmp = STRBUF_INIT;
    err_code rc;
    wanted.hooks[hook].dtype = wanted_dtype;
    TRY(tmp_of(s->path, &tmp, e));
    TRY(lay_out(tmp.data, &all, e));
    TRY(store_new(tmp.data, &fresh, e));
    TRY(read_contents(fresh, e));
    TRY(begin_writing(fresh, e));
    TRY(copy_finished(s, fresh, hook, e));
    TRY(file_commit(tmp.data, s->path, e));
    /* s becomes what fresh is, under its own path */
    close_contents(s);
    char *path = s->path;
    free(fresh->path);
    *s = *fresh;
    s->path = path;
    free(fresh);
    fresh = NULL;
done:
    if (rc && tmp.len) unlink(tmp.data);
    store_close(fresh);
    strbuf_release(&tmp);
    return rc;
}

/* ---- statistics of a complete hook ---- */

typedef struct row_sums {
    double *mean; /* [d] */
    double norms, squares;
} row_sums;

/* Columns and rows are summed in the order of the file, whatever the threads. */
static void add_rows(const ctx *c, const float *x, int64_t n, int64_t d, double *norms /* [n] */, row_sums *sums) {
#pragma omp parallel num_threads(c->threads)
    {
#pragma omp for
        for (int64_t i = 0; i < n; i++) {
            double square = 0;
            for (int64_t j = 0; j < d; j++) square += (double)x[i * d + j] * x[i * d + j];
            norms[i] = square;
        }
#pragma omp for
        for (int64_t block = 0; block < (d + 63) / 64; block++) {
            int64_t end = (block + 1) * 64 < d ? (block + 1) * 64 : d;
            for (int64_t i = 0; i < n; i++)
                for (int64_t j = block * 64; j < end; j++) sums->mean[j] += x[i * d + j];
        }
    }
    for (int64_t i = 0; i < n; i++) {
        sums->norms += sqrt(norms[i]);
        sums->squares += norms[i];
    }
}

static err_code sum_rows(store *s, const ctx *c, int hook, row_sums *sums, err *e) {
    const store_hook *h = &s->info.hooks[hook];
    const dtype *t = dtype_of(h->dtype);
    float *x = NULL;
    double *norms = NULL;
    err_code rc;
    TRY(mem_new(&x, (size_t)stored_chunk_rows(s->info.n_rows), (size_t)h->d_model * sizeof *x, "a chunk of rows", e));
    TRY(mem_new(&norms, STORE_CHUNK_ROWS, sizeof *norms, "norms of rows", e));
    for (int64_t j = 0; j < n_chunks_of(s->info.n_rows); j++) {
        int64_t n = chunk_rows(s->info.n_rows, j);
        TRY(ctx_check_cancel(c, e));
        TRY(read_at(s, s->hooks[hook].chunk_at[j], s->scratch, (size_t)(n * h->d_model) * t->bytes, e));
        dtype_to_f32(c, t, s->scratch, NULL, n, h->d_model, x);
        add_rows(c, x, n, h->d_model, norms, sums);
    }
done:
    free(x);
    free(norms);
    return rc;
}

static err_code put_statistics(store *s, int hook, const row_sums *sums, float *mean, err *e) {
    store_hook *h = &s->info.hooks[hook];
    h5_file f = H5_FILE_INIT;
    hid_t group = H5I_INVALID_HID, dataset = H5I_INVALID_HID;
    char name[PATH_IN_FILE_MAX];
    uint64_t n;
    err_code rc;
    double n_rows = (double)s->info.n_rows, mean_norm = sums->norms / n_rows;
    double rms = sqrt(sums->squares / n_rows / (double)h->d_model);
    for (int64_t j = 0; j < h->d_model; j++) mean[j] = (float)(sums->mean[j] / n_rows);
    TRY(h5_open(s->path, true, &f, e));
    name_in_file(name, "/hooks/%s/row_mean", h->name);
    TRY(h5_open_array(&f, name, H5T_FLOAT, &dataset, &n, e));
    if ((int64_t)n != h->d_model || H5Dwrite(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, mean) < 0) {
        rc = h5_fail(&f, e, ERR_FORMAT, "cannot write %s", name);
        goto done;
    }
    name_in_file(name, "/hooks/%s", h->name);
    if ((group = H5Gopen2(f.id, name, H5P_DEFAULT)) < 0) {
        rc = h5_fail(&f, e, ERR_FORMAT, "cannot open %s", name);
        goto done;
    }
    TRY(h5_put_real(&f, group, "rms", rms, e));
    TRY(h5_put_real(&f, group, "mean_norm", mean_norm, e));
    H5Gclose(group); /* before the file: strong closing ends it otherwise */
    group = H5I_INVALID_HID;
    H5Dclose(dataset);
    dataset = H5I_INVALID_HID;
    TRY(h5_close(&f, e));
    TRY(sync_data(s, e));
    h->mean_norm = mean_norm;
    h->rms = rms;
done:
    if (group >= 0) H5Gclose(group);
    if (dataset >= 0) H5Dclose(dataset);
    h5_close(&f, NULL);
    return rc;
}

err_code store_finish_hook(store *s, const ctx *c, int hook, err *e) {
    const store_hook *h = &s->info.hooks[hook];
    row_sums sums = {0};
    float *mean = NULL;
    err_code rc;
    assert(s->fd >= 0 && h->rows_done == s->info.n_rows);
    TRY(mem_new0(&sums.mean, (size_t)h->d_model, sizeof *sums.mean, "a mean row", e));
    TRY(mem_new(&mean, (size_t)h->d_model, sizeof *mean, "a mean row", e));
    TRY(sum_rows(s, c, hook, &sums, e));
    TRY(put_statistics(s, hook, &sums, mean, e));
done:
    free(sums.mean);
    free(mean);
    return rc;
}
