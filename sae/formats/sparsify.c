/* sparsify.c — a hookpoint's folder of EleutherAI's sparsify: cfg.json and sae.safetensors, read and written.
 *
 *   f = topk or groupmax of ReLU((x - b_dec) encoder.weight^T + encoder.bias);   x_hat = f W_dec + b_dec (+ x W_skip^T)
 * transcode: b_dec is not subtracted. num_latents 0: d_in times expansion_factor. normalize_decoder and multi_topk matter in
 * training only. The library drops keys of cfg.json it does not know: ours stand under "metadata", as in SAELens' files. */
#include "core/mem.h"
#include "formats/safetensors.h"
#include "sae/formats/formats.h"
#include "sae/formats/metadata.h"
#include "sae/variants/variants.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CFG_NAME     "cfg.json"
#define WEIGHTS_NAME "sae.safetensors"

/* ---- reading ---- */

/* The trainer calls a hookpoint's folder "layers.16", after the module whose output it read. */
static void hook_of_folder(const char *folder, char out[64]) {
    char real[PATH_MAX], rest;
    int layer;
    const char *name = realpath(folder, real) ? strrchr(real, '/') + 1 : "";
    if (sscanf(name, "layers.%d%c", &layer, &rest) == 1 || sscanf(name, "h.%d%c", &layer, &rest) == 1)
        snprintf(out, 64, "blocks.%d.hook_resid_post", layer);
}

static err_code describe(const sae_files *f, sae_description *d, err *e) {
    const char *activation = "topk";
    int64_t expansion = 0, latents = 0;
    bool transcode = false, skip = false, is_signed = false;
    const json_t *metadata = NULL;
    const cfg_key keys[] = {
        {"activation", CFG_TEXT, &activation}, {"expansion_factor", CFG_SIZE, &expansion},
        {"num_latents", CFG_COUNT, &latents},  {"k", CFG_SIZE, &d->k},
        {"d_in", CFG_SIZE, &d->cfg.d_in},      {"transcode", CFG_BOOL, &transcode},
        {"skip_connection", CFG_BOOL, &skip},  {"signed", CFG_BOOL, &is_signed},
        {"metadata", CFG_OBJECT, &metadata},   {"normalize_decoder", CFG_IGNORED, NULL},
        {"multi_topk", CFG_IGNORED, NULL},
    };
    err_code rc;
    TRY(cfg_read(f->cfg, keys, sizeof keys / sizeof *keys, e));
    if (is_signed) return err_set(e, ERR_UNSUPPORTED, "signed: true is not supported: it keeps negative latents");
    if (strcmp(activation, "topk") != 0 && strcmp(activation, "groupmax") != 0)
        return err_set(e, ERR_UNSUPPORTED, "activation: '%.40s' is not supported (known: topk, groupmax)", activation);
    if (!d->cfg.d_in || (!latents && !expansion))
        return err_set(e, ERR_FORMAT, "expected the keys d_in, and num_latents or expansion_factor");
    if (!latents && __builtin_mul_overflow(d->cfg.d_in, expansion, &latents))
        return err_set(e, ERR_FORMAT, "expansion_factor: %lld times d_in is too large", (long long)expansion);
    if (skip && !transcode) return err_set(e, ERR_UNSUPPORTED, "skip_connection: true without transcode is not supported");
    d->cfg.d_sae = latents;
    d->cfg.variant = *activation == 't' ? &sae_topk : &sae_groupmax;
    d->cfg.apply_b_dec_to_input = !transcode;
    d->cfg.transcoder = transcode;
    d->cfg.skip = skip;
    d->W_enc = "encoder.weight";
    d->b_enc = "encoder.bias";
    d->W_dec = "W_dec";
    d->b_dec = "b_dec";
    d->W_skip = skip ? "W_skip" : NULL;
    d->encoder_by_latent = d->decoder_by_latent = true;
    if (!transcode) hook_of_folder(f->folder, d->cfg.hook_name);
    rc = metadata ? metadata_read(metadata, &d->cfg, e) : ERR_OK;
done:
    return rc;
}

const sae_format sae_format_sparsify = {
    .name = "sparsify", .cfg_name = CFG_NAME, .weights_name = WEIGHTS_NAME, .describe = describe};

/* ---- writing ---- */

static const char *what_cannot_be_written(const sae_config *cfg) {
    if (cfg->variant != &sae_topk && cfg->variant != &sae_groupmax) return cfg->variant->name;
    if (cfg->norm) return cfg->norm->name;
    if (cfg->d_out != cfg->d_in) return "a d_out that is not d_in";
    if (cfg->transcoder && cfg->apply_b_dec_to_input) return "a transcoder that subtracts b_dec from its rows";
    if (!cfg->transcoder && !cfg->apply_b_dec_to_input) return "an autoencoder that does not subtract b_dec from its rows";
    return NULL;
}

static err_code write_cfg(const sae_config *cfg, const char *path, err *e) {
    json_t *root = json_pack("{s:s, s:i, s:b, s:I, s:I, s:b, s:b, s:b, s:I, s:o}", "activation", cfg->variant->name,
                             "expansion_factor", 32, "normalize_decoder", 1, "num_latents", (json_int_t)cfg->d_sae, "k",
                             (json_int_t)cfg->k, "multi_topk", 0, "skip_connection", cfg->skip, "transcode", cfg->transcoder,
                             "d_in", (json_int_t)cfg->d_in, "metadata", metadata_to_json(cfg));
    return cfg_write(root, path, e);
}

static err_code write_weights(const sae *s, const char *path, err *e) {
    int64_t n = s->cfg.d_sae, d = s->cfg.d_in;
    size_t vector = (size_t)n * sizeof(float), matrix = vector * (size_t)d, square = (size_t)d * (size_t)d * sizeof(float);
    const safetensors_entry entries[] = {
        {"W_dec", "F32", 2, {n, d}, s->W_dec, matrix},     {"b_dec", "F32", 1, {d}, s->b_dec, (size_t)d * sizeof(float)},
        {"encoder.bias", "F32", 1, {n}, s->b_enc, vector}, {"encoder.weight", "F32", 2, {n, d}, s->W_enc, matrix},
        {"W_skip", "F32", 2, {d, d}, s->W_skip, square},
    };
    return safetensors_write(path, entries, s->W_skip ? 5 : 4, e);
}

err_code sae_save_sparsify(sae *s, const char *folder, err *e) {
    const char *what = what_cannot_be_written(&s->cfg);
    if (what) return err_set(e, ERR_UNSUPPORTED, "a sparsify folder cannot hold %s", what);
    return folder_write(s, folder, CFG_NAME, WEIGHTS_NAME, write_cfg, write_weights, e);
}
