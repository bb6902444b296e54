#include "activations/split.h"

#include "core/mem.h"
#include "core/rng.h"

#include <math.h>
#include <stdlib.h>

/* ---- parts ---- */

static err_code part_add(row_part *p, int64_t at, int64_t n, err *e) {
    err_code rc = mem_grow(&p->runs, &p->cap, p->n_runs + 2, sizeof *p->runs, "ranges of rows", e);
    if (rc || !n) return rc;
    const row_run *last = p->n_runs ? &p->runs[p->n_runs - 1] : NULL;
    if (!last || last->at + (p->n_rows - last->first) != at) p->runs[p->n_runs++] = (row_run){p->n_rows, at};
    p->n_rows += n;
    p->runs[p->n_runs] = (row_run){p->n_rows, -1};
    return ERR_OK;
}

size_t part_find(const row_part *p, int64_t r) {
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

bool part_has(const row_part *p, int64_t at) {
    size_t low = 0, high = p->n_runs;
    while (high > low) {
        size_t middle = low + (high - low) / 2;
        const row_run *run = &p->runs[middle];
        if (at < run->at)
            high = middle;
        else if (at >= run->at + run[1].first - run->first)
            low = middle + 1;
        else
            return true;
    }
    return false;
}

void part_release(row_part *p) {
    free(p->runs);
    *p = (row_part){0};
}

/* ---- pieces ---- */

static err_code pieces_add(row_pieces *p, int64_t end, err *e) {
    err_code rc = mem_grow(&p->ends, &p->cap, p->n + 1, sizeof *p->ends, "documents", e);
    if (!rc) p->ends[p->n++] = end;
    return rc;
}

err_code pieces_of_texts(const token_corpus *k, const uint64_t *row_token, int64_t n_rows, row_pieces *out, err *e) {
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

err_code pieces_of_blocks(int64_t n_rows, row_pieces *out, err *e) {
    err_code rc = ERR_OK;
    for (int64_t row = 0; row < n_rows && !rc; row += BLOCK_ROWS)
        rc = pieces_add(out, n_rows - row < BLOCK_ROWS ? n_rows : row + BLOCK_ROWS, e);
    return rc;
}

void pieces_release(row_pieces *p) {
    free(p->ends);
    free(p->is_long);
    *p = (row_pieces){0};
}

/* ---- the split ---- */

/* Piece i without its long rows. */
static err_code add_piece(row_part *to, const row_pieces *p, size_t i, err *e) {
    int64_t first = i ? p->ends[i - 1] : 0, end = p->ends[i];
    err_code rc = ERR_OK;
    for (int64_t row = first; row <= end && !rc; row++) {
        if (row < end && !(p->is_long && p->is_long[row])) continue;
        rc = part_add(to, first, row - first, e);
        first = row + 1;
    }
    return rc;
}

err_code split_pieces(const row_pieces *p, double share, row_part *train, row_part *held_out, err *e) {
    uint64_t *order = NULL, wanted;
    bool *held = NULL;
    err_code rc;
    if (!(share >= 0 && share < 1))
        return err_set(e, ERR_USAGE, "held-out share: expected a number from 0 up to but not 1, found %g", share);
    wanted = (uint64_t)llround(share * (double)p->n);
    if (share > 0 && wanted == 0) wanted = 1;
    if (wanted >= p->n) wanted = p->n - 1;
    TRY(mem_new(&order, p->n, sizeof *order, "the split", e));
    TRY(mem_new0(&held, p->n, sizeof *held, "the split", e));
    for (size_t i = 0; i < p->n; i++) order[i] = i;
    rng r = rng_stream(0, RNG_SPLIT, 0);
    rng_permute(&r, order, p->n);
    for (uint64_t i = 0; i < wanted && i < p->n; i++) held[order[i]] = true;
    for (size_t i = 0; i < p->n; i++) TRY(add_piece(held[i] ? held_out : train, p, i, e));
done:
    free(order);
    free(held);
    return rc;
}

err_code corpus_keep_held_out(token_corpus *k, int64_t skip_first, double share, err *e) {
    corpus_rows rows = {0};
    row_pieces p = {0};
    row_part train = {0}, held = {0};
    bool *kept = NULL;
    err_code rc;
    TRY(corpus_rows_number(k, skip_first, INT64_MAX, &rows, e));
    TRY(pieces_of_texts(k, rows.token, rows.n, &p, e));
    TRY(split_pieces(&p, share, &train, &held, e));
    if (!held.n_rows) goto done;
    TRY(mem_new(&kept, (size_t)k->n_docs, sizeof *kept, "documents", e));
    for (int64_t doc = 0; doc < k->n_docs; doc++)
        kept[doc] = rows.first[doc + 1] > rows.first[doc] && part_has(&held, rows.first[doc]);
    corpus_keep(k, kept);
done:
    free(kept);
    corpus_rows_release(&rows);
    pieces_release(&p);
    part_release(&train);
    part_release(&held);
    return rc;
}
