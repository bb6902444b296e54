/* store_layout.c — a new activation file: the corpus written, the rows' space taken, nothing that has to grow later. */
#include "activations/store_internal.h"

#include "core/file.h"
#include "core/mem.h"
#include "core/strbuf.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Names of documents are stored at the width of the longest. */
static size_t source_width(const token_corpus *k) {
    size_t width = 1;
    for (int64_t i = 0; i < k->n_docs; i++) width = strlen(k->doc_source[i]) > width ? strlen(k->doc_source[i]) : width;
    return width;
}

static uint64_t bytes_needed(const store_contents *n) {
    const store_info *info = n->info;
    uint64_t total = 1 << 20; /* headers, attributes, chunk indices of small files */
    for (int i = 0; i < info->n_hooks; i++)
        total += (uint64_t)n_chunks_of(info->n_rows) * (chunk_bytes(info, i) + 128) + 12 * (uint64_t)info->hooks[i].d_model;
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

static err_code put_vocab(const h5_file *f, const store_contents *n, err *e) {
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

static err_code put_attributes(const h5_file *f, const store_contents *n, err *e) {
    const store_info *info = n->info;
    char hash[17];
    err_code rc;
    snprintf(hash, sizeof hash, "%016" PRIx64, n->k->hash);
    TRY(h5_put_string(f, f->id, "format", STORE_FORMAT, e));
    TRY(h5_put_int(f, f->id, "version", STORE_VERSION, e));
    for (int i = 0; i < STORE_TEXTS; i++) {
        const char *text = *text_of(info, i);
        TRY(h5_put_string(f, f->id, store_texts[i].name, text ? text : "", e));
    }
    if (info->precision != MODEL_F32) TRY(h5_put_string(f, f->id, "precision", model_precision_names[info->precision], e));
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
    char name[STORE_PATH_MAX];
    hsize_t dims[2] = {(hsize_t)info->n_rows, (hsize_t)h->d_model};
    hsize_t chunk[2] = {(hsize_t)stored_chunk_rows(info->n_rows), (hsize_t)h->d_model};
    name_in_file(name, "/hooks/", h->name, "/activations");
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

/* Beside the rows: the mean row and the rows' lengths, unknown as yet, and the numbers of its columns, a scale as /row_token is one of the rows. */
static err_code create_columns(const h5_file *f, const store_hook *h, int64_t n_rows, err *e) {
    char rows[STORE_PATH_MAX], name[STORE_PATH_MAX];
    float *unknown = NULL;
    uint32_t *column = NULL;
    err_code rc;
    int64_t n_unknown = h->d_model > n_rows ? h->d_model : n_rows;
    TRY(mem_new(&unknown, (size_t)n_unknown, sizeof *unknown, "lengths of rows", e));
    TRY(mem_new(&column, (size_t)h->d_model, sizeof *column, "numbers of columns", e));
    for (int64_t i = 0; i < n_unknown; i++) unknown[i] = NAN;
    for (int64_t j = 0; j < h->d_model; j++) column[j] = (uint32_t)j;
    name_in_file(name, "/hooks/", h->name, "/row_mean");
    TRY(h5_put_array(f, name, H5T_IEEE_F32LE, (uint64_t)h->d_model, unknown, e));
    name_in_file(name, "/hooks/", h->name, "/row_norm");
    TRY(h5_put_array(f, name, H5T_IEEE_F32LE, (uint64_t)n_rows, unknown, e));
    name_in_file(name, "/hooks/", h->name, "/d_model");
    TRY(h5_put_array(f, name, H5T_STD_U32LE, (uint64_t)h->d_model, column, e));
    name_in_file(rows, "/hooks/", h->name, "/activations");
    TRY(h5_put_scale(f, rows, 0, "/row_token", "row", e));
    TRY(h5_put_scale(f, rows, 1, name, "d_model", e));
done:
    free(unknown);
    free(column);
    return rc;
}

static err_code create_progress(const h5_file *f, const store_info *info, int i, err *e) {
    char name[STORE_PATH_MAX];
    uint8_t *none = NULL;
    int64_t n = n_chunks_of(info->n_rows);
    err_code rc = mem_new0(&none, (size_t)n, 1, "progress", e);
    if (rc) return rc;
    name_in_file(name, "/progress/", info->hooks[i].name, "");
    rc = h5_put_array(f, name, H5T_STD_U8LE, (uint64_t)n, none, e);
    free(none);
    return rc;
}

static err_code create_hook(const h5_file *f, const store_info *info, int i, err *e) {
    const store_hook *h = &info->hooks[i];
    char name[STORE_PATH_MAX];
    hid_t group;
    name_in_file(name, "/hooks/", h->name, "");
    err_code rc = create_group(f, name, &group, e);
    if (rc) return rc;
    TRY(h5_put_string(f, group, "hook_name", h->name, e));
    TRY(h5_put_int(f, group, "layer", h->layer, e));
    TRY(h5_put_int(f, group, "d_model", h->d_model, e));
    TRY(h5_put_string(f, group, "dtype", dtype_of(h->dtype)->name, e));
    TRY(h5_put_real(f, group, "mean_norm", NAN, e));
    TRY(h5_put_real(f, group, "rms", NAN, e));
    TRY(h5_put_real(f, group, "max_norm", NAN, e));
    if (info->precision != MODEL_F32) {
        TRY(h5_put_real(f, group, "deviation_mean", h->deviation.mean, e));
        TRY(h5_put_real(f, group, "deviation_max", h->deviation.max, e));
    }
    TRY(create_rows(f, info, i, e));
    TRY(create_columns(f, h, info->n_rows, e));
    TRY(create_progress(f, info, i, e));
done:
    H5Gclose(group);
    return rc;
}

static err_code write_contents(const char *tmp, const store_contents *n, err *e) {
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

err_code store_lay_out(const char *tmp, const store_contents *n, err *e) {
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
