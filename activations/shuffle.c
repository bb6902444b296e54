/* shuffle.c — rows of an HDF5 file in random order.
 *
 * Training rows are numbered through without the held-out ones and cut into blocks. Epoch i permutes the blocks; consecutive
 * ones make a pool, which is read into memory as it is stored, in the order of the file; the rows of the pool are permuted. So
 *   row(seed, r) = pool(r / n, (r % n) / pool rows)[permutation(seed, epoch, pool)[offset]]
 * and any r can be asked for at any time: at worst a pool is read again. With a single pool nothing is ever read again. */
#include "activations/matrix.h"
#include "activations/source.h"
#include "activations/store.h"
#include "core/file.h"
#include "core/mem.h"
#include "core/rng.h"
#include "core/strbuf.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_ROWS = 256, POOL_BYTES = 1 << 30, POOL_ROWS_MAX = 1 << 22, SAMPLED_ROWS = 256, READ_ROWS = 4096 };

/* Rows of one part (training, held-out) that stand together in the file. */
typedef struct run {
    int64_t first; /* number of its first row within the part */
    int64_t at;    /* the same row's number in the file */
} run;

typedef struct part {
    run *runs; /* [n_runs + 1], the last one an end mark */
    size_t n_runs, cap;
    int64_t n_rows;
} part;

/* One dataset of the file; with a target there are two, of the same rows in the same order. */
typedef struct column {
    matrix *m;
    int64_t d;
    const dtype *type;
    void *pool; /* [pool_blocks * BLOCK_ROWS, d] as stored */
} column;

static size_t row_bytes(const column *k) { return (size_t)k->d * k->type->bytes; }

typedef struct shuffled {
    source base;
    column columns[2]; /* rows, targets */
    int n_columns;
    uint64_t seed;
    part train, held_out;

    int64_t n_blocks, pool_blocks, n_pools;
    uint64_t *blocks; /* [n_blocks] in the order of `epoch` */
    int64_t epoch;    /* of blocks, -1: none yet */

    int64_t pool_rows;            /* in the pools */
    int64_t loaded_epoch, loaded; /* which pool that is, -1: none */
    uint64_t *order;              /* [pool_rows] rows of the pool in the order of the stream */
    int64_t order_epoch, order_pool;
} shuffled;

/* ---- parts ---- */

static err_code part_add(part *p, int64_t at, int64_t n, err *e) {
    err_code rc = mem_grow(&p->runs, &p->cap, p->n_runs + 2, sizeof *p->runs, "ranges of rows", e);
    if (rc || !n) return rc;
    const run *last = p->n_runs ? &p->runs[p->n_runs - 1] : NULL;
    if (!last || last->at + (p->n_rows - last->first) != at) p->runs[p->n_runs++] = (run){p->n_rows, at};
    p->n_rows += n;
    p->runs[p->n_runs] = (run){p->n_rows, -1};
    return ERR_OK;
}

/* The run that holds row r of the part. */
static size_t part_find(const part *p, int64_t r) {
    size_t low = 0, high = p->n_runs;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (p->runs[middle].first <= r)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Rows first .. first+n-1 of the part, as stored. */
static err_code part_read(const column *k, const part *p, const ctx *c, int64_t first, int64_t n, void *x, err *e) {
    err_code rc = ERR_OK;
    char *to = x;
    for (size_t i = part_find(p, first); n > 0 && !rc; i++) {
        int64_t m = p->runs[i + 1].first - first < n ? p->runs[i + 1].first - first : n;
        rc = matrix_read_stored(k->m, c, p->runs[i].at + (first - p->runs[i].first), m, to, e);
        to += (size_t)m * row_bytes(k);
        first += m, n -= m;
    }
    return rc;
}

/* ---- the split ---- */

/* Pieces of the file that stay together: piece i is rows ends[i-1] .. ends[i]-1, but for those that are too long. */
typedef struct pieces {
    int64_t *ends;
    size_t n, cap;
    uint8_t *is_long; /* [rows of the file]; NULL: none is */
} pieces;

static err_code pieces_add(pieces *p, int64_t end, err *e) {
    err_code rc = mem_grow(&p->ends, &p->cap, p->n + 1, sizeof *p->ends, "documents", e);
    if (!rc) p->ends[p->n++] = end;
    return rc;
}

/* Windows of one text stay together. */
static err_code pieces_of_texts(const token_corpus *k, const uint64_t *row_token, int64_t n_rows, pieces *out, err *e) {
    int32_t *text = NULL;
    int64_t row = 0, begin = 0;
    err_code rc;
    TRY(mem_new(&text, (size_t)k->n_docs, sizeof *text, "texts", e));
    corpus_texts(k, text);
    for (int64_t doc = 0; doc < k->n_docs; doc++) {
        while (row < n_rows && row_token[row] < k->doc_offsets[doc + 1]) row++;
        if (row == begin || (doc + 1 < k->n_docs && text[doc + 1] == text[doc])) continue;
        TRY(pieces_add(out, row, e));
        begin = row;
    }
done:
    free(text);
    return rc;
}

static err_code pieces_of_blocks(int64_t n_rows, pieces *out, err *e) {
    err_code rc = ERR_OK;
    for (int64_t row = 0; row < n_rows && !rc; row += BLOCK_ROWS)
        rc = pieces_add(out, n_rows - row < BLOCK_ROWS ? n_rows : row + BLOCK_ROWS, e);
    return rc;
}

/* Piece i without its long rows. */
static err_code add_piece(part *to, const pieces *p, size_t i, err *e) {
    int64_t first = i ? p->ends[i - 1] : 0, end = p->ends[i];
    err_code rc = ERR_OK;
    for (int64_t row = first; row <= end && !rc; row++) {
        if (row < end && !(p->is_long && p->is_long[row])) continue;
        rc = part_add(to, first, row - first, e);
        first = row + 1;
    }
    return rc;
}

/* Draws the share of pieces without replacement; at least one, and never all, when there is a choice. */
static err_code split(shuffled *s, const pieces *p, double share, err *e) {
    uint64_t *order = NULL, wanted = (uint64_t)llround(share * (double)p->n);
    bool *held = NULL;
    err_code rc;
    if (share > 0 && wanted == 0) wanted = 1;
    if (share < 1 && wanted >= p->n) wanted = p->n - 1;
    TRY(mem_new(&order, p->n, sizeof *order, "the split", e));
    TRY(mem_new0(&held, p->n, sizeof *held, "the split", e));
    for (size_t i = 0; i < p->n; i++) order[i] = i;
    rng r = rng_stream(0, RNG_SPLIT, 0);
    rng_permute(&r, order, p->n);
    for (uint64_t i = 0; i < wanted && i < p->n; i++) held[order[i]] = true;
    for (size_t i = 0; i < p->n; i++) TRY(add_piece(held[i] ? &s->held_out : &s->train, p, i, e));
done:
    free(order);
    free(held);
    return rc;
}

/* ---- the stream ---- */

static int by_number(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Streams of random numbers: one for the blocks of an epoch, one for each of its pools. */
static rng stream_of(const shuffled *s, int64_t epoch, int64_t pool) {
    return rng_stream(s->seed, RNG_SHUFFLE, (uint64_t)(epoch * (s->n_pools + 1) + pool + 1));
}

/* The blocks of every pool in the order of the file: their order within the pool does not matter. */
static void order_blocks(shuffled *s, int64_t epoch) {
    if (s->epoch == epoch) return;
    for (int64_t i = 0; i < s->n_blocks; i++) s->blocks[i] = (uint64_t)i;
    if (s->n_pools > 1) {
        rng r = stream_of(s, epoch, -1);
        rng_permute(&r, s->blocks, (uint64_t)s->n_blocks);
    }
    for (int64_t i = 0; i < s->n_blocks; i += s->pool_blocks) {
        int64_t n = s->n_blocks - i < s->pool_blocks ? s->n_blocks - i : s->pool_blocks;
        qsort(s->blocks + i, (size_t)n, sizeof *s->blocks, by_number);
    }
    s->epoch = epoch;
}

static int64_t block_rows(const shuffled *s, uint64_t block) {
    int64_t left = s->train.n_rows - (int64_t)block * BLOCK_ROWS;
    return left < BLOCK_ROWS ? left : BLOCK_ROWS;
}

/* Blocks of a pool that follow each other in the file are read at once. */
static err_code load_pool(shuffled *s, const ctx *c, int64_t pool, err *e) {
    int64_t from = pool * s->pool_blocks, end = from + s->pool_blocks < s->n_blocks ? from + s->pool_blocks : s->n_blocks;
    bool same = s->loaded == pool && (s->n_pools == 1 || s->loaded_epoch == s->epoch);
    err_code rc = ERR_OK;
    if (same) return ERR_OK;
    s->loaded = -1;
    s->pool_rows = 0;
    for (int64_t i = from; i < end;) {
        int64_t n = 0, first = (int64_t)s->blocks[i] * BLOCK_ROWS;
        do n += block_rows(s, s->blocks[i++]);
        while (i < end && s->blocks[i] == s->blocks[i - 1] + 1 && n < READ_ROWS);
        TRY(ctx_check_cancel(c, e));
        for (const column *k = s->columns; k < s->columns + s->n_columns; k++)
            TRY(part_read(k, &s->train, c, first, n, (char *)k->pool + (size_t)s->pool_rows * row_bytes(k), e));
        s->pool_rows += n;
    }
    s->loaded = pool;
    s->loaded_epoch = s->epoch;
done:
    return rc;
}

static void order_rows(shuffled *s, int64_t epoch, int64_t pool) {
    if (s->order_epoch == epoch && s->order_pool == pool) return;
    for (int64_t i = 0; i < s->pool_rows; i++) s->order[i] = (uint64_t)i;
    rng r = stream_of(s, epoch, pool);
    rng_permute(&r, s->order, (uint64_t)s->pool_rows);
    s->order_epoch = epoch;
    s->order_pool = pool;
}

/* The pool that holds position p of the epoch whose blocks are ordered, and where the pool begins. */
static int64_t pool_at(const shuffled *s, int64_t p, int64_t *begin) {
    int64_t size = s->pool_blocks * BLOCK_ROWS, pool = p / size, last = s->n_blocks - 1, missing = 0;
    /* the last block of the file may be short, and may stand in any pool: those behind it begin earlier */
    if (s->n_pools > 1) {
        int64_t with = 0;
        while (s->blocks[with] != (uint64_t)last) with++;
        with /= s->pool_blocks;
        missing = BLOCK_ROWS - block_rows(s, (uint64_t)last);
        if (p >= (with + 1) * size - missing) {
            pool = (p + missing) / size;
            *begin = pool * size - missing;
            return pool;
        }
    }
    *begin = pool * size;
    return pool;
}

static err_code read_stream(source *base, const ctx *c, int64_t first, int64_t n, float *x, float *y, err *e) {
    shuffled *s = (shuffled *)base;
    err_code rc = ERR_OK;
    while (n > 0) {
        int64_t epoch = first / s->train.n_rows, p = first % s->train.n_rows, begin;
        TRY(ctx_check_cancel(c, e));
        order_blocks(s, epoch);
        int64_t pool = pool_at(s, p, &begin);
        TRY(load_pool(s, c, pool, e));
        order_rows(s, epoch, pool);
        int64_t m = s->pool_rows - (p - begin) < n ? s->pool_rows - (p - begin) : n;
        const column *in = &s->columns[0], *out = &s->columns[1];
        dtype_to_f32(c, in->type, in->pool, s->order + (p - begin), m, in->d, x);
        if (y) dtype_to_f32(c, out->type, out->pool, s->order + (p - begin), m, out->d, y);
        first += m, n -= m, x += m * in->d;
        if (y) y += m * out->d;
    }
done:
    return rc;
}

static err_code read_held_out_column(const shuffled *s, const column *k, const ctx *c, int64_t first, int64_t n, float *x,
                                     err *e) {
    void *stored = NULL;
    err_code rc;
    int64_t step = n < READ_ROWS ? n : READ_ROWS;
    TRY(mem_new(&stored, (size_t)step, row_bytes(k), "rows", e));
    for (int64_t at = 0; at < n; at += step) {
        int64_t m = n - at < step ? n - at : step;
        TRY(part_read(k, &s->held_out, c, first + at, m, stored, e));
        dtype_to_f32(c, k->type, stored, NULL, m, k->d, x + at * k->d);
    }
done:
    free(stored);
    return rc;
}

static err_code read_held_out(source *base, const ctx *c, int64_t first, int64_t n, float *x, float *y, err *e) {
    const shuffled *s = (const shuffled *)base;
    err_code rc = read_held_out_column(s, &s->columns[0], c, first, n, x, e);
    return rc || !y ? rc : read_held_out_column(s, &s->columns[1], c, first, n, y, e);
}

static void close_shuffled(source *base) {
    shuffled *s = (shuffled *)base;
    for (int i = 0; i < 2; i++) {
        matrix_close(s->columns[i].m);
        free(s->columns[i].pool);
    }
    free(s->train.runs);
    free(s->held_out.runs);
    free(s->blocks);
    free(s->order);
    free(s);
}

static const source_ops ops = {read_stream, read_held_out, close_shuffled};

/* ---- opening ---- */

/* A copy of text that fits, in part if need be. */
static void keep(char *out, size_t size, const char *text) {
    size_t n = strnlen(text ? text : "", size - 1);
    memcpy(out, text ? text : "", n);
    out[n] = '\0';
}

/* Rows of the hook that are too long are left out of all columns. */
static err_code add_long(const ctx *c, store *f, int hook, pieces *p, err *e) {
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
static err_code describe_store(shuffled *s, const ctx *c, store *f, const char *path, const char *hook_name, pieces *p,
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
    if (isfinite(h->max_norm)) s->base.max_norm = h->max_norm;
    keep(s->base.hook_name, sizeof s->base.hook_name, h->name);
    keep(s->base.model_name, sizeof s->base.model_name, info->model_name);
    keep(s->base.model_sha256, sizeof s->base.model_sha256, info->model_sha256);
    s->base.context = info->context;
    s->base.skip_first = info->skip_first;
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
static err_code find_pieces(shuffled *s, const column *k, const ctx *c, const char *path, pieces *p, err *e) {
    const matrix_info *info = matrix_info_of(k->m);
    char *hook = NULL;
    store *f = NULL;
    err_code rc;
    TRY(hook_of(info->dataset, &hook, e));
    if (hook[0]) {
        TRY(store_open(path, &f, e));
        TRY(describe_store(s, c, f, path, hook, p, e));
        if (k == &s->columns[1]) keep(s->base.hook_out, sizeof s->base.hook_out, hook);
    } else if (!p->n) {
        TRY(pieces_of_blocks(info->n_rows, p, e));
    }
done:
    store_close(f);
    free(hook);
    return rc;
}

static err_code plan_pools(shuffled *s, err *e) {
    const column *in = &s->columns[0], *out = &s->columns[1];
    int64_t affordable = (int64_t)(POOL_BYTES / (row_bytes(in) + (s->n_columns > 1 ? row_bytes(out) : 0)));
    if (affordable > POOL_ROWS_MAX) affordable = POOL_ROWS_MAX;
    s->n_blocks = (s->train.n_rows + BLOCK_ROWS - 1) / BLOCK_ROWS;
    s->pool_blocks = affordable / BLOCK_ROWS > 0 ? affordable / BLOCK_ROWS : 1;
    if (s->pool_blocks > s->n_blocks) s->pool_blocks = s->n_blocks;
    s->n_pools = (s->n_blocks + s->pool_blocks - 1) / s->pool_blocks;
    size_t rows = (size_t)(s->n_pools == 1 ? s->train.n_rows : s->pool_blocks * BLOCK_ROWS);
    s->epoch = s->loaded = s->loaded_epoch = s->order_epoch = s->order_pool = -1;
    err_code rc = mem_new(&s->blocks, (size_t)s->n_blocks, sizeof *s->blocks, "the order of blocks", e);
    for (column *k = s->columns; !rc && k < s->columns + s->n_columns; k++)
        rc = mem_new(&k->pool, rows, row_bytes(k), "rows", e);
    if (!rc) rc = mem_new(&s->order, rows, sizeof *s->order, "the order of rows", e);
    return rc;
}

/* The shape of a column, and rows sampled over the whole file. */
static err_code identify_column(const shuffled *s, const column *k, const ctx *c, strbuf *all, err *e) {
    const matrix_info *info = matrix_info_of(k->m);
    int64_t n = info->n_rows < SAMPLED_ROWS ? info->n_rows : SAMPLED_ROWS;
    void *row = NULL;
    err_code rc;
    TRY(mem_new(&row, 1, row_bytes(k), "a row", e));
    strbuf_addf(all, "rows %" PRId64 " of %" PRId64 " %s, seed %" PRIu64 ", pools of %" PRId64 " blocks of %d", info->n_rows,
                k->d, k->type->name, s->seed, s->pool_blocks, BLOCK_ROWS);
    strbuf_add(all, s->train.runs, s->train.n_runs * sizeof *s->train.runs);
    for (int64_t i = 0; i < n; i++) {
        TRY(matrix_read_stored(k->m, c, n > 1 ? i * ((info->n_rows - 1) / (n - 1)) : 0, 1, row, e));
        strbuf_add(all, row, row_bytes(k));
    }
done:
    free(row);
    return rc;
}

/* Hashes the content and all that the order depends on. */
static err_code identify(shuffled *s, const ctx *c, err *e) {
    strbuf all = STRBUF_INIT;
    err_code rc = ERR_OK;
    for (const column *k = s->columns; k < s->columns + s->n_columns; k++) TRY(identify_column(s, k, c, &all, e));
    TRY(strbuf_check(&all, e));
    bytes_sha256(all.data, all.len, s->base.id);
done:
    strbuf_release(&all);
    return rc;
}

static err_code open_columns(shuffled *s, const char *path, const source_opts *o, err *e) {
    const char *const datasets[] = {o->dataset, o->target};
    err_code rc = ERR_OK;
    for (s->n_columns = 0; s->n_columns < (o->target ? 2 : 1); s->n_columns++) {
        column *k = &s->columns[s->n_columns];
        TRY(matrix_open(path, datasets[s->n_columns], &k->m, e));
        k->d = matrix_info_of(k->m)->d;
        k->type = matrix_info_of(k->m)->type;
    }
    int64_t n = matrix_info_of(s->columns[0].m)->n_rows;
    if (o->target && matrix_info_of(s->columns[1].m)->n_rows != n)
        rc = err_set(e, ERR_MISMATCH, "%s: %s has %" PRId64 " rows, its target %s %" PRId64, path,
                     matrix_info_of(s->columns[0].m)->dataset, n, o->target, matrix_info_of(s->columns[1].m)->n_rows);
done:
    return rc;
}

err_code source_open_hdf5(const ctx *c, const char *path, const source_opts *o, source **out, err *e) {
    shuffled *s = NULL;
    pieces p = {0};
    *out = NULL;
    if (!(o->held_out >= 0 && o->held_out < 1))
        return err_set(e, ERR_USAGE, "held-out share: expected a number from 0 up to but not 1, found %g", o->held_out);
    err_code rc = mem_new0(&s, 1, sizeof *s, "a source of rows", e);
    if (rc) return rc;
    s->base.ops = &ops;
    s->seed = o->seed;
    TRY(open_columns(s, path, o, e));
    for (int i = 0; i < s->n_columns; i++) TRY(find_pieces(s, &s->columns[i], c, path, &p, e));
    TRY(split(s, &p, o->held_out, e));
    TRY(plan_pools(s, e));
    TRY(identify(s, c, e));
    s->base.n_rows = s->train.n_rows;
    s->base.n_held_out = s->held_out.n_rows;
    s->base.d_in = s->columns[0].d;
    s->base.d_out = s->n_columns > 1 ? s->columns[1].d : 0;
    *out = &s->base;
done:
    free(p.ends);
    free(p.is_long);
    if (rc) close_shuffled(&s->base);
    return rc;
}
