/* split.h — rows set apart for evaluation, by pieces that stay together: whole texts, or blocks where there are none.
 *
 * Rows are numbered through a file, or a corpus as a capture would write it. The split depends on the pieces and the share
 * alone, on no seed, so that runs are judged on the same rows.
 */
#ifndef ACTIVATIONS_SPLIT_H
#define ACTIVATIONS_SPLIT_H

#include "activations/tokens.h"

#include <stddef.h>

enum { BLOCK_ROWS = 256 };

/* Rows of one part (training, held-out) that stand together. */
typedef struct row_run {
    int64_t first; /* number of its first row within the part */
    int64_t at;    /* the same row's number in the whole */
} row_run;

typedef struct row_part {
    row_run *runs; /* [n_runs + 1], the last one an end mark */
    size_t n_runs, cap;
    int64_t n_rows;
} row_part; /* zero-initialise */

size_t part_find(const row_part *p, int64_t r); /* the run that holds row r of the part */
bool part_has(const row_part *p, int64_t at);   /* whether it holds row `at` of the whole */
void part_release(row_part *p);

/* Piece i is rows ends[i-1] .. ends[i]-1, but for those that are too long. */
typedef struct row_pieces {
    int64_t *ends;
    size_t n, cap;
    uint8_t *is_long; /* [rows of the whole]; NULL: none is */
} row_pieces;         /* zero-initialise */

/* Windows of one text stay together. row_token: row -> token of the corpus */
err_code pieces_of_texts(const token_corpus *k, const uint64_t *row_token, int64_t n_rows, row_pieces *out, err *e);
err_code pieces_of_blocks(int64_t n_rows, row_pieces *out, err *e);
void pieces_release(row_pieces *p);

/* Draws the share of pieces without replacement; at least one, and never all, when there is a choice. ERR_USAGE: no share. */
err_code split_pieces(const row_pieces *p, double share, row_part *train, row_part *held_out, err *e);

/* Leaves of the corpus the documents whose rows a source of it holds out; all of them where it holds out none. */
err_code corpus_keep_held_out(token_corpus *k, int64_t skip_first, double share, err *e);

#endif
