/* standard: f = ReLU(pre). Cunningham et al. 2023, "Sparse autoencoders find highly interpretable features in language
 * models"; Bricken et al. 2023, "Towards monosemanticity". */
#include "sae/variants/variants.h"

static int64_t capacity(const sae_config *cfg) { return cfg->d_sae; }

static void scan(const sparse_kernels *k, const sae *s, const float *scores, int64_t first, int64_t n, row_picks *p) {
    p->n += k->scan_above(scores, s->b_enc + first, n, 0, (uint32_t)first, p->values + p->n, p->indices + p->n);
}

static void finish(const sparse_kernels *k, const sae *s, row_picks *p) { (void)k, (void)s, (void)p; }

const sae_variant sae_standard = {
    .name = "standard",
    .help = "every latent with a positive score (ReLU)",
    .paper = "Bricken et al. 2023, Towards monosemanticity",
    .capacity = capacity,
    .scan = scan,
    .finish = finish,
};
