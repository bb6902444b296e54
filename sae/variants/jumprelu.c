/* jumprelu: f = ReLU(pre) where pre > threshold, strictly, else 0; a threshold of its own for every latent. A negative
 * threshold leaves the ReLU. Rajamanoharan et al. 2024, "Jumping ahead", section 3. */
#include "sae/variants/variants.h"

static int64_t capacity(const sae_config *cfg) { return cfg->d_sae; }

static void scan(const sparse_kernels *k, const sae *s, const float *scores, int64_t first, int64_t n, row_picks *p) {
    p->n += k->scan_above_each(scores, s->b_enc + first, s->threshold + first, n, (uint32_t)first, p->values + p->n,
                               p->indices + p->n);
}

static void finish(const sparse_kernels *k, const sae *s, row_picks *p) { (void)k, (void)s, (void)p; }

const sae_variant sae_jumprelu = {
    .name = "jumprelu",
    .help = "every latent whose score exceeds its own threshold",
    .paper = "Rajamanoharan et al. 2024, Jumping ahead: improving reconstruction fidelity with JumpReLU",
    .uses_threshold = true,
    .capacity = capacity,
    .scan = scan,
    .finish = finish,
};
