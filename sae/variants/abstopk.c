/* abstopk: the k scores of largest magnitude, with their signs, all others 0; the lower index wins a tie.
 * Zhu et al. 2025, "AbsTopK: rethinking sparse autoencoders for bidirectional features".
 *
 * While a row is scanned its picks hold |pre|, as topk's hold pre, and the sign is the index's highest bit. */
#include "sae/variants/variants.h"

#include <math.h>

static const uint32_t negative = UINT32_C(1) << 31;

static err_code check(const sae_config *cfg, err *e) {
    if (cfg->d_sae <= INT32_MAX) return ERR_OK;
    return err_set(e, ERR_UNSUPPORTED, "abstopk: expected a d_sae below 2^31, found %lld", (long long)cfg->d_sae);
}

static int64_t capacity(const sae_config *cfg) { return 2 * cfg->k + SAE_TILE_LATENTS; }

static void keep_k(const sparse_kernels *k, const sae *s, row_picks *p) {
    p->floor = k->keep_largest(p->values, p->indices, p->n, s->cfg.k);
    p->n = s->cfg.k;
}

static void scan(const sparse_kernels *k, const sae *s, const float *scores, int64_t first, int64_t n, row_picks *p) {
    for (int64_t j = 0; j < n; j++) {
        float pre = scores[j] + s->b_enc[first + j], size = fabsf(pre);
        p->values[p->n] = size;
        p->indices[p->n] = (uint32_t)(first + j) | (pre < 0 ? negative : 0);
        p->n += size > p->floor;
    }
    if (p->n > 2 * s->cfg.k) keep_k(k, s, p);
}

static void finish(const sparse_kernels *k, const sae *s, row_picks *p) {
    if (p->n > s->cfg.k) keep_k(k, s, p);
    int64_t kept = 0;
    for (int64_t i = 0; i < p->n; i++) {
        p->values[kept] = p->indices[i] & negative ? -p->values[i] : p->values[i];
        p->indices[kept] = p->indices[i] & ~negative;
        kept += p->values[kept] != 0;
    }
    p->n = kept;
}

const sae_variant sae_abstopk = {
    .name = "abstopk",
    .help = "the k latents of largest magnitude of every row, with their signs",
    .paper = "Zhu et al. 2025, AbsTopK: rethinking sparse autoencoders for bidirectional features",
    .uses_k = true,
    .signed_values = true,
    .check = check,
    .capacity = capacity,
    .scan = scan,
    .finish = finish,
};
