/* A whole study on a model of three tiny blocks: killed again and again at every kind of moment, and run until it is through,
 * it ends with what an undisturbed one makes; run once more, it does nothing. */
#include "support/test.h"

#include "analysis/study.h"
#include "core/file.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct fixture {
    char *model, *corpus, *sae, *folder;
} fixture;

static void set_up(fixture *f) {
    f->model = test_fixture("models/llama/model.gguf");
    f->corpus = test_fixture("tiny/corpus");
    f->sae = test_fixture("tiny/sae");
    f->folder = test_make_dir();
}

static void tear_down(fixture *f) {
    free(f->model);
    free(f->corpus);
    free(f->sae);
    test_remove_dir(f->folder);
}

static study_opts tiny(const fixture *f, const char *out) {
    study_opts o = STUDY_DEFAULTS;
    o.layer = "1";
    o.corpus = f->corpus;
    o.concept = "Li Bai";
    o.words = "poet|poem|Tang";
    o.anyway = true; /* random weights know nobody */
    o.out = out;
    o.tokens = 4000;
    o.context = 64;
    o.width = 96;
    o.k = 8;
    o.rows = 12000;
    o.batch = 256;
    return o;
}

/* ---- dying ---- */

typedef struct countdown {
    int64_t left; /* reports until the end comes */
} countdown;

static void die_in_time(void *user, const progress *p) {
    (void)p;
    if (--((countdown *)user)->left == 0) kill(getpid(), SIGKILL);
}

/* Runs a study in a process of its own that is killed at its n-th sign of life. True when it lived. */
static bool run_and_kill(const fixture *f, const study_opts *o, int64_t n) {
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child) {
        countdown when = {n};
        ctx c = test_ctx(2);
        err e = {0};
        json_t *done;
        c.user = &when;
        c.report = die_in_time;
        err_code rc = study_run(&c, f->model, o, &done, &e);
        if (rc) fprintf(stderr, "%s\n", e.message);
        _exit(rc ? 1 : 0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status)) assert_int_equal(WEXITSTATUS(status), 0);
    return WIFEXITED(status);
}

/* ---- comparing ---- */

static json_t *run(const fixture *f, const study_opts *o) {
    ctx c = test_ctx(1);
    err e = {0};
    json_t *done;
    assert_ok(study_run(&c, f->model, o, &done, &e), &e);
    return done;
}

static json_t *stage_of(const json_t *done, const char *name) {
    size_t i;
    json_t *stage;
    json_array_foreach(json_object_get(done, "stages"), i,
                       stage) if (!strcmp(json_string_value(json_object_get(stage, "name")), name)) return stage;
    return NULL;
}

static bool was_skipped(const json_t *done, const char *name) {
    return json_is_true(json_object_get(stage_of(done, name), "skipped"));
}

static void assert_same_file(const char *a, const char *b, const char *name) {
    err e = {0};
    char *in_a, *in_b, sha_a[SHA256_HEX], sha_b[SHA256_HEX];
    assert_ok(path_join(a, name, &in_a, &e), &e);
    assert_ok(path_join(b, name, &in_b, &e), &e);
    assert_ok(file_sha256(in_a, sha_a, &e), &e);
    assert_ok(file_sha256(in_b, sha_b, &e), &e);
    if (strcmp(sha_a, sha_b)) fail_msg("%s differs", name);
    free(in_a);
    free(in_b);
}

/* What took how long is the only thing that may differ. */
static void forget_times(json_t *x) {
    static const char *const times[] = {"seconds", "seconds_detect", "seconds_cause"};
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) json_object_del(x, times[i]);
}

static void assert_same_part(json_t *a, json_t *b, const char *part) {
    json_t *x = json_object_get(a, part), *y = json_object_get(b, part);
    assert_true(json_is_object(x));
    forget_times(x);
    forget_times(y);
    if (!json_equal(x, y)) fail_msg("%s differs:\n%s\n%s", part, json_dumps(x, 0), json_dumps(y, 0));
}

/* ---- tests ---- */

static void survives_being_killed(void **state) {
    (void)state;
    fixture f;
    set_up(&f);
    err e = {0};
    char *killed, *whole;
    assert_ok(path_join(f.folder, "killed", &killed, &e), &e);
    assert_ok(path_join(f.folder, "whole", &whole, &e), &e);
    study_opts o = tiny(&f, killed), undisturbed = tiny(&f, whole);

    /* Gaps grow, since the stages that begin again must get through at last: each is hit early and late. */
    int kills = 0;
    for (int64_t n = 1; !run_and_kill(&f, &o, n); n += 1 + n / 2) kills++;
    assert_true(kills > 6);

    json_t *again = run(&f, &o), *other = run(&f, &undisturbed);
    size_t i;
    json_t *stage;
    assert_int_equal(json_array_size(json_object_get(again, "stages")), 7);
    json_array_foreach(json_object_get(again, "stages"), i, stage)
        assert_true(json_is_true(json_object_get(stage, "skipped")));
    assert_same_file(killed, whole, "sae/sae_weights.safetensors");
    assert_same_part(again, other, "eval");
    assert_same_part(again, other, "find");
    assert_same_part(again, other, "steering");
    json_decref(again);
    json_decref(other);
    free(killed);
    free(whole);
    tear_down(&f);
}

/* Other options remake what depends on them, and nothing else; what they do not touch stays. */
static void only_what_changed_is_made_anew(void **state) {
    (void)state;
    fixture f;
    set_up(&f);
    study_opts o = tiny(&f, f.folder);
    json_decref(run(&f, &o));
    o.concept = "Su Shi";
    json_t *done = run(&f, &o);
    assert_true(was_skipped(done, "capture") && was_skipped(done, "train") && was_skipped(done, "eval") &&
                was_skipped(done, "features"));
    assert_false(was_skipped(done, "find") || was_skipped(done, "steer") || was_skipped(done, "report"));
    json_decref(done);
    o.k = 4;
    done = run(&f, &o);
    assert_true(was_skipped(done, "capture"));
    assert_false(was_skipped(done, "train") || was_skipped(done, "eval") || was_skipped(done, "features") ||
                 was_skipped(done, "find"));
    assert_int_equal(json_integer_value(json_object_get(json_object_get(stage_of(done, "train"), "result"), "k")), 4);
    json_decref(done);
    o.context = 32;
    done = run(&f, &o);
    assert_false(was_skipped(done, "capture") || was_skipped(done, "train"));
    json_decref(done);
    tear_down(&f);
}

static void takes_a_published_sae(void **state) {
    (void)state;
    fixture f;
    set_up(&f);
    err e = {0};
    char *html, *report;
    size_t size;
    study_opts o = tiny(&f, f.folder);
    o.layer = NULL;
    o.sae = f.sae;
    json_t *done = run(&f, &o);
    assert_null(stage_of(done, "train"));
    assert_string_equal(json_string_value(json_object_get(done, "hook")), "blocks.1.hook_resid_post");
    assert_ok(path_join(f.folder, "report.html", &report, &e), &e);
    assert_ok(file_read(report, 1 << 24, &html, &size, &e), &e);
    assert_non_null(strstr(html, "Spliced into the model"));
    assert_non_null(strstr(html, "Steering"));
    free(html);
    free(report);
    json_decref(done);
    tear_down(&f);
}

static void bad_input_is_named(void **state) {
    (void)state;
    fixture f;
    set_up(&f);
    ctx c = test_ctx(1);
    err e = {0};
    json_t *done = NULL;
    study_opts o = tiny(&f, f.folder);
    o.layer = "3";
    assert_int_equal(study_run(&c, f.model, &o, &done, &e), ERR_USAGE);
    o.layer = NULL;
    assert_int_equal(study_run(&c, f.model, &o, &done, &e), ERR_USAGE);
    assert_non_null(strstr(e.message, "--layer"));
    o.layer = "2"; /* the published one sits at block 1 */
    o.sae = f.sae;
    assert_int_equal(study_run(&c, f.model, &o, &done, &e), ERR_MISMATCH);
    assert_non_null(strstr(e.message, f.sae));
    o.layer = NULL;
    o.corpus = f.sae; /* a folder without texts */
    assert_int_equal(study_run(&c, f.model, &o, &done, &e), ERR_FORMAT);
    volatile sig_atomic_t cancel = 1;
    o.corpus = f.corpus;
    c.cancel = &cancel;
    assert_int_equal(study_run(&c, f.model, &o, &done, &e), ERR_CANCELLED);
    assert_null(done);
    tear_down(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(survives_being_killed), /* first: nothing may have made threads before it forks */
        cmocka_unit_test(only_what_changed_is_made_anew),
        cmocka_unit_test(takes_a_published_sae),
        cmocka_unit_test(bad_input_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
