/* saelens.c — SAELens' folder, read and written: cfg.json and sae_weights.safetensors.
 *
 * Read are inference files of 6.0 and later, the flat ones before (no "metadata", other names for some keys, a topk called
 * "standard" with an activation_fn_str), and checkpoints of a run that is not over, whose constants are not folded yet: the
 * factor in activation_scaler.json, the matrices in activation_whitening.safetensors, batchtopk's threshold. */
#include "core/mem.h"
#include "formats/safetensors.h"
#include "sae/formats/formats.h"
#include "sae/formats/metadata.h"
#include "sae/variants/variants.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CFG_NAME       "cfg.json"
#define WEIGHTS_NAME   "sae_weights.safetensors"
#define SCALER_NAME    "activation_scaler.json"
#define WHITENING_NAME "activation_whitening.safetensors"

/* ---- architectures ---- */

enum { HAS_K = 1, HAS_D_OUT = 2, IN_TRAINING = 4 };

typedef struct architecture {
    const char *name;
    const sae_variant *variant; /* NULL: refused */
    bool transcoder, skip;
    unsigned has;
    const char *why_refused;
} architecture;

static const architecture architectures[] = {
    {"standard", &sae_standard, false, false, 0, NULL},
    {"gated", &sae_gated, false, false, 0, NULL},
    {"jumprelu", &sae_jumprelu, false, false, 0, NULL},
    {"topk", &sae_topk, false, false, HAS_K, NULL},
    {"abstopk", &sae_abstopk, false, false, HAS_K, NULL},
    {"batchtopk", &sae_jumprelu, false, false, HAS_K | IN_TRAINING, NULL},
    {"transcoder", &sae_standard, true, false, HAS_D_OUT, NULL},
    {"skip_transcoder", &sae_standard, true, true, HAS_D_OUT, NULL},
    {"jumprelu_transcoder", &sae_jumprelu, true, false, HAS_D_OUT, NULL},
    {"jumprelu_skip_transcoder", &sae_jumprelu, true, true, HAS_D_OUT, NULL},
    {"temporal", NULL, false, false, 0, "its latents depend on the rows before"},
    {"matching_pursuit", NULL, false, false, 0, "its latents are found one after the other, not by an encoder"},
};
enum { N_ARCHITECTURES = sizeof architectures / sizeof *architectures };

static const struct {
    const char *key;
    unsigned has;
} limited_keys[] = {
    {"k", HAS_K},
    {"rescale_acts_by_decoder_norm", HAS_K},
    {"d_out", HAS_D_OUT},
    {"decoder_init_norm", IN_TRAINING},
    {"use_sparse_activations", IN_TRAINING},
    {"aux_loss_coefficient", IN_TRAINING},
    {"topk_threshold_lr", IN_TRAINING},
};

static err_code architecture_find(const char *name, const architecture **out, err *e) {
    int i = 0;
    while (i < N_ARCHITECTURES && strcmp(architectures[i].name, name) != 0) i++;
    if (i == N_ARCHITECTURES)
        return err_set(e, ERR_UNSUPPORTED,
                       "architecture '%.40s' is not supported (known: standard, gated, jumprelu, topk, abstopk, batchtopk, "
                       "and the transcoders)",
                       name);
    *out = &architectures[i];
    if ((*out)->variant) return ERR_OK;
    return err_set(e, ERR_UNSUPPORTED, "architecture '%s' is not supported: %s", name, (*out)->why_refused);
}

/* Before 6.0 a topk was "standard" with activation_fn_str "topk". */
static err_code read_architecture(const json_t *cfg, const architecture **out, err *e) {
    const char *name = "standard", *activation = "relu";
    const cfg_key keys[] = {{"architecture", CFG_TEXT, &name}, {"activation_fn_str", CFG_TEXT, &activation}};
    err_code rc = cfg_read_some(cfg, keys, sizeof keys / sizeof *keys, e);
    if (rc) return rc;
    if (!strcmp(name, "standard") && !strcmp(activation, "topk")) name = "topk";
    if (strcmp(activation, "relu") != 0 && strcmp(activation, name) != 0)
        return err_set(e, ERR_UNSUPPORTED, "activation_fn_str: '%.40s' is not supported (known: relu, topk)", activation);
    rc = architecture_find(name, out, e);
    for (size_t i = 0; !rc && i < sizeof limited_keys / sizeof *limited_keys; i++)
        if (json_object_get(cfg, limited_keys[i].key) && !((*out)->has & limited_keys[i].has))
            rc = err_set(e, ERR_UNSUPPORTED, "%s means nothing to architecture %s", limited_keys[i].key, name);
    return rc;
}

/* ---- the other keys ---- */

/* What cfg.json says that is not yet a description. */
typedef struct saelens_cfg {
    const json_t *normalize, *apply_b_dec, *metadata, *kwargs;
    const char *reshape, *hook_name, *hook_point, *model_name;
    bool finetuned, rescale;
} saelens_cfg;

static err_code read_keys(const json_t *root, saelens_cfg *c, sae_description *d, err *e) {
    const cfg_key keys[] = {
        {"architecture", CFG_IGNORED, NULL},
        {"d_in", CFG_SIZE, &d->cfg.d_in},
        {"d_sae", CFG_SIZE, &d->cfg.d_sae},
        {"d_out", CFG_SIZE, &d->cfg.d_out},
        {"k", CFG_SIZE, &d->k},
        {"apply_b_dec_to_input", CFG_ANY, &c->apply_b_dec},
        {"normalize_activations", CFG_ANY, &c->normalize},
        {"reshape_activations", CFG_TEXT, &c->reshape},
        {"rescale_acts_by_decoder_norm", CFG_BOOL, &c->rescale},
        {"metadata", CFG_OBJECT, &c->metadata},
        {"dtype", CFG_IGNORED, NULL},
        {"device", CFG_IGNORED, NULL},
        /* before 6.0 */
        {"activation_fn_str", CFG_IGNORED, NULL},
        {"activation_fn_kwargs", CFG_OBJECT, &c->kwargs},
        {"finetuning_scaling_factor", CFG_BOOL, &c->finetuned},
        {"hook_name", CFG_TEXT, &c->hook_name},
        {"hook_point", CFG_TEXT, &c->hook_point},
        {"model_name", CFG_TEXT, &c->model_name},
        {"hook_layer", CFG_IGNORED, NULL},
        {"hook_point_layer", CFG_IGNORED, NULL},
        {"hook_head_index", CFG_IGNORED, NULL},
        {"hook_point_head_index", CFG_IGNORED, NULL},
        {"context_size", CFG_IGNORED, NULL},
        {"prepend_bos", CFG_IGNORED, NULL},
        {"seqpos_slice", CFG_IGNORED, NULL},
        {"dataset_path", CFG_IGNORED, NULL},
        {"dataset_trust_remote_code", CFG_IGNORED, NULL},
        {"model_from_pretrained_kwargs", CFG_IGNORED, NULL},
        {"sae_lens_training_version", CFG_IGNORED, NULL},
        {"neuronpedia_id", CFG_IGNORED, NULL},
        /* a run that is not over */
        {"decoder_init_norm", CFG_IGNORED, NULL},
        {"use_sparse_activations", CFG_IGNORED, NULL},
        {"aux_loss_coefficient", CFG_IGNORED, NULL},
        {"topk_threshold_lr", CFG_IGNORED, NULL},
    };
    err_code rc = cfg_read(root, keys, sizeof keys / sizeof *keys, e);
    if (rc) return rc;
    if (!d->cfg.d_in || !d->cfg.d_sae) return err_set(e, ERR_FORMAT, "expected the keys d_in and d_sae");
    if (c->finetuned) return err_set(e, ERR_UNSUPPORTED, "finetuning_scaling_factor: true is not supported");
    /* Reshaping flattens the heads of a hook: rows come flattened here. */
    if (c->reshape && strcmp(c->reshape, "none") != 0 && strcmp(c->reshape, "hook_z") != 0)
        return err_set(e, ERR_UNSUPPORTED, "reshape_activations: '%.40s' is not supported (known: none, hook_z)", c->reshape);
    return ERR_OK;
}

static err_code read_apply_b_dec(const saelens_cfg *c, sae_config *cfg, err *e) {
    cfg->apply_b_dec_to_input = c->apply_b_dec ? json_is_true(c->apply_b_dec) : !cfg->transcoder;
    if (c->apply_b_dec && !json_is_boolean(c->apply_b_dec))
        return cfg_wrong_value("apply_b_dec_to_input", "true or false", c->apply_b_dec, e);
    if (cfg->transcoder && cfg->apply_b_dec_to_input)
        return err_set(e, ERR_UNSUPPORTED, "apply_b_dec_to_input: true means nothing to a transcoder");
    return ERR_OK;
}

static err_code read_activation_kwargs(const saelens_cfg *c, const architecture *a, sae_description *d, err *e) {
    int64_t k = 0;
    const cfg_key keys[] = {{"k", CFG_SIZE, &k}};
    err_code rc = c->kwargs ? cfg_read(c->kwargs, keys, 1, e) : ERR_OK;
    if (rc) return err_prefix(e, rc, "activation_fn_kwargs");
    if (k && !(a->has & HAS_K))
        return err_set(e, ERR_UNSUPPORTED, "activation_fn_kwargs.k means nothing to architecture %s", a->name);
    if (k && d->k && k != d->k)
        return err_set(e, ERR_FORMAT, "k is %lld and activation_fn_kwargs.k %lld", (long long)d->k, (long long)k);
    if (k) d->k = k;
    return ERR_OK;
}

static err_code read_origin(const saelens_cfg *c, sae_config *cfg, err *e) {
    err_code rc;
    TRY(cfg_copy("hook_point", c->hook_point, cfg->hook_name, sizeof cfg->hook_name, e));
    TRY(cfg_copy("hook_name", c->hook_name, cfg->hook_name, sizeof cfg->hook_name, e));
    TRY(cfg_copy("model_name", c->model_name, cfg->model_name, sizeof cfg->model_name, e));
    if (c->metadata) TRY(metadata_read(c->metadata, cfg, e));
done:
    return rc;
}

/* ---- normalisation ---- */

/* The factor of expected_average_only_in; 0 where it is not beside the weights. */
static err_code read_scaler(const char *folder, double *scale, err *e) {
    char *path = NULL;
    json_t *root = NULL;
    const cfg_key keys[] = {{"scaling_factor", CFG_NUMBER, scale}};
    err_code rc;
    TRY(path_join(folder, SCALER_NAME, &path, e));
    if (!file_exists(path)) goto done;
    TRY(cfg_load(path, &root, e));
    rc = cfg_read_some(root, keys, 1, e);
    if (!rc && json_is_number(json_object_get(root, "scaling_factor")) && !(*scale > 0))
        rc = err_set(e, ERR_FORMAT, "scaling_factor: expected a positive number, found %g", *scale);
    if (rc) err_prefix(e, rc, "%s", path);
done:
    json_decref(root);
    free(path);
    return rc;
}

static err_code open_whitening(const sae_files *f, err *e) {
    char *path = NULL;
    err_code rc;
    TRY(path_join(f->folder, WHITENING_NAME, &path, e));
    if (file_exists(path))
        rc = weights_open(path, f->companion, e);
    else
        rc = err_set(e, ERR_FORMAT, "normalize_activations is covariance_whitening, but there is no %s", path);
done:
    free(path);
    return rc;
}

static err_code read_normalize(const sae_files *f, const json_t *v, sae_description *d, err *e) {
    const char *how = json_string_value(v);
    if (!v || json_is_false(v)) return ERR_OK;
    if (json_is_true(v)) how = "expected_average_only_in"; /* before 6.0 */
    if (!how) return cfg_wrong_value("normalize_activations", "a string", v, e);
    if (!strcmp(how, "none")) return ERR_OK;
    bool scales = !strcmp(how, "expected_average_only_in"), whitens = !strcmp(how, "covariance_whitening");
    if ((scales || whitens) && d->cfg.transcoder)
        return err_set(e, ERR_UNSUPPORTED, "normalize_activations: %s is not supported for a transcoder", how);
    if (scales) {
        d->needs_scale = true;
        return read_scaler(f->folder, &d->scale, e);
    }
    if (whitens) {
        err_code rc = open_whitening(f, e);
        d->whitening = *f->companion;
        return rc;
    }
    d->cfg.norm = sae_norm_find(how);
    if (d->cfg.norm) return ERR_OK;
    return err_set(e, ERR_UNSUPPORTED,
                   "normalize_activations: '%.40s' is not supported (known: none, expected_average_only_in, layer_norm, "
                   "constant_norm_rescale, covariance_whitening)",
                   how);
}

/* ---- tensors ---- */

/* Files before 6.0 hold a scaling_factor, all ones unless the autoencoder was fine-tuned. */
static err_code check_scaling_factor(const weights *w, int64_t d_sae, err *e) {
    const tensor_view *t = weights_find(w, "scaling_factor");
    float *factors = NULL;
    err_code rc;
    if (!t) return ERR_OK;
    TRY(weights_require(w, "scaling_factor", 1, &d_sae, &t, e));
    TRY(mem_new(&factors, (size_t)d_sae + (size_t)t->type->block_size, sizeof *factors, "scaling_factor", e));
    t->type->dequantize(t->data, d_sae, factors);
    for (int64_t i = 0; !rc && i < d_sae; i++)
        if (factors[i] != 1) rc = err_set(e, ERR_UNSUPPORTED, "tensor scaling_factor: expected ones, found %g", factors[i]);
done:
    free(factors);
    return rc;
}

static err_code name_tensors(const weights *w, const architecture *a, sae_description *d, err *e) {
    d->W_enc = "W_enc";
    d->W_dec = "W_dec";
    d->b_dec = "b_dec";
    d->decoder_by_latent = true;
    d->b_enc = a->variant->uses_gate ? "b_mag" : "b_enc";
    d->b_gate = a->variant->uses_gate ? "b_gate" : NULL;
    d->r_mag = a->variant->uses_gate ? "r_mag" : NULL;
    d->W_skip = a->skip ? "W_skip" : NULL;
    d->unused[0] = "scaling_factor";
    if (a->has & IN_TRAINING) {
        d->one_threshold = true;
        d->unused[1] = "topk_threshold";
        err_code rc = weights_scalar(w, "topk_threshold", &d->threshold_value, e);
        if (rc) return rc;
    } else if (a->variant->uses_threshold) {
        d->threshold = "threshold";
    }
    return check_scaling_factor(w, d->cfg.d_sae, e);
}

static err_code describe(const sae_files *f, sae_description *d, err *e) {
    const architecture *a = NULL;
    saelens_cfg c = {0};
    err_code rc;
    TRY(read_architecture(f->cfg, &a, e));
    d->cfg.variant = a->variant;
    d->cfg.transcoder = a->transcoder;
    d->cfg.skip = a->skip;
    TRY(read_keys(f->cfg, &c, d, e));
    TRY(read_activation_kwargs(&c, a, d, e));
    TRY(read_apply_b_dec(&c, &d->cfg, e));
    TRY(read_origin(&c, &d->cfg, e));
    TRY(read_normalize(f, c.normalize, d, e));
    TRY(name_tensors(f->w, a, d, e));
    d->rescale = c.rescale;
done:
    return rc;
}

const sae_format sae_format_saelens = {
    .name = "SAELens", .cfg_name = CFG_NAME, .weights_name = WEIGHTS_NAME, .describe = describe};

/* ---- writing ---- */

static const char *architecture_name(const sae_config *cfg) {
    for (int i = 0; i < N_ARCHITECTURES; i++) {
        const architecture *a = &architectures[i];
        if (a->variant == cfg->variant && a->transcoder == cfg->transcoder && a->skip == cfg->skip && !(a->has & IN_TRAINING))
            return a->name;
    }
    return NULL;
}

static err_code write_cfg(const sae_config *cfg, const char *path, err *e) {
    json_t *root = json_pack("{s:s, s:I, s:I, s:s, s:s, s:b, s:s, s:s}", "architecture", architecture_name(cfg), "d_in",
                             (json_int_t)cfg->d_in, "d_sae", (json_int_t)cfg->d_sae, "dtype", "float32", "device", "cpu",
                             "apply_b_dec_to_input", cfg->apply_b_dec_to_input, "normalize_activations",
                             cfg->norm ? cfg->norm->name : "none", "reshape_activations", "none");
    int failed = !root;
    if (!failed && cfg->variant->uses_k)
        failed = json_object_set_new(root, "k", json_integer(cfg->k)) ||
                 json_object_set_new(root, "rescale_acts_by_decoder_norm", json_false());
    if (!failed && cfg->transcoder) failed = json_object_set_new(root, "d_out", json_integer(cfg->d_out));
    if (!failed) failed = json_object_set_new(root, "metadata", metadata_to_json(cfg));
    if (failed) {
        json_decref(root);
        root = NULL;
    }
    return cfg_write(root, path, e);
}

static err_code write_weights(const sae *s, const char *path, err *e) {
    int64_t n = s->cfg.d_sae, d = s->cfg.d_in, d_out = s->cfg.d_out;
    size_t vector = (size_t)n * sizeof(float), encoder = vector * (size_t)d;
    float *W_enc = NULL;
    err_code rc = mem_new(&W_enc, 1, encoder, "W_enc", e);
    if (rc) return rc;
    matrix_transpose(s->W_enc, d, n, W_enc);
    const safetensors_entry all[] = {
        {"W_dec", "F32", 2, {n, d_out}, s->W_dec, vector * (size_t)d_out},
        {"W_enc", "F32", 2, {d, n}, W_enc, encoder},
        {"b_dec", "F32", 1, {d_out}, s->b_dec, (size_t)d_out * sizeof(float)},
        {s->b_gate ? "b_mag" : "b_enc", "F32", 1, {n}, s->b_enc, vector},
        {"threshold", "F32", 1, {n}, s->threshold, vector},
        {"b_gate", "F32", 1, {n}, s->b_gate, vector},
        {"r_mag", "F32", 1, {n}, s->r_mag, vector},
        {"W_skip", "F32", 2, {d_out, d}, s->W_skip, (size_t)(d_out * d) * sizeof(float)},
    };
    safetensors_entry entries[sizeof all / sizeof *all];
    int n_entries = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i].data) entries[n_entries++] = all[i];
    rc = safetensors_write(path, entries, n_entries, e);
    free(W_enc);
    return rc;
}

err_code sae_save(sae *s, const char *folder, err *e) {
    if (!architecture_name(&s->cfg))
        return err_set(e, ERR_UNSUPPORTED, "SAELens has no architecture for %s%s", s->cfg.variant->name,
                       s->cfg.transcoder ? " as a transcoder" : "");
    return folder_write(s, folder, CFG_NAME, WEIGHTS_NAME, write_cfg, write_weights, e);
}
