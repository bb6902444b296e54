/* dictionary_learning.c — config.json and ae.pt of the dictionary_learning library, one row for each of its classes.
 *
 * f is that of the weights as stored: load_dictionary of the library rescales an AutoEncoder to unit decoder columns, which
 * multiplies f by their norms and leaves x_hat. Factors of the training (norm_factor) are in the weights already. */
#include "core/names.h"
#include "sae/formats/formats.h"
#include "sae/variants/variants.h"

#include <stdio.h>
#include <string.h>

typedef struct dict_class {
    const char *name; /* first, as core/names.h wants it */
    const sae_variant *variant;
    bool linear;         /* encoder.weight [n, d] and decoder.weight [d, n], else W_enc [d, n] and W_dec [n, d] */
    const char *b_dec;   /* its tensor */
    bool subtracts;      /* b_dec from the rows */
    bool counts;         /* has k */
    bool one_threshold;  /* has a threshold for all latents ... */
    bool uses_threshold; /* ... and encodes with it; a topk only keeps it */
} dict_class;

static const dict_class classes[] = {
    {"AutoEncoder", &sae_standard, true, "bias", true, false, false, false},
    {"AutoEncoderNew", &sae_standard, true, "decoder.bias", false, false, false, false},
    {"GatedAutoEncoder", &sae_gated, true, "decoder_bias", true, false, false, false},
    {"AutoEncoderTopK", &sae_topk, true, "b_dec", true, true, true, false},
    {"BatchTopKSAE", &sae_jumprelu, true, "b_dec", true, true, true, true},
    {"MatryoshkaBatchTopKSAE", &sae_jumprelu, false, "b_dec", true, true, true, true},
    {"JumpReluAutoEncoder", &sae_jumprelu, false, "b_dec", false, false, false, false},
};
enum { N_CLASSES = sizeof classes / sizeof *classes };

typedef struct trainer_cfg {
    const char *dict_class, *model, *submodule;
    int64_t d, n, k;
} trainer_cfg;

/* The other keys of the trainer, and all of the buffer's, are about the training. */
static err_code read_trainer(const json_t *cfg, trainer_cfg *t, err *e) {
    const json_t *trainer = NULL;
    const cfg_key top[] = {{"trainer", CFG_OBJECT, &trainer}, {"buffer", CFG_IGNORED, NULL}};
    const cfg_key keys[] = {
        {"dict_class", CFG_TEXT, &t->dict_class}, {"activation_dim", CFG_SIZE, &t->d},
        {"dict_size", CFG_SIZE, &t->n},           {"k", CFG_SIZE, &t->k},
        {"lm_name", CFG_TEXT, &t->model},         {"submodule_name", CFG_TEXT, &t->submodule},
    };
    err_code rc = cfg_read(cfg, top, 2, e);
    if (!rc && !trainer) rc = err_set(e, ERR_FORMAT, "expected the key trainer");
    if (!rc) rc = cfg_read_some(trainer, keys, sizeof keys / sizeof *keys, e);
    if (rc) return rc;
    if (!t->dict_class || !t->d || !t->n)
        return err_set(e, ERR_FORMAT, "trainer: expected the keys dict_class, activation_dim and dict_size");
    return ERR_OK;
}

static err_code read_k(const sae_files *f, const trainer_cfg *t, sae_description *d, err *e) {
    err_code rc = weights_whole(f->w, "k", &d->k, e);
    if (rc) return rc;
    if (t->k && t->k != d->k)
        return err_set(e, ERR_FORMAT, "k is %lld here and %lld in ae.pt", (long long)t->k, (long long)d->k);
    return ERR_OK;
}

/* A threshold below 0, the library's start value, was never set: training was too short. Encoding is then a plain ReLU. */
static err_code read_threshold(const sae_files *f, const dict_class *c, sae_description *d, err *e) {
    double value;
    err_code rc = weights_scalar(f->w, "threshold", &value, e);
    if (rc || !c->uses_threshold) return rc;
    d->one_threshold = true;
    d->threshold_value = value;
    if (value < 0) d->note = "its threshold was never set (it is negative), so every latent with a positive score fires";
    return ERR_OK;
}

/* Matryoshka's nested widths have to cover the latents; they do not matter otherwise. */
static err_code check_groups(const weights *w, int64_t n, err *e) {
    enum { GROUPS_MAX = 1024 };
    const tensor_view *t = weights_find(w, "group_sizes");
    float sizes[GROUPS_MAX + 1];
    double sum = 0;
    if (!t) return ERR_OK;
    int64_t count = tensor_count(t);
    if (count > GROUPS_MAX || t->type->block_size != 1)
        return err_set(e, ERR_UNSUPPORTED, "tensor group_sizes: expected at most %d numbers", GROUPS_MAX);
    t->type->dequantize(t->data, count, sizes);
    for (int64_t i = 0; i < count; i++) sum += sizes[i];
    if (sum == (double)n) return ERR_OK;
    return err_set(e, ERR_FORMAT, "tensor group_sizes: expected sizes that sum to %lld, found %g", (long long)n, sum);
}

static void name_parts(const dict_class *c, sae_description *d) {
    d->cfg.variant = c->variant;
    d->cfg.apply_b_dec_to_input = c->subtracts;
    d->W_enc = c->linear ? "encoder.weight" : "W_enc";
    d->b_enc = c->variant->uses_gate ? "mag_bias" : c->linear ? "encoder.bias" : "b_enc";
    d->W_dec = c->linear ? "decoder.weight" : "W_dec";
    d->b_dec = c->b_dec;
    d->encoder_by_latent = c->linear;
    d->decoder_by_latent = !c->linear;
    if (c->variant->uses_gate) {
        d->b_gate = "gate_bias";
        d->r_mag = "r_mag";
    }
    if (c->counts) d->unused[0] = "k";
    if (c->one_threshold)
        d->unused[1] = "threshold";
    else if (c->variant->uses_threshold)
        d->threshold = "threshold";
    if (!strcmp(c->name, "MatryoshkaBatchTopKSAE")) d->unused[2] = "group_sizes";
}

static err_code describe(const sae_files *f, sae_description *d, err *e) {
    trainer_cfg t = {0};
    int layer, end = 0;
    err_code rc;
    TRY(read_trainer(f->cfg, &t, e));
    int i = names_find(t.dict_class, classes, N_CLASSES, sizeof *classes);
    if (i < 0) return names_unknown(e, ERR_UNSUPPORTED, "dict_class", t.dict_class, classes, N_CLASSES, sizeof *classes);
    const dict_class *c = &classes[i];
    name_parts(c, d);
    d->cfg.d_in = t.d;
    d->cfg.d_sae = t.n;
    if (c->counts) TRY(read_k(f, &t, d, e));
    if (c->one_threshold) TRY(read_threshold(f, c, d, e));
    TRY(check_groups(f->w, t.n, e));
    TRY(cfg_copy("lm_name", t.model, d->cfg.model_name, sizeof d->cfg.model_name, e));
    if (t.submodule && sscanf(t.submodule, "resid_post_layer_%d%n", &layer, &end) == 1 && end == (int)strlen(t.submodule))
        snprintf(d->cfg.hook_name, sizeof d->cfg.hook_name, "blocks.%d.hook_resid_post", layer);
done:
    return rc;
}

const sae_format sae_format_dictionary_learning = {
    .name = "dictionary_learning", .cfg_name = "config.json", .weights_name = "ae.pt", .describe = describe};
