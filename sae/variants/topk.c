/* topk: f = ReLU of the k largest of pre, all others 0; the lower index wins a tie.
 * Gao et al. 2024, "Scaling and evaluating sparse autoencoders", section 2.3. Differs: has b_enc.
 *
 * No sorting: a row keeps at most 2k candidates, and the k-th best of them so far is what a later score must exceed. */
#include "sae/variants/variants.h"

static int64_t capacity(const sae_config *cfg) { return 2 * cfg->k + SAE_TILE_LATENTS; }

static void scan(const sparse_kernels *k, const sae *s, const float *scores, int64_t first, int64_t n, row_picks *p) {
    p->n += k->scan_above(scores, s->b_enc + first, n, p->floor, (uint32_t)first, p->values + p->n, p->indices + p->n);
    if (p->n > 2 * s->cfg.k) {
        p->floor = k->keep_largest(p->values, p->indices, p->n, s->cfg.k);
        p->n = s->cfg.k;
    }
}

static void finish(const sparse_kernels *k, const sae *s, row_picks *p) {
    if (p->n > s->cfg.k) {
        k->keep_largest(p->values, p->indices, p->n, s->cfg.k);
        p->n = s->cfg.k;
    }
    int64_t positive = 0;
    for (int64_t i = 0; i < p->n; i++) {
        p->values[positive] = p->values[i];
        p->indices[positive] = p->indices[i];
        positive += p->values[i] > 0;
    }
    p->n = positive;
}

const sae_variant sae_topk = {
    .name = "topk",
    .help = "the k largest latents of every row, ReLU; AuxK revives dead ones in training",
    .paper = "Gao et al. 2024, Scaling and evaluating sparse autoencoders",
    .uses_k = true,
    .trains = true,
    .capacity = capacity,
    .scan = scan,
    .finish = finish,
};
