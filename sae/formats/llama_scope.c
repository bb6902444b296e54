/* llama_scope.c — OpenMOSS' Llama Scope and its successors for R1 distillations: JumpReLU trained on scaled rows.
 *
 * Llama Scope (hyperparams.json, checkpoints/final.safetensors), as the authors' from_pretrained reads it: with
 * s_in = sqrt(d) / average norm in, s_out = sqrt(d) / average norm out, D the decoder's columns
 *   b_enc / s_in,  D s_in / s_out,  b_dec / s_out,  then, if sparsity_include_decoder_norm, W_enc_i and b_enc_i times ||D_i||
 *   and D_i / ||D_i||;   f = pre 1[pre > jump_relu_threshold],   x_hat = f D + b_dec
 * in raw units, nothing subtracted. top_k is not used.
 *
 * R1 (config.json, sae_weights.safetensors): a threshold for each latent, exp(log_jumprelu_threshold), in scaled units and, if
 * sparsity_include_decoder_norm, on pre ||D_i||; f = pre. The files leave the scaling factor out. */
#include "sae/formats/formats.h"
#include "sae/variants/variants.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* What both configurations say. */
typedef struct scope_cfg {
    int64_t expansion;
    const char *act_fn, *norm, *in, *out, *type;
    double threshold;
    bool pre_bias, glu, decoder_bias, include_norm;
    const json_t *average;
} scope_cfg;

/* Keys that matter in training only, or say where it ran. */
#define TRAINING_KEYS                                                                                                        \
    {"dtype", CFG_IGNORED, NULL}, {"device", CFG_IGNORED, NULL}, {"seed", CFG_IGNORED, NULL}, {"top_k", CFG_IGNORED, NULL},  \
        {"k_warmup_steps", CFG_IGNORED, NULL}, {"bias_init_method", CFG_IGNORED, NULL},                                      \
        {"decoder_exactly_fixed_norm", CFG_IGNORED, NULL}, {"init_decoder_norm", CFG_IGNORED, NULL},                         \
        {"init_encoder_norm", CFG_IGNORED, NULL}, {"init_encoder_with_decoder_transpose", CFG_IGNORED, NULL},                \
        {"lp", CFG_IGNORED, NULL}, {"l1_coefficient", CFG_IGNORED, NULL},                                                    \
        {"l1_coefficient_warmup_steps", CFG_IGNORED, NULL}, {"use_batch_norm_mse", CFG_IGNORED, NULL},                       \
        {"use_ghost_grads", CFG_IGNORED, NULL}, {"tp_size", CFG_IGNORED, NULL}, {"ddp_size", CFG_IGNORED, NULL},             \
        {"remove_gradient_parallel_to_decoder_directions", CFG_IGNORED, NULL},                                               \
        {"sae_pretrained_name_or_path", CFG_IGNORED, NULL}, {                                                                \
        "strict_loading", CFG_IGNORED, NULL                                                                                  \
    }

static err_code read_cfg(const sae_files *f, scope_cfg *c, sae_description *d, err *e) {
    const cfg_key keys[] = {
        {"d_model", CFG_SIZE, &d->cfg.d_in},
        {"d_sae", CFG_SIZE, &d->cfg.d_sae},
        {"expansion_factor", CFG_SIZE, &c->expansion},
        {"act_fn", CFG_TEXT, &c->act_fn},
        {"norm_activation", CFG_TEXT, &c->norm},
        {"jump_relu_threshold", CFG_NUMBER, &c->threshold},
        {"dataset_average_activation_norm", CFG_OBJECT, &c->average},
        {"sparsity_include_decoder_norm", CFG_BOOL, &c->include_norm},
        {"apply_decoder_bias_to_pre_encoder", CFG_BOOL, &c->pre_bias},
        {"use_glu_encoder", CFG_BOOL, &c->glu},
        {"use_decoder_bias", CFG_BOOL, &c->decoder_bias},
        {"hook_point_in", CFG_TEXT, &c->in},
        {"hook_point_out", CFG_TEXT, &c->out},
        {"sae_type", CFG_TEXT, &c->type},
        TRAINING_KEYS,
    };
    err_code rc = cfg_read(f->cfg, keys, sizeof keys / sizeof *keys, e);
    if (rc) return rc;
    if (!c->act_fn || strcmp(c->act_fn, "jumprelu") != 0)
        return err_set(e, ERR_UNSUPPORTED, "act_fn: expected jumprelu, found '%.40s'", c->act_fn ? c->act_fn : "");
    if (!c->norm || strcmp(c->norm, "dataset-wise") != 0)
        return err_set(e, ERR_UNSUPPORTED, "norm_activation: expected dataset-wise, found '%.40s'", c->norm ? c->norm : "");
    if (c->pre_bias) return err_set(e, ERR_UNSUPPORTED, "apply_decoder_bias_to_pre_encoder: true is not supported");
    if (c->glu) return err_set(e, ERR_UNSUPPORTED, "use_glu_encoder: true is not supported");
    if (c->type && strcmp(c->type, "sae") != 0)
        return err_set(e, ERR_UNSUPPORTED, "sae_type: expected sae, found '%.40s'", c->type);
    return d->cfg.d_in ? ERR_OK : err_set(e, ERR_FORMAT, "expected the key d_model");
}

/* d_sae, which some files give as a multiple of d_model only. */
static err_code read_width(const scope_cfg *c, sae_config *cfg, err *e) {
    if (cfg->d_sae) return ERR_OK;
    if (!c->expansion) return err_set(e, ERR_FORMAT, "expected the key d_sae or expansion_factor");
    if (__builtin_mul_overflow(cfg->d_in, c->expansion, &cfg->d_sae))
        return err_set(e, ERR_FORMAT, "expansion_factor: %lld times d_model is too large", (long long)c->expansion);
    return ERR_OK;
}

static err_code name_parts(const scope_cfg *c, sae_description *d, err *e) {
    d->cfg.variant = &sae_jumprelu;
    d->cfg.transcoder = c->in && c->out && strcmp(c->in, c->out) != 0;
    d->W_enc = "encoder.weight";
    d->b_enc = "encoder.bias";
    d->W_dec = "decoder.weight";
    d->b_dec = c->decoder_bias ? "decoder.bias" : NULL;
    d->encoder_by_latent = true;
    err_code rc = read_width(c, &d->cfg, e);
    if (!rc) rc = cfg_copy("hook_point_in", c->in, d->cfg.hook_name, sizeof d->cfg.hook_name, e);
    if (!rc && d->cfg.transcoder) rc = cfg_copy("hook_point_out", c->out, d->cfg.hook_out, sizeof d->cfg.hook_out, e);
    return rc;
}

static const scope_cfg defaults = {.decoder_bias = true};

/* s_in and s_out. */
static err_code read_scales(const scope_cfg *c, int64_t d, double *s_in, double *s_out, err *e) {
    double in = 0, out = 0;
    const cfg_key norms[] = {{"in", CFG_NUMBER, &in}, {"out", CFG_NUMBER, &out}};
    err_code rc = c->average ? cfg_read(c->average, norms, 2, e) : ERR_OK;
    if (rc) return err_prefix(e, rc, "dataset_average_activation_norm");
    if (!(in > 0) || !(out > 0))
        return err_set(e, ERR_FORMAT, "dataset_average_activation_norm: expected positive norms in and out, found %g and %g",
                       in, out);
    *s_in = sqrt((double)d) / in;
    *s_out = sqrt((double)d) / out;
    return ERR_OK;
}

static err_code describe(const sae_files *f, sae_description *d, err *e) {
    scope_cfg c = defaults;
    double s_in = 1, s_out = 1;
    err_code rc;
    TRY(read_cfg(f, &c, d, e));
    TRY(name_parts(&c, d, e));
    if (!json_object_get(f->cfg, "jump_relu_threshold"))
        return err_set(e, ERR_FORMAT, "expected the key jump_relu_threshold");
    TRY(read_scales(&c, d->cfg.d_in, &s_in, &s_out, e));
    d->b_enc_times = 1 / s_in;
    d->W_dec_times = s_in / s_out;
    d->b_dec_times = 1 / s_out;
    d->rescale = c.include_norm;
    d->one_threshold = true;
    d->threshold_value = c.threshold;
done:
    return rc;
}

const sae_format sae_format_llama_scope = {.name = "Llama Scope",
                                           .cfg_name = "hyperparams.json",
                                           .weights_name = "checkpoints/final.safetensors",
                                           .describe = describe};

static err_code describe_r1(const sae_files *f, sae_description *d, err *e) {
    scope_cfg c = defaults;
    double s_out = 0;
    err_code rc;
    TRY(read_cfg(f, &c, d, e));
    TRY(name_parts(&c, d, e));
    if (c.average) TRY(read_scales(&c, d->cfg.d_in, &d->scale, &s_out, e));
    if (d->cfg.transcoder || (s_out != 0 && s_out != d->scale))
        return err_set(e, ERR_UNSUPPORTED, "a transcoder, or another scaling factor for the output, is not supported");
    d->threshold = "log_jumprelu_threshold";
    d->log_threshold = true;
    d->threshold_over_norm = c.include_norm;
    d->needs_scale = true;
done:
    return rc;
}

const sae_format sae_format_llama_scope_r1 = {
    .name = "Llama Scope R1", .cfg_name = "config.json", .weights_name = "sae_weights.safetensors", .describe = describe_r1};
