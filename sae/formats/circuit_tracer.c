/* circuit_tracer.c — a layer_N.safetensors of circuit-tracer's ReLU transcoders: f = ReLU(x W_enc^T + b_enc), both matrices
 * [n, d]. A SAELens file without its cfg.json has the same names, with W_enc [d, n]: which is refused. */
#include "sae/formats/formats.h"
#include "sae/variants/variants.h"

#include <string.h>

static bool is(const weights *w) {
    const char *const names[] = {"W_enc", "W_dec", "b_enc", "b_dec", NULL};
    return weights_have(w, names) && !strcmp(weights_format(w), "safetensors");
}

static err_code describe(const sae_files *f, sae_description *d, err *e) {
    const tensor_view *encoder = weights_find(f->w, "W_enc"), *bias = weights_find(f->w, "b_enc");
    if (encoder->n_dims == 2 && bias->n_dims == 1 && encoder->shape[0] != bias->shape[0])
        return err_set(e, ERR_FORMAT,
                       "tensor W_enc: expected a row for each of the %lld latents, found %lld (if this is "
                       "SAELens', its folder lacks cfg.json)",
                       (long long)bias->shape[0], (long long)encoder->shape[0]);
    d->cfg.variant = &sae_standard;
    d->cfg.transcoder = true;
    d->W_enc = "W_enc";
    d->b_enc = "b_enc";
    d->W_dec = "W_dec";
    d->b_dec = "b_dec";
    d->encoder_by_latent = d->decoder_by_latent = true;
    return ERR_OK;
}

const sae_format sae_format_circuit_tracer = {.name = "circuit-tracer", .is = is, .describe = describe};
