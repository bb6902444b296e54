/* io.c — the folder an autoencoder lives in: cfg.json and sae_weights.safetensors, as SAELens writes and reads them.
 *
 * A key of cfg.json that is not in the table below is refused by name: another program gave it a meaning, and leaving it out
 * would compute another function. What can be folded into the weights exactly is folded while loading:
 *   rescale_acts_by_decoder_norm   W_enc_i, b_enc_i times ||W_dec_i||, W_dec_i / ||W_dec_i||: same f, same x_hat
 *   expected_average_only_in       W_enc s, W_dec / s, b_dec / s with s of activation_scaler.json
 * Files of SAELens before 6.0 have no "metadata" and name some keys differently; those are read too. */
#include "core/mem.h"
#include "formats/safetensors.h"
#include "math/sparse.h"
#include "sae/variants/variants.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CFG_NAME     "cfg.json"
#define WEIGHTS_NAME "sae_weights.safetensors"
#define SCALER_NAME  "activation_scaler.json"

enum { JSON_BYTES_MAX = 1 << 20 };

/* ---- reading cfg.json ---- */

typedef struct sae_cfg_file {
    sae_config cfg;
    bool rescale;                          /* rescale_acts_by_decoder_norm */
    bool scale_unfolded;                   /* expected_average_only_in */
    const char *architecture, *activation; /* borrowed from the JSON */
} sae_cfg_file;

static err_code wrong_value(const char *key, const char *expected, const json_t *found, err *e) {
    char *text = json_dumps(found, JSON_ENCODE_ANY | JSON_COMPACT);
    err_code rc = err_set(e, ERR_FORMAT, "%s: expected %s, found %.60s", key, expected, text ? text : "something else");
    free(text);
    return rc;
}

static err_code read_size(const char *key, const json_t *v, int64_t *out, err *e) {
    if (!json_is_integer(v) || json_integer_value(v) < 1) return wrong_value(key, "a whole number of at least 1", v, e);
    *out = json_integer_value(v);
    return ERR_OK;
}

static err_code read_bool(const char *key, const json_t *v, bool *out, err *e) {
    if (!json_is_boolean(v)) return wrong_value(key, "true or false", v, e);
    *out = json_is_true(v);
    return ERR_OK;
}

static err_code read_text(const char *key, const json_t *v, char *out, size_t size, err *e) {
    if (json_is_null(v)) return ERR_OK;
    if (!json_is_string(v)) return wrong_value(key, "a string", v, e);
    if (json_string_length(v) >= size || strlen(json_string_value(v)) != json_string_length(v))
        return err_set(e, ERR_FORMAT, "%s: expected at most %zu characters", key, size - 1);
    memcpy(out, json_string_value(v), json_string_length(v) + 1);
    return ERR_OK;
}

static err_code read_normalize(sae_cfg_file *f, const char *key, const json_t *v, err *e) {
    if (json_is_false(v)) return ERR_OK; /* before 6.0 */
    const char *how = json_string_value(v);
    if (!how) return wrong_value(key, "a string", v, e);
    if (!strcmp(how, "none")) return ERR_OK;
    if (strcmp(how, "expected_average_only_in") != 0)
        return err_set(e, ERR_UNSUPPORTED, "%s: '%s' is not supported (known: none, expected_average_only_in)", key, how);
    f->scale_unfolded = true;
    return ERR_OK;
}

/* Reshaping flattens the heads of a hook: rows come flattened here. */
static err_code read_reshape(const char *key, const json_t *v, err *e) {
    const char *how = json_string_value(v);
    if (!how) return wrong_value(key, "a string", v, e);
    if (!strcmp(how, "none") || !strcmp(how, "hook_z")) return ERR_OK;
    return err_set(e, ERR_UNSUPPORTED, "%s: '%s' is not supported (known: none, hook_z)", key, how);
}

static err_code read_activation_kwargs(sae_cfg_file *f, const char *key, const json_t *v, err *e) {
    const char *inner;
    json_t *value;
    if (!json_is_object(v)) return wrong_value(key, "an object", v, e);
    json_object_foreach((json_t *)v, inner, value) {
        if (strcmp(inner, "k") != 0) return err_set(e, ERR_UNSUPPORTED, "%s: unknown key '%s'", key, inner);
        err_code rc = read_size("activation_fn_kwargs.k", value, &f->cfg.k, e);
        if (rc) return rc;
    }
    return ERR_OK;
}

/* metadata says where the autoencoder comes from, nothing of what it computes: unknown keys are fine there. */
static err_code read_metadata(sae_cfg_file *f, const char *name, const json_t *v, err *e) {
    sae_config *cfg = &f->cfg;
    if (!json_is_object(v)) return wrong_value(name, "an object", v, e);
    const struct {
        const char *key;
        char *text;
        size_t size;
        int64_t *number;
    } known[] = {
        {"hook_name", cfg->hook_name, sizeof cfg->hook_name, NULL},
        {"model_name", cfg->model_name, sizeof cfg->model_name, NULL},
        {"model_sha256", cfg->model_sha256, sizeof cfg->model_sha256, NULL},
        {"context_size", NULL, 0, &cfg->context},
        {"seed", NULL, 0, &cfg->seed},
        {"trained_rows", NULL, 0, &cfg->trained_rows},
        {"skip_first", NULL, 0, &cfg->skip_first},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const json_t *found = json_object_get(v, known[i].key);
        if (!found) continue;
        err_code rc = known[i].text ? read_text(known[i].key, found, known[i].text, known[i].size, e) : ERR_OK;
        if (known[i].number && json_is_integer(found) && json_integer_value(found) >= 0)
            *known[i].number = json_integer_value(found);
        if (rc) return rc;
    }
    return ERR_OK;
}

typedef enum cfg_key {
    KEY_IGNORED, /* about the run that made it, or about where and how tensors lie */
    KEY_ARCHITECTURE,
    KEY_D_IN,
    KEY_D_SAE,
    KEY_K,
    KEY_APPLY_B_DEC,
    KEY_NORMALIZE,
    KEY_RESHAPE,
    KEY_RESCALE,
    KEY_FINETUNED,
    KEY_METADATA,
    KEY_ACTIVATION,
    KEY_ACTIVATION_KWARGS,
    KEY_HOOK_NAME,
    KEY_MODEL_NAME,
} cfg_key;

static const struct {
    const char *name;
    cfg_key key;
} cfg_keys[] = {
    {"architecture", KEY_ARCHITECTURE},
    {"d_in", KEY_D_IN},
    {"d_sae", KEY_D_SAE},
    {"k", KEY_K},
    {"apply_b_dec_to_input", KEY_APPLY_B_DEC},
    {"normalize_activations", KEY_NORMALIZE},
    {"reshape_activations", KEY_RESHAPE},
    {"rescale_acts_by_decoder_norm", KEY_RESCALE},
    {"metadata", KEY_METADATA},
    {"dtype", KEY_IGNORED},
    {"device", KEY_IGNORED},
    /* before 6.0 */
    {"activation_fn_str", KEY_ACTIVATION},
    {"activation_fn_kwargs", KEY_ACTIVATION_KWARGS},
    {"finetuning_scaling_factor", KEY_FINETUNED},
    {"hook_name", KEY_HOOK_NAME},
    {"hook_point", KEY_HOOK_NAME},
    {"model_name", KEY_MODEL_NAME},
    {"hook_layer", KEY_IGNORED},
    {"hook_point_layer", KEY_IGNORED},
    {"hook_head_index", KEY_IGNORED},
    {"hook_point_head_index", KEY_IGNORED},
    {"context_size", KEY_IGNORED},
    {"prepend_bos", KEY_IGNORED},
    {"seqpos_slice", KEY_IGNORED},
    {"dataset_path", KEY_IGNORED},
    {"dataset_trust_remote_code", KEY_IGNORED},
    {"model_from_pretrained_kwargs", KEY_IGNORED},
    {"sae_lens_training_version", KEY_IGNORED},
    {"neuronpedia_id", KEY_IGNORED},
};

static err_code read_key(sae_cfg_file *f, cfg_key key, const char *name, const json_t *v, err *e) {
    bool finetuned = false;
    err_code rc;
    switch (key) {
    case KEY_IGNORED: return ERR_OK;
    case KEY_ARCHITECTURE:
        f->architecture = json_string_value(v);
        return f->architecture ? ERR_OK : wrong_value(name, "a string", v, e);
    case KEY_ACTIVATION:
        f->activation = json_string_value(v);
        return f->activation ? ERR_OK : wrong_value(name, "a string", v, e);
    case KEY_D_IN: return read_size(name, v, &f->cfg.d_in, e);
    case KEY_D_SAE: return read_size(name, v, &f->cfg.d_sae, e);
    case KEY_K: return read_size(name, v, &f->cfg.k, e);
    case KEY_APPLY_B_DEC: return read_bool(name, v, &f->cfg.apply_b_dec_to_input, e);
    case KEY_NORMALIZE: return read_normalize(f, name, v, e);
    case KEY_RESHAPE: return read_reshape(name, v, e);
    case KEY_RESCALE: return read_bool(name, v, &f->rescale, e);
    case KEY_METADATA: return read_metadata(f, name, v, e);
    case KEY_ACTIVATION_KWARGS: return read_activation_kwargs(f, name, v, e);
    case KEY_HOOK_NAME: return read_text(name, v, f->cfg.hook_name, sizeof f->cfg.hook_name, e);
    case KEY_MODEL_NAME: return read_text(name, v, f->cfg.model_name, sizeof f->cfg.model_name, e);
    case KEY_FINETUNED:
        rc = read_bool(name, v, &finetuned, e);
        if (!rc && finetuned) rc = err_set(e, ERR_UNSUPPORTED, "%s: true is not supported", name);
        return rc;
    }
    return ERR_OK;
}

/* Before 6.0 a topk was "standard" with activation_fn_str "topk". */
static err_code resolve_variant(sae_cfg_file *f, err *e) {
    const char *name = f->architecture ? f->architecture : "standard";
    if (f->activation && !strcmp(name, "standard") && !strcmp(f->activation, "topk"))
        name = "topk";
    else if (f->activation && strcmp(f->activation, "relu") != 0 && strcmp(f->activation, name) != 0)
        return err_set(e, ERR_UNSUPPORTED, "activation_fn_str: '%s' is not supported (known: relu, topk)", f->activation);
    err_code rc = sae_variant_find(name, &f->cfg.variant, e);
    if (rc) return rc;
    if (f->cfg.variant->uses_k && !f->cfg.k) return err_set(e, ERR_FORMAT, "expected the key k, which %s needs", name);
    if (!f->cfg.variant->uses_k && f->cfg.k) return err_set(e, ERR_UNSUPPORTED, "k means nothing to architecture %s", name);
    if (f->rescale && !f->cfg.variant->uses_k)
        return err_set(e, ERR_UNSUPPORTED, "rescale_acts_by_decoder_norm means nothing to architecture %s", name);
    return ERR_OK;
}

static err_code read_cfg(const json_t *root, sae_cfg_file *f, err *e) {
    const char *name;
    json_t *value;
    f->cfg.apply_b_dec_to_input = true;
    if (!json_is_object(root)) return err_set(e, ERR_FORMAT, "expected a JSON object");
    json_object_foreach((json_t *)root, name, value) {
        size_t i = 0, n = sizeof cfg_keys / sizeof *cfg_keys;
        while (i < n && strcmp(cfg_keys[i].name, name) != 0) i++;
        if (i == n)
            return err_set(e, ERR_UNSUPPORTED, "unknown key '%.60s', which may change what the autoencoder computes", name);
        err_code rc = read_key(f, cfg_keys[i].key, name, value, e);
        if (rc) return rc;
    }
    if (!f->cfg.d_in || !f->cfg.d_sae) return err_set(e, ERR_FORMAT, "expected the keys d_in and d_sae");
    return resolve_variant(f, e);
}

static err_code load_json(const char *path, json_t **out, err *e) {
    char *text = NULL;
    size_t size = 0;
    json_error_t wrong;
    err_code rc = file_read(path, JSON_BYTES_MAX, &text, &size, e);
    if (rc) return rc;
    *out = json_loadb(text, size, JSON_REJECT_DUPLICATES, &wrong);
    free(text);
    return *out ? ERR_OK : err_set(e, ERR_FORMAT, "%s: byte %d: %s", path, wrong.position, wrong.text);
}

/* ---- reading weights ---- */

static err_code read_tensor(const weights *w, const char *name, int n_dims, const int64_t *shape, float *out, err *e) {
    const tensor_view *t;
    err_code rc = weights_require(w, name, n_dims, shape, &t, e);
    if (rc) return rc;
    const char *type = t->type->name;
    if (strcmp(type, "F32") != 0 && strcmp(type, "F16") != 0 && strcmp(type, "BF16") != 0 && strcmp(type, "F64") != 0)
        return err_set(e, ERR_UNSUPPORTED, "tensor %s: expected F32, F16, BF16 or F64, found %s", name, type);
    int64_t n = tensor_count(t);
    t->type->dequantize(t->data, n, out);
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(out[i])) return err_set(e, ERR_FORMAT, "tensor %s: value %lld is not finite", name, (long long)i);
    return ERR_OK;
}

/* to [n_rows, n_cols] from [n_cols, n_rows], in squares that fit the cache */
static void transpose(const float *from, int64_t n_rows, int64_t n_cols, float *to) {
    enum { SIDE = 32 };
    for (int64_t i = 0; i < n_rows; i += SIDE)
        for (int64_t j = 0; j < n_cols; j += SIDE)
            for (int64_t r = i; r < i + SIDE && r < n_rows; r++)
                for (int64_t q = j; q < j + SIDE && q < n_cols; q++) to[r * n_cols + q] = from[q * n_rows + r];
}

static err_code read_W_enc(const weights *w, sae *s, err *e) {
    const int64_t shape[] = {s->cfg.d_in, s->cfg.d_sae};
    float *stored = NULL;
    err_code rc = mem_new(&stored, (size_t)shape[0] * (size_t)shape[1], sizeof *stored, "W_enc", e);
    if (!rc) rc = read_tensor(w, "W_enc", 2, shape, stored, e);
    if (!rc) transpose(stored, s->cfg.d_sae, s->cfg.d_in, s->W_enc);
    free(stored);
    return rc;
}

/* A tensor that the architecture does not have would be part of another function. Files before 6.0 hold a scaling_factor,
 * all ones unless the autoencoder was fine-tuned. */
static err_code check_no_other_tensors(const weights *w, const sae_config *cfg, err *e) {
    for (int64_t i = 0; i < weights_tensor_count(w); i++) {
        const tensor_view *t = weights_tensor_at(w, i);
        const char *known[] = {"W_enc", "W_dec", "b_enc", "b_dec", cfg->variant->uses_threshold ? "threshold" : "W_enc"};
        size_t k = 0, n = sizeof known / sizeof *known;
        while (k < n && strcmp(known[k], t->name) != 0) k++;
        if (k < n) continue;
        if (strcmp(t->name, "scaling_factor") != 0)
            return err_set(e, ERR_UNSUPPORTED, "unknown tensor '%.60s' for architecture %s", t->name, cfg->variant->name);
        float *factors = NULL;
        err_code rc = mem_new(&factors, (size_t)cfg->d_sae, sizeof *factors, "scaling_factor", e);
        if (!rc) rc = read_tensor(w, t->name, 1, &cfg->d_sae, factors, e);
        for (int64_t j = 0; !rc && j < cfg->d_sae; j++)
            if (factors[j] != 1)
                rc = err_set(e, ERR_UNSUPPORTED, "tensor scaling_factor: expected ones, found %g", factors[j]);
        free(factors);
        if (rc) return rc;
    }
    return ERR_OK;
}

static err_code read_parameters(const weights *w, sae *s, err *e) {
    const int64_t n = s->cfg.d_sae, d = s->cfg.d_in, decoder[] = {n, d};
    err_code rc = read_W_enc(w, s, e);
    if (!rc) rc = read_tensor(w, "W_dec", 2, decoder, s->W_dec, e);
    if (!rc) rc = read_tensor(w, "b_enc", 1, &n, s->b_enc, e);
    if (!rc) rc = read_tensor(w, "b_dec", 1, &d, s->b_dec, e);
    if (!rc && s->threshold) rc = read_tensor(w, "threshold", 1, &n, s->threshold, e);
    return rc;
}

/* The sizes of cfg.json, compared with the file before anything of that size is allocated. */
static err_code check_sizes(const weights *w, const sae_config *cfg, err *e) {
    const int64_t shape[] = {cfg->d_in, cfg->d_sae};
    const tensor_view *t;
    return weights_require(w, "W_enc", 2, shape, &t, e);
}

/* ---- folding ---- */

static void fold_decoder_norms(sae *s) {
    const sparse_kernels *k = sparse_kernels_for(CPU_PORTABLE); /* once, and the same bits on every machine */
    int64_t d = s->cfg.d_in;
    for (int64_t i = 0; i < s->cfg.d_sae; i++) {
        float *decoder = s->W_dec + i * d, norm = sqrtf(k->dot(decoder, decoder, d));
        for (int64_t j = 0; j < d; j++) {
            s->W_enc[i * d + j] *= norm;
            if (norm > 0) decoder[j] /= norm;
        }
        s->b_enc[i] *= norm;
    }
}

static err_code fold_input_scale(const char *folder, sae *s, err *e) {
    err_code rc;
    char *path = NULL;
    json_t *root = NULL;
    TRY(path_join(folder, SCALER_NAME, &path, e));
    if (!file_exists(path)) {
        rc = err_set(e, ERR_FORMAT,
                     "%s: normalize_activations is expected_average_only_in, but there is no %s with the factor", folder,
                     SCALER_NAME);
        goto done;
    }
    TRY(load_json(path, &root, e));
    double factor = json_number_value(json_object_get(root, "scaling_factor"));
    if (!(factor > 0) || !isfinite(factor)) {
        rc = err_set(e, ERR_FORMAT, "%s: scaling_factor: expected a positive number", path);
        goto done;
    }
    float scale = (float)factor;
    for (int64_t i = 0; i < s->cfg.d_sae * s->cfg.d_in; i++) {
        s->W_enc[i] *= scale;
        s->W_dec[i] /= scale;
    }
    for (int64_t j = 0; j < s->cfg.d_in; j++) s->b_dec[j] /= scale;
done:
    json_decref(root);
    free(path);
    return rc;
}

/* ---- the folder ---- */

err_code sae_load(const char *folder, sae **out, err *e) {
    err_code rc;
    char *cfg_path = NULL, *weights_path_ = NULL;
    json_t *root = NULL;
    weights *w = NULL;
    sae *s = NULL;
    sae_cfg_file f = {0};
    *out = NULL;
    TRY(path_join(folder, CFG_NAME, &cfg_path, e));
    TRY(path_join(folder, WEIGHTS_NAME, &weights_path_, e));
    TRY(load_json(cfg_path, &root, e));
    if ((rc = read_cfg(root, &f, e))) {
        err_prefix(e, rc, "%s", cfg_path);
        goto done;
    }
    TRY(weights_open(weights_path_, &w, e));
    rc = check_sizes(w, &f.cfg, e);
    if (!rc) rc = check_no_other_tensors(w, &f.cfg, e);
    if (!rc) rc = sae_new(&f.cfg, &s, e);
    if (!rc) rc = read_parameters(w, s, e);
    if (rc) {
        err_prefix(e, rc, "%s", weights_path_);
        goto done;
    }
    if (f.rescale) fold_decoder_norms(s);
    if (f.scale_unfolded) TRY(fold_input_scale(folder, s, e));
    TRY(file_sha256(weights_path_, s->sha256, e));
    *out = s;
    s = NULL;
done:
    sae_free(s);
    weights_close(w);
    json_decref(root);
    free(cfg_path);
    free(weights_path_);
    return rc;
}

/* A model file may call itself anything; a name that is not UTF-8 is left out. */
static json_t *text_or_nothing(const char *text) {
    json_t *s = json_string(text);
    return s ? s : json_string("");
}

static json_t *cfg_to_json(const sae_config *cfg) {
    json_t *metadata = json_pack("{s:s, s:o, s:o, s:I, s:I, s:I, s:I}", "sae_version", SAE_VERSION, "hook_name",
                                 text_or_nothing(cfg->hook_name), "model_name", text_or_nothing(cfg->model_name),
                                 "context_size", (json_int_t)cfg->context, "seed", (json_int_t)cfg->seed, "trained_rows",
                                 (json_int_t)cfg->trained_rows, "skip_first", (json_int_t)cfg->skip_first);
    json_t *root = json_pack("{s:s, s:I, s:I, s:s, s:s, s:b, s:s, s:s}", "architecture", cfg->variant->name, "d_in",
                             (json_int_t)cfg->d_in, "d_sae", (json_int_t)cfg->d_sae, "dtype", "float32", "device", "cpu",
                             "apply_b_dec_to_input", cfg->apply_b_dec_to_input, "normalize_activations", "none",
                             "reshape_activations", "none");
    int failed = !root || !metadata;
    if (!failed && cfg->variant->uses_k)
        failed = json_object_set_new(root, "k", json_integer(cfg->k)) ||
                 json_object_set_new(root, "rescale_acts_by_decoder_norm", json_false());
    if (!failed && cfg->model_sha256[0])
        failed = json_object_set_new(metadata, "model_sha256", json_string(cfg->model_sha256));
    if (!failed) failed = json_object_set(root, "metadata", metadata);
    json_decref(metadata);
    if (!failed) return root;
    json_decref(root);
    return NULL;
}

static err_code write_cfg(const sae_config *cfg, const char *path, err *e) {
    json_t *root = cfg_to_json(cfg);
    char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    err_code rc =
        text ? file_write(path, text, strlen(text), e) : err_set(e, ERR_FAILED, "%s: cannot be put into JSON", path);
    free(text);
    json_decref(root);
    return rc;
}

static err_code write_weights(const sae *s, const char *path, err *e) {
    int64_t n = s->cfg.d_sae, d = s->cfg.d_in;
    size_t vector = (size_t)n * sizeof(float), matrix = vector * (size_t)d;
    float *W_enc = NULL;
    err_code rc = mem_new(&W_enc, 1, matrix, "W_enc", e);
    if (rc) return rc;
    transpose(s->W_enc, d, n, W_enc);
    const safetensors_entry entries[] = {
        {"W_dec", "F32", 2, {n, d}, s->W_dec, matrix},
        {"W_enc", "F32", 2, {d, n}, W_enc, matrix},
        {"b_dec", "F32", 1, {d}, s->b_dec, (size_t)d * sizeof(float)},
        {"b_enc", "F32", 1, {n}, s->b_enc, vector},
        {"threshold", "F32", 1, {n}, s->threshold, vector},
    };
    rc = safetensors_write(path, entries, s->threshold ? 5 : 4, e);
    free(W_enc);
    return rc;
}

/* cfg.json goes first and comes last: a folder without it is visibly incomplete. */
err_code sae_save(sae *s, const char *folder, err *e) {
    err_code rc;
    char *cfg_path = NULL, *weights_path_ = NULL;
    TRY(path_join(folder, CFG_NAME, &cfg_path, e));
    TRY(path_join(folder, WEIGHTS_NAME, &weights_path_, e));
    TRY(file_make_dirs(folder, e));
    if (unlink(cfg_path) && errno != ENOENT) {
        rc = err_set_errno(e, "%s: cannot remove the old file", cfg_path);
        goto done;
    }
    TRY(write_weights(s, weights_path_, e));
    TRY(write_cfg(&s->cfg, cfg_path, e));
    TRY(file_sha256(weights_path_, s->sha256, e));
done:
    free(cfg_path);
    free(weights_path_);
    return rc;
}
