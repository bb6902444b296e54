#include "activations/shuffle.h"

#include "core/mem.h"
#include "core/rng.h"

#include <stdlib.h>

/* Streams of random numbers: one for the blocks of an epoch, one for each of its pools. */
static rng stream_of(const shuffled *s, int64_t epoch, int64_t pool) {
    return rng_stream(s->seed, RNG_SHUFFLE, (uint64_t)(epoch * (s->n_pools + 1) + pool + 1));
}

static int64_t rows_of_block(const shuffled *s, uint64_t block) { return s->block_first[block + 1] - s->block_first[block]; }

static int64_t rows_of_pool(const shuffled *s, int64_t pool) {
    int64_t left = s->base.n_rows - pool * s->pool_rows;
    return left < s->pool_rows ? left : s->pool_rows;
}

static void order_blocks(shuffled *s, int64_t epoch) {
    int64_t rows = 0, pool = 0;
    if (s->epoch == epoch) return;
    for (int64_t i = 0; i < s->n_blocks; i++) s->blocks[i] = (uint64_t)i;
    if (s->n_pools > 1) {
        rng r = stream_of(s, epoch, -1);
        rng_permute(&r, s->blocks, (uint64_t)s->n_blocks);
    }
    for (int64_t i = 0; i < s->n_blocks; i++) {
        int64_t end = rows + rows_of_block(s, s->blocks[i]);
        for (; pool < s->n_pools && pool * s->pool_rows < end; pool++)
            s->starts[pool] = (struct pool_start){i, pool * s->pool_rows - rows};
        rows = end;
    }
    s->epoch = epoch;
}

static int by_first(const void *a, const void *b) {
    int64_t x = ((const row_range *)a)->first, y = ((const row_range *)b)->first;
    return (x > y) - (x < y);
}

/* The ranges of a pool in the order of their rows: the order of blocks within a pool does not matter. */
static err_code find_ranges(shuffled *s, int64_t pool, size_t *n_ranges, err *e) {
    int64_t left = rows_of_pool(s, pool), skipped = s->starts[pool].skipped;
    size_t n = 0;
    for (int64_t i = s->starts[pool].block; left > 0; i++, skipped = 0) {
        uint64_t block = s->blocks[i];
        int64_t rows = rows_of_block(s, block) - skipped;
        err_code rc = mem_grow(&s->ranges, &s->cap_ranges, n + 1, sizeof *s->ranges, "the blocks of a pool", e);
        if (rc) return rc;
        s->ranges[n++] = (row_range){(int64_t)block, s->block_first[block] + skipped, rows < left ? rows : left};
        left -= rows;
    }
    qsort(s->ranges, n, sizeof *s->ranges, by_first);
    *n_ranges = n;
    return ERR_OK;
}

static err_code load_pool(shuffled *s, const ctx *c, int64_t pool, err *e) {
    bool same = s->loaded == pool && (s->n_pools == 1 || s->loaded_epoch == s->epoch);
    size_t n;
    if (same) return ERR_OK;
    s->loaded = -1;
    err_code rc = find_ranges(s, pool, &n, e);
    if (!rc) rc = s->load(s, c, s->ranges, n, e);
    if (rc) return rc;
    s->loaded = pool;
    s->loaded_epoch = s->epoch;
    return ERR_OK;
}

static void order_rows(shuffled *s, int64_t epoch, int64_t pool) {
    if (s->order_epoch == epoch && s->order_pool == pool) return;
    int64_t n = rows_of_pool(s, pool);
    for (int64_t i = 0; i < n; i++) s->order[i] = (uint64_t)i;
    rng r = stream_of(s, epoch, pool);
    rng_permute(&r, s->order, (uint64_t)n);
    s->order_epoch = epoch;
    s->order_pool = pool;
}

err_code shuffle_read(source *base, const ctx *c, int64_t first, int64_t n, float *x, float *y, err *e) {
    shuffled *s = (shuffled *)base;
    const shuffle_column *in = &s->columns[0], *out = &s->columns[1];
    err_code rc = ERR_OK;
    while (n > 0) {
        int64_t epoch = first / base->n_rows, p = first % base->n_rows, pool = p / s->pool_rows, at = p % s->pool_rows;
        TRY(ctx_check_cancel(c, e));
        order_blocks(s, epoch);
        TRY(load_pool(s, c, pool, e));
        order_rows(s, epoch, pool);
        int64_t m = rows_of_pool(s, pool) - at < n ? rows_of_pool(s, pool) - at : n;
        dtype_to_f32(c, in->type, in->pool, s->order + at, m, in->d, x);
        if (y) dtype_to_f32(c, out->type, out->pool, s->order + at, m, out->d, y);
        first += m, n -= m, x += m * in->d;
        if (y) y += m * out->d;
    }
done:
    return rc;
}

err_code shuffle_start(shuffled *s, int64_t pool_rows, err *e) {
    err_code rc;
    int64_t n = s->base.n_rows;
    s->pool_rows = pool_rows < n ? pool_rows : n > 0 ? n : 1;
    s->n_pools = (n + s->pool_rows - 1) / s->pool_rows;
    s->epoch = s->loaded = s->loaded_epoch = s->order_epoch = s->order_pool = -1;
    TRY(mem_new(&s->blocks, (size_t)s->n_blocks, sizeof *s->blocks, "the order of blocks", e));
    TRY(mem_new(&s->starts, (size_t)s->n_pools, sizeof *s->starts, "the order of blocks", e));
    for (shuffle_column *k = s->columns; k < s->columns + s->n_columns; k++)
        TRY(mem_new(&k->pool, (size_t)s->pool_rows, column_row_bytes(k), "rows", e));
    TRY(mem_new(&s->order, (size_t)s->pool_rows, sizeof *s->order, "the order of rows", e));
done:
    return rc;
}

void shuffle_release(shuffled *s) {
    for (int i = 0; i < s->n_columns; i++) free(s->columns[i].pool);
    free(s->block_first);
    free(s->blocks);
    free(s->starts);
    free(s->ranges);
    free(s->order);
}
