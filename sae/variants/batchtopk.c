/* batchtopk: the k n largest of ReLU(pre) over the whole batch of n rows, all others 0; the first wins a tie.
 * Bussmann et al. 2024, "BatchTopK sparse autoencoders", section 3. A row alone has no batch: for use a threshold stands for the
 * choice, an average of the smallest value that fired in each batch, and the result is a jumprelu with that threshold.
 *
 * Candidates are the scores above a floor a little below what fired last time. If they are enough, the largest k n are among
 * them whatever the floor was; if not, the floor is lowered. So memory stays near k n, and the floor changes no result. */
#include "core/mem.h"
#include "sae/variants/training.h"

#include <stdlib.h>
#include <string.h>

enum { SAMPLED_ROWS = 256 };
static const float BELOW = 0.9f; /* floor of a batch as a share of the smallest value that fired in the last */

/* Scores above the floor, of the first n rows. */
static err_code candidates(train_batch *b, float floor, int64_t n, err *e) {
    float *floors = train_batch_vector(b, 0, e);
    if (!floors) return ERR_NOMEM;
    for (int64_t i = 0; i < b->s->cfg.d_sae; i++) floors[i] = floor;
    sae part = {.cfg = b->s->cfg, .W_enc = b->s->W_enc, .b_enc = b->s->b_enc, .threshold = floors};
    part.cfg.variant = &sae_jumprelu;
    train_batch some = *b;
    some.n = n;
    return train_batch_encode(&some, &part, &b->f.by_row, e);
}

/* Leaves the `wanted` largest of the nnz values of f. */
static err_code keep_largest(train_batch *b, int64_t wanted, err *e) {
    sparse_acts *f = &b->f.by_row;
    int64_t nnz = f->indptr[f->n_rows], kept = 0;
    float *values = NULL;
    uint32_t *places = NULL;
    err_code rc;
    if (nnz <= wanted) return ERR_OK;
    TRY(mem_new(&values, (size_t)nnz, sizeof *values, "scores of a batch", e));
    TRY(mem_new(&places, (size_t)nnz, sizeof *places, "scores of a batch", e));
    memcpy(values, f->values, (size_t)nnz * sizeof *values);
    for (int64_t i = 0; i < nnz; i++) places[i] = (uint32_t)i;
    b->k->keep_largest(values, places, nnz, wanted);
    for (int64_t r = 0; r < f->n_rows; r++) {
        int64_t end = f->indptr[r + 1];
        for (; kept < wanted && places[kept] < end; kept++) {
            f->values[kept] = values[kept];
            f->indices[kept] = f->indices[places[kept]];
        }
        f->indptr[r + 1] = kept;
    }
done:
    free(values);
    free(places);
    return rc;
}

static float smallest(const sparse_acts *f) {
    int64_t nnz = f->indptr[f->n_rows];
    float low = nnz ? f->values[0] : 0;
    for (int64_t i = 1; i < nnz; i++) low = f->values[i] < low ? f->values[i] : low;
    return low;
}

/* A floor from the first rows alone, about half as many again as fire. */
static err_code guess_floor(train_batch *b, err *e) {
    int64_t n = b->n < SAMPLED_ROWS ? b->n : SAMPLED_ROWS, some = b->rules->k * n + b->rules->k * n / 2;
    err_code rc = candidates(b, 0, n, e);
    bool enough = !rc && b->f.by_row.indptr[n] > some;
    if (enough) rc = keep_largest(b, some, e);
    b->floor = enough ? smallest(&b->f.by_row) : 0;
    return rc;
}

err_code choose_batchtopk(train_batch *b, err *e) {
    int64_t wanted = b->rules->k * b->n;
    err_code rc;
    if (!(b->floor > 0)) TRY(guess_floor(b, e));
    TRY(candidates(b, b->floor, b->n, e));
    while (b->floor > 0 && b->f.by_row.indptr[b->n] < wanted) {
        b->floor = b->floor > 1e-3f ? b->floor / 2 : 0;
        TRY(candidates(b, b->floor, b->n, e));
    }
    TRY(keep_largest(b, wanted, e));
    b->floor = BELOW * smallest(&b->f.by_row);
done:
    return rc;
}

/* The first batch sets the threshold; a batch on which nothing fires leaves it. All latents share it. */
void update_threshold(train_batch *b) {
    float low = smallest(&b->f.by_row), keep = (float)b->rules->threshold_keep, *threshold = b->s->threshold;
    if (low == 0) return;
    float next = threshold[0] > 0 ? keep * threshold[0] + (1 - keep) * low : low;
    for (int64_t i = 0; i < b->s->cfg.d_sae; i++) threshold[i] = next;
}

const sae_training sae_training_batchtopk = {
    .name = "batchtopk",
    .help = "the k largest latents a row on average over the batch; a threshold for use",
    .paper = "Bussmann et al. 2024, BatchTopK sparse autoencoders",
    .variant = &sae_jumprelu,
    .options = TRAINS_K | TRAINS_L0 | TRAINS_AUXK,
    .subtracts_b_dec = true,
    .unit_decoder = true,
    .beta1 = 0.9,
    .choose = choose_batchtopk,
    .after = update_threshold,
};
