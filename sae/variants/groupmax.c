/* groupmax: latents in k groups of d_sae / k neighbours; the largest of each group fires if it is positive, the lower index
 * winning a tie. Eleuther AI's sparsify, `activation: groupmax`. */
#include "sae/variants/variants.h"

static err_code check(const sae_config *cfg, err *e) {
    if (cfg->d_sae % cfg->k == 0) return ERR_OK;
    return err_set(e, ERR_FORMAT, "groupmax: expected a k that divides d_sae = %lld, found %lld", (long long)cfg->d_sae,
                   (long long)cfg->k);
}

static int64_t capacity(const sae_config *cfg) { return cfg->k + SAE_TILE_LATENTS; }

static void scan(const sparse_kernels *k, const sae *s, const float *scores, int64_t first, int64_t n, row_picks *p) {
    int64_t size = s->cfg.d_sae / s->cfg.k, old = p->n, kept = old;
    int64_t end = old + k->scan_above(scores, s->b_enc + first, n, 0, (uint32_t)first, p->values + old, p->indices + old);
    for (int64_t j = old; j < end; j++) {
        bool same = kept && p->indices[kept - 1] / size == p->indices[j] / size; /* its group began in this tile or before */
        if (same && p->values[j] <= p->values[kept - 1]) continue;
        kept += !same;
        p->values[kept - 1] = p->values[j];
        p->indices[kept - 1] = p->indices[j];
    }
    p->n = kept;
}

static void finish(const sparse_kernels *k, const sae *s, row_picks *p) { (void)k, (void)s, (void)p; }

const sae_variant sae_groupmax = {
    .name = "groupmax",
    .help = "the largest latent of each of k groups of neighbours",
    .paper = "EleutherAI, sparsify: the activation groupmax",
    .uses_k = true,
    .check = check,
    .capacity = capacity,
    .scan = scan,
    .finish = finish,
};
