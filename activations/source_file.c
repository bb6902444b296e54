/* source_file.c — rows of an HDF5 file, or of a .npy, as a source: blocks of 256 rows, shuffled as shuffle.h says. */
#include "activations/matrix.h"
#include "activations/shuffle.h"
#include "activations/split.h"
#include "activations/store.h"
#include "core/file.h"
#include "core/mem.h"
#include "core/strbuf.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { POOL_BYTES = 1 << 30, POOL_ROWS_MAX = 1 << 22, SAMPLED_ROWS = 256, READ_ROWS = 4096 };

typedef struct file_source {
    shuffled shuffle;
    matrix *m[2]; /* a dataset for each column, of the same rows in the same order */
    row_part train, held_out;
} file_source;

/* ---- reading ---- */

/* Rows first .. first+n-1 of the part, as stored. */
static err_code part_read(const file_source *s, int column, const row_part *p, const ctx *c, int64_t first, int64_t n,
                          void *x, err *e) {
    err_code rc = ERR_OK;
    char *to = x;
    for (size_t i = part_find(p, first); n > 0 && !rc; i++) {
        int64_t m = p->runs[i + 1].first - first < n ? p->runs[i + 1].first - first : n;
        rc = matrix_read_stored(s->m[column], c, p->runs[i].at + (first - p->runs[i].first), m, to, e);
        to += (size_t)m * column_row_bytes(&s->shuffle.columns[column]);
        first += m, n -= m;
    }
    return rc;
}

/* Blocks that follow each other in the file are read at once. */
static err_code load(shuffled *base, const ctx *c, const row_range *ranges, size_t n_ranges, err *e) {
    const file_source *s = (const file_source *)base;
    int64_t at = 0;
    err_code rc = ERR_OK;
    for (size_t i = 0; i < n_ranges;) {
        int64_t first = ranges[i].first, n = 0;
        do n += ranges[i++].n;
        while (i < n_ranges && ranges[i].first == first + n && n < READ_ROWS);
        TRY(ctx_check_cancel(c, e));
        for (int k = 0; k < base->n_columns; k++) {
            shuffle_column *column = &base->columns[k];
            TRY(part_read(s, k, &s->train, c, first, n, (char *)column->pool + (size_t)at * column_row_bytes(column), e));
        }
        at += n;
    }
done:
    return rc;
}

static err_code read_held_out_column(const file_source *s, int column, const ctx *c, int64_t first, int64_t n, float *x,
                                     err *e) {
    const shuffle_column *k = &s->shuffle.columns[column];
    void *stored = NULL;
    err_code rc;
    int64_t step = n < READ_ROWS ? n : READ_ROWS;
    TRY(mem_new(&stored, (size_t)step, column_row_bytes(k), "rows", e));
    for (int64_t at = 0; at < n; at += step) {
        int64_t m = n - at < step ? n - at : step;
        TRY(part_read(s, column, &s->held_out, c, first + at, m, stored, e));
        dtype_to_f32(c, k->type, stored, NULL, m, k->d, x + at * k->d);
    }
done:
    free(stored);
    return rc;
}

static err_code read_held_out(source *base, const ctx *c, int64_t first, int64_t n, float *x, float *y, err *e) {
    const file_source *s = (const file_source *)base;
    err_code rc = read_held_out_column(s, 0, c, first, n, x, e);
    return rc || !y ? rc : read_held_out_column(s, 1, c, first, n, y, e);
}

static void close_file(source *base) {
    file_source *s = (file_source *)base;
    for (int i = 0; i < 2; i++) matrix_close(s->m[i]);
    part_release(&s->train);
    part_release(&s->held_out);
    shuffle_release(&s->shuffle);
    free(s);
}

static const source_ops ops = {shuffle_read, read_held_out, close_file};

/* ---- opening ---- */

/* A copy of text that fits, in part if need be. */
static void keep(char *out, size_t size, const char *text) {
    size_t n = strnlen(text ? text : "", size - 1);
    memcpy(out, text ? text : "", n);
    out[n] = '\0';
}

/* Rows of the hook that are too long are left out of all columns. */
static err_code add_long(const ctx *c, store *f, int hook, row_pieces *p, err *e) {
    const store_info *info = store_info_of(f);
    uint8_t *is_long = NULL;
    int64_t n_long;
    err_code rc;
    if (!p->is_long) TRY(mem_new0(&p->is_long, (size_t)info->n_rows, 1, "rows", e));
    TRY(mem_new(&is_long, (size_t)info->n_rows, 1, "rows", e));
    TRY(store_read_long(f, hook, is_long, &n_long, e));
    for (int64_t r = 0; r < info->n_rows; r++) p->is_long[r] |= is_long[r];
    if (n_long)
        ctx_log(c, LOG_NOTE,
                "%s: %" PRId64 " of %" PRId64 " rows are left out, longer than %d times the median (attention sinks)",
                info->hooks[hook].name, n_long, info->n_rows, STORE_LONG);
done:
    free(is_long);
    return rc;
}

/* The hook of an activation file: complete, its documents as pieces, its name and model. */
static err_code describe_store(file_source *s, const ctx *c, store *f, const char *path, const char *hook_name, row_pieces *p,
                               err *e) {
    const store_info *info = store_info_of(f);
    token_corpus k = {0};
    uint64_t *row_token = NULL;
    err_code rc = ERR_OK;
    int i = store_find_hook(f, hook_name, e);
    if (i < 0) return err_prefix(e, ERR_MISMATCH, "%s", path);
    const store_hook *h = &info->hooks[i];
    if (h->rows_done < info->n_rows)
        return err_set(e, ERR_FORMAT,
                       "%s: %s is captured up to row %" PRId64 " of %" PRId64 "; the same sae capture command finishes it",
                       path, h->name, h->rows_done, info->n_rows);
    TRY(add_long(c, f, i, p, e));
    if (p->n) goto done; /* of the rows themselves; this hook is the target */
    TRY(store_read_corpus(f, &k, e));
    TRY(mem_new(&row_token, (size_t)info->n_rows, sizeof *row_token, "rows", e));
    TRY(store_read_row_token(f, row_token, e));
    TRY(pieces_of_texts(&k, row_token, info->n_rows, p, e));
    if (isfinite(h->max_norm)) s->shuffle.base.max_norm = h->max_norm;
    keep(s->shuffle.base.hook_name, sizeof s->shuffle.base.hook_name, h->name);
    keep(s->shuffle.base.model_name, sizeof s->shuffle.base.model_name, info->model_name);
    keep(s->shuffle.base.model_sha256, sizeof s->shuffle.base.model_sha256, info->model_sha256);
    s->shuffle.base.context = info->context;
    s->shuffle.base.skip_first = info->skip_first;
done:
    free(row_token);
    corpus_release(&k);
    return rc;
}

/* "blocks.1.hook_mlp_out" of "/hooks/blocks.1.hook_mlp_out/activations"; "" when it is no hook's dataset. */
static err_code hook_of(const char *dataset, char **out, err *e) {
    static const char before[] = "hooks/", behind[] = "/activations";
    dataset += dataset[0] == '/';
    size_t n = strlen(dataset), fixed = strlen(before) + strlen(behind);
    bool is = n > fixed && !strncmp(dataset, before, strlen(before)) && !strcmp(dataset + n - strlen(behind), behind);
    *out = is ? strndup(dataset + strlen(before), n - fixed) : strdup("");
    return *out ? ERR_OK : err_nomem(e, "the name of a hook", n);
}

/* Of one column; the pieces are those of the first. */
static err_code find_pieces(file_source *s, int column, const ctx *c, const char *path, row_pieces *p, err *e) {
    const matrix_info *info = matrix_info_of(s->m[column]);
    char *hook = NULL;
    store *f = NULL;
    err_code rc;
    TRY(hook_of(info->dataset, &hook, e));
    if (hook[0]) {
        TRY(store_open(path, &f, e));
        TRY(describe_store(s, c, f, path, hook, p, e));
        if (column == 1) keep(s->shuffle.base.hook_out, sizeof s->shuffle.base.hook_out, hook);
    } else if (!p->n) {
        TRY(pieces_of_blocks(info->n_rows, p, e));
    }
done:
    store_close(f);
    free(hook);
    return rc;
}

static err_code cut_blocks(shuffled *s, err *e) {
    s->n_blocks = (s->base.n_rows + BLOCK_ROWS - 1) / BLOCK_ROWS;
    err_code rc = mem_new(&s->block_first, (size_t)s->n_blocks + 1, sizeof *s->block_first, "blocks", e);
    if (rc) return rc;
    for (int64_t i = 0; i < s->n_blocks; i++) s->block_first[i] = i * BLOCK_ROWS;
    s->block_first[s->n_blocks] = s->base.n_rows;
    return ERR_OK;
}

/* Whole blocks, of all columns together. */
static int64_t affordable_rows(const shuffled *s) {
    size_t row = column_row_bytes(&s->columns[0]) + (s->n_columns > 1 ? column_row_bytes(&s->columns[1]) : 0);
    int64_t rows = (int64_t)(POOL_BYTES / row);
    if (rows > POOL_ROWS_MAX) rows = POOL_ROWS_MAX;
    return rows < BLOCK_ROWS ? BLOCK_ROWS : rows / BLOCK_ROWS * BLOCK_ROWS;
}

/* The shape of a column, and rows sampled over the whole file. */
static err_code identify_column(const file_source *s, int column, const ctx *c, strbuf *all, err *e) {
    const shuffle_column *k = &s->shuffle.columns[column];
    const matrix_info *info = matrix_info_of(s->m[column]);
    int64_t n = info->n_rows < SAMPLED_ROWS ? info->n_rows : SAMPLED_ROWS;
    void *row = NULL;
    err_code rc;
    TRY(mem_new(&row, 1, column_row_bytes(k), "a row", e));
    strbuf_addf(all, "rows %" PRId64 " of %" PRId64 " %s, seed %" PRIu64 ", pools of %" PRId64 " blocks of %d", info->n_rows,
                k->d, k->type->name, s->shuffle.seed, (s->shuffle.pool_rows + BLOCK_ROWS - 1) / BLOCK_ROWS, BLOCK_ROWS);
    strbuf_add(all, s->train.runs, s->train.n_runs * sizeof *s->train.runs);
    for (int64_t i = 0; i < n; i++) {
        TRY(matrix_read_stored(s->m[column], c, n > 1 ? i * ((info->n_rows - 1) / (n - 1)) : 0, 1, row, e));
        strbuf_add(all, row, column_row_bytes(k));
    }
done:
    free(row);
    return rc;
}

/* Hashes the content and all that the order depends on. */
static err_code identify(file_source *s, const ctx *c, err *e) {
    strbuf all = STRBUF_INIT;
    err_code rc = ERR_OK;
    for (int i = 0; i < s->shuffle.n_columns; i++) TRY(identify_column(s, i, c, &all, e));
    TRY(strbuf_check(&all, e));
    bytes_sha256(all.data, all.len, s->shuffle.base.id);
done:
    strbuf_release(&all);
    return rc;
}

static err_code open_columns(file_source *s, const char *path, const source_opts *o, err *e) {
    const char *const datasets[] = {o->dataset, o->target};
    err_code rc = ERR_OK;
    for (int i = 0; i < (o->target ? 2 : 1); i++) {
        TRY(matrix_open(path, datasets[i], &s->m[i], e));
        const matrix_info *info = matrix_info_of(s->m[i]);
        s->shuffle.columns[s->shuffle.n_columns++] = (shuffle_column){.d = info->d, .type = info->type};
    }
    int64_t n = matrix_info_of(s->m[0])->n_rows;
    if (o->target && matrix_info_of(s->m[1])->n_rows != n)
        rc = err_set(e, ERR_MISMATCH, "%s: %s has %" PRId64 " rows, its target %s %" PRId64, path,
                     matrix_info_of(s->m[0])->dataset, n, o->target, matrix_info_of(s->m[1])->n_rows);
done:
    return rc;
}

err_code source_open_hdf5(const ctx *c, const char *path, const source_opts *o, source **out, err *e) {
    file_source *s = NULL;
    row_pieces p = {0};
    *out = NULL;
    err_code rc = mem_new0(&s, 1, sizeof *s, "a source of rows", e);
    if (rc) return rc;
    source *base = &s->shuffle.base;
    base->ops = &ops;
    s->shuffle.seed = o->seed;
    s->shuffle.load = load;
    TRY(open_columns(s, path, o, e));
    for (int i = 0; i < s->shuffle.n_columns; i++) TRY(find_pieces(s, i, c, path, &p, e));
    TRY(split_pieces(&p, o->held_out, &s->train, &s->held_out, e));
    base->n_rows = s->train.n_rows;
    base->n_held_out = s->held_out.n_rows;
    base->d_in = s->shuffle.columns[0].d;
    base->d_out = s->shuffle.n_columns > 1 ? s->shuffle.columns[1].d : 0;
    TRY(cut_blocks(&s->shuffle, e));
    TRY(shuffle_start(&s->shuffle, affordable_rows(&s->shuffle), e));
    TRY(identify(s, c, e));
    *out = base;
done:
    pieces_release(&p);
    if (rc) close_file(base);
    return rc;
}
