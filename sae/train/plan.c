#include "sae/train/plan.h"
#include "sae/train/dead.h"
#include "sae/variants/variants.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { NORMAL_ROWS = 4096, LOG_LINES = 50, LOG_ROWS = 2048, BATCH_MAX = 1 << 24 };

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

static err_code check_variant(const char *name, const sae_variant **out, err *e) {
    err_code rc = sae_variant_find(name, out, e);
    if (!rc && !(*out)->trains)
        rc = err_set(e, ERR_UNSUPPORTED, "an autoencoder of architecture %s can be used, but not trained here", name);
    return rc;
}

static err_code out_of_range(const char *name, const char *expected, double found, err *e) {
    return err_set(e, ERR_USAGE, "%s: expected %s, found %g", name, expected, found);
}

static err_code check_options(const train_opts *o, const sae_variant *v, err *e) {
    if (!o->out || !*o->out) return err_set(e, ERR_USAGE, "out: expected a folder to write to");
    if (o->width < 1 || o->width > UINT32_MAX) return out_of_range("width", "1 to 2^32 - 1 latents", (double)o->width, e);
    if (v->uses_k && (o->k < 1 || o->k > o->width)) return out_of_range("k", "1 up to the width", (double)o->k, e);
    if (o->batch < 1 || o->batch > BATCH_MAX) return out_of_range("batch", "1 to 2^24 rows", (double)o->batch, e);
    if (o->rows < o->batch) return out_of_range("rows", "at least a batch", (double)o->rows, e);
    if (!(o->lr >= 0) || isinf(o->lr)) return out_of_range("lr", "0 or more", o->lr, e);
    if (o->warmup < -1) return out_of_range("warmup", "0 steps or more, or -1", (double)o->warmup, e);
    if (!(o->decay >= 0 && o->decay <= 1)) return out_of_range("decay", "0 to 1", o->decay, e);
    if (!(o->auxk >= 0) || isinf(o->auxk)) return out_of_range("auxk", "0 or more", o->auxk, e);
    if (o->k_aux < 0) return out_of_range("k_aux", "0 or more", (double)o->k_aux, e);
    if (o->dead_rows < 0) return out_of_range("dead_rows", "0 or more", (double)o->dead_rows, e);
    if (o->log_every < 0) return out_of_range("log_every", "0 or more", (double)o->log_every, e);
    if (o->checkpoint_every < 0) return out_of_range("checkpoint_every", "0 or more", (double)o->checkpoint_every, e);
    return ERR_OK;
}

static void fill_config(const train_opts *o, const source *rows, const sae_variant *v, sae_config *cfg) {
    *cfg = (sae_config){.variant = v,
                        .d_in = rows->d_in,
                        .d_sae = o->width,
                        .k = v->uses_k ? o->k : 0,
                        .apply_b_dec_to_input = true,
                        .context = rows->context,
                        .skip_first = rows->skip_first,
                        .max_norm = rows->max_norm,
                        .seed = (int64_t)o->seed};
    snprintf(cfg->hook_name, sizeof cfg->hook_name, "%s", rows->hook_name);
    snprintf(cfg->model_name, sizeof cfg->model_name, "%s", rows->model_name);
    snprintf(cfg->model_sha256, sizeof cfg->model_sha256, "%s", rows->model_sha256);
}

static schedule make_schedule(const train_opts *o, int64_t d_in, int64_t steps) {
    return (schedule){.peak = o->lr > 0 ? o->lr : schedule_default_lr(d_in, o->width),
                      .steps = steps,
                      .warmup = min64(o->warmup >= 0 ? o->warmup : schedule_default_warmup(steps), steps),
                      .decay = (int64_t)(o->decay * (double)steps)};
}

err_code plan_make(const train_opts *o, const source *rows, train_plan *p, err *e) {
    const sae_variant *v;
    err_code rc = check_variant(o->variant, &v, e);
    if (!rc) rc = check_options(o, v, e);
    if (rc) return rc;
    if (rows->n_rows < o->batch)
        return err_set(e, ERR_MISMATCH, "too few rows to train on: expected at least a batch of %lld, found %lld",
                       (long long)o->batch, (long long)rows->n_rows);
    *p = (train_plan){.rules = STEP_DEFAULTS, .batch = o->batch, .steps = (o->rows + o->batch - 1) / o->batch};
    fill_config(o, rows, v, &p->cfg);
    p->rows = p->steps * p->batch;
    p->rules.auxk = o->auxk;
    p->rules.k_aux = o->k_aux ? o->k_aux : max64(rows->d_in / 2, 1);
    p->lr = make_schedule(o, rows->d_in, p->steps);
    p->normal_rows = min64(max64(o->batch, NORMAL_ROWS), rows->n_rows);
    p->dead_window = o->dead_rows ? o->dead_rows : dead_default_window(p->rows, o->batch);
    p->log_steps = max64(o->log_every ? o->log_every / o->batch : (p->steps + LOG_LINES - 1) / LOG_LINES, 1);
    p->log_rows = min64(LOG_ROWS, rows->n_held_out ? rows->n_held_out : rows->n_rows);
    return ERR_OK;
}

/* Adds an object's members to another; steals both when they exist. */
static json_t *joined(json_t *a, json_t *b) {
    int failed = !a || !b || json_object_update(a, b);
    json_decref(b);
    if (!failed) return a;
    json_decref(a);
    return NULL;
}

static json_t *text_or_nothing(const char *text) {
    json_t *s = json_string(text);
    return s ? s : json_string("");
}

static json_t *source_to_json(const source *s) {
    return json_pack("{s:s, s:o, s:o, s:s, s:I, s:I, s:I}", "source", s->id, "hook_name", text_or_nothing(s->hook_name),
                     "model_name", text_or_nothing(s->model_name), "model_sha256", s->model_sha256, "d_in",
                     (json_int_t)s->d_in, "n_rows", (json_int_t)s->n_rows, "n_held_out", (json_int_t)s->n_held_out);
}

json_t *plan_to_json(const train_plan *p, const source *rows) {
    const step_rules *r = &p->rules;
    json_t *shape = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "variant", p->cfg.variant->name, "width",
                              (json_int_t)p->cfg.d_sae, "k", (json_int_t)p->cfg.k, "rows", (json_int_t)p->rows, "batch",
                              (json_int_t)p->batch, "steps", (json_int_t)p->steps, "seed", (json_int_t)p->cfg.seed);
    json_t *rules =
        json_pack("{s:s, s:f, s:I, s:I, s:f, s:f, s:f, s:f, s:I, s:I, s:b, s:b, s:I}", "loss", r->fvu ? "fvu" : "mse", "lr",
                  p->lr.peak, "warmup_steps", (json_int_t)p->lr.warmup, "decay_steps", (json_int_t)p->lr.decay, "adam_beta1",
                  r->adam.beta1, "adam_beta2", r->adam.beta2, "adam_eps", r->adam.eps, "auxk", r->auxk, "k_aux",
                  (json_int_t)r->k_aux, "dead_rows", (json_int_t)p->dead_window, "project_gradient", r->project,
                  "unit_decoder", r->renormalize, "normal_rows", (json_int_t)p->normal_rows);
    return joined(joined(source_to_json(rows), shape), rules);
}
