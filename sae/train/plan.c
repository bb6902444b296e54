#include "sae/train/plan.h"
#include "sae/train/dead.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const double BANDWIDTH = 0.3; /* rows have E ||x||^2 = d, so what fires is a few times as large */
enum { NORMAL_ROWS = 4096, LOG_LINES = 50, LOG_ROWS = 2048, BATCH_MAX = 1 << 24, DEFAULT_K = 32 };

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

static int64_t k_of(const train_opts *o) { return o->k ? o->k : o->l0 > 0 ? (int64_t)o->l0 : DEFAULT_K; }

/* The L0 that a penalty is to bring; 0: its weight is given. */
static double wanted_l0(const train_opts *o, const sae_training *t) {
    if (!(t->options & TRAINS_SPARSITY) || o->sparsity > 0) return 0;
    return o->l0 > 0 ? o->l0 : DEFAULT_K;
}

static err_code out_of_range(const char *name, const char *expected, double found, err *e) {
    return err_set(e, ERR_USAGE, "%s: expected %s, found %g", name, expected, found);
}

static err_code check_has(const sae_training *t, unsigned option, bool given, const char *name, err *e) {
    if (!given || t->options & option) return ERR_OK;
    return err_set(e, ERR_USAGE, "%s: variant %s does not have it", name, t->name);
}

/* What is given must mean something to the variant. */
static err_code check_meaning(const train_opts *o, const sae_training *t, err *e) {
    err_code rc = check_has(t, TRAINS_K, o->k, "k", e);
    if (!rc) rc = check_has(t, TRAINS_AUXK, o->auxk > 0, "auxk", e);
    if (!rc) rc = check_has(t, TRAINS_AUXK, o->k_aux, "k_aux", e);
    if (!rc) rc = check_has(t, TRAINS_SPARSITY, o->sparsity != 0, "sparsity", e);
    if (!rc) rc = check_has(t, TRAINS_L0, o->l0 != 0, "l0", e);
    if (!rc) rc = check_has(t, TRAINS_BANDWIDTH, o->bandwidth != 0, "bandwidth", e);
    if (!rc) rc = check_has(t, TRAINS_PREFIXES, o->n_prefixes, "prefixes", e);
    if (!rc && o->l0 > 0 && (o->sparsity > 0 || o->k))
        rc = err_set(e, ERR_USAGE, "l0: expected it alone, found %s beside it", o->k ? "k" : "sparsity");
    return rc;
}

static err_code check_prefixes(const train_opts *o, err *e) {
    int64_t before = 0;
    if (o->n_prefixes < 0 || o->n_prefixes > PREFIXES_MAX)
        return out_of_range("prefixes", "at most 16 of them", o->n_prefixes, e);
    for (int i = 0; i < o->n_prefixes; i++) {
        if (o->prefixes[i] <= before) return out_of_range("prefixes", "ascending numbers", (double)o->prefixes[i], e);
        before = o->prefixes[i];
    }
    if (o->n_prefixes && before != o->width) return out_of_range("prefixes", "the width as the last", (double)before, e);
    return ERR_OK;
}

static err_code check_options(const train_opts *o, const sae_training *t, err *e) {
    if (!o->out || !*o->out) return err_set(e, ERR_USAGE, "out: expected a folder to write to");
    if (o->width < 1 || o->width > UINT32_MAX) return out_of_range("width", "1 to 2^32 - 1 latents", (double)o->width, e);
    if (t->options & TRAINS_K && (k_of(o) < 1 || k_of(o) > o->width))
        return out_of_range("k", "1 up to the width", (double)k_of(o), e);
    if (!(o->sparsity >= 0) || isinf(o->sparsity)) return out_of_range("sparsity", "0 or more", o->sparsity, e);
    if (!(o->l0 >= 0 && o->l0 <= (double)o->width)) return out_of_range("l0", "0 up to the width", o->l0, e);
    if (t->options & TRAINS_K && o->l0 != floor(o->l0)) return out_of_range("l0", "a whole number", o->l0, e);
    if (!(o->bandwidth >= 0) || isinf(o->bandwidth)) return out_of_range("bandwidth", "more than 0", o->bandwidth, e);
    if (o->batch < 1 || o->batch > BATCH_MAX) return out_of_range("batch", "1 to 2^24 rows", (double)o->batch, e);
    if (o->rows < o->batch) return out_of_range("rows", "at least a batch", (double)o->rows, e);
    if (!(o->lr >= 0) || isinf(o->lr)) return out_of_range("lr", "0 or more", o->lr, e);
    if (o->warmup < -1) return out_of_range("warmup", "0 steps or more, or -1", (double)o->warmup, e);
    if (!(o->decay >= 0 && o->decay <= 1)) return out_of_range("decay", "0 to 1", o->decay, e);
    if (!(o->auxk >= 0 || o->auxk == -1) || isinf(o->auxk)) return out_of_range("auxk", "0 or more", o->auxk, e);
    if (o->k_aux < 0) return out_of_range("k_aux", "0 or more", (double)o->k_aux, e);
    if (o->dead_rows < 0) return out_of_range("dead_rows", "0 or more", (double)o->dead_rows, e);
    if (o->log_every < 0) return out_of_range("log_every", "0 or more", (double)o->log_every, e);
    if (o->checkpoint_every < 0) return out_of_range("checkpoint_every", "0 or more", (double)o->checkpoint_every, e);
    return check_prefixes(o, e);
}

static sae_config make_config(const train_opts *o, const source *rows, const sae_training *t) {
    sae_config cfg = step_config(t, rows->d_in, rows->d_out ? rows->d_out : rows->d_in, o->width, k_of(o));
    cfg.context = rows->context;
    cfg.skip_first = rows->skip_first;
    cfg.max_norm = rows->max_norm;
    cfg.seed = (int64_t)o->seed;
    snprintf(cfg.hook_name, sizeof cfg.hook_name, "%s", rows->hook_name);
    snprintf(cfg.hook_out, sizeof cfg.hook_out, "%s", rows->hook_out);
    snprintf(cfg.model_name, sizeof cfg.model_name, "%s", rows->model_name);
    snprintf(cfg.model_sha256, sizeof cfg.model_sha256, "%s", rows->model_sha256);
    return cfg;
}

/* A step's share in batchtopk's threshold: an average over the last twentieth of the run, but no more than a thousand steps. */
static double threshold_keep(int64_t steps) { return 1 - 1 / (double)min64(max64(steps / 20, 1), 1000); }

static training_rules make_own_rules(const train_opts *o, const sae_training *t, int64_t steps) {
    training_rules own = {.sparsity = o->sparsity, .preselect = o->preselect};
    if (t->options & TRAINS_K) own.k = k_of(o);
    if (t->options & TRAINS_BANDWIDTH) own.bandwidth = o->bandwidth > 0 ? o->bandwidth : BANDWIDTH;
    if (t->after) own.threshold_keep = threshold_keep(steps);
    if (!(t->options & TRAINS_PREFIXES)) return own;
    for (int i = 0; i < o->n_prefixes; i++) own.prefixes[own.n_prefixes++] = o->prefixes[i];
    for (int64_t part = 16; part && !o->n_prefixes; part /= 2)
        if (o->width / part > (own.n_prefixes ? own.prefixes[own.n_prefixes - 1] : 0))
            own.prefixes[own.n_prefixes++] = o->width / part;
    return own;
}

static schedule make_schedule(const train_opts *o, int64_t d_in, int64_t steps) {
    return (schedule){.peak = o->lr > 0 ? o->lr : schedule_default_lr(d_in, o->width),
                      .steps = steps,
                      .warmup = min64(o->warmup >= 0 ? o->warmup : schedule_default_warmup(steps), steps),
                      .decay = (int64_t)(o->decay * (double)steps)};
}

static err_code check_source(const train_opts *o, const source *rows, const sae_training *t, err *e) {
    bool wants_target = t->options & TRAINS_TARGET;
    if (wants_target && !rows->d_out)
        return err_set(e, ERR_USAGE, "target: variant %s needs the rows of another hook to reconstruct", t->name);
    if (!wants_target && rows->d_out) return err_set(e, ERR_USAGE, "target: variant %s does not have it", t->name);
    if (wants_target && rows->d_out != rows->d_in) /* no format of transcoders that pick k latents can hold it */
        return err_set(e, ERR_UNSUPPORTED, "target: expected rows of %lld values like those that are read, found %lld",
                       (long long)rows->d_in, (long long)rows->d_out);
    if (rows->n_rows >= o->batch) return ERR_OK;
    return err_set(e, ERR_MISMATCH, "too few rows to train on: expected at least a batch of %lld, found %lld",
                   (long long)o->batch, (long long)rows->n_rows);
}

err_code plan_make(const train_opts *o, const source *rows, train_plan *p, err *e) {
    const sae_training *t;
    err_code rc = sae_training_find(o->variant, &t, e);
    if (!rc) rc = check_meaning(o, t, e);
    if (!rc) rc = check_options(o, t, e);
    if (!rc) rc = check_source(o, rows, t, e);
    if (rc) return rc;
    *p = (train_plan){.cfg = make_config(o, rows, t),
                      .rules = step_defaults(t),
                      .batch = o->batch,
                      .steps = (o->rows + o->batch - 1) / o->batch};
    p->rows = p->steps * p->batch;
    if (o->auxk >= 0) p->rules.auxk = o->auxk;
    if (t->options & TRAINS_AUXK) p->rules.k_aux = o->k_aux ? o->k_aux : max64(p->cfg.d_out / 2, 1);
    p->rules.own = make_own_rules(o, t, p->steps);
    p->l0 = (l0_target){.wanted = wanted_l0(o, t), .steps = p->steps, .counts = t->trains_threshold};
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

/* Constants that only some variants have. */
static json_t *own_to_json(const train_plan *p) {
    const training_rules *own = &p->rules.own;
    unsigned has = p->rules.training->options;
    json_t *o = json_object();
    int failed = !o;
    if (p->l0.wanted > 0)
        failed |= json_object_set_new(o, "l0", json_real(p->l0.wanted));
    else if (has & TRAINS_SPARSITY)
        failed |= json_object_set_new(o, "sparsity", json_real(own->sparsity));
    if (has & TRAINS_BANDWIDTH) failed |= json_object_set_new(o, "bandwidth", json_real(own->bandwidth));
    if (own->threshold_keep > 0) failed |= json_object_set_new(o, "threshold_keep", json_real(own->threshold_keep));
    if (own->n_prefixes) failed |= json_object_set_new(o, "prefixes", json_array());
    for (int i = 0; i < own->n_prefixes; i++)
        failed |= json_array_append_new(json_object_get(o, "prefixes"), json_integer(own->prefixes[i]));
    if (!failed) return o;
    json_decref(o);
    return NULL;
}

json_t *plan_to_json(const train_plan *p, const source *rows) {
    const step_rules *r = &p->rules;
    json_t *shape = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "variant", r->training->name, "width",
                              (json_int_t)p->cfg.d_sae, "k", (json_int_t)r->own.k, "rows", (json_int_t)p->rows, "batch",
                              (json_int_t)p->batch, "steps", (json_int_t)p->steps, "seed", (json_int_t)p->cfg.seed);
    json_t *rules =
        json_pack("{s:s, s:f, s:I, s:I, s:f, s:f, s:f, s:f, s:I, s:I, s:b, s:b, s:I}", "loss", r->fvu ? "fvu" : "mse", "lr",
                  p->lr.peak, "warmup_steps", (json_int_t)p->lr.warmup, "decay_steps", (json_int_t)p->lr.decay, "adam_beta1",
                  r->adam.beta1, "adam_beta2", r->adam.beta2, "adam_eps", r->adam.eps, "auxk", r->auxk, "k_aux",
                  (json_int_t)r->k_aux, "dead_rows", (json_int_t)p->dead_window, "project_gradient", r->project,
                  "unit_decoder", r->renormalize, "normal_rows", (json_int_t)p->normal_rows);
    return joined(joined(joined(source_to_json(rows), shape), rules), own_to_json(p));
}
