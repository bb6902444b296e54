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
enum { SETTLE_BLOCK = 256 };                  /* rows next to each other, of one or two documents */
static const double L0_WITHIN = 0.05;         /* a run that ends farther from its L0 says so */

/* One autoencoder. Killed between two checkpoints of a loop, runs may be at different rows: those ahead wait. */
typedef struct run {
    const train_opts *o;
    train_plan plan;
    json_t *what; /* plan_to_json */
    record record;
    record_status status;
    train_state state;
    metrics_file metrics;
    fvu_sums sums;
    int64_t resumed_from; /* rows */
    top_counts looked;    /* in the last step */
    train_result *result;
    bool takes_part; /* in the step that is being made */
} run;               /* zero-initialise */

/* One call of train_runs. */
typedef struct loop {
    const ctx *c;
    source *rows;
    run *runs; /* [n_runs] */
    int n_runs;
    float *x, *y;               /* [max(batch, normal_rows), d_in], .. d_out]; y: transcoders only */
    float *own_x, *own_y;       /* [batch, ..] the same as one run sees them */
    float *x_hat;               /* [batch, d_out] */
    sparse_acts latents;        /* of rows measured */
    double began, checkpointed; /* seconds of the monotonic clock */
    char note[64];
} loop; /* zero-initialise */

#define FOR_EACH_RUN(r, l) for (run *r = (l)->runs; r < (l)->runs + (l)->n_runs; r++)

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

/* What all runs have in common. */
static const train_plan *common(const loop *l) { return &l->runs[0].plan; }

static bool is_complete(const run *r) { return r->status == RECORD_COMPLETE; }

/* How far the run is that is least far. */
static int64_t rows_done(const loop *l) {
    int64_t least = common(l)->rows;
    FOR_EACH_RUN(r, l) if (!is_complete(r)) least = min64(least, r->state.dead.rows);
    return least;
}

static void release(loop *l) {
    FOR_EACH_RUN(r, l) {
        json_decref(r->what);
        state_release(&r->state);
        record_release(&r->record);
        metrics_close(&r->metrics);
        fvu_release(&r->sums);
    }
    free(l->runs);
    free(l->x);
    free(l->y);
    free(l->own_x);
    free(l->own_y);
    free(l->x_hat);
    sparse_release(&l->latents);
}

/* n rows of x and y as the run sees them, into own_x and own_y. */
static void normalize_rows(const loop *l, const run *r, int64_t n) {
    memcpy(l->own_x, l->x, (size_t)(n * r->plan.cfg.d_in) * sizeof *l->x);
    normal_apply(l->c, &r->state.normal, l->own_x, n);
    if (!l->y) return;
    memcpy(l->own_y, l->y, (size_t)(n * r->plan.cfg.d_out) * sizeof *l->y);
    normal_apply(l->c, &r->state.target, l->own_y, n);
}

/* ---- measuring ---- */

/* Rows to measure on, to row `to` of x and y: held out; where none are, the first of the stream, which training saw. */
static err_code read_for_measuring(const loop *l, const ctx *c, int64_t first, int64_t n, int64_t to, err *e) {
    float *x = l->x + to * l->rows->d_in, *y = l->y ? l->y + to * l->rows->d_out : NULL;
    return l->rows->n_held_out ? source_read_held_out_pairs(l->rows, c, first, n, x, y, e)
                               : source_read_pairs(l->rows, c, first, n, x, y, e);
}

static err_code measure_rows(loop *l, const ctx *c, run *r, int64_t n, err *e) {
    const sae *s = r->state.learner.s;
    sparse_acts *f = &l->latents;
    normalize_rows(l, r, n);
    err_code rc = sae_encode(c, s, l->own_x, n, f, e);
    if (!rc) rc = sae_reconstruct(c, s, f, l->own_x, l->x_hat, e);
    if (!rc) fvu_add(&r->sums, l->y ? l->own_y : l->own_x, l->x_hat, n, f->indptr[n]);
    return rc;
}

/* The first n of them into the sums of the runs that take part. */
static err_code measure(loop *l, const ctx *c, int64_t n, err *e) {
    int64_t batch = common(l)->batch;
    FOR_EACH_RUN(r, l) if (r->takes_part) fvu_reset(&r->sums);
    for (int64_t first = 0; first < n; first += batch) {
        int64_t count = min64(batch, n - first);
        err_code rc = read_for_measuring(l, c, first, count, 0, e);
        FOR_EACH_RUN(r, l) if (!rc && r->takes_part) rc = measure_rows(l, c, r, count, e);
        if (rc) return rc;
    }
    return ERR_OK;
}

static train_result result_of(const loop *l, const run *r) {
    const dead_latents *d = &r->state.dead;
    return (train_result){.rows = d->rows,
                          .resumed_from = r->resumed_from,
                          .rows_per_second = (double)(d->rows - r->resumed_from) / (omp_get_wtime() - l->began),
                          .fvu = fvu_of(&r->sums),
                          .l0 = fvu_l0(&r->sums),
                          .dead = (double)d->n_dead / (double)d->n};
}

static err_code log_line(const loop *l, run *r, double lr, err *e) {
    const train_result now = result_of(l, r);
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

/* "fvu 0.2510 l0 32.0 dead 1.2%", or of many "fvu 0.2510 to 0.4012". */
static void write_note(loop *l) {
    double least = INFINITY, most = -INFINITY;
    train_result last = {0};
    FOR_EACH_RUN(r, l) {
        if (!r->takes_part) continue;
        last = result_of(l, r);
        least = fmin(least, last.fvu);
        most = fmax(most, last.fvu);
    }
    if (l->n_runs > 1)
        snprintf(l->note, sizeof l->note, "fvu %.4f to %.4f", least, most);
    else
        snprintf(l->note, sizeof l->note, "fvu %.4f l0 %.1f dead %.1f%%", last.fvu, last.l0, 100 * last.dead);
}

/* A step that was made gets its line, also when it was the last one before a stop. */
static err_code log_lines(loop *l, int64_t step, err *e) {
    ctx patient = *l->c;
    patient.cancel = NULL;
    err_code rc = measure(l, &patient, common(l)->log_rows, e);
    FOR_EACH_RUN(r, l) if (!rc && r->takes_part) rc = log_line(l, r, schedule_lr(&r->plan.lr, step), e);
    if (!rc) write_note(l);
    return rc;
}

static void report(const loop *l) {
    const progress p = {.stage = "train",
                        .unit = "rows",
                        .done = rows_done(l),
                        .total = common(l)->rows,
                        .note = l->note[0] ? l->note : NULL};
    ctx_report(l->c, &p);
}

/* ---- keeping ---- */

/* Of the runs that have done something since their last one. */
static err_code checkpoint(loop *l, err *e) {
    err_code rc = ERR_OK;
    l->checkpointed = omp_get_wtime();
    FOR_EACH_RUN(r, l) {
        if (!rc && !is_complete(r) && r->state.dead.rows > r->resumed_from)
            rc = checkpoint_write(r->o->out, &r->state, r->record.run, e);
    }
    return rc;
}

static bool checkpoint_is_due(const loop *l) {
    int64_t every = l->runs[0].o->checkpoint_every, rows = rows_done(l);
    if (every) return rows / every != (rows - common(l)->batch) / every;
    return omp_get_wtime() - l->checkpointed > CHECKPOINT_SECONDS;
}

static err_code stop(loop *l, err *e) {
    err_code rc = checkpoint(l, e);
    if (rc) return rc;
    return err_set(e, ERR_CANCELLED, "stopped after %lld of %lld rows; the same command goes on from there",
                   (long long)rows_done(l), (long long)common(l)->rows);
}

static err_code save(const run *r, err *e) {
    const train_state *t = &r->state;
    sae *folded = NULL;
    err_code rc;
    TRY(normal_fold(&t->normal, r->plan.cfg.transcoder ? &t->target : &t->normal, t->learner.s, &folded, e));
    folded->cfg.trained_rows = t->dead.rows;
    /* SAELens has no transcoder that picks k latents */
    rc = folded->cfg.transcoder && folded->cfg.variant->uses_k ? sae_save_sparsify(folded, r->o->out, e)
                                                               : sae_save(folded, r->o->out, e);
done:
    sae_free(folded);
    return rc;
}

/* ---- starting ---- */

/* Runs share what is read and when it is measured. */
static err_code check_together(const loop *l, err *e) {
    const train_plan *p = common(l);
    for (int i = 0; i < l->n_runs; i++) {
        const run *r = &l->runs[i];
        if (r->plan.batch != p->batch || r->plan.rows != p->rows || r->plan.log_steps != p->log_steps)
            return err_set(e, ERR_USAGE, "%s: expected the batch, rows and log_every of all other runs", r->o->out);
        for (int j = 0; j < i; j++)
            if (!strcmp(r->o->out, l->runs[j].o->out))
                return err_set(e, ERR_USAGE, "%s: expected a folder of its own, found it twice", r->o->out);
    }
    return ERR_OK;
}

/* Looks at the options and at what is on disk, and changes nothing there. */
static err_code plan_run(loop *l, run *r, err *e) {
    err_code rc = plan_make(r->o, l->rows, &r->plan, e);
    if (rc) return rc;
    if (!(r->what = plan_to_json(&r->plan, l->rows))) return err_nomem(e, "the options of a run", 0);
    return record_open(l->c, r->o, r->what, &r->record, &r->status, r->result, e);
}

static uint64_t bytes_in_training(const train_plan *p) {
    uint64_t rows =
        (uint64_t)(p->rules.own.n_prefixes + 2) * (uint64_t)p->batch; /* residuals, of prefixes too, and scratch */
    return checkpoint_bytes(&p->cfg) + rows * (uint64_t)p->cfg.d_out * sizeof(float);
}

/* That all runs together fit, on disk and in memory. */
static err_code check_room(const loop *l, err *e) {
    uint64_t memory = 0, disk = 0;
    int n = 0;
    char what[64];
    FOR_EACH_RUN(r, l) {
        if (is_complete(r)) continue;
        memory += bytes_in_training(&r->plan);
        disk += 3 * checkpoint_bytes(&r->plan.cfg); /* the old checkpoint, the new one beside it, and the result */
        n++;
    }
    snprintf(what, sizeof what, "training %d autoencoder%s", n, n > 1 ? "s together" : "");
    err_code rc = n ? file_check_space(l->runs[0].o->out, disk, e) : ERR_OK;
    return rc ? rc : mem_check_free(memory, what, e);
}

static err_code allocate_run(run *r, err *e) {
    const train_plan *p = &r->plan;
    err_code rc = state_init(&r->state, &p->cfg, &p->rules, p->dead_window, e);
    return rc ? rc : fvu_init(&r->sums, p->cfg.d_out, e);
}

static err_code allocate(loop *l, err *e) {
    const train_plan *p = common(l);
    size_t row = (size_t)p->cfg.d_in * sizeof(float), out = (size_t)p->cfg.d_out * sizeof(float), batch = (size_t)p->batch;
    size_t most = (size_t)max64(p->batch, p->normal_rows);
    err_code rc = ERR_OK;
    FOR_EACH_RUN(r, l) if (!is_complete(r)) TRY(allocate_run(r, e));
    TRY(mem_new(&l->x, most, row, "a batch of rows", e));
    TRY(mem_new(&l->own_x, batch, row, "a batch of rows", e));
    TRY(mem_new(&l->x_hat, batch, out, "reconstructions of a batch", e));
    if (!p->cfg.transcoder) goto done;
    TRY(mem_new(&l->y, most, out, "a batch of rows", e));
    TRY(mem_new(&l->own_y, batch, out, "a batch of rows", e));
done:
    return rc;
}

static bool resumes(const run *r) { return r->status == RECORD_BEGUN && checkpoint_exists(r->o->out); }

/* x and y hold the first rows. */
static err_code begin_anew(const loop *l, run *r, err *e) {
    err_code rc = normal_measure(&r->state.normal, l->x, r->plan.normal_rows, e);
    if (!rc && l->y) rc = normal_measure(&r->state.target, l->y, r->plan.normal_rows, e);
    if (!rc) state_start(&r->state, r->o->seed);
    if (r->plan.l0.wanted > 0) r->state.penalty = target_start(&r->plan.l0, r->plan.cfg.d_in);
    return rc;
}

static err_code start_states(loop *l, err *e) {
    bool have_rows = false;
    err_code rc = ERR_OK;
    FOR_EACH_RUN(r, l) {
        if (is_complete(r)) continue;
        if (!resumes(r) && !have_rows) TRY(source_read_pairs(l->rows, l->c, 0, common(l)->normal_rows, l->x, l->y, e));
        have_rows |= !resumes(r);
        TRY(resumes(r) ? checkpoint_read(r->o->out, &r->state, r->record.run, e) : begin_anew(l, r, e));
        r->resumed_from = r->state.dead.rows;
    }
done:
    return rc;
}

static err_code open_files(run *r, err *e) {
    err_code rc = ERR_OK;
    char *path = NULL;
    if (r->status == RECORD_NEW) {
        TRY(record_lock(&r->record, r->o->out, e));
        TRY(record_begin(&r->record, e));
    }
    if (!r->o->metrics) TRY(path_join(r->o->out, "metrics.csv", &path, e));
    TRY(metrics_open(&r->metrics, path ? path : r->o->metrics, r->resumed_from, e));
done:
    free(path);
    return rc;
}

/* Nothing is written before everything that may refuse has been asked. */
static err_code start(loop *l, err *e) {
    err_code rc;
    if (!l->rows->n_held_out) ctx_log(l->c, LOG_WARNING, "no rows are held out: FVU and L0 are of rows that were trained on");
    TRY(check_room(l, e));
    FOR_EACH_RUN(r, l) if (r->status == RECORD_BEGUN) TRY(record_lock(&r->record, r->o->out, e));
    TRY(allocate(l, e));
    TRY(start_states(l, e));
    FOR_EACH_RUN(r, l) if (!is_complete(r)) TRY(open_files(r, e));
    l->began = l->checkpointed = omp_get_wtime();
done:
    return rc;
}

/* ---- L0 at the end ---- */

/* Latents a row, whether a penalty or a number of them leads there; 0: nothing says so. */
static double wanted_l0(const run *r) {
    return r->plan.l0.wanted > 0 ? r->plan.l0.wanted : (double)r->state.learner.rules.own.k;
}

/* Thresholds of the runs that take part, by rows from all over those that are measured. */
static err_code settle(loop *l, err *e) {
    ctx patient = *l->c;
    patient.cancel = NULL;
    int64_t of = l->rows->n_held_out ? l->rows->n_held_out : common(l)->log_rows, n = min64(common(l)->batch, of), block;
    for (int64_t at = 0; at < n; at += block) {
        block = min64(SETTLE_BLOCK, n - at);
        err_code rc = read_for_measuring(l, &patient, at * (of - block) / max64(n - block, 1), block, at, e);
        if (rc) return rc;
    }
    FOR_EACH_RUN(r, l) {
        sae *s = r->state.learner.s;
        if (!r->takes_part || !s->threshold || wanted_l0(r) == 0) continue;
        normalize_rows(l, r, n);
        err_code rc = target_settle(&patient, s, l->own_x, n, wanted_l0(r), e);
        if (rc) return rc;
    }
    return ERR_OK;
}

static void warn_of_l0(const loop *l, const run *r) {
    double l0 = r->result->l0, wanted = wanted_l0(r);
    if (wanted > 0 && fabs(l0 / wanted - 1) > L0_WITHIN)
        ctx_log(l->c, LOG_WARNING, "%s: L0 is %.3g, wanted was %.3g: %lld steps are few for it, train on more rows",
                r->o->out, l0, wanted, (long long)r->plan.steps);
}

/* ---- the loop ---- */

static err_code step_run(const loop *l, run *r, double lr, err *e) {
    train_state *t = &r->state;
    step_report found;
    normalize_rows(l, r, r->plan.batch);
    dead_find(&t->dead);
    if (r->plan.l0.wanted > 0) t->learner.rules.own.sparsity = target_weight(&r->plan.l0, &t->penalty);
    err_code rc = learner_step(l->c, &t->learner, l->own_x, l->y ? l->own_y : NULL, r->plan.batch, lr, t->dead.dead,
                               t->dead.n_dead, &found, e);
    if (rc) return rc;
    r->looked = found.top;
    dead_count(&t->dead, &t->learner.batch.f.by_latent, r->plan.batch);
    if (r->plan.l0.wanted > 0) target_update(&r->plan.l0, &t->penalty, t->learner.steps - 1, found.l0, lr / r->plan.lr.peak);
    return rc;
}

/* A batch for all that are at these rows. */
static err_code step(loop *l, int64_t at, int64_t number, err *e) {
    err_code rc = source_read_pairs(l->rows, l->c, at, common(l)->batch, l->x, l->y, e);
    FOR_EACH_RUN(r, l) {
        r->takes_part = !is_complete(r) && r->state.dead.rows == at;
        if (!rc && r->takes_part) rc = step_run(l, r, schedule_lr(&r->plan.lr, number), e);
    }
    return rc;
}

static err_code train(loop *l, err *e) {
    const train_plan *p = common(l);
    for (int64_t at; (at = rows_done(l)) < p->rows;) {
        int64_t number = at / p->batch, done = number + 1;
        if (ctx_check_cancel(l->c, NULL)) return stop(l, e);
        err_code rc = step(l, at, number, e);
        if (rc == ERR_CANCELLED) return stop(l, e); /* while rows were read: nothing has changed */
        if (!rc && done == p->steps) rc = settle(l, e);
        if (!rc && (done % p->log_steps == 0 || done == p->steps)) rc = log_lines(l, number, e);
        if (!rc && done < p->steps && checkpoint_is_due(l)) rc = checkpoint(l, e);
        if (rc) return rc;
        report(l);
    }
    return ERR_OK;
}

static err_code finish(loop *l, err *e) {
    err_code rc = ERR_OK;
    double rate = 0;
    FOR_EACH_RUN(r, l) {
        r->takes_part = !is_complete(r);
        if (r->takes_part) TRY(save(r, e));
        if (r->takes_part) r->result->rows_per_second = result_of(l, r).rows_per_second;
    }
    TRY(measure(l, l->c, l->rows->n_held_out ? l->rows->n_held_out : common(l)->log_rows, e));
    FOR_EACH_RUN(r, l) {
        if (!r->takes_part) continue;
        rate = r->result->rows_per_second;
        dead_find(&r->state.dead);
        *r->result = result_of(l, r);
        r->result->rows_per_second = rate;
        warn_of_l0(l, r);
        TRY(record_finish(&r->record, r->result, e));
        TRY(checkpoint_remove(r->o->out, e));
    }
done:
    return rc;
}

err_code train_runs(const ctx *c, source *rows, const train_opts *o, int n, train_result *out, err *e) {
    err_code rc;
    loop l = {.c = c, .rows = rows};
    bool all_complete = true;
    memset(out, 0, (size_t)n * sizeof *out);
    TRY(mem_new0(&l.runs, (size_t)n, sizeof *l.runs, "runs", e));
    for (l.n_runs = 0; l.n_runs < n; l.n_runs++) {
        run *r = &l.runs[l.n_runs];
        r->o = &o[l.n_runs];
        r->result = &out[l.n_runs];
    }
    FOR_EACH_RUN(r, &l) {
        rc = plan_run(&l, r, e);
        if (rc && n > 1) err_prefix(e, rc, "%s", r->o->out);
        if (rc) goto done;
        /* if the call that completed the run did not come to it */
        if (is_complete(r)) TRY(checkpoint_remove(r->o->out, e));
        all_complete &= is_complete(r);
    }
    TRY(check_together(&l, e));
    if (all_complete) goto done;
    TRY(start(&l, e));
    TRY(train(&l, e));
    rc = finish(&l, e);
    if (rc == ERR_CANCELLED) rc = stop(&l, e); /* while it was measured: the steps are kept */
done:
    release(&l);
    return rc;
}

err_code train_run(const ctx *c, source *rows, const train_opts *o, train_result *out, err *e) {
    return train_runs(c, rows, o, 1, out, e);
}
