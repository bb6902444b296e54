#include "sae/variants/training.h"
#include "core/mem.h"
#include "core/names.h"
#include "sae/encode.h"

#include <stdlib.h>

/* How to add one: training.h. */
const sae_training *const sae_trainings[] = {&sae_training_topk,       &sae_training_batchtopk,      &sae_training_matryoshka,
                                             &sae_training_standard,   &sae_training_gated,          &sae_training_jumprelu,
                                             &sae_training_transcoder, &sae_training_skip_transcoder};
const int n_sae_trainings = sizeof sae_trainings / sizeof *sae_trainings;

err_code sae_training_find(const char *name, const sae_training **out, err *e) {
    int found = names_find(name, sae_trainings, n_sae_trainings, NAMES_OF_POINTERS);
    if (found < 0)
        return names_unknown(e, ERR_UNSUPPORTED, "variant", name, sae_trainings, n_sae_trainings, NAMES_OF_POINTERS);
    *out = sae_trainings[found];
    return ERR_OK;
}

void train_batch_release(train_batch *b) {
    for (int i = 0; i < 2; i++) {
        latent_set *set = i ? &b->other : &b->f;
        sparse_release(&set->by_row);
        inverted_release(&set->by_latent);
        free(b->vector[i]);
    }
    free(b->r);
    *b = (train_batch){0};
}

float *train_batch_vector(train_batch *b, int which, err *e) {
    size_t n = (size_t)b->s->cfg.d_sae;
    return mem_grow(&b->vector[which], &b->cap_vector[which], n, sizeof(float), "numbers of latents", e) ? NULL
                                                                                                         : b->vector[which];
}

void train_batch_start(const train_batch *b, int64_t first, int64_t rows, float *u) {
    int64_t d = b->s->cfg.d_out;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < d; j++) {
            int64_t at = (first + r) * d + j;
            u[r * d + j] = -b->y[at];
            if (b->linear) u[r * d + j] += b->linear[at];
            if (!b->s->cfg.apply_b_dec_to_input) u[r * d + j] += b->s->b_dec[j];
        }
}

err_code train_batch_encode(const train_batch *b, const sae *part, sparse_acts *out, err *e) {
    return sae_encode_centred(b->c, part, b->x, b->n, b->preselect, out, b->counts, e);
}
