/* qwen_scope.c — a .sae.pt of Qwen Scope: SAELens' names the other way round, W_enc [n, d] and W_dec [d, n]; topk, nothing
 * subtracted. k stands in the repository's name alone. */
#include "sae/formats/formats.h"
#include "sae/variants/variants.h"

#include <string.h>

static bool is(const weights *w) {
    const char *const names[] = {"W_enc", "W_dec", "b_enc", "b_dec", NULL};
    return weights_have(w, names) && !strncmp(weights_format(w), "PyTorch", 7);
}

static err_code describe(const sae_files *f, sae_description *d, err *e) {
    (void)f, (void)e;
    d->cfg.variant = &sae_topk;
    d->k_place = "its repository's name does";
    d->W_enc = "W_enc";
    d->b_enc = "b_enc";
    d->W_dec = "W_dec";
    d->b_dec = "b_dec";
    d->encoder_by_latent = true;
    return ERR_OK;
}

const sae_format sae_format_qwen_scope = {.name = "Qwen Scope", .is = is, .describe = describe};
