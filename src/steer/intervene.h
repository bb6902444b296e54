/* intervene.h — changing what flows through a layer along feature directions, as a model hook.
 *
 *   clamp        x <- x + (value - f_i(x)) W_dec_i     the SAE's error is kept: only feature i moves
 *   add          x <- x + value W_dec_i
 *   scale        x <- x + (value - 1) f_i(x) W_dec_i
 *   ablate       x <- x - f_i(x) W_dec_i               clamp at 0
 *   ablate_mean  x <- x + (mean_i - f_i(x)) W_dec_i
 *   direction    x <- x + value u                      u a unit vector [d_model]: baselines
 *
 * Where the SAE normalises each row, W_dec_i stands for what a latent of 1 moves this row by: W_dec_i times its scale.
 *
 * f_i(x) is the SAE's real code of the row as it arrives, before any intervention of the list (for topk: 0 unless i is among
 * the k largest). Several interventions on a row add up, so two clamps of one feature are not one.
 * Each sequence of a batch has its own list (a sweep runs all strengths at once). Rows longer than the SAE's max_norm and positions below skip_first (the attention
 * sink) are never changed. Only rows that some intervention needs a code of are encoded.
 * Counts what it changed: an intervention that never fired is the caller's error to report.
 *
 * Threads: one forward pass at a time per intervene; results do not depend on the thread count.
 * Errors: ERR_USAGE (feature, value), ERR_MISMATCH (rows of another width than the SAE's), ERR_NOMEM.
 * Source: clamping with the error kept is Templeton et al. 2024, "Scaling Monosemanticity", Methods for steering.
 */
#ifndef STEER_INTERVENE_H
#define STEER_INTERVENE_H

#include "model/hooks.h"
#include "sae/sae.h"

typedef struct intervention intervention;

/* How to add one: a row in the table in interventions.c. */
typedef struct intervention_kind {
    const char *name, *help;
    bool needs_feature;                                /* moves along the feature's decoder row; false: along `direction` */
    bool needs_value;                                  /* `value` means something */
    bool reads_code;                                   /* amount depends on f_i: the row is encoded first */
    float (*amount)(const intervention *v, float f_i); /* how far to move along the direction */
} intervention_kind;

extern const intervention_kind intervention_kinds[];
extern const int n_intervention_kinds;
const intervention_kind *intervention_kind_by_name(const char *name, err *e); /* NULL with the names there are */

struct intervention {
    const intervention_kind *kind;
    int64_t feature;        /* of the SAE; ignored by direction */
    float value;            /* in the feature's own units (activation), or length for direction */
    float mean;             /* ablate_mean only: the feature's mean activation */
    const float *direction; /* direction only: unit vector [d_model], borrowed */
};

typedef struct intervention_list {
    const intervention *items;
    int n;
} intervention_list;

typedef struct intervene {
    const sae *sae; /* may be NULL when only directions are used */
    hook_point at;
    const intervention_list *per_seq; /* [n_seqs], borrowed; sequences beyond it are left alone */
    int64_t n_seqs;
    int64_t skip_first;
    int64_t positions_changed; /* out: rows where some intervention moved x by more than nothing */
    int64_t *changed_per_seq;  /* out, [n_seqs]: the same for each sequence, added up; borrowed, may be NULL */
    sparse_acts acts;          /* scratch */
    int64_t *picked;           /* scratch: rows of the batch with a list, those to be encoded first */
    uint8_t *moved;            /* scratch: [picked] */
    float *rows;               /* scratch: the rows to be encoded */
    size_t cap_picked, cap_moved, cap_rows;
} intervene; /* zero-initialise */

/* Checks features against the SAE (ERR_USAGE: "feature 9000 does not exist, the SAE has 0 .. 8191"). Borrows v. */
err_code intervene_hook(intervene *v, model_hook *out, err *e);
void intervene_release(intervene *v);

#endif
