/* standard: f = ReLU(pre). Cunningham et al. 2023, "Sparse autoencoders find highly interpretable features in language
 * models"; Bricken et al. 2023, "Towards monosemanticity". */
#include "sae/variants/training.h"

#include <math.h>

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

/* ---- training ----
 * Loss: sum ||u||^2 + sparsity sum_ri f_ri ||W_dec_i||, the norm differentiated too, so that the decoder need not be held at
 * length 1. Conerly et al. 2024, "Update on how we train SAEs" (Transformer Circuits, April 2024). */

static err_code choose(train_batch *b, err *e) { return train_batch_encode(b, b->s, &b->f.by_row, e); }

static float weight(const train_batch *b) { return (float)(b->rules->sparsity * b->unit); }

static float sum_of(const inverted_acts *set, int64_t i) {
    latent_rows fired = inverted_latent(set, i);
    double sum = 0;
    for (int64_t r = 0; r < fired.n; r++) sum += (double)fired.values[r];
    return (float)sum;
}

/* offset_i = sparsity ||W_dec_i|| */
static err_code add_terms(train_batch *b, err *e) {
    float *offset = train_batch_vector(b, 0, e), *sums = train_batch_vector(b, 1, e);
    int64_t d = b->s->cfg.d_out;
    if (!offset || !sums) return ERR_NOMEM;
#pragma omp parallel for num_threads(b->c->threads)
    for (int64_t i = 0; i < b->s->cfg.d_sae; i++) {
        const float *w = b->s->W_dec + i * d;
        offset[i] = weight(b) * sqrtf(b->k->dot(w, w, d));
        sums[i] = sum_of(&b->f.by_latent, i);
    }
    for (int64_t i = 0; i < b->s->cfg.d_sae; i++) b->sparsity += (double)offset[i] * (double)sums[i];
    b->terms[0].offset = offset;
    return ERR_OK;
}

/* The gradient of ||W_dec_i||. */
static void complete(const train_batch *b, int64_t i, latent_gradient *g) {
    const float *w = b->s->W_dec + i * b->s->cfg.d_out;
    float norm = sqrtf(b->k->dot(w, w, b->s->cfg.d_out)), share = norm > 0 ? weight(b) * b->vector[1][i] / norm : 0;
    uint32_t row = 0;
    b->k->add_rows(g->dec, b->s->cfg.d_out, w, &row, &share, 1);
}

const sae_training sae_training_standard = {
    .name = "standard",
    .help = "ReLU with an L1 penalty weighted by the decoder's norms",
    .paper = "Conerly et al. 2024, Update on how we train SAEs",
    .variant = &sae_standard,
    .options = TRAINS_SPARSITY | TRAINS_L0,
    .beta1 = 0.9,
    .choose = choose,
    .add_terms = add_terms,
    .complete = complete,
};
