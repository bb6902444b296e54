/* rows.h — an activation file opened for analysis: the rows of one hook together with the text behind them.
 * Ownership: everything belongs to the row_source; release frees it. Threads: reading rows one call at a time (HDF5), the rest
 * may be shared. Errors: ERR_FORMAT (contradicting or unfinished file), ERR_MISMATCH (no such hook).
 */
#ifndef ANALYSIS_ROWS_H
#define ANALYSIS_ROWS_H

#include "activations/store.h"
#include "analysis/corpus_index.h"

typedef struct row_source {
    store *store;
    const store_info *info; /* borrowed from store */
    const store_hook *hook; /* borrowed from store */
    int hook_number;
    token_corpus corpus;
    uint64_t *row_token; /* [info->n_rows] */
    corpus_index index;
    uint8_t *is_long; /* [info->n_rows] rows that are left out (store.h); index.token_row is -1 there */
    int64_t n_long;
} row_source; /* zero-initialise */

/* hook_name NULL or "": the file's only one. */
err_code row_source_open(const char *path, const char *hook_name, row_source *out, err *e);
void row_source_release(row_source *r);

static inline err_code row_source_read(const row_source *r, const ctx *c, int64_t first, int64_t n,
                                       float *x /* [n, d_model] */, err *e) {
    return store_read_rows(r->store, c, r->hook_number, first, n, x, e);
}

#endif
