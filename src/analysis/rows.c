#include "analysis/rows.h"

#include "core/mem.h"

#include <inttypes.h>
#include <stdlib.h>

static err_code choose_hook(row_source *r, const char *path, const char *name, err *e) {
    if (!name || !name[0]) {
        if (r->info->n_hooks != 1)
            return err_set(e, ERR_USAGE, "%s: holds %d hooks, say which one with --dataset", path, r->info->n_hooks);
        name = r->info->hooks[0].name;
    }
    r->hook_number = store_find_hook(r->store, name, e);
    if (r->hook_number < 0) return err_prefix(e, ERR_MISMATCH, "%s", path);
    r->hook = &r->info->hooks[r->hook_number];
    if (r->hook->rows_done == r->info->n_rows) return ERR_OK;
    return err_set(e, ERR_FORMAT,
                   "%s: %s is captured up to row %" PRId64 " of %" PRId64 "; the same sae capture command finishes it", path,
                   r->hook->name, r->hook->rows_done, r->info->n_rows);
}

static err_code leave_long_rows(row_source *r, err *e) {
    err_code rc = mem_new(&r->is_long, (size_t)r->info->n_rows, 1, "rows", e);
    if (!rc) rc = store_read_long(r->store, r->hook_number, r->is_long, &r->n_long, e);
    for (int64_t row = 0; !rc && row < r->info->n_rows; row++)
        if (r->is_long[row]) r->index.token_row[r->row_token[row]] = -1;
    return rc;
}

err_code row_source_open(const char *path, const char *hook_name, row_source *out, err *e) {
    row_source *r = out;
    vocab_view vocab = {0};
    *out = (row_source){0};
    err_code rc;
    TRY(store_open(path, &r->store, e));
    r->info = store_info_of(r->store);
    TRY(choose_hook(r, path, hook_name, e));
    TRY(store_read_corpus(r->store, &r->corpus, e));
    TRY(mem_new(&r->row_token, (size_t)r->info->n_rows, sizeof *r->row_token, "rows", e));
    TRY(store_read_row_token(r->store, r->row_token, e));
    TRY(store_vocab(r->store, &vocab.bytes, &vocab.offsets, e));
    vocab.n = r->info->n_vocab;
    rc = corpus_index_build(&r->corpus, vocab, r->row_token, r->info->n_rows, &r->index, e);
    if (rc) {
        err_prefix(e, rc, "%s", path);
        goto done;
    }
    TRY(leave_long_rows(r, e));
done:
    if (rc) row_source_release(out);
    return rc;
}

void row_source_release(row_source *r) {
    corpus_index_release(&r->index);
    free(r->row_token);
    free(r->is_long);
    corpus_release(&r->corpus);
    store_close(r->store);
    *r = (row_source){0};
}
