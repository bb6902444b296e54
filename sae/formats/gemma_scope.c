/* gemma_scope.c — Google DeepMind's JumpReLU autoencoders, of which nothing is subtracted from the rows:
 *   Gemma Scope     params.npz: W_enc [d_in, n], W_dec [n, d_in], b_enc, b_dec, threshold
 *   Gemma Scope 2   config.json, params.safetensors: the same in small letters; affine_skip_connection A [d_in, d_out] adds x A
 * Only the path tells what a params.npz is: under "embedding" the autoencoder of the token embeddings, which the model uses
 * times sqrt(d_in) (W_enc / sqrt(d_in), W_dec sqrt(d_in)); under a name with "transcoder" a transcoder. */
#include "sae/formats/formats.h"
#include "sae/variants/variants.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void jumprelu(sae_description *d, const char *W_enc, const char *W_dec) {
    d->cfg.variant = &sae_jumprelu;
    d->W_enc = W_enc;
    d->W_dec = W_dec;
    d->b_enc = "b_enc";
    d->b_dec = "b_dec";
    d->threshold = "threshold";
    d->decoder_by_latent = true;
}

/* ---- Gemma Scope ---- */

/* Whether one of the last `depth` folders of the path is (or, for a part, has in it) this name. */
static bool path_names(const char *path, int depth, const char *name, bool part) {
    char real[PATH_MAX], *slash;
    if (!realpath(path, real)) return false;
    for (int i = 0; i < depth && (slash = strrchr(real, '/')); i++) {
        if (part ? strstr(slash + 1, name) != NULL : !strcmp(slash + 1, name)) return true;
        *slash = '\0';
    }
    return false;
}

static err_code describe_1(const sae_files *f, sae_description *d, err *e) {
    enum { SET = 4, REPOSITORY = 7 }; /* repository (snapshots/hash)/layer or embedding/width/l0/params.npz */
    const tensor_view *t = weights_find(f->w, "W_enc");
    if (!t) return err_set(e, ERR_FORMAT, "tensor W_enc: found none of this name");
    jumprelu(d, "W_enc", "W_dec");
    d->cfg.transcoder = path_names(f->path, REPOSITORY, "transcoder", true);
    if (path_names(f->path, SET, "embedding", false)) {
        d->W_enc_times = 1 / sqrt((double)t->shape[0]);
        d->W_dec_times = sqrt((double)t->shape[0]);
    }
    return ERR_OK;
}

const sae_format sae_format_gemma_scope = {.name = "Gemma Scope", .weights_name = "params.npz", .describe = describe_1};

/* ---- Gemma Scope 2 ---- */

/* "model.layers.16.output" is blocks.16.hook_resid_post; other places keep their name. */
static err_code read_hook(const char *key, const char *name, char *out, size_t size, err *e) {
    int layer, end = 0;
    if (!name) return ERR_OK;
    if (sscanf(name, "model.layers.%d.output%n", &layer, &end) == 1 && end == (int)strlen(name)) {
        snprintf(out, size, "blocks.%d.hook_resid_post", layer);
        return ERR_OK;
    }
    return cfg_copy(key, name, out, size, e);
}

static err_code describe_2(const sae_files *f, sae_description *d, err *e) {
    const char *architecture = "", *model = NULL, *in = NULL, *out = NULL, *type = NULL;
    bool affine = false;
    const cfg_key keys[] = {
        {"architecture", CFG_TEXT, &architecture}, {"model_name", CFG_TEXT, &model},
        {"hf_hook_point_in", CFG_TEXT, &in},       {"hf_hook_point_out", CFG_TEXT, &out},
        {"affine_connection", CFG_BOOL, &affine},  {"type", CFG_TEXT, &type},
        {"width", CFG_SIZE, &d->cfg.d_sae},        {"l0", CFG_IGNORED, NULL},
    };
    err_code rc;
    TRY(cfg_read(f->cfg, keys, sizeof keys / sizeof *keys, e));
    if (strcmp(architecture, "jump_relu") != 0)
        return err_set(e, ERR_UNSUPPORTED, "architecture: expected jump_relu, found '%.40s'", architecture);
    if (type && strcmp(type, "sae") != 0 && strcmp(type, "transcoder") != 0)
        return err_set(e, ERR_UNSUPPORTED, "type: '%.40s' is not supported (known: sae, transcoder)", type);
    jumprelu(d, "w_enc", "w_dec");
    d->cfg.transcoder = (in && out && strcmp(in, out) != 0) || (type && !strcmp(type, "transcoder"));
    d->cfg.skip = affine;
    if (affine) d->W_skip = "affine_skip_connection";
    d->skip_by_input = true;
    TRY(cfg_copy("model_name", model, d->cfg.model_name, sizeof d->cfg.model_name, e));
    TRY(read_hook("hf_hook_point_in", in, d->cfg.hook_name, sizeof d->cfg.hook_name, e));
    if (d->cfg.transcoder) TRY(read_hook("hf_hook_point_out", out, d->cfg.hook_out, sizeof d->cfg.hook_out, e));
done:
    return rc;
}

const sae_format sae_format_gemma_scope2 = {
    .name = "Gemma Scope 2", .cfg_name = "config.json", .weights_name = "params.safetensors", .describe = describe_2};
