/* store_write.c — chunks to their place in an activation file, synced, then marked; statistics of a complete hook. */
#define _GNU_SOURCE /* F_OFD_SETLK */
#include "activations/store_internal.h"

#include "core/file.h"
#include "core/mem.h"
#include "core/strbuf.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- opening ---- */

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
    char name[STORE_PATH_MAX];
    hid_t dataset;
    uint64_t n;
    name_in_file(name, "/progress/", s->info.hooks[i].name, "");
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
    for (int i = 0; i < STORE_TEXTS; i++) {
        const char *expected = *text_of(wanted, i), *found = *text_of(&s->info, i);
        if (store_texts[i].compared && strcmp(expected ? expected : "", found) != 0)
            return differs(s, store_texts[i].name, expected ? expected : "none", found, e);
    }
    if (wanted->precision != s->info.precision)
        return differs(s, "precision", model_precision_names[wanted->precision], model_precision_names[s->info.precision], e);
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
    store_contents all = {&wanted, k, row_token, t};
    store *s = NULL;
    strbuf tmp = STRBUF_INIT;
    err_code rc;
    *out = NULL;
    assert(info->n_hooks > 0 && info->n_hooks <= STORE_HOOKS_MAX && n_rows > 0);
    TRY(store_new(path, &s, e));
    if (!file_exists(path)) {
        TRY(tmp_of(path, &tmp, e));
        TRY(store_lay_out(tmp.data, &all, e));
        TRY(file_commit(tmp.data, path, e));
    }
    TRY(store_read_contents(s, e));
    TRY(compare(s, &wanted, e));
    TRY(begin_writing(s, e));
    *out = s;
done:
    strbuf_release(&tmp);
    if (rc) store_close(s);
    return rc;
}

/* ---- chunks ---- */

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
    store_contents all = {&wanted, k, row_token, t};
    store *fresh = NULL;
    strbuf tmp = STRBUF_INIT;
    err_code rc;
    wanted.hooks[hook].dtype = wanted_dtype;
    TRY(tmp_of(s->path, &tmp, e));
    TRY(store_lay_out(tmp.data, &all, e));
    TRY(store_new(tmp.data, &fresh, e));
    TRY(store_read_contents(fresh, e));
    TRY(begin_writing(fresh, e));
    TRY(copy_finished(s, fresh, hook, e));
    TRY(file_commit(tmp.data, s->path, e));
    /* s becomes what fresh is, under its own path */
    store_close_contents(s);
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
    double *mean;   /* [d] */
    float *lengths; /* [n_rows] */
    double norms, squares;
} row_sums;

/* Columns and rows are summed in the order of the file, whatever the threads. */
static void add_rows(const ctx *c, const float *x, int64_t n, int64_t d, double *squares /* [n] scratch */, float *lengths,
                     row_sums *sums) {
#pragma omp parallel num_threads(c->threads)
    {
#pragma omp for
        for (int64_t i = 0; i < n; i++) {
            double square = 0;
            for (int64_t j = 0; j < d; j++) square += (double)x[i * d + j] * x[i * d + j];
            squares[i] = square;
        }
#pragma omp for
        for (int64_t block = 0; block < (d + 63) / 64; block++) {
            int64_t end = (block + 1) * 64 < d ? (block + 1) * 64 : d;
            for (int64_t i = 0; i < n; i++)
                for (int64_t j = block * 64; j < end; j++) sums->mean[j] += x[i * d + j];
        }
    }
    for (int64_t i = 0; i < n; i++) {
        double norm = sqrt(squares[i]);
        lengths[i] = (float)norm;
        sums->norms += norm;
        sums->squares += squares[i];
    }
}

static err_code sum_rows(store *s, const ctx *c, int hook, row_sums *sums, err *e) {
    const store_hook *h = &s->info.hooks[hook];
    const dtype *t = dtype_of(h->dtype);
    float *x = NULL;
    double *squares = NULL;
    err_code rc;
    TRY(mem_new(&x, (size_t)stored_chunk_rows(s->info.n_rows), (size_t)h->d_model * sizeof *x, "a chunk of rows", e));
    TRY(mem_new(&squares, STORE_CHUNK_ROWS, sizeof *squares, "lengths of rows", e));
    for (int64_t j = 0; j < n_chunks_of(s->info.n_rows); j++) {
        int64_t n = chunk_rows(s->info.n_rows, j);
        TRY(ctx_check_cancel(c, e));
        TRY(read_at(s, s->hooks[hook].chunk_at[j], s->scratch, (size_t)(n * h->d_model) * t->bytes, e));
        dtype_to_f32(c, t, s->scratch, NULL, n, h->d_model, x);
        add_rows(c, x, n, h->d_model, squares, sums->lengths + j * STORE_CHUNK_ROWS, sums);
    }
done:
    free(x);
    free(squares);
    return rc;
}

static int by_length(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

err_code store_longest_used(const float *lengths, int64_t n, double *out, err *e) {
    float *sorted = NULL;
    err_code rc = mem_new(&sorted, (size_t)n, sizeof *sorted, "lengths of rows", e);
    if (rc) return rc;
    memcpy(sorted, lengths, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, by_length);
    *out = STORE_LONG * (double)sorted[n / 2];
    free(sorted);
    return ERR_OK;
}

/* Fills a dataset of the hook that was created with the file. */
static err_code fill_array(const h5_file *f, const char *hook, const char *dataset_name, const float *values, int64_t n,
                           err *e) {
    char name[STORE_PATH_MAX];
    uint64_t found;
    hid_t dataset;
    name_in_file(name, "/hooks/", hook, dataset_name);
    err_code rc = h5_open_array(f, name, H5T_FLOAT, &dataset, &found, e);
    if (rc) return rc;
    if ((int64_t)found != n || H5Dwrite(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0)
        rc = h5_fail(f, e, ERR_FORMAT, "cannot write %s", name);
    H5Dclose(dataset); /* before the file: strong closing ends it otherwise */
    return rc;
}

static err_code put_numbers(const h5_file *f, const store_hook *h, err *e) {
    char name[STORE_PATH_MAX];
    name_in_file(name, "/hooks/", h->name, "");
    hid_t group = H5Gopen2(f->id, name, H5P_DEFAULT);
    if (group < 0) return h5_fail(f, e, ERR_FORMAT, "cannot open %s", name);
    err_code rc = h5_put_real(f, group, "max_norm", h->max_norm, e);
    if (!rc) rc = h5_put_real(f, group, "rms", h->rms, e);
    if (!rc) rc = h5_put_real(f, group, "mean_norm", h->mean_norm, e); /* last: it says that all are there */
    H5Gclose(group);
    return rc;
}

static err_code put_statistics(store *s, int hook, const row_sums *sums, float *mean, err *e) {
    store_hook h = s->info.hooks[hook];
    h5_file f = H5_FILE_INIT;
    int64_t n_rows = s->info.n_rows;
    err_code rc;
    for (int64_t j = 0; j < h.d_model; j++) mean[j] = (float)(sums->mean[j] / (double)n_rows);
    h.mean_norm = sums->norms / (double)n_rows;
    h.rms = sqrt(sums->squares / (double)n_rows / (double)h.d_model);
    h.max_norm = INFINITY;
    if (s->info.skip_first > 0) TRY(store_longest_used(sums->lengths, n_rows, &h.max_norm, e));
    TRY(h5_open(s->path, true, &f, e));
    TRY(fill_array(&f, h.name, "/row_mean", mean, h.d_model, e));
    TRY(fill_array(&f, h.name, "/row_norm", sums->lengths, n_rows, e));
    TRY(put_numbers(&f, &h, e));
    TRY(h5_close(&f, e));
    TRY(sync_data(s, e));
    s->info.hooks[hook] = h;
done:
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
    TRY(mem_new(&sums.lengths, (size_t)s->info.n_rows, sizeof *sums.lengths, "lengths of rows", e));
    TRY(mem_new(&mean, (size_t)h->d_model, sizeof *mean, "a mean row", e));
    TRY(sum_rows(s, c, hook, &sums, e));
    TRY(put_statistics(s, hook, &sums, mean, e));
done:
    free(sums.mean);
    free(sums.lengths);
    free(mean);
    return rc;
}
