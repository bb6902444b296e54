#include "activations/matrix.h"

#include "activations/h5.h"
#include "core/mem.h"
#include "core/strbuf.h"
#include "formats/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { READ_ROWS = 4096 };

struct matrix {
    h5_file file;
    h5_rows rows;
    weights *npy; /* a .npy file in place of both, with the only tensor it has */
    const tensor_view *array;
    matrix_info info;
    char *dataset;
};

/* ---- which dataset ---- */

typedef struct candidates {
    strbuf names;
    char *last;
    int n;
} candidates;

static herr_t visit(hid_t root, const char *name, const H5O_info_t *info, void *arg) {
    candidates *found = arg;
    if (info->type != H5O_TYPE_DATASET) return 0;
    hid_t dataset = H5Dopen2(root, name, H5P_DEFAULT);
    if (dataset >= 0 && h5_is_rows(dataset)) {
        strbuf_addf(&found->names, "%s/%.100s", found->n ? ", " : "", name);
        free(found->last);
        found->last = strdup(name);
        found->n++;
    }
    if (dataset >= 0) H5Dclose(dataset);
    return found->n > 16; /* enough for a message */
}

static err_code only_dataset(const h5_file *f, char **out, err *e) {
    candidates found = {.names = STRBUF_INIT};
    err_code rc = ERR_OK;
    if (H5Ovisit2(f->id, H5_INDEX_NAME, H5_ITER_INC, visit, &found, H5O_INFO_BASIC) < 0)
        rc = h5_fail(f, e, ERR_FORMAT, "cannot list its datasets");
    else if (found.n == 0)
        rc = err_set(e, ERR_FORMAT, "%s: expected a dataset of rows [n, d], found none", f->path);
    else if (found.n > 1)
        rc = err_set(e, ERR_USAGE, "%s: holds several datasets, say which one: %s", f->path, found.names.data);
    else if (found.last) {
        *out = found.last;
        found.last = NULL;
    } else
        rc = err_nomem(e, "the name of a dataset", 0);
    free(found.last);
    strbuf_release(&found.names);
    return rc;
}

static err_code name_dataset(const h5_file *f, const char *given, char **out, err *e) {
    if (!given || !given[0]) return only_dataset(f, out, e);
    strbuf hook = STRBUF_INIT;
    strbuf_addf(&hook, "/hooks/%s", given);
    err_code rc = strbuf_check(&hook, e);
    bool is_hook = !rc && given[0] != '/' && h5_type_at(f, hook.data) == H5O_TYPE_GROUP;
    if (is_hook) strbuf_add_str(&hook, "/activations");
    if (!rc && !(*out = strdup(is_hook ? hook.data : given))) rc = err_nomem(e, "the name of a dataset", strlen(given));
    strbuf_release(&hook);
    return rc;
}

/* ---- .npy ---- */

static bool is_npy(const char *path) {
    char head[6] = {0};
    FILE *f = fopen(path, "rb");
    bool is = f && fread(head, 1, sizeof head, f) == sizeof head && !memcmp(head, "\x93NUMPY", sizeof head);
    if (f) fclose(f);
    return is;
}

/* float64 is read as float32, as from HDF5. */
static const dtype *type_of_array(const tensor_view *t) {
    static const struct {
        const char *name;
        store_dtype type;
    } types[] = {{"F16", STORE_F16}, {"F32", STORE_F32}, {"F64", STORE_F32}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(t->type->name, types[i].name)) return dtype_of(types[i].type);
    return NULL;
}

static err_code open_npy(matrix *m, const char *path, const char *dataset, err *e) {
    if (dataset && dataset[0]) return err_set(e, ERR_USAGE, "%s: a .npy has no datasets to choose from", path);
    err_code rc = weights_open(path, &m->npy, e);
    if (rc) return rc;
    m->array = weights_tensor_at(m->npy, 0);
    m->info = (matrix_info){.path = weights_path(m->npy), .dataset = "array", .type = type_of_array(m->array), .d = 1};
    if (!m->info.type)
        return err_set(e, ERR_FORMAT, "%s: expected float16, float32 or float64, found %s", path, m->array->type->name);
    for (int i = 1; i < m->array->n_dims; i++) m->info.d *= m->array->shape[i];
    if (m->array->n_dims < 2 || m->info.d < 1)
        return err_set(e, ERR_FORMAT, "%s: expected rows [n, d], found %d dimensions, %lld values a row", path,
                       m->array->n_dims, (long long)m->info.d);
    m->info.n_rows = m->array->shape[0];
    return ERR_OK;
}

static void read_npy(const matrix *m, int64_t first, int64_t n, void *x) {
    const quant_type *t = m->array->type;
    const char *from = (const char *)m->array->data + (size_t)(first * m->info.d) * t->block_bytes;
    if (t->block_bytes == m->info.type->bytes)
        memcpy(x, from, (size_t)(n * m->info.d) * t->block_bytes);
    else
        t->dequantize(from, n * m->info.d, x);
}

/* ---- the matrix ---- */

err_code matrix_open(const char *path, const char *dataset, matrix **out, err *e) {
    matrix *m = NULL;
    *out = NULL;
    err_code rc = mem_new0(&m, 1, sizeof *m, "a matrix", e);
    if (rc) return rc;
    m->file = H5_FILE_INIT;
    if (is_npy(path)) {
        TRY(open_npy(m, path, dataset, e));
        *out = m;
        goto done;
    }
    TRY(h5_open(path, false, &m->file, e));
    TRY(name_dataset(&m->file, dataset, &m->dataset, e));
    TRY(h5_rows_open(&m->file, m->dataset, &m->rows, e));
    m->info = (matrix_info){m->file.path, m->dataset, m->rows.n_rows, m->rows.d, m->rows.type};
    *out = m;
done:
    if (rc) matrix_close(m);
    return rc;
}

void matrix_close(matrix *m) {
    if (!m) return;
    h5_rows_close(&m->rows);
    h5_close(&m->file, NULL);
    weights_close(m->npy);
    free(m->dataset);
    free(m);
}

const matrix_info *matrix_info_of(const matrix *m) { return &m->info; }

err_code matrix_read_stored(const matrix *m, const ctx *c, int64_t first, int64_t n, void *x, err *e) {
    if (m->npy) read_npy(m, first, n, x);
    err_code rc = m->npy ? ERR_OK : h5_rows_read(&m->file, &m->rows, first, n, x, e);
    if (rc) return rc;
    int64_t bad = dtype_find_not_finite(c, m->info.type, x, n, m->info.d);
    if (bad < 0) return ERR_OK;
    return err_set(e, ERR_FORMAT, "%s: %s: row %lld holds a number that is infinite or not a number", m->info.path,
                   m->info.dataset, (long long)(first + bad));
}

err_code matrix_read(const matrix *m, const ctx *c, int64_t first, int64_t n, float *x, err *e) {
    const matrix_info *i = &m->info;
    void *stored = NULL;
    err_code rc = ERR_OK;
    if (i->type->id == STORE_F32) return matrix_read_stored(m, c, first, n, x, e);
    int64_t step = n < READ_ROWS ? n : READ_ROWS;
    TRY(mem_new(&stored, (size_t)step, (size_t)i->d * i->type->bytes, "rows", e));
    for (int64_t at = 0; at < n; at += step) {
        int64_t more = n - at < step ? n - at : step;
        TRY(matrix_read_stored(m, c, first + at, more, stored, e));
        dtype_to_f32(c, i->type, stored, NULL, more, i->d, x + at * i->d);
    }
done:
    free(stored);
    return rc;
}
