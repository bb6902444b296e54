/* jumprelu: f = ReLU(pre) where pre > threshold, strictly, else 0; a threshold of its own for every latent. A negative
 * threshold leaves the ReLU. Rajamanoharan et al. 2024, "Jumping ahead", section 3. */
#include "sae/variants/training.h"

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

/* ---- training ----
 * Loss: sum ||u||^2 + sparsity sum_ri 1[pre_ri > theta_i]. A step function has no gradient; the estimator of section 3 gives
 * theta one from the rows whose score is near it, K(z) = 1[|z| < 1/2] with z = (pre - theta) / bandwidth:
 *
 *   d f / d theta = -(theta / bandwidth) K(z)       d 1[pre > theta] / d theta = -(1 / bandwidth) K(z)
 *
 * and pre none. What is trained is log theta, so that theta stays positive. */

/* other: scores within the window, which counts them once each; f: those above the threshold. Both come from one pass over
 * v = pre - theta + bandwidth / 2 > 0. */
static err_code split(train_batch *b, const sparse_acts *v, err *e) {
    sparse_acts *f = &b->f.by_row, *window = &b->other.by_row;
    float bandwidth = (float)b->rules->bandwidth, half = bandwidth / 2;
    int64_t n_f = 0, n_window = 0;
    sparse_reset(f);
    sparse_reset(window);
    err_code rc = sparse_reserve(f, b->n, v->indptr[b->n], e);
    if (!rc) rc = sparse_reserve(window, b->n, v->indptr[b->n], e);
    if (rc) return rc;
    for (int64_t r = 0; r < b->n; r++) {
        for (int64_t j = v->indptr[r]; j < v->indptr[r + 1]; j++) {
            uint32_t i = v->indices[j];
            f->values[n_f] = v->values[j] + (b->s->threshold[i] - half);
            window->values[n_window] = 1;
            f->indices[n_f] = window->indices[n_window] = i;
            n_f += v->values[j] > half;
            n_window += v->values[j] < bandwidth;
        }
        f->indptr[r + 1] = n_f;
        window->indptr[r + 1] = n_window;
    }
    f->n_rows = window->n_rows = b->n;
    return ERR_OK;
}

static err_code choose(train_batch *b, err *e) {
    const sae *s = b->s;
    float *bias = train_batch_vector(b, 0, e), half = (float)b->rules->bandwidth / 2;
    sparse_acts v = {0};
    if (!bias) return ERR_NOMEM;
    for (int64_t i = 0; i < s->cfg.d_sae; i++) bias[i] = s->b_enc[i] - s->threshold[i] + half;
    const sae part = {
        .cfg = {.variant = &sae_standard, .d_in = s->cfg.d_in, .d_sae = s->cfg.d_sae}, .W_enc = s->W_enc, .b_enc = bias};
    err_code rc = train_batch_encode(b, &part, &v, e);
    if (!rc) rc = split(b, &v, e);
    sparse_release(&v);
    return rc;
}

static err_code add_terms(train_batch *b, err *e) {
    (void)e;
    b->sparsity = b->rules->sparsity * b->unit * (double)b->f.by_row.indptr[b->n];
    b->terms[b->n_terms++] = (loss_term){
        .set = &b->other.by_latent, .e = b->u, .scale = b->terms[0].scale, .end = b->s->cfg.d_sae, .sum_only = true};
    return ERR_OK;
}

/* d loss / d log theta = theta d loss / d theta */
static void complete(const train_batch *b, int64_t i, latent_gradient *g) {
    float theta = b->s->threshold[i], each = (float)(b->rules->sparsity * b->unit);
    float n = (float)inverted_latent(&b->other.by_latent, i).n;
    g->threshold = -(theta / (float)b->rules->bandwidth) * (each * n + theta * g->sums[1]);
}

const sae_training sae_training_jumprelu = {
    .name = "jumprelu",
    .help = "a threshold for each latent, trained with an L0 penalty",
    .paper = "Rajamanoharan et al. 2024, Jumping ahead: improving reconstruction fidelity with JumpReLU",
    .variant = &sae_jumprelu,
    .options = TRAINS_SPARSITY | TRAINS_L0 | TRAINS_BANDWIDTH,
    .unit_decoder = true,
    .uses_other = true,
    .trains_threshold = true,
    .threshold = 1, /* rows come with E ||x||^2 = d, so scores begin as normal numbers: a sixth of them is above */
    .choose = choose,
    .add_terms = add_terms,
    .complete = complete,
};
