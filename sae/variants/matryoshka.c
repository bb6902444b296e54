/* matryoshka: batchtopk whose first m latents alone must reconstruct, for each m of a few prefixes; the losses add up.
 * Bussmann et al. 2025, "Learning multi-level features with Matryoshka sparse autoencoders", section 3. One choice over all
 * latents, AuxK on the full residual. The engine makes a residual for each prefix, and what a latent learns from is the sum of
 * those it takes part in. */
#include "sae/variants/training.h"

const sae_training sae_training_matryoshka = {
    .name = "matryoshka",
    .help = "batchtopk whose first latents alone must reconstruct, at several widths",
    .paper = "Bussmann et al. 2025, Learning multi-level features with Matryoshka sparse autoencoders",
    .variant = &sae_jumprelu,
    .options = TRAINS_K | TRAINS_L0 | TRAINS_AUXK | TRAINS_PREFIXES,
    .subtracts_b_dec = true,
    .unit_decoder = true,
    .beta1 = 0.9,
    .choose = choose_batchtopk,
    .after = update_threshold,
};
