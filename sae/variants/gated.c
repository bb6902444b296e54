/* gated: f = 1[s + b_gate > 0] ReLU(s exp(r_mag) + b_mag), s = (x - a b_dec) W_enc^T: one matrix both opens the gate, strictly
 * above 0, and gives the magnitude. b_enc holds b_mag.
 * Rajamanoharan et al. 2024, "Improving dictionary learning with gated sparse autoencoders", section 3.2. */
#include "core/mem.h"
#include "sae/decode.h"
#include "sae/variants/training.h"

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

/* ---- training ----
 * With pi = s + b_gate, the loss is  sum ||u||^2 + sparsity sum ReLU(pi) + sum ||ReLU(pi) W_dec + b_dec - x||^2,  where the last
 * term holds W_dec and b_dec fixed: it teaches the gates alone. 1[pi > 0] passes no gradient. */

/* other: ReLU(pi), where it is positive; f: those of them with a positive magnitude. */
static err_code split(train_batch *b, err *e) {
    const sparse_acts *open = &b->other.by_row;
    sparse_acts *f = &b->f.by_row;
    const sae *s = b->s;
    int64_t kept = 0;
    sparse_reset(f);
    err_code rc = sparse_reserve(f, b->n, open->indptr[b->n], e);
    if (rc) return rc;
    for (int64_t r = 0; r < b->n; r++) {
        for (int64_t j = open->indptr[r]; j < open->indptr[r + 1]; j++) {
            uint32_t i = open->indices[j];
            float magnitude = (open->values[j] - s->b_gate[i]) * b->vector[0][i] + s->b_enc[i];
            f->values[kept] = magnitude;
            f->indices[kept] = i;
            kept += magnitude > 0;
        }
        f->indptr[r + 1] = kept;
    }
    f->n_rows = b->n;
    return ERR_OK;
}

static err_code choose(train_batch *b, err *e) {
    const sae *s = b->s;
    const sae gates = {
        .cfg = {.variant = &sae_standard, .d_in = s->cfg.d_in, .d_sae = s->cfg.d_sae}, .W_enc = s->W_enc, .b_enc = s->b_gate};
    float *gain = train_batch_vector(b, 0, e);
    if (!gain) return ERR_NOMEM;
    for (int64_t i = 0; i < s->cfg.d_sae; i++) gain[i] = expf(s->r_mag[i]);
    err_code rc = train_batch_encode(b, &gates, &b->other.by_row, e);
    return rc ? rc : split(b, e);
}

static double sum_of(const sparse_acts *f) {
    double sum = 0;
    for (int64_t i = 0; i < f->indptr[f->n_rows]; i++) sum += (double)f->values[i];
    return sum;
}

static err_code add_terms(train_batch *b, err *e) {
    size_t size = (size_t)(b->n * b->s->cfg.d_out) * sizeof *b->r;
    float *offset = train_batch_vector(b, 1, e);
    double squares;
    if (!offset) return ERR_NOMEM;
    err_code rc = mem_grow(&b->r, &b->cap_r, size, 1, "residuals of gates", e);
    if (rc) return rc;
    train_batch_start(b, 0, b->n, b->r);
    rc = decode_add(b->c, b->s, &b->other.by_row, b->r, &squares, e);
    if (rc) return rc;
    for (int64_t i = 0; i < b->s->cfg.d_sae; i++) offset[i] = (float)(b->rules->sparsity * b->unit);
    b->sparsity = b->rules->sparsity * b->unit * sum_of(&b->other.by_row);
    b->gates = b->unit * squares;
    b->terms[0].gain = b->vector[0];
    b->terms[b->n_terms++] = (loss_term){.set = &b->other.by_latent,
                                         .e = b->r,
                                         .scale = (float)(2 * b->unit),
                                         .offset = offset,
                                         .end = b->s->cfg.d_sae,
                                         .keeps_decoder = true};
    return ERR_OK;
}

/* r_mag: sum_r p_r s_r exp(r_mag) = sum_r p_r (f_r - b_mag), and sum_r p_r f_r = <g_dec, W_dec_i>. */
static void complete(const train_batch *b, int64_t i, latent_gradient *g) {
    int64_t d = b->s->cfg.d_out;
    g->b_enc = g->sums[0];
    g->b_gate = g->sums[1];
    g->r_mag = b->k->dot(g->dec, b->s->W_dec + i * d, d) - b->s->b_enc[i] * g->sums[0];
}

const sae_training sae_training_gated = {
    .name = "gated",
    .help = "gates that open with an L1 penalty, magnitudes without one",
    .paper = "Rajamanoharan et al. 2024, Improving dictionary learning with gated sparse autoencoders",
    .variant = &sae_gated,
    .options = TRAINS_SPARSITY | TRAINS_L0,
    .subtracts_b_dec = true,
    .unit_decoder = true,
    .uses_other = true,
    .choose = choose,
    .add_terms = add_terms,
    .complete = complete,
};
