/* openai.c — a .pt of OpenAI's sparse_autoencoder: state_dict() with the activation's name and state beside the tensors.
 *
 *   f = activation((norm(x) - pre_bias) encoder.weight^T + latent_bias),   x_hat = norm^-1(f decoder.weight^T + pre_bias)
 * with layer norm exactly when the activation is TopK. decoder.weight is [d, n]. Statistics of the training do not matter;
 * models that were saved again carry the activation's state a second time, as activation.k. */
#include "sae/formats/formats.h"
#include "sae/variants/variants.h"

#include <stdlib.h>
#include <string.h>

static bool is(const weights *w) {
    return weights_have(w, (const char *const[]){"pre_bias", "latent_bias", "encoder.weight", "decoder.weight", NULL});
}

static err_code read_topk(const weights *w, sae_description *d, err *e) {
    char *after = NULL;
    int64_t again;
    err_code rc;
    d->cfg.variant = &sae_topk;
    d->cfg.norm = sae_norm_find("layer_norm");
    TRY(weights_meta_int(w, "activation_state_dict.k", &d->k, e));
    TRY(weights_meta_string_or(w, "activation_state_dict.postact_fn", "ReLU", &after, e));
    TRY(weights_meta_int_or(w, "activation.k", d->k, &again, e));
    if (d->k < 1)
        rc = err_set(e, ERR_FORMAT, "activation_state_dict.k: expected at least 1, found %lld", (long long)d->k);
    else if (again != d->k)
        rc = err_set(e, ERR_FORMAT, "activation_state_dict.k is %lld and activation.k %lld", (long long)d->k,
                     (long long)again);
    else if (strcmp(after, "ReLU") != 0)
        rc = err_set(e, ERR_UNSUPPORTED, "activation_state_dict.postact_fn: expected ReLU, found '%.40s'", after);
done:
    free(after);
    return rc;
}

static err_code describe(const sae_files *f, sae_description *d, err *e) {
    static const char *const unused[] = {
        "stats_last_nonzero",      "latents_activation_frequency",     "latents_mean_square", "activation",
        "activation_state_dict.k", "activation_state_dict.postact_fn", "activation.k",        "activation.postact_fn",
    };
    char *activation = NULL;
    err_code rc;
    TRY(weights_meta_string(f->w, "activation", &activation, e));
    d->cfg.apply_b_dec_to_input = true;
    d->cfg.variant = &sae_standard;
    d->W_enc = "encoder.weight";
    d->b_enc = "latent_bias";
    d->W_dec = "decoder.weight";
    d->b_dec = "pre_bias";
    d->encoder_by_latent = true;
    memcpy(d->unused, unused, sizeof unused);
    if (!strcmp(activation, "TopK"))
        rc = read_topk(f->w, d, e);
    else if (strcmp(activation, "ReLU") != 0)
        rc = err_set(e, ERR_UNSUPPORTED, "activation: '%.40s' is not supported (known: TopK, ReLU)", activation);
done:
    free(activation);
    return rc;
}

const sae_format sae_format_openai = {.name = "OpenAI", .is = is, .describe = describe};
