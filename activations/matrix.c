#include "activations/matrix.h"

#include "activations/h5.h"
#include "core/mem.h"
#include "core/strbuf.h"

#include <stdlib.h>
#include <string.h>

enum { READ_ROWS = 4096 };

struct matrix {
    h5_file file;
    h5_rows rows;
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
    bool is_hook =
        !rc && given[0] != '/' && H5Lexists(f->id, "/hooks", H5P_DEFAULT) > 0 && H5Lexists(f->id, hook.data, H5P_DEFAULT) > 0;
    if (is_hook) strbuf_add_str(&hook, "/activations");
    if (!rc && !(*out = strdup(is_hook ? hook.data : given))) rc = err_nomem(e, "the name of a dataset", strlen(given));
    strbuf_release(&hook);
    return rc;
}

/* ---- the matrix ---- */

err_code matrix_open(const char *path, const char *dataset, matrix **out, err *e) {
    matrix *m = NULL;
    *out = NULL;
    err_code rc = mem_new0(&m, 1, sizeof *m, "a matrix", e);
    if (rc) return rc;
    m->file = H5_FILE_INIT;
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
    free(m->dataset);
    free(m);
}

const matrix_info *matrix_info_of(const matrix *m) { return &m->info; }

err_code matrix_read_stored(const matrix *m, const ctx *c, int64_t first, int64_t n, void *x, err *e) {
    err_code rc = h5_rows_read(&m->file, &m->rows, first, n, x, e);
    if (rc) return rc;
    int64_t bad = dtype_find_not_finite(c, m->info.type, x, n, m->info.d);
    if (bad < 0) return ERR_OK;
    return err_set(e, ERR_FORMAT, "%s: %s: row %lld holds a number that is infinite or not a number", m->file.path,
                   m->dataset, (long long)(first + bad));
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
