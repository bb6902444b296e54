/* Several autoencoders from one reading of the rows: each to the byte what it is alone, also after kills at any moment and beside
 * runs that were complete or further; refusals that leave nothing; which runs are on the front. */
#include "support/run_folder.h"
#include "support/test.h"
#include "support/toy_source.h"

#include "core/file.h"
#include "core/rng.h"
#include "sae/train/sweep.h"
#include "sae/train/train.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

enum { N = 4 };

/* Runs that differ in kind, size and rules; folders are DIR/0 and so on, owned by the caller. */
static void make_runs(const char *dir, train_opts o[N], char *folders[N]) {
    static const char *const variants[N] = {"topk", "topk", "batchtopk", "jumprelu"};
    static const int64_t widths[N] = {40, 70, 64, 50};
    for (int i = 0; i < N; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", i);
        folders[i] = joined(dir, name);
        o[i] = TRAIN_DEFAULTS;
        o[i].variant = variants[i];
        o[i].width = widths[i];
        o[i].k = i < 3 ? 3 + i : 0;
        o[i].l0 = i == 3 ? 4 : 0;
        o[i].lr = i == 1 ? 2e-3 : 0;
        o[i].rows = 6300;
        o[i].batch = 128;
        o[i].log_every = 1280;
        o[i].dead_rows = 2000;
        o[i].out = folders[i];
    }
}

static void free_folders(char *folders[N]) {
    for (int i = 0; i < N; i++) free(folders[i]);
}

static err_code run_together(const toy_opts *toy, const train_opts *o, int n, int threads, err *e) {
    source *s = toy_source_open(toy, NULL);
    ctx c = test_ctx(threads);
    train_result results[N];
    err_code rc = train_runs(&c, s, o, n, results, e);
    source_close(s);
    return rc;
}

/* In a process of its own: threads of OpenMP do not survive a fork. */
static pid_t run_in_child(const toy_opts *toy, const train_opts *o, int n, int threads) {
    pid_t child = fork();
    err e = {0};
    assert_true(child >= 0);
    if (child) return child;
    err_code rc = run_together(toy, o, n, threads, &e);
    if (rc && rc != ERR_CANCELLED) fprintf(stderr, "%s\n", e.message);
    _exit((int)rc);
}

static void assert_same_folders(char *const a[N], char *const b[N]) {
    for (int i = 0; i < N; i++) {
        assert_same_result(a[i], b[i]);
        char *x = metrics_without_rates(a[i]), *y = metrics_without_rates(b[i]);
        assert_string_equal(x, y);
        assert_false(has_file(b[i], "checkpoint"));
        free(x), free(y);
    }
}

/* Each alone, in `folders` of `dir`. */
static void run_alone(const char *dir, char *folders[N]) {
    const toy_opts toy = TOY_DEFAULTS;
    train_opts o[N];
    make_runs(dir, o, folders);
    err e = {0};
    for (int i = 0; i < N; i++) assert_ok(run_together(&toy, &o[i], 1, 1, &e), &e);
}

static void killed_together_is_each_alone(void **state) {
    (void)state;
    const toy_opts toy = TOY_DEFAULTS;
    char *alone = test_make_dir(), *together = test_make_dir(), *killed = test_make_dir();
    char *a[N], *b[N], *k[N];
    train_opts o[N];
    int kills = 0, status;
    rng r = rng_stream((uint64_t)time(NULL), RNG_CONTROL, 0);
    make_runs(together, o, b);
    assert_int_equal(wait_for(run_in_child(&toy, o, N, 2)), ERR_OK);

    make_runs(killed, o, k);
    for (int i = 0; i < N; i++) o[i].checkpoint_every = 500;
    do {
        pid_t child = run_in_child(&toy, o, N, 1 + kills % 3);
        sleep_ms(rng_below(&r, kills < 20 ? 150 : 5000));
        kill(child, SIGKILL);
        status = wait_for(child);
        kills += status < 0;
    } while (status < 0);
    assert_int_equal(status, ERR_OK);
    run_alone(alone, a);
    assert_same_folders(a, b);
    assert_same_folders(a, k);
    free_folders(a), free_folders(b), free_folders(k);
    test_remove_dir(alone), test_remove_dir(together), test_remove_dir(killed);
}

static volatile sig_atomic_t cancelled;
static void cancel_at(void *user, int64_t rows) { cancelled = rows >= *(int64_t *)user; }

static void stop_after(const train_opts *o, int n, int64_t rows) {
    toy_opts toy = TOY_DEFAULTS;
    ctx c = test_ctx(2);
    train_result results[N];
    err e = {0};
    toy.before_read = cancel_at;
    toy.user = &rows;
    cancelled = 0;
    c.cancel = &cancelled;
    source *s = toy_source_open(&toy, NULL);
    assert_int_equal(train_runs(&c, s, o, n, results, &e), ERR_CANCELLED);
    source_close(s);
}

/* One complete, one at half, one just begun, one new: those ahead wait for the others. */
static void runs_at_different_rows_come_together(void **state) {
    (void)state;
    const toy_opts toy = TOY_DEFAULTS;
    char *alone = test_make_dir(), *mixed = test_make_dir(), *a[N], *b[N];
    train_opts o[N];
    err e = {0};
    run_alone(alone, a);
    make_runs(mixed, o, b);
    assert_ok(run_together(&toy, &o[0], 1, 2, &e), &e);
    stop_after(&o[1], 1, 4096 + 3000);
    stop_after(&o[2], 1, 4096 + 300);
    stop_after(o, N, 4096 + 900);
    assert_true(has_file(b[3], "checkpoint/state.safetensors"));
    assert_ok(run_together(&toy, o, N, 2, &e), &e);
    assert_same_folders(a, b);
    free_folders(a), free_folders(b);
    test_remove_dir(alone), test_remove_dir(mixed);
}

/* Stopped whenever held-out rows are read: no line of metrics is lost, nor the steps before the last measurement. */
static const source_ops *toy_ops;
static err_code stop_and_read(source *s, const ctx *c, int64_t first, int64_t n, float *x, float *y, err *e) {
    cancelled = 1;
    err_code rc = ctx_check_cancel(c, e);
    return rc ? rc : toy_ops->read_held_out(s, c, first, n, x, y, e);
}

static void stopped_while_measuring(void **state) {
    (void)state;
    const toy_opts toy = TOY_DEFAULTS;
    char *alone = test_make_dir(), *stopped = test_make_dir(), *a[N], *b[N];
    train_opts o[N];
    train_result results[N];
    err e = {0};
    ctx c = test_ctx(2);
    run_alone(alone, a);
    make_runs(stopped, o, b);
    source *s = toy_source_open(&toy, NULL);
    toy_ops = s->ops;
    source_ops ops = *toy_ops;
    ops.read_held_out = stop_and_read;
    s->ops = &ops;
    c.cancel = &cancelled;
    for (int stops = 0; stops < 5; stops++) { /* behind each line, and at the end */
        char rows[32];
        cancelled = 0;
        assert_int_equal(train_runs(&c, s, o, N, results, &e), ERR_CANCELLED);
        snprintf(rows, sizeof rows, "%d of 6400 rows", 1280 * (stops + 1));
        assert_non_null(strstr(e.message, rows));
    }
    s->ops = toy_ops;
    cancelled = 0;
    assert_ok(train_runs(&c, s, o, N, results, &e), &e);
    assert_same_folders(a, b);
    source_close(s);
    free_folders(a), free_folders(b);
    test_remove_dir(alone), test_remove_dir(stopped);
}

/* ---- refusals ---- */

static void refused(const train_opts *o, int n, err_code code, const char *words) {
    const toy_opts toy = TOY_DEFAULTS;
    err e = {0};
    assert_int_equal(run_together(&toy, o, n, 1, &e), code);
    if (!strstr(e.message, words)) fail_msg("expected '%s' in '%s'", words, e.message);
    for (int i = 0; i < n; i++) assert_false(file_exists(o[i].out));
}

static void a_refused_run_leaves_nothing(void **state) {
    (void)state;
    char *dir = test_make_dir(), *folders[N];
    train_opts o[N], good[N];
    make_runs(dir, good, folders);
    memcpy(o, good, sizeof o);
    o[0].width = UINT32_MAX; /* some four terabytes */
    refused(o, 1, ERR_NOSPACE, "bytes on disk");
    refused(o, N, ERR_NOSPACE, "bytes on disk");
    memcpy(o, good, sizeof o);
    o[2].rows *= 2;
    refused(o, N, ERR_USAGE, "batch, rows and log_every");
    memcpy(o, good, sizeof o);
    o[2].k = 65;
    refused(o, N, ERR_USAGE, "/2: k: expected 1 up to the width");
    memcpy(o, good, sizeof o);
    o[3].out = o[1].out;
    refused(o, N, ERR_USAGE, "found it twice");
    free_folders(folders);
    test_remove_dir(dir);
}

/* As two processes would: the second is sent away, before it has touched anything. */
static void a_folder_belongs_to_one_process(void **state) {
    (void)state;
    const toy_opts toy = TOY_DEFAULTS;
    char *dir = test_make_dir(), *folders[N];
    train_opts o[N];
    err e = {0};
    size_t size, size_after;
    make_runs(dir, o, folders);
    stop_after(o, N, 4096 + 900);
    char *before = file_of(folders[2], "metrics.csv", &size);
    int other = open(folders[2], O_RDONLY);
    assert_int_equal(flock(other, LOCK_EX), 0);
    assert_int_equal(run_together(&toy, o, N, 1, &e), ERR_FAILED);
    assert_non_null(strstr(e.message, "/2: another process is training there"));
    char *after = file_of(folders[2], "metrics.csv", &size_after);
    assert_string_equal(before, after);
    close(other);
    assert_ok(run_together(&toy, o, N, 1, &e), &e);
    free(before), free(after);
    free_folders(folders);
    test_remove_dir(dir);
}

/* ---- the front ---- */

static void the_front_is_what_nothing_beats(void **state) {
    (void)state;
    sweep_point p[] = {{.name = "c", .l0 = 32, .fvu = 0.3},  {.name = "a", .l0 = 8, .fvu = 0.5},
                       {.name = "d", .l0 = 32, .fvu = 0.2},  {.name = "e", .l0 = 64, .fvu = 0.2},
                       {.name = "b", .l0 = 16, .fvu = 0.55}, {.name = "f", .l0 = 64, .fvu = 0.1},
                       {.name = "g", .l0 = 64, .fvu = 0.1}};
    static const char *const order = "abdcfge";
    static const bool front[] = {true, false, true, false, true, true, false}; /* equals do not beat each other */
    sweep_sort(p, 7);
    sweep_mark_front(p, 7);
    for (int i = 0; i < 7; i++) {
        assert_true(p[i].name[0] == order[i] || (p[i].fvu == 0.1 && strchr("fg", p[i].name[0])));
        assert_int_equal(p[i].on_front, front[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_together_is_each_alone), /* forks, which must come before any thread exists */
        cmocka_unit_test(runs_at_different_rows_come_together), cmocka_unit_test(stopped_while_measuring),
        cmocka_unit_test(a_refused_run_leaves_nothing),         cmocka_unit_test(a_folder_belongs_to_one_process),
        cmocka_unit_test(the_front_is_what_nothing_beats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
