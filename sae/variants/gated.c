/* gated: f = 1[s + b_gate > 0] ReLU(s exp(r_mag) + b_mag), s = (x - a b_dec) W_enc^T: one matrix both opens the gate, strictly
 * above 0, and gives the magnitude. b_enc holds b_mag.
 * Rajamanoharan et al. 2024, "Improving dictionary learning with gated sparse autoencoders", section 3.2. */
#include "sae/variants/variants.h"

#include <math.h>

static int64_t capacity(const sae_config *cfg) { return cfg->d_sae; }

static void scan(const sparse_kernels *k, const sae *s, const float *scores, int64_t first, int64_t n, row_picks *p) {
    float *values = p->values + p->n;
    uint32_t *indices = p->indices + p->n;
    int64_t open = k->scan_above(scores, s->b_gate + first, n, 0, (uint32_t)first, values, indices), kept = 0;
    for (int64_t j = 0; j < open; j++) {
        uint32_t i = indices[j];
        float magnitude = scores[i - first] * expf(s->r_mag[i]) + s->b_enc[i];
        values[kept] = magnitude;
        indices[kept] = i;
        kept += magnitude > 0;
    }
    p->n += kept;
}

static void finish(const sparse_kernels *k, const sae *s, row_picks *p) { (void)k, (void)s, (void)p; }

const sae_variant sae_gated = {
    .name = "gated",
    .help = "every latent whose gate is open, with a magnitude of its own",
    .paper = "Rajamanoharan et al. 2024, Improving dictionary learning with gated sparse autoencoders",
    .uses_gate = true,
    .capacity = capacity,
    .scan = scan,
    .finish = finish,
};
