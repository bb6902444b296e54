#include "sae/train/train.h"
#include "core/mem.h"
#include "sae/fvu.h"
#include "sae/train/checkpoint.h"
#include "sae/train/metrics.h"
#include "sae/train/plan.h"
#include "sae/train/record.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

static const double CHECKPOINT_SECONDS = 120; /* a killed run loses at most this; writing takes about a second of it */

/* One call of train_run. */
typedef struct run {
    const ctx *c;
    source *rows;
    const train_opts *o;
    train_plan plan;
    train_state state;
    record record;
    metrics_file metrics;
    fvu_sums sums;
    sparse_acts latents;        /* of rows measured */
    float *x, *y;               /* [max(batch, normal_rows), d_in], .. d_out]; y: transcoders only */
    float *x_hat;               /* [batch, d_out] */
    int64_t resumed_from;       /* rows */
    double began, checkpointed; /* seconds of the monotonic clock */
    top_counts looked;          /* in the last step */
    char note[64];
} run; /* zero-initialise */

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

static void run_release(run *r) {
    state_release(&r->state);
    record_release(&r->record);
    metrics_close(&r->metrics);
    fvu_release(&r->sums);
    sparse_release(&r->latents);
    free(r->x);
    free(r->y);
    free(r->x_hat);
}

/* ---- measuring ---- */

static void normalize_rows(run *r, int64_t n) {
    normal_apply(r->c, &r->state.normal, r->x, n);
    if (r->y) normal_apply(r->c, &r->state.target, r->y, n);
}

/* Rows to measure on: held out; where none are, the first of the stream, which training saw. */
static err_code read_for_measuring(run *r, int64_t first, int64_t n, err *e) {
    err_code rc = r->rows->n_held_out ? source_read_held_out_pairs(r->rows, r->c, first, n, r->x, r->y, e)
                                      : source_read_pairs(r->rows, r->c, first, n, r->x, r->y, e);
    if (!rc) normalize_rows(r, n);
    return rc;
}

/* The first n of them into r->sums. */
static err_code measure(run *r, int64_t n, err *e) {
    const sae *s = r->state.learner.s;
    sparse_acts *f = &r->latents;
    fvu_reset(&r->sums);
    for (int64_t first = 0; first < n; first += r->plan.batch) {
        int64_t count = min64(r->plan.batch, n - first);
        err_code rc = read_for_measuring(r, first, count, e);
        if (rc) return rc;
        rc = sae_encode(r->c, s, r->x, count, f, e);
        if (!rc) rc = sae_reconstruct(r->c, s, f, r->x, r->x_hat, e);
        if (rc) return rc;
        fvu_add(&r->sums, r->y ? r->y : r->x, r->x_hat, count, f->indptr[count]);
    }
    return ERR_OK;
}

static train_result result_of(const run *r) {
    const dead_latents *d = &r->state.dead;
    return (train_result){.rows = d->rows,
                          .resumed_from = r->resumed_from,
                          .rows_per_second = (double)(d->rows - r->resumed_from) / (omp_get_wtime() - r->began),
                          .fvu = fvu_of(&r->sums),
                          .l0 = fvu_l0(&r->sums),
                          .dead = (double)d->n_dead / (double)d->n};
}

static err_code log_line(run *r, double lr, err *e) {
    err_code rc = measure(r, r->plan.log_rows, e);
    if (rc) return rc;
    train_result now = result_of(r);
    snprintf(r->note, sizeof r->note, "fvu %.4f l0 %.1f dead %.1f%%", now.fvu, now.l0, 100 * now.dead);
    const metrics_line line = {.step = r->state.learner.steps,
                               .rows = now.rows,
                               .fvu = now.fvu,
                               .l0 = now.l0,
                               .dead = now.dead,
                               .lr = lr,
                               .rows_per_second = now.rows_per_second,
                               .fallback = r->looked.rows ? (double)r->looked.fallbacks / (double)r->looked.rows : 0};
    return metrics_add(&r->metrics, &line, e);
}

static void report(const run *r) {
    const progress p = {.stage = "train",
                        .unit = "rows",
                        .done = r->state.dead.rows,
                        .total = r->plan.rows,
                        .note = r->note[0] ? r->note : NULL};
    ctx_report(r->c, &p);
}

/* ---- keeping ---- */

static err_code checkpoint(run *r, err *e) {
    r->checkpointed = omp_get_wtime();
    return checkpoint_write(r->o->out, &r->state, r->record.run, e);
}

static bool checkpoint_is_due(const run *r) {
    int64_t every = r->o->checkpoint_every, rows = r->state.dead.rows;
    if (every) return rows / every != (rows - r->plan.batch) / every;
    return omp_get_wtime() - r->checkpointed > CHECKPOINT_SECONDS;
}

static err_code stop(run *r, err *e) {
    err_code rc = r->state.learner.steps ? checkpoint(r, e) : ERR_OK;
    if (rc) return rc;
    return err_set(e, ERR_CANCELLED, "stopped after %lld of %lld rows; the same command goes on from there",
                   (long long)r->state.dead.rows, (long long)r->plan.rows);
}

static err_code save(run *r, err *e) {
    sae *folded = NULL;
    err_code rc;
    TRY(normal_fold(&r->state.normal, r->y ? &r->state.target : &r->state.normal, r->state.learner.s, &folded, e));
    folded->cfg.trained_rows = r->state.dead.rows;
    /* SAELens has no transcoder that picks k latents */
    rc = folded->cfg.transcoder && folded->cfg.variant->uses_k ? sae_save_sparsify(folded, r->o->out, e)
                                                               : sae_save(folded, r->o->out, e);
done:
    sae_free(folded);
    return rc;
}

/* ---- the run ---- */

static err_code begin_anew(run *r, err *e) {
    err_code rc = source_read_pairs(r->rows, r->c, 0, r->plan.normal_rows, r->x, r->y, e);
    if (!rc) rc = normal_measure(&r->state.normal, r->x, r->plan.normal_rows, e);
    if (!rc && r->y) rc = normal_measure(&r->state.target, r->y, r->plan.normal_rows, e);
    if (!rc) state_start(&r->state, r->o->seed);
    if (r->plan.l0.wanted > 0) r->state.penalty = target_start(&r->plan.l0, r->plan.cfg.d_in);
    return rc;
}

static err_code allocate(run *r, err *e) {
    const train_plan *p = &r->plan;
    size_t row = (size_t)p->cfg.d_in * sizeof(float), out = (size_t)p->cfg.d_out * sizeof(float);
    int64_t most = p->batch > p->normal_rows ? p->batch : p->normal_rows;
    err_code rc = state_init(&r->state, &p->cfg, &p->rules, p->dead_window, e);
    if (!rc) rc = fvu_init(&r->sums, p->cfg.d_out, e);
    if (!rc) rc = mem_new(&r->x, (size_t)most, row, "a batch of rows", e);
    if (!rc && p->cfg.transcoder) rc = mem_new(&r->y, (size_t)most, out, "a batch of rows", e);
    if (!rc) rc = mem_new(&r->x_hat, (size_t)p->batch, out, "reconstructions of a batch", e);
    return rc;
}

static err_code start(run *r, bool begun, err *e) {
    err_code rc;
    char *path = NULL;
    bool resumes = begun && checkpoint_exists(r->o->out);
    if (!r->rows->n_held_out) ctx_log(r->c, LOG_WARNING, "no rows are held out: FVU and L0 are of rows that were trained on");
    TRY(allocate(r, e));
    /* the old checkpoint, the new one beside it, and the result */
    TRY(file_check_space(r->o->out, 3 * checkpoint_bytes(&r->plan.cfg), e));
    TRY(resumes ? checkpoint_read(r->o->out, &r->state, r->record.run, e) : begin_anew(r, e));
    r->resumed_from = r->state.dead.rows;
    if (!r->o->metrics) TRY(path_join(r->o->out, "metrics.csv", &path, e));
    TRY(metrics_open(&r->metrics, path ? path : r->o->metrics, r->resumed_from, e));
    r->began = r->checkpointed = omp_get_wtime();
done:
    free(path);
    return rc;
}

static err_code step(run *r, double lr, err *e) {
    train_state *t = &r->state;
    step_report found;
    err_code rc = source_read_pairs(r->rows, r->c, t->dead.rows, r->plan.batch, r->x, r->y, e);
    if (rc) return rc;
    normalize_rows(r, r->plan.batch);
    dead_find(&t->dead);
    if (r->plan.l0.wanted > 0) t->learner.rules.own.sparsity = target_weight(&r->plan.l0, &t->penalty);
    rc = learner_step(r->c, &t->learner, r->x, r->y, r->plan.batch, lr, t->dead.dead, t->dead.n_dead, &found, e);
    if (rc) return rc;
    r->looked = found.top;
    dead_count(&t->dead, &t->learner.batch.f.by_latent, r->plan.batch);
    if (r->plan.l0.wanted > 0) target_update(&r->plan.l0, &t->penalty, t->learner.steps - 1, found.l0, lr / r->plan.lr.peak);
    return ERR_OK;
}

static err_code train(run *r, err *e) {
    const train_plan *p = &r->plan;
    int64_t *done = &r->state.learner.steps;
    while (*done < p->steps) {
        if (ctx_check_cancel(r->c, NULL)) return stop(r, e);
        double lr = schedule_lr(&p->lr, *done);
        err_code rc = step(r, lr, e);
        if (rc == ERR_CANCELLED) return stop(r, e); /* while rows were read: nothing has changed */
        if (!rc && (*done % p->log_steps == 0 || *done == p->steps)) rc = log_line(r, lr, e);
        if (!rc && *done < p->steps && checkpoint_is_due(r)) rc = checkpoint(r, e);
        if (rc) return rc;
        report(r);
    }
    return ERR_OK;
}

static err_code finish(run *r, train_result *out, err *e) {
    err_code rc;
    double rate = result_of(r).rows_per_second;
    TRY(save(r, e));
    TRY(measure(r, r->rows->n_held_out ? r->rows->n_held_out : r->plan.log_rows, e));
    dead_find(&r->state.dead);
    *out = result_of(r);
    out->rows_per_second = rate;
    TRY(record_finish(&r->record, out, e));
    TRY(checkpoint_remove(r->o->out, e));
done:
    return rc;
}

err_code train_run(const ctx *c, source *rows, const train_opts *o, train_result *out, err *e) {
    err_code rc;
    run r = {.c = c, .rows = rows, .o = o};
    record_status status;
    json_t *what = NULL;
    *out = (train_result){0};
    TRY(plan_make(o, rows, &r.plan, e));
    if (!(what = plan_to_json(&r.plan, rows))) {
        rc = err_nomem(e, "the options of a run", 0);
        goto done;
    }
    TRY(record_open(c, o, what, &r.record, &status, out, e));
    if (status == RECORD_COMPLETE) {
        rc = checkpoint_remove(o->out, e); /* if the call that completed the run did not come to it */
        goto done;
    }
    TRY(start(&r, status == RECORD_BEGUN, e));
    TRY(train(&r, e));
    TRY(finish(&r, out, e));
done:
    json_decref(what);
    run_release(&r);
    return rc;
}
