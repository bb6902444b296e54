/* recon.h — how well an SAE reconstructs rows, and how sparsely.
 *
 *   fvu         sum ||x - x_hat||^2 / sum ||x - mean x||^2            (sae/fvu.h)
 *   l0          latents that fire, a row
 *   cosine      mean of <x, x_hat> / (||x|| ||x_hat||)
 *   norm_ratio  mean of ||x_hat|| / ||x||
 *   dead        share of latents that fired on none of the rows
 *   density     how many latents fire on which share of the rows, RECON_BINS_PER_DECADE bins a decade
 *
 * Intervals, 95 %: bootstrap over groups of rows (documents; bootstrap.h), the mean of x held; for dead Wilson's, the latents
 * seen as a sample of those such a training makes.
 * Rows stream through recon_add. Memory: 3 d_in doubles a group; callers with many documents let several share a group.
 * Threads: one call at a time; results do not depend on the thread count. Errors: ERR_MISMATCH (width of rows), ERR_NOMEM.
 */
#ifndef SAE_EVAL_RECON_H
#define SAE_EVAL_RECON_H

#include "math/stats.h"
#include "sae/fvu.h"
#include "sae/sae.h"

enum {
    RECON_BINS_PER_DECADE = 5,
    RECON_DECADES = 7,
    RECON_BINS = RECON_BINS_PER_DECADE * RECON_DECADES,
    RECON_GROUPS_MAX = 512
};

typedef struct recon {
    const sae *sae;
    fvu_sums *groups; /* [n_groups] */
    int64_t n_groups, n_rows;
    int64_t *fires;   /* [d_sae] rows */
    sparse_acts acts; /* scratch, as the next */
    float *x_hat;
    int64_t *runs;
    size_t cap_x_hat, cap_runs;
} recon; /* zero-initialise; recon_release */

typedef struct recon_result {
    int64_t rows;
    interval fvu, l0, cosine, norm_ratio, dead;
    int64_t density[RECON_BINS]; /* latents that fire on 10^(b / 5 - 7) .. 10^((b + 1) / 5 - 7) of the rows */
} recon_result;

err_code recon_init(recon *r, const sae *s, int64_t n_groups, err *e);
void recon_release(recon *r);

/* group ascends over all calls together. */
err_code recon_add(const ctx *c, recon *r, const float *x /* [n, d_in] */, const int32_t *group /* [n] */, int64_t n, err *e);

err_code recon_mean(const recon *r, float *mean /* [d_in] of all rows */, err *e);
err_code recon_finish(const ctx *c, const recon *r, uint64_t seed, recon_result *out, err *e);

double recon_bin_low(int bin); /* share of rows at which a bin of density begins */

/* Rows first .. of an activation file, documents as groups; without `documents`, blocks of 256 rows. */
typedef struct recon_file_opts {
    const char *dataset; /* hook name or dataset; NULL: the SAE's hook, else the file's only one */
    bool held_out;       /* only the rows that a training with this seed kept out */
    uint64_t seed;
} recon_file_opts;

/* The rows of an activation file (activations/store.h). ERR_MISMATCH when they are not the SAE's. */
err_code recon_file(const ctx *c, const sae *s, const char *path, const recon_file_opts *o, recon_result *out, err *e);

#endif
