#include "sae/eval/recon.h"
#include "core/mem.h"
#include "sae/eval/bootstrap.h"

#include <math.h>
#include <stdlib.h>

/* Sums of a group, and what becomes of them. */
enum { ROWS, FIRED, ANGLES, COSINE, NORM_RATIO, ERROR, SPREAD, N_SUMS };
enum { FVU, L0, MEAN_COSINE, MEAN_RATIO, N_VALUES };

static void statistic(const double *sums, double *values) {
    values[FVU] = sums[SPREAD] > 0 ? sums[ERROR] / sums[SPREAD] : (double)NAN;
    values[L0] = sums[FIRED] / sums[ROWS];
    values[MEAN_COSINE] = sums[COSINE] / sums[ANGLES];
    values[MEAN_RATIO] = sums[NORM_RATIO] / sums[ANGLES];
}

/* ---- life ---- */

err_code recon_init(recon *r, const sae *s, int64_t n_groups, err *e) {
    *r = (recon){.sae = s};
    err_code rc;
    TRY(sae_check_autoencoder(s, e));
    TRY(mem_new0(&r->fires, (size_t)s->cfg.d_sae, sizeof *r->fires, "counts of latents", e));
    TRY(mem_new0(&r->groups, (size_t)n_groups, sizeof *r->groups, "sums over documents", e));
    for (; r->n_groups < n_groups; r->n_groups++) TRY(fvu_init(&r->groups[r->n_groups], s->cfg.d_in, e));
done:
    if (rc) recon_release(r);
    return rc;
}

void recon_release(recon *r) {
    for (int64_t g = 0; g < r->n_groups; g++) fvu_release(&r->groups[g]);
    free(r->groups);
    free(r->fires);
    free(r->x_hat);
    free(r->runs);
    sparse_release(&r->acts);
    *r = (recon){0};
}

/* ---- rows ---- */

/* runs [n_runs + 1]: where the group changes. */
static err_code find_runs(recon *r, const int32_t *group, int64_t n, int64_t *n_runs, err *e) {
    err_code rc = mem_grow(&r->runs, &r->cap_runs, (size_t)n + 1, sizeof *r->runs, "rows", e);
    if (rc) return rc;
    *n_runs = 0;
    for (int64_t i = 0; i < n; i++)
        if (i == 0 || group[i] != group[i - 1]) r->runs[(*n_runs)++] = i;
    r->runs[*n_runs] = n;
    return ERR_OK;
}

err_code recon_add(const ctx *c, recon *r, const float *x, const int32_t *group, int64_t n, err *e) {
    int64_t d = r->sae->cfg.d_in, n_runs;
    err_code rc;
    if (!n) return ERR_OK;
    TRY(mem_grow(&r->x_hat, &r->cap_x_hat, (size_t)n, (size_t)d * sizeof *r->x_hat, "reconstruction", e));
    TRY(find_runs(r, group, n, &n_runs, e));
    TRY(sae_encode(c, r->sae, x, n, &r->acts, e));
    TRY(sae_reconstruct(c, r->sae, &r->acts, x, r->x_hat, e));
    for (int64_t i = 0; i < r->acts.indptr[n]; i++) r->fires[r->acts.indices[i]]++;
#pragma omp parallel for num_threads(c->threads) schedule(dynamic)
    for (int64_t k = 0; k < n_runs; k++) { /* groups ascend, so each run is a group of its own */
        int64_t first = r->runs[k], end = r->runs[k + 1];
        fvu_add(&r->groups[group[first]], x + first * d, r->x_hat + first * d, end - first,
                r->acts.indptr[end] - r->acts.indptr[first]);
    }
    r->n_rows += n;
done:
    return rc;
}

/* ---- results ---- */

static err_code merge(const recon *r, fvu_sums *all, err *e) {
    err_code rc = fvu_init(all, r->sae->cfg.d_in, e);
    for (int64_t g = 0; !rc && g < r->n_groups; g++) fvu_merge(all, &r->groups[g]);
    return rc;
}

err_code recon_mean(const recon *r, float *mean, err *e) {
    fvu_sums all = {0};
    err_code rc = merge(r, &all, e);
    for (int64_t j = 0; !rc && j < all.d; j++) mean[j] = (float)all.mean[j];
    fvu_release(&all);
    return rc;
}

static void sums_of(const fvu_sums *g, const double *mean, double *sums) {
    sums[ROWS] = (double)g->n_rows;
    sums[FIRED] = (double)g->n_fired;
    sums[ANGLES] = (double)g->n_angles;
    sums[COSINE] = g->cosine;
    sums[NORM_RATIO] = g->norm_ratio;
    for (int64_t j = 0; j < g->d; j++) {
        double off = g->mean[j] - mean[j]; /* the group's spread about its own mean, moved to the mean of all */
        sums[ERROR] += g->error[j];
        sums[SPREAD] += g->spread[j] + (double)g->n_rows * off * off;
    }
}

static void count_densities(const recon *r, recon_result *out) {
    int64_t dead = 0;
    for (int64_t i = 0; i < r->sae->cfg.d_sae; i++) {
        if (!r->fires[i]) {
            dead++;
            continue;
        }
        int bin = (int)floor(RECON_BINS_PER_DECADE * (log10((double)r->fires[i] / (double)r->n_rows) + RECON_DECADES));
        out->density[bin < 0 ? 0 : bin >= RECON_BINS ? RECON_BINS - 1 : bin]++;
    }
    out->dead = stats_wilson(dead, r->sae->cfg.d_sae);
}

double recon_bin_low(int bin) { return pow(10, (double)bin / RECON_BINS_PER_DECADE - RECON_DECADES); }

err_code recon_finish(const ctx *c, const recon *r, uint64_t seed, recon_result *out, err *e) {
    fvu_sums all = {0};
    double *sums = NULL;
    interval values[N_VALUES];
    err_code rc;
    *out = (recon_result){.rows = r->n_rows};
    TRY(merge(r, &all, e));
    TRY(mem_new0(&sums, (size_t)r->n_groups, N_SUMS * sizeof *sums, "sums over documents", e));
    for (int64_t g = 0; g < r->n_groups; g++) sums_of(&r->groups[g], all.mean, sums + g * N_SUMS);
    TRY(bootstrap_intervals(c, sums, r->n_groups, N_SUMS, statistic, N_VALUES, seed, values, e));
    out->fvu = values[FVU];
    out->l0 = values[L0];
    out->cosine = values[MEAN_COSINE];
    out->norm_ratio = values[MEAN_RATIO];
    count_densities(r, out);
done:
    fvu_release(&all);
    free(sums);
    return rc;
}
