/* Whole training runs on rows with a planted dictionary. Catches: a dictionary that is not found, constants that are not
 * folded back, bits that depend on threads or on where a run was killed, a checkpoint lost or half written, a folder of
 * another run written over, dead latents that stay dead. */
#include "support/oom.h"
#include "support/run_folder.h"
#include "support/test.h"
#include "support/toy_source.h"

#include "core/file.h"
#include "core/rng.h"
#include "sae/fvu.h"
#include "sae/sae.h"
#include "sae/train/schedule.h"
#include "sae/train/state.h"
#include "sae/train/target.h"
#include "sae/train/train.h"
#include "sae/variants/training.h"

#include <jansson.h>
#include <omp.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static train_opts small_run(const char *out) {
    train_opts o = TRAIN_DEFAULTS;
    o.width = 70;
    o.k = 4;
    o.rows = 12700; /* not a whole number of batches */
    o.batch = 128;
    o.log_every = 1280;
    o.dead_rows = 2000;
    o.out = out;
    return o;
}

/* The same of any row of the table, on rows that suit it. */
static train_opts small_run_of(const sae_training *t, const char *out, toy_opts *toy) {
    train_opts o = small_run(out);
    *toy = TOY_DEFAULTS;
    if (t->options & TRAINS_TARGET) toy->d_out = toy->d_in;
    if (!(t->options & TRAINS_K)) o.k = 0;
    if (t->options & TRAINS_SPARSITY) o.sparsity = 1;
    o.variant = t->name;
    return o;
}

static err_code run_toy(const toy_opts *toy, const train_opts *o, int threads, train_result *result, err *e) {
    source *s = toy_source_open(toy, NULL);
    ctx c = test_ctx(threads);
    err_code rc = train_run(&c, s, o, result, e);
    source_close(s);
    return rc;
}

/* ---- what is learnt ---- */

/* Mean over rows of a of the largest cosine with a row of b. */
static double best_cosines(const float *a, int64_t n_a, const float *b, int64_t n_b, int64_t d) {
    double sum = 0;
    for (int64_t i = 0; i < n_a; i++) {
        double best = -1;
        for (int64_t j = 0; j < n_b; j++) {
            double dot = 0, aa = 0, bb = 0;
            for (int64_t l = 0; l < d; l++) {
                double x = a[i * d + l], y = b[j * d + l];
                dot += x * y;
                aa += x * x;
                bb += y * y;
            }
            best = fmax(best, dot / sqrt(aa * bb));
        }
        sum += best;
    }
    return sum / (double)n_a;
}

/* FVU and L0 of an autoencoder on 500 held-out rows themselves. */
static void measure_folder(const char *dir, source *s, double *fvu, double *l0, sae **found) {
    enum { n = 500 };
    fvu_sums sums = {0};
    sparse_acts f = {0};
    err e = {0};
    ctx c = test_ctx(2);
    int64_t d = s->d_in, d_out = s->d_out ? s->d_out : d;
    float *x = malloc((size_t)(n * d) * sizeof *x), *y = malloc((size_t)(n * d_out) * sizeof *y),
          *x_hat = malloc((size_t)(n * d_out) * sizeof *x_hat);
    assert_ok(sae_load(dir, found, &e), &e);
    assert_ok(fvu_init(&sums, d_out, &e), &e);
    assert_ok(source_read_held_out_pairs(s, &c, 0, n, x, s->d_out ? y : NULL, &e), &e);
    assert_ok(sae_encode(&c, *found, x, n, &f, &e), &e);
    assert_ok(sae_reconstruct(&c, *found, &f, x, x_hat, &e), &e);
    fvu_add(&sums, s->d_out ? y : x, x_hat, n, f.indptr[n]);
    *fvu = fvu_of(&sums);
    *l0 = fvu_l0(&sums);
    free(x), free(y), free(x_hat);
    fvu_release(&sums);
    sparse_release(&f);
}

/* What a row of the table needs on these rows, where 2.6 features are active on average. */
static train_opts planted_run(const sae_training *t, const char *out, toy_opts *toy) {
    train_opts o = small_run_of(t, out, toy);
    toy->d_in = 32;
    toy->n_features = 64;
    toy->p = 0.04;
    if (toy->d_out) toy->d_out = 32;
    o.width = 64;
    o.rows = 400128;
    o.batch = 256;
    o.sparsity = 0;
    if (o.k) o.k = t->variant->uses_k ? 6 : 3; /* of every row; on average */
    if (t->options & TRAINS_SPARSITY) o.l0 = 2.8;
    if (t->options & TRAINS_BANDWIDTH) o.rows *= 2; /* thresholds learn from few rows */
    if (t->options & TRAINS_PREFIXES) { /* features that are all alike have no order: long prefixes disturb least */
        o.n_prefixes = 2;
        o.prefixes[0] = 48;
        o.prefixes[1] = 64;
    }
    return o;
}

/* More features than dimensions, as many latents as features: both must be found in each other. Penalties must have brought L0
 * to within 5 % on held-out rows. The result, loaded again, must do on the rows themselves what the trainer measured on centred
 * and scaled ones. */
static void finds_the_dictionary(const sae_training *t) {
    char *dir = test_make_dir();
    toy_opts toy;
    train_opts o = planted_run(t, dir, &toy);
    const float *directions;
    source *s = toy_source_open(&toy, &directions);
    if (toy.d_out) directions += 64 * 32; /* of the targets: what the decoder holds */
    train_result result;
    sae *found;
    err e = {0};
    ctx c = test_ctx(2);
    double fvu, l0, most = strcmp(t->name, "standard") != 0 ? 0.2 : 0.4; /* an L1 penalty shrinks what it keeps */
    assert_ok(train_run(&c, s, &o, &result, &e), &e);
    assert_int_equal(result.rows, o.rows);
    measure_folder(dir, s, &fvu, &l0, &found);
    double there = best_cosines(directions, 64, found->W_dec, 64, 32),
           back = best_cosines(found->W_dec, 64, directions, 64, 32);
    bool all = t->skip || (there > 0.95 && back > 0.95); /* beside a linear map the features are not determined */
    if (!all || !(result.fvu > 0 && result.fvu < most))
        fail_msg("%s: planted in found %.4f, found in planted %.4f, FVU %.4f, L0 %.2f", t->name, there, back, result.fvu,
                 result.l0);
    if (o.l0 > 0 && fabs(l0 / o.l0 - 1) > 0.05) fail_msg("%s: L0 %.3f, wanted %.3f", t->name, l0, o.l0);
    if (fabs(fvu - result.fvu) > 1e-4 || fabs(l0 - result.l0) > 0.02)
        fail_msg("%s: FVU %.6f and L0 %.3f in training, %.6f and %.3f when loaded", t->name, result.fvu, result.l0, fvu, l0);
    for (int64_t i = 0; t->unit_decoder && i < 64; i++) {
        double norm = 0;
        for (int64_t j = 0; j < 32; j++) norm += pow((double)found->W_dec[i * 32 + j], 2);
        assert_true(fabs(norm - 1) < 1e-5);
    }
    assert_string_equal(found->cfg.hook_name, "blocks.1.hook_resid_post");
    assert_string_equal(found->cfg.hook_out, toy.d_out ? "blocks.1.hook_mlp_out" : "");
    assert_int_equal(found->cfg.trained_rows, o.rows);
    assert_int_equal(found->cfg.skip_first, 2);
    sae_free(found);
    source_close(s);
    test_remove_dir(dir);
}

static void finds_a_planted_dictionary(void **state) {
    (void)state;
    for (int i = 0; i < n_sae_trainings; i++) finds_the_dictionary(sae_trainings[i]);
}

/* A batch of rows around 0 with mean square norm 1 per value, as the trainer makes them. */
static void toy_rows(source *s, int64_t first, int64_t n, float *x) {
    ctx c = test_ctx(1);
    err e = {0};
    assert_ok(source_read(s, &c, first, n, x, &e), &e);
    for (int64_t i = 0; i < n * s->d_in; i++) x[i] = (x[i] / 17 - 3 * (float)(i % s->d_in % 5)) * 2;
}

/* Every second latent begins so short that it never is among the k largest: nothing but AuxK reaches it. */
static int64_t latents_that_never_fired(double auxk, double *loss) {
    enum { d = 24, n = 40, batch = 256, steps = 600 };
    toy_opts toy = TOY_DEFAULTS;
    const float *directions;
    source *s = toy_source_open(&toy, &directions);
    train_state t;
    step_report found;
    err e = {0};
    ctx c = test_ctx(2);
    step_rules rules = step_defaults(&sae_training_topk);
    rules.auxk = auxk;
    rules.k_aux = d / 2;
    const sae_config cfg = step_config(&sae_training_topk, d, d, n, 4);
    float *x = malloc(batch * d * sizeof *x);
    assert_ok(state_init(&t, &cfg, &rules, 10 * batch, &e), &e);
    state_start(&t, 3);
    for (int64_t i = 0; i < n * d; i++)
        if (i / d % 2) t.learner.s->W_enc[i] *= 0.02f;
    for (int64_t step = 0; step < steps; step++) {
        toy_rows(s, step * batch, batch, x);
        dead_find(&t.dead);
        assert_ok(learner_step(&c, &t.learner, x, NULL, batch, 1e-3, t.dead.dead, t.dead.n_dead, &found, &e), &e);
        dead_count(&t.dead, &t.learner.batch.f.by_latent, batch);
    }
    int64_t never = 0;
    for (int64_t i = 0; i < n; i++) never += t.dead.last[i] == 0;
    *loss = found.loss;
    free(x);
    state_release(&t);
    source_close(s);
    return never;
}

static void auxk_revives_dead_latents(void **state) {
    (void)state;
    double loss_without, loss_with;
    int64_t without = latents_that_never_fired(0, &loss_without), with = latents_that_never_fired(1.0 / 32, &loss_with);
    if (!(without >= 15 && with <= 2 && loss_with < 0.8 * loss_without))
        fail_msg("never fired: %lld without AuxK (fvu %.4f), %lld with it (fvu %.4f)", (long long)without, loss_without,
                 (long long)with, loss_with);
}

/* ---- the same bits ---- */

static void same_bits_of(const sae_training *t) {
    char *one = test_make_dir();
    train_result result, again;
    err e = {0};
    toy_opts toy;
    train_opts o = small_run_of(t, one, &toy);
    assert_ok(run_toy(&toy, &o, 1, &result, &e), &e);
    for (int threads = 2; threads <= 4; threads++) {
        char *many = test_make_dir();
        o.out = many;
        o.checkpoint_every = 1000 * threads; /* nor on how often it keeps its state */
        assert_ok(run_toy(&toy, &o, threads, &again, &e), &e);
        assert_same_result(one, many);
        assert_true(again.fvu == result.fvu && again.dead == result.dead && again.l0 == result.l0);
        test_remove_dir(many);
    }
    char *other = test_make_dir();
    o.out = other;
    o.seed = 1;
    assert_ok(run_toy(&toy, &o, 1, &again, &e), &e);
    assert_true(again.fvu != result.fvu); /* but on the seed */
    test_remove_dir(other);
    test_remove_dir(one);
}

static void same_bits_on_any_threads(void **state) {
    (void)state;
    for (int i = 0; i < n_sae_trainings; i++) same_bits_of(sae_trainings[i]);
}

/* A run in a process of its own, because the threads of OpenMP do not survive a fork. */
static pid_t run_in_child(const toy_opts *toy, const train_opts *o, int threads) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child) return child;
    train_result result;
    err e = {0};
    signal(SIGXFSZ, SIG_IGN);
    err_code rc = run_toy(toy, o, threads, &result, &e);
    if (rc && rc != ERR_CANCELLED && rc != ERR_IO) fprintf(stderr, "%s\n", e.message);
    _exit((int)rc);
}

/* Killed again and again, at moments that the clock chooses. */
static void killed_ends_the_same(const sae_training *t, rng *r) {
    char *whole = test_make_dir(), *killed = test_make_dir();
    toy_opts toy;
    train_opts o = small_run_of(t, whole, &toy);
    int kills = 0, status;
    assert_int_equal(wait_for(run_in_child(&toy, &o, 2)), ERR_OK);
    char *expected = metrics_without_rates(whole);
    o.out = killed;
    o.checkpoint_every = 128 + (int64_t)rng_below(r, 1000);
    do {
        pid_t child = run_in_child(&toy, &o, 1 + kills % 3);
        sleep_ms(rng_below(r, kills < 20 ? 100 : 3000));
        kill(child, SIGKILL);
        status = wait_for(child);
        kills += status < 0;
    } while (status < 0);
    assert_int_equal(status, ERR_OK);
    assert_same_result(whole, killed);
    char *lines = metrics_without_rates(killed);
    assert_string_equal(lines, expected);
    assert_false(has_file(killed, "checkpoint"));
    free(lines);
    free(expected);
    test_remove_dir(killed);
    test_remove_dir(whole);
}

static void killed_anywhere_ends_the_same(void **state) {
    (void)state;
    rng r = rng_stream((uint64_t)time(NULL), RNG_CONTROL, 0);
    for (int i = 0; i < n_sae_trainings; i++) killed_ends_the_same(sae_trainings[i], &r);
}

/* ---- stopping, and trouble ---- */

static volatile sig_atomic_t cancelled;
static void cancel_at(void *user, int64_t rows) { cancelled = rows >= *(int64_t *)user; }

static void goes_on_after_cancel(void **state) {
    (void)state;
    char *whole = test_make_dir(), *stopped = test_make_dir();
    toy_opts toy = TOY_DEFAULTS;
    train_opts o = small_run(whole);
    train_result result, again;
    err e = {0};
    ctx c = test_ctx(2);
    int64_t at = 4096 + 5000;
    assert_ok(run_toy(&toy, &o, 2, &result, &e), &e);
    assert_int_equal(result.resumed_from, 0);

    o.out = stopped;
    toy.before_read = cancel_at;
    toy.user = &at;
    source *s = toy_source_open(&toy, NULL);
    c.cancel = &cancelled;
    cancelled = 0;
    assert_int_equal(train_run(&c, s, &o, &again, &e), ERR_CANCELLED);
    assert_non_null(strstr(e.message, "5120 of 12800 rows"));
    assert_false(has_file(stopped, "cfg.json"));
    cancelled = 0;
    at = INT64_MAX;
    assert_ok(train_run(&c, s, &o, &again, &e), &e);
    assert_int_equal(again.resumed_from, 5120);
    assert_int_equal(again.rows, 12800);
    assert_same_result(whole, stopped);

    assert_ok(train_run(&c, s, &o, &again, &e), &e); /* complete: what train.json says */
    assert_int_equal(again.resumed_from, 12800);
    assert_true(again.fvu == result.fvu && again.l0 == result.l0 && again.dead == result.dead);
    source_close(s);
    test_remove_dir(whole);
    test_remove_dir(stopped);
}

static void expect_refusal(const char *dir, const train_opts *o, err_code code, const char *words) {
    toy_opts toy = TOY_DEFAULTS;
    train_result result;
    err e = {0};
    (void)dir;
    assert_int_equal(run_toy(&toy, o, 1, &result, &e), code);
    if (!strstr(e.message, words)) fail_msg("expected '%s' in: %s", words, e.message);
}

static void another_run_is_not_written_over(void **state) {
    (void)state;
    char *dir = test_make_dir();
    toy_opts toy = TOY_DEFAULTS;
    train_opts o = small_run(dir), other = o;
    train_result result;
    err e = {0};
    assert_ok(run_toy(&toy, &o, 1, &result, &e), &e);
    other.k = 5;
    expect_refusal(dir, &other, ERR_MISMATCH, "its k is 4, this one's 5");
    other = o;
    other.lr = 1e-4;
    expect_refusal(dir, &other, ERR_MISMATCH, "its lr is");
    toy.seed = 3; /* other rows */
    assert_int_equal(run_toy(&toy, &o, 1, &result, &e), ERR_MISMATCH);
    assert_non_null(strstr(e.message, "toy-3"));
    char *record = joined(dir, "train.json");
    unlink(record);
    expect_refusal(dir, &o, ERR_MISMATCH, "no train.json");
    assert_ok(file_write(record, "{\"format\": \"else\"}", 18, &e), &e);
    expect_refusal(dir, &o, ERR_FORMAT, "not the record");
    assert_ok(file_write(record, "{", 1, &e), &e);
    expect_refusal(dir, &o, ERR_FORMAT, "line 1");
    free(record);
    test_remove_dir(dir);
}

static void impossible_options(void **state) {
    (void)state;
    char *dir = test_make_dir();
    const train_opts good = small_run(dir);
    train_opts o = good;
    o.variant = "topkk";
    expect_refusal(dir, &o, ERR_UNSUPPORTED, "did you mean 'topk'");
    o.variant = "standard";
    expect_refusal(dir, &o, ERR_USAGE, "k: variant standard does not have it");
    o = good;
    o.sparsity = 1;
    expect_refusal(dir, &o, ERR_USAGE, "sparsity: variant topk does not have it");
    o = good;
    o.variant = "transcoder";
    expect_refusal(dir, &o, ERR_USAGE, "target: variant transcoder needs");
    o = good;
    o.k = 71;
    expect_refusal(dir, &o, ERR_USAGE, "k: expected 1 up to the width, found 71");
    o = good;
    o.rows = 127;
    expect_refusal(dir, &o, ERR_USAGE, "at least a batch");
    o = good;
    o.lr = NAN;
    expect_refusal(dir, &o, ERR_USAGE, "lr");
    o = good;
    o.decay = 1.5;
    expect_refusal(dir, &o, ERR_USAGE, "decay");
    o = good;
    o.batch = o.rows = 200000;
    expect_refusal(dir, &o, ERR_MISMATCH, "found 100000");
    assert_false(has_file(dir, "train.json"));
    test_remove_dir(dir);
}

static void limit_file_size(void *user, int64_t rows) {
    if (rows < 4096 + 6000) return;
    const struct rlimit limit = {*(rlim_t *)user, RLIM_INFINITY};
    setrlimit(RLIMIT_FSIZE, &limit);
}

/* The disk takes less than a checkpoint from some row on: the run ends with a sentence, the checkpoint before that stays. */
static void full_disk_keeps_the_last_checkpoint(void **state) {
    (void)state;
    char *whole = test_make_dir(), *full = test_make_dir();
    toy_opts toy = TOY_DEFAULTS;
    train_opts o = small_run(whole);
    rlim_t limit = 20000;
    assert_int_equal(wait_for(run_in_child(&toy, &o, 2)), ERR_OK);
    o.out = full;
    o.checkpoint_every = 1280;
    toy.before_read = limit_file_size;
    toy.user = &limit;
    assert_int_equal(wait_for(run_in_child(&toy, &o, 2)), ERR_IO); /* EFBIG; a full disk would be ERR_NOSPACE */
    assert_true(has_file(full, "checkpoint/state.safetensors"));
    assert_false(has_file(full, "checkpoint/state.safetensors.tmp"));
    assert_false(has_file(full, "cfg.json"));
    toy.before_read = NULL;
    assert_int_equal(wait_for(run_in_child(&toy, &o, 2)), ERR_OK);
    assert_same_result(whole, full);
    test_remove_dir(whole);
    test_remove_dir(full);
}

/* Any byte of the header may be wrong: a sentence or a sound run, never a crash (run under ASan). */
static void damaged_checkpoints_are_refused(void **state) {
    (void)state;
    char *dir = test_make_dir(), *path = joined(dir, "checkpoint/state.safetensors");
    toy_opts toy = TOY_DEFAULTS;
    train_opts o = small_run(dir);
    train_result result;
    err e = {0};
    int64_t at = 4096 + 5000;
    toy.before_read = cancel_at;
    toy.user = &at;
    source *s = toy_source_open(&toy, NULL);
    ctx c = test_ctx(1);
    c.cancel = &cancelled;
    cancelled = 0;
    assert_int_equal(train_run(&c, s, &o, &result, &e), ERR_CANCELLED);
    size_t size;
    char *bytes;
    assert_ok(file_read(path, 1 << 24, &bytes, &size, &e), &e);
    for (size_t cut = 0; cut < size; cut = cut * 2 + 1) {
        assert_ok(file_write(path, bytes, cut, &e), &e);
        assert_int_equal(err_exit_code(train_run(&c, s, &o, &result, &e)), 3);
        assert_non_null(strstr(e.message, "state.safetensors"));
    }
    bytes[size - 1] ^= 1; /* of the last tensor, "run": another run's */
    assert_ok(file_write(path, bytes, size, &e), &e);
    assert_int_equal(train_run(&c, s, &o, &result, &e), ERR_MISMATCH);
    bytes[size - 1] ^= 1;
    at = 0;
    for (size_t i = 8; i < 1200; i += 13) {
        bytes[i] ^= 4;
        assert_ok(file_write(path, bytes, size, &e), &e);
        assert_int_not_equal(train_run(&c, s, &o, &result, &e), ERR_OK); /* refused, or stopped at once */
        bytes[i] ^= 4;
    }
    free(bytes);
    free(path);
    source_close(s);
    test_remove_dir(dir);
}

typedef struct tiny {
    char *dir;
    source *rows;
    int runs;
} tiny;

static err_code tiny_run(void *arg, err *e) {
    tiny *t = arg;
    char out[4096];
    train_result result;
    ctx c = test_ctx(1);
    snprintf(out, sizeof out, "%s/%d", t->dir, t->runs++);
    train_opts o = small_run(out);
    o.width = 8;
    o.rows = 256;
    return train_run(&c, t->rows, &o, &result, e);
}

static void out_of_memory(void **state) {
    (void)state;
    toy_opts toy = TOY_DEFAULTS;
    tiny t = {test_make_dir(), toy_source_open(&toy, NULL), 0};
    oom_sweep(tiny_run, &t, 600);
    source_close(t.rows);
    test_remove_dir(t.dir);
}

/* ---- rules ---- */

/* Rows around a far point, every hundredth a thousand times as long: neither centre nor scale may notice. */
static void a_few_long_rows_change_nothing(void **state) {
    (void)state;
    enum { d = 16, n = 1000 };
    static float x[n * d];
    row_normal w = {0};
    err e = {0};
    rng r = rng_stream(1, RNG_SYNTHETIC, 0);
    for (int i = 0; i < n * d; i++) {
        x[i] = (float)(50 + 3 * rng_normal(&r));
        if (i / d % 100 == 0) x[i] *= 1000;
    }
    assert_ok(normal_init(&w, d, &e), &e);
    assert_ok(normal_measure(&w, x, n, &e), &e);
    for (int j = 0; j < d; j++) assert_true(fabs(w.centre[j] - 50) < 0.5);
    assert_true(fabs(w.scale * 3 - 1) < 0.05);
    ctx c = test_ctx(2);
    normal_apply(&c, &w, x, n);
    double squares = 0;
    for (int i = d; i < 100 * d; i++) squares += (double)x[i] * x[i];
    assert_true(fabs(squares / (99 * d) - 1) < 0.1);
    for (int i = 0; i < n * d; i++) x[i] = 4;
    assert_int_equal(normal_measure(&w, x, n, &e), ERR_FORMAT);
    normal_release(&w);
}

static void schedules(void **state) {
    (void)state;
    const schedule s = {.peak = 2, .steps = 10, .warmup = 4, .decay = 3};
    const double expected[] = {0.5, 1, 1.5, 2, 2, 2, 2, 1.5, 1, 0.5};
    for (int t = 0; t < 10; t++) assert_true(fabs(schedule_lr(&s, t) - expected[t]) < 1e-15);
    const schedule flat = {.peak = 2, .steps = 3};
    for (int t = 0; t < 3; t++) assert_true(schedule_lr(&flat, t) == 2);
    assert_true(fabs(schedule_default_lr(576, 5000) / schedule_default_lr(576, 20000) - 2) < 1e-12); /* one over the root */
    assert_true(fabs(schedule_default_lr(1024, 5000) / schedule_default_lr(4096, 5000) - 2) < 1e-12);
    assert_int_equal(dead_default_window(1000000000, 4096), 10000000);
    assert_int_equal(dead_default_window(30000000, 4096), 3000000);
    assert_int_equal(dead_default_window(3000000, 4096), 819200);
}

static void counts_dead_latents(void **state) {
    (void)state;
    dead_latents d;
    err e = {0};
    int64_t starts[][4] = {{0, 1, 1, 2}, {0, 0, 0, 1}, {0, 0, 0, 1}}; /* latents 0 and 2; 2; 2 */
    const int64_t expected[] = {0, 0, 2};                             /* after two batches of 10, of the window of 20 */
    assert_ok(dead_init(&d, 3, 20, &e), &e);
    for (int b = 0; b < 3; b++) {
        dead_find(&d);
        assert_int_equal(d.n_dead, b == 2 ? 1 : 0); /* latent 1, that never fired */
        dead_count(&d, &(inverted_acts){.n_latents = 3, .starts = starts[b]}, 10);
    }
    dead_find(&d);
    assert_int_equal(d.n_dead, expected[2]);
    assert_int_equal(d.dead[0], 0);
    assert_int_equal(d.dead[1], 1);
    dead_release(&d);
}

/* Latents 0 and 1 see the two channels; their thresholds are 1 and 2. */
static void check_settled(double wanted, float factor) {
    const float x[] = {1.5f, 5, 3, 1, 0.5f, 0, 0.8f, 0}; /* in multiples of the thresholds: 1.5 3 0.5 0.8, 2.5 0.5 0 0 */
    const sae_config cfg = {.variant = &sae_jumprelu, .d_in = 2, .d_sae = 2};
    ctx c = test_ctx(1);
    sae *s;
    err e;
    assert_ok(sae_new(&cfg, &s, &e), &e);
    s->W_enc[0] = s->W_enc[3] = 1;
    s->threshold[0] = 1, s->threshold[1] = 2;
    assert_ok(target_settle(&c, s, x, 4, wanted, &e), &e);
    assert_float_equal(s->threshold[0], factor, 1e-6);
    assert_float_equal(s->threshold[1], 2 * factor, 1e-6);
    sae_free(s);
}

static void thresholds_let_as_many_through_as_wanted(void **state) {
    (void)state;
    check_settled(0.5, 2);     /* two of 3 2.5 | 1.5 */
    check_settled(0.75, 1);    /* three fire as it is */
    check_settled(1, 0.5);     /* a fourth, 0.8, from half the thresholds on, at which the two of 0.5 do not fire */
    check_settled(1.25, 0.5f); /* the first four and one of two equals: either both or none */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        /* these fork, which must come before any thread exists */
        cmocka_unit_test(killed_anywhere_ends_the_same),
        cmocka_unit_test(full_disk_keeps_the_last_checkpoint),
        cmocka_unit_test(finds_a_planted_dictionary),
        cmocka_unit_test(auxk_revives_dead_latents),
        cmocka_unit_test(same_bits_on_any_threads),
        cmocka_unit_test(goes_on_after_cancel),
        cmocka_unit_test(another_run_is_not_written_over),
        cmocka_unit_test(impossible_options),
        cmocka_unit_test(damaged_checkpoints_are_refused),
        cmocka_unit_test(out_of_memory),
        cmocka_unit_test(a_few_long_rows_change_nothing),
        cmocka_unit_test(thresholds_let_as_many_through_as_wanted),
        cmocka_unit_test(schedules),
        cmocka_unit_test(counts_dead_latents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
