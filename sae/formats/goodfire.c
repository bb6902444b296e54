/* goodfire.c — a .pth of Goodfire: f = ReLU(x encoder_linear.weight^T + encoder_linear.bias), nothing subtracted. */
#include "sae/formats/formats.h"
#include "sae/variants/variants.h"

static bool is(const weights *w) {
    return weights_have(w, (const char *const[]){"encoder_linear.weight", "decoder_linear.weight", NULL});
}

static err_code describe(const sae_files *f, sae_description *d, err *e) {
    (void)f, (void)e;
    d->cfg.variant = &sae_standard;
    d->W_enc = "encoder_linear.weight";
    d->b_enc = "encoder_linear.bias";
    d->W_dec = "decoder_linear.weight";
    d->b_dec = "decoder_linear.bias";
    d->encoder_by_latent = true;
    return ERR_OK;
}

const sae_format sae_format_goodfire = {.name = "Goodfire", .is = is, .describe = describe};
