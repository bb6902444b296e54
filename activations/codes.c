/* codes.c — two growing datasets of codes, one of row pointers whose length is known, appended to as rows come. */
#include "activations/codes.h"

#include "activations/h5.h"
#include "core/file.h"
#include "core/mem.h"
#include "core/strbuf.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { VERSION = 1, CHUNK_VALUES = 1 << 16 };
#define FORMAT "sae.codes"

struct codes_writer {
    h5_file file; /* "<path>.tmp" until finished */
    char *path;
    hid_t indptr, indices, values;
    h5_rows reconstruction; /* zero: none */
    int64_t n_rows, rows_done, nnz;
    bool finished;
};

/* ---- writing ---- */

static err_code create_list(codes_writer *w, const char *name, hid_t type, bool growing, hsize_t n, hid_t *out, err *e) {
    hsize_t most = growing ? H5S_UNLIMITED : n, chunk = CHUNK_VALUES;
    hid_t space = H5Screate_simple(1, &n, &most), list = H5Pcreate(H5P_DATASET_CREATE), groups = H5Pcreate(H5P_LINK_CREATE);
    if (growing) H5Pset_chunk(list, 1, &chunk);
    H5Pset_fill_time(list, H5D_FILL_TIME_NEVER);
    H5Pset_create_intermediate_group(groups, 1);
    *out = H5Dcreate2(w->file.id, name, type, space, groups, list, H5P_DEFAULT);
    err_code rc = *out < 0 ? h5_fail(&w->file, e, ERR_IO, "cannot create %s", name) : ERR_OK;
    H5Pclose(groups);
    H5Pclose(list);
    H5Sclose(space);
    return rc;
}

static err_code create_reconstruction(codes_writer *w, int64_t n, int64_t d, err *e) {
    hsize_t dims[2] = {(hsize_t)n, (hsize_t)d};
    hid_t space = H5Screate_simple(2, dims, NULL);
    hid_t dataset = H5Dcreate2(w->file.id, "/reconstruction", H5T_IEEE_F32LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    err_code rc = dataset < 0 ? h5_fail(&w->file, e, ERR_IO, "cannot create /reconstruction") : ERR_OK;
    w->reconstruction = (h5_rows){dataset, H5Tcopy(H5T_NATIVE_FLOAT), n, d, dtype_of(STORE_F32)};
    H5Sclose(space);
    return rc;
}

/* Writes values [first, first + n) of a list, which grows to hold them. */
static err_code put(codes_writer *w, hid_t list, bool growing, hid_t type, int64_t first, int64_t n, const void *values,
                    err *e) {
    hsize_t start = (hsize_t)first, count = (hsize_t)n, end = start + count;
    if (!n) return ERR_OK;
    if (growing && H5Dset_extent(list, &end) < 0) return h5_fail(&w->file, e, ERR_IO, "cannot grow the codes");
    err_code rc = ERR_OK;
    hid_t there = H5Dget_space(list), here = H5Screate_simple(1, &count, NULL);
    H5Sselect_hyperslab(there, H5S_SELECT_SET, &start, NULL, &count, NULL);
    if (H5Dwrite(list, type, here, there, H5P_DEFAULT, values) < 0)
        rc = h5_fail(&w->file, e, ERR_IO, "cannot write the codes");
    H5Sclose(here);
    H5Sclose(there);
    return rc;
}

static err_code describe(codes_writer *w, const codes_info *info, err *e) {
    const h5_file *f = &w->file;
    err_code rc;
    TRY(h5_put_string(f, f->id, "format", FORMAT, e));
    TRY(h5_put_int(f, f->id, "version", VERSION, e));
    TRY(h5_put_string(f, f->id, "sae_sha256", info->sae_sha256 ? info->sae_sha256 : "", e));
    TRY(h5_put_string(f, f->id, "hook_name", info->hook_name ? info->hook_name : "", e));
    TRY(h5_put_int(f, f->id, "d_sae", info->d_sae, e));
    TRY(h5_put_int(f, f->id, "n_rows", info->n_rows, e));
    TRY(h5_put_string(f, f->id, "tool_version", SAE_VERSION, e));
done:
    return rc;
}

err_code codes_create(const char *path, const codes_info *info, codes_writer **out, err *e) {
    codes_writer *w = NULL;
    strbuf tmp = STRBUF_INIT;
    uint64_t first = 0;
    *out = NULL;
    err_code rc = mem_new0(&w, 1, sizeof *w, "a writer of codes", e);
    if (rc) return rc;
    w->file = H5_FILE_INIT;
    w->n_rows = info->n_rows;
    if (!(w->path = strdup(path))) {
        rc = err_nomem(e, "path", strlen(path));
        goto done;
    }
    strbuf_addf(&tmp, "%s.tmp", path);
    TRY(strbuf_check(&tmp, e));
    TRY(h5_create(tmp.data, &w->file, e));
    TRY(describe(w, info, e));
    TRY(create_list(w, "/latents/indptr", H5T_STD_U64LE, false, (hsize_t)info->n_rows + 1, &w->indptr, e));
    TRY(create_list(w, "/latents/indices", H5T_STD_U32LE, true, 0, &w->indices, e));
    TRY(create_list(w, "/latents/values", H5T_IEEE_F32LE, true, 0, &w->values, e));
    if (info->d_out) TRY(create_reconstruction(w, info->n_rows, info->d_out, e));
    TRY(put(w, w->indptr, false, H5T_NATIVE_UINT64, 0, 1, &first, e));
    *out = w;
done:
    strbuf_release(&tmp);
    if (rc) codes_abandon(w);
    return rc;
}

err_code codes_append(codes_writer *w, int64_t n, const int64_t *indptr, const uint32_t *indices, const float *values,
                      const float *reconstruction, err *e) {
    int64_t *ends = NULL, nnz = n ? indptr[n] : 0;
    err_code rc;
    if (n > w->n_rows - w->rows_done)
        return err_set(e, ERR_FAILED, "%s: expected codes of %lld rows, got more", w->path, (long long)w->n_rows);
    TRY(mem_new(&ends, (size_t)n, sizeof *ends, "codes", e));
    for (int64_t i = 0; i < n; i++) ends[i] = w->nnz + indptr[i + 1];
    TRY(put(w, w->indptr, false, H5T_NATIVE_INT64, w->rows_done + 1, n, ends, e));
    TRY(put(w, w->indices, true, H5T_NATIVE_UINT32, w->nnz, nnz, indices, e));
    TRY(put(w, w->values, true, H5T_NATIVE_FLOAT, w->nnz, nnz, values, e));
    if (reconstruction) TRY(h5_rows_write(&w->file, &w->reconstruction, w->rows_done, n, reconstruction, e));
    w->rows_done += n;
    w->nnz += nnz;
done:
    free(ends);
    return rc;
}

err_code codes_finish(codes_writer *w, err *e) {
    char *tmp = NULL;
    err_code rc;
    if (w->rows_done != w->n_rows)
        return err_set(e, ERR_FAILED, "%s: expected codes of %lld rows, got %lld", w->path, (long long)w->n_rows,
                       (long long)w->rows_done);
    if (!(tmp = strdup(w->file.path))) return err_nomem(e, "path", strlen(w->path));
    h5_rows_close(&w->reconstruction);
    TRY(h5_close(&w->file, e));
    TRY(file_commit(tmp, w->path, e));
    w->finished = true;
done:
    if (rc) unlink(tmp);
    free(tmp);
    return rc;
}

void codes_abandon(codes_writer *w) {
    if (!w) return;
    h5_rows_close(&w->reconstruction);
    if (w->file.id >= 0) {
        char *tmp = strdup(w->file.path);
        h5_close(&w->file, NULL);
        if (tmp) unlink(tmp);
        free(tmp);
    }
    free(w->path);
    free(w);
}

/* ---- reading ---- */

static err_code check_format(const h5_file *f, err *e) {
    char *format = NULL;
    int64_t version = 0;
    err_code rc = h5_get_string(f, f->id, "/", "format", &format, e);
    if (rc && rc != ERR_FORMAT) return rc;
    if (rc || strcmp(format, FORMAT) != 0)
        rc = err_set(e, ERR_FORMAT, "%s: expected a file of codes (format " FORMAT "), found %s", f->path,
                     format ? format : "none");
    else if (!(rc = h5_get_int(f, f->id, "/", "version", &version, e)) && version != VERSION)
        rc = err_set(e, ERR_UNSUPPORTED, "%s: expected version %d of the format, found %lld", f->path, VERSION,
                     (long long)version);
    free(format);
    return rc;
}

static err_code read_name(const h5_file *f, const char *name, char *out, size_t size, err *e) {
    char *text;
    err_code rc = h5_get_string(f, f->id, "/", name, &text, e);
    if (rc) return rc;
    if (strlen(text) < size)
        memcpy(out, text, strlen(text) + 1);
    else
        rc = err_set(e, ERR_FORMAT, "%s: attribute %s: expected fewer than %zu bytes", f->path, name, size);
    free(text);
    return rc;
}

/* Ends ascend from 0 to nnz; latents of a row ascend and exist. */
static err_code check_codes(const h5_file *f, const codes *k, uint64_t n_ends, uint64_t n_indices, uint64_t n_values,
                            err *e) {
    if (k->d_sae < 1 || k->n_rows < 0 || n_ends != (uint64_t)k->n_rows + 1 || n_indices != n_values || k->indptr[0] != 0 ||
        (uint64_t)k->indptr[k->n_rows] != n_values)
        return err_set(e, ERR_FORMAT, "%s: its lists of codes contradict each other", f->path);
    for (int64_t r = 0; r < k->n_rows; r++)
        if (k->indptr[r] > k->indptr[r + 1] || (uint64_t)k->indptr[r + 1] > n_values)
            return err_set(e, ERR_FORMAT, "%s: /latents/indptr: row %lld ends before it begins", f->path, (long long)r);
    for (int64_t r = 0; r < k->n_rows; r++)
        for (int64_t j = k->indptr[r]; j < k->indptr[r + 1]; j++)
            if (k->indices[j] >= k->d_sae || (j > k->indptr[r] && k->indices[j] <= k->indices[j - 1]))
                return err_set(e, ERR_FORMAT,
                               "%s: /latents/indices: row %lld: expected ascending latents below %lld, found %u", f->path,
                               (long long)r, (long long)k->d_sae, k->indices[j]);
    return ERR_OK;
}

err_code codes_read(const char *path, codes *out, err *e) {
    h5_file f = H5_FILE_INIT;
    uint64_t n_ends = 0, n_indices = 0, n_values = 0;
    err_code rc;
    *out = (codes){0};
    TRY(h5_open(path, false, &f, e));
    TRY(check_format(&f, e));
    TRY(read_name(&f, "sae_sha256", out->sae_sha256, sizeof out->sae_sha256, e));
    TRY(read_name(&f, "hook_name", out->hook_name, sizeof out->hook_name, e));
    TRY(h5_get_int(&f, f.id, "/", "d_sae", &out->d_sae, e));
    TRY(h5_get_int(&f, f.id, "/", "n_rows", &out->n_rows, e));
    TRY(h5_get_array(&f, "/latents/indptr", H5T_INTEGER, H5T_NATIVE_INT64, sizeof *out->indptr, &out->indptr, &n_ends, e));
    TRY(h5_get_array(&f, "/latents/indices", H5T_INTEGER, H5T_NATIVE_UINT32, sizeof *out->indices, &out->indices, &n_indices,
                     e));
    TRY(h5_get_array(&f, "/latents/values", H5T_FLOAT, H5T_NATIVE_FLOAT, sizeof *out->values, &out->values, &n_values, e));
    TRY(check_codes(&f, out, n_ends, n_indices, n_values, e));
done:
    h5_close(&f, NULL);
    if (rc) codes_release(out);
    return rc;
}

void codes_release(codes *k) {
    free(k->indptr);
    free(k->indices);
    free(k->values);
    *k = (codes){0};
}
