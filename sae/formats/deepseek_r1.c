/* deepseek_r1.c — the autoencoders of DeepSeek-R1: f = ReLU(x encoder.weight^T + encoder.bias), nothing subtracted. */
#include "sae/formats/formats.h"
#include "sae/variants/variants.h"

#include <string.h>

/* Other formats have these names too, and say in a file beside them what more they do: only a PyTorch file says it all. */
static bool is(const weights *w) {
    const char *const names[] = {"encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias", NULL};
    return weights_have(w, names) && !strncmp(weights_format(w), "PyTorch", 7);
}

static err_code describe(const sae_files *f, sae_description *d, err *e) {
    (void)f, (void)e;
    d->cfg.variant = &sae_standard;
    d->W_enc = "encoder.weight";
    d->b_enc = "encoder.bias";
    d->W_dec = "decoder.weight";
    d->b_dec = "decoder.bias";
    d->encoder_by_latent = true;
    return ERR_OK;
}

const sae_format sae_format_deepseek_r1 = {.name = "DeepSeek-R1", .is = is, .describe = describe};
