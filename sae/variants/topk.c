/* topk: f = ReLU of the k largest of pre, all others 0; the lower index wins a tie.
 * Gao et al. 2024, "Scaling and evaluating sparse autoencoders", section 2.3. Differs: has b_enc. */
#include "sae/variants/training.h"

static void finish(const sparse_kernels *k, const sae *s, row_picks *p) {
    (void)k, (void)s;
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
    .help = "the k largest latents of every row, ReLU",
    .paper = "Gao et al. 2024, Scaling and evaluating sparse autoencoders",
    .uses_k = true,
    .picks_largest = true,
    .finish = finish,
};

/* ---- training ---- */

static err_code choose(train_batch *b, err *e) { return train_batch_encode(b, b->s, &b->f.by_row, e); }

const sae_training sae_training_topk = {
    .name = "topk",
    .help = "the k largest latents of every row",
    .paper = "Gao et al. 2024, Scaling and evaluating sparse autoencoders",
    .variant = &sae_topk,
    .options = TRAINS_K | TRAINS_AUXK,
    .subtracts_b_dec = true,
    .unit_decoder = true,
    .beta1 = 0.9,
    .choose = choose,
};

/* A transcoder reads rows of one hook and reconstructs those of another: Dunefsky et al. 2024, "Transcoders find interpretable
 * LLM feature circuits". Differs: k largest instead of an L1 penalty. With W_skip, Paulo et al. 2025, "Transcoders beat sparse
 * autoencoders for interpretability". Nothing is subtracted from the rows, and the decoder's rows have any length. */
const sae_training sae_training_transcoder = {
    .name = "transcoder",
    .help = "topk from one hook's rows to another's",
    .paper = "Dunefsky et al. 2024, Transcoders find interpretable LLM feature circuits",
    .variant = &sae_topk,
    .options = TRAINS_K | TRAINS_AUXK | TRAINS_TARGET,
    .beta1 = 0.9,
    .choose = choose,
};

const sae_training sae_training_skip_transcoder = {
    .name = "skip_transcoder",
    .help = "the same with a linear map beside it",
    .paper = "Paulo et al. 2025, Transcoders beat sparse autoencoders for interpretability",
    .variant = &sae_topk,
    .options = TRAINS_K | TRAINS_AUXK | TRAINS_TARGET,
    .skip = true,
    .beta1 = 0.9,
    .choose = choose,
};
