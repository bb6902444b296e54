/* shuffle.h — rows in random order from whatever holds them in blocks: what source_open_hdf5 and source_open_live share.
 *
 * Training rows are numbered through and cut into blocks. Epoch i permutes the blocks; the rows of the blocks in that order are
 * cut into pools of pool_rows, which are read into memory one at a time, in the order of their numbers; the rows of a pool are
 * permuted. So
 *   row(seed, r) = pool(epoch, p / pool_rows)[permutation(seed, epoch, pool)[p % pool_rows]],   epoch, p = r / n_rows, r % n_rows
 * and any r can be asked for at any time: at worst a pool is read again. With a single pool nothing is ever read again.
 * Memory: one pool of each column, and two numbers a block.
 */
#ifndef ACTIVATIONS_SHUFFLE_H
#define ACTIVATIONS_SHUFFLE_H

#include "activations/dtype.h"
#include "activations/source.h"

/* Training rows first .. first+n-1, all in one block. */
typedef struct row_range {
    int64_t block, first, n;
} row_range;

/* Rows of one kind; with targets there are two, of the same numbers. */
typedef struct shuffle_column {
    int64_t d;
    const dtype *type;
    void *pool; /* [pool_rows, d] as stored */
} shuffle_column;

static inline size_t column_row_bytes(const shuffle_column *k) { return (size_t)k->d * k->type->bytes; }

typedef struct shuffled shuffled;
typedef err_code shuffle_load(shuffled *s, const ctx *c, const row_range *ranges, size_t n, err *e);

struct shuffled { /* first member of whoever holds the rows */
    source base;
    shuffle_load *load; /* fills the pools of all columns from their beginning, in the order of the ranges */
    shuffle_column columns[2];
    int n_columns;
    uint64_t seed;
    int64_t n_blocks, pool_rows, n_pools;
    int64_t *block_first; /* [n_blocks + 1] its first row; n_rows */

    uint64_t *blocks; /* [n_blocks] in the order of `epoch` */
    int64_t epoch;    /* of blocks, -1: none yet */
    struct pool_start {
        int64_t block, skipped; /* the pool begins behind so many rows of this place in `blocks` */
    } * starts;                 /* [n_pools] */

    row_range *ranges; /* scratch: of a pool */
    size_t cap_ranges;
    int64_t loaded_epoch, loaded; /* which pool that is, -1: none */
    uint64_t *order;              /* [pool_rows] rows of the pool in the order of the stream */
    int64_t order_epoch, order_pool;
};

/* base.n_rows, columns but for their pools, seed, block_first and load are there. pool_rows: at most. */
err_code shuffle_start(shuffled *s, int64_t pool_rows, err *e);
void shuffle_release(shuffled *s); /* block_first too */

/* source_ops.read */
err_code shuffle_read(source *s, const ctx *c, int64_t first, int64_t n, float *x, float *y, err *e);

#endif
