/* A model that reads a corpus as a source: the rows that a capture would write, the same texts held out, any position at any
 * time, the same bits on any threads and after a stop. */
#include "support/oom.h"
#include "support/test.h"

#include "activations/capture.h"
#include "activations/live.h"
#include "activations/split.h"
#include "core/file.h"
#include "core/rng.h"
#include "sae/train/train.h"

#include <unistd.h>

enum { D = 48, TEXTS = 40 };

typedef struct job {
    ctx c;
    model *m;
    token_corpus k;
    char *dir, *path;
    hook_point hook, target;
    live_opts o;
} job;

/* Texts of 1 to 60 random tokens, longer ones cut into windows of 16. */
static void begin(job *j) {
    err e;
    char *model_path = test_fixture("models/llama/model.gguf"), *corpus;
    *j = (job){.c = test_ctx(2), .dir = test_make_dir(), .o = LIVE_DEFAULTS};
    assert_int_equal(path_join(j->dir, "a.h5", &j->path, NULL), ERR_OK);
    assert_int_equal(path_join(j->dir, "c.jsonl", &corpus, NULL), ERR_OK);
    FILE *f = fopen(corpus, "w");
    rng r = rng_stream(1, RNG_CONTROL, 0);
    for (int i = 0; i < TEXTS; i++) {
        int n = 1 + (int)rng_below(&r, 60);
        for (int t = 0; t < n; t++) fprintf(f, "%s%d", t ? ", " : "{\"ids\": [", (int)rng_below(&r, 288));
        fputs("]}\n", f);
    }
    fclose(f);
    const corpus_opts cut = {.context = 16};
    assert_ok(model_open(&j->c, model_path, &j->m, &e), &e);
    assert_ok(corpus_read(&j->c, corpus, model_tokenizer(j->m), &cut, &j->k, &e), &e);
    j->hook = (hook_point){1, HOOK_RESID_POST};
    j->target = (hook_point){2, HOOK_MLP_OUT};
    j->o.hook = j->hook;
    j->o.context = 16;
    j->o.held_out = 0.2;
    j->o.batch_tokens = 50;
    j->o.seed = 3;
    free(model_path), free(corpus);
}

static void end(job *j) {
    corpus_release(&j->k);
    model_close(j->m);
    test_remove_dir(j->dir);
    free(j->path);
}

static source *open_live(job *j) {
    source *s;
    err e;
    assert_ok(source_open_live(&j->c, j->m, &j->k, &j->o, &s, &e), &e);
    return s;
}

/* The file that a capture of both hooks writes as float32. */
static source *open_captured(job *j, bool with_target) {
    const hook_point hooks[] = {j->hook, j->target};
    char names[2][HOOK_NAME_MAX];
    capture_result result;
    capture_opts how = CAPTURE_DEFAULTS;
    source *s;
    err e;
    how.hooks = hooks;
    how.n_hooks = 2;
    how.dtype = STORE_F32;
    how.skip_first = j->o.skip_first;
    for (int i = 0; i < 2; i++) hook_format(hooks[i], names[i]);
    assert_ok(capture_run(&j->c, j->m, &j->k, j->path, &how, &result, &e), &e);
    const source_opts o = {
        .dataset = names[0], .target = with_target ? names[1] : NULL, .seed = 3, .held_out = j->o.held_out};
    assert_ok(source_open_hdf5(&j->c, j->path, &o, &s, &e), &e);
    return s;
}

/* What is in a pass together decides about rounding only. */
static bool same_row(const float *a, const float *b) {
    double off = 0, length = 0;
    for (int i = 0; i < D; i++) {
        off += pow((double)a[i] - b[i], 2);
        length += pow((double)b[i], 2);
    }
    return off <= 1e-10 * length;
}

static float *epoch_of(source *s, int64_t epoch, float *y) {
    err e;
    ctx c = test_ctx(2);
    float *x = malloc((size_t)(s->n_rows * D) * sizeof *x);
    assert_ok(source_read_pairs(s, &c, epoch * s->n_rows, s->n_rows, x, y, &e), &e);
    return x;
}

/* Every epoch has each row of the capture once, with its target. */
static void check_epochs(source *live, source *file) {
    int64_t n = file->n_rows;
    float *live_y = malloc((size_t)(n * D) * sizeof *live_y), *file_y = malloc((size_t)(n * D) * sizeof *file_y);
    float *b = epoch_of(file, 0, file_y), *before = NULL;
    assert_int_equal(live->n_rows, n);
    for (int64_t epoch = 0; epoch < 3; epoch++) {
        float *a = epoch_of(live, epoch, live_y);
        bool *used = calloc((size_t)n, 1);
        for (int64_t i = 0; i < n; i++) {
            int64_t k = 0;
            while (k < n && (used[k] || !same_row(a + i * D, b + k * D) || !same_row(live_y + i * D, file_y + k * D))) k++;
            assert_true(k < n);
            used[k] = true;
        }
        if (before) assert_int_not_equal(memcmp(before, a, (size_t)(n * D) * sizeof *a), 0);
        free(used), free(before);
        before = a;
    }
    free(before), free(b), free(live_y), free(file_y);
}

static void check_held_out(source *live, source *file) {
    int64_t n = file->n_held_out;
    err e;
    ctx c = test_ctx(1);
    float *a = malloc((size_t)(n * D) * sizeof *a), *b = malloc((size_t)(n * D) * sizeof *b);
    assert_int_equal(live->n_held_out, n);
    assert_true(n > 60);
    assert_ok(source_read_held_out(file, &c, 0, n, b, &e), &e);
    for (int64_t i = 0, m; i < n; i += m) {
        m = n - i < 37 ? n - i : 37;
        assert_ok(source_read_held_out(live, &c, i, m, a + i * D, &e), &e);
    }
    for (int64_t i = 0; i < n; i++) assert_true(same_row(a + i * D, b + i * D));
    free(a), free(b);
}

/* The documents that are left, run alone, give the held-out rows. */
static void held_out_documents_are_those_of_the_source(void **state) {
    (void)state;
    job j;
    err e;
    begin(&j);
    source *all = open_live(&j);
    int64_t n = all->n_held_out, n_docs = j.k.n_docs;
    float *a = malloc((size_t)(n * D) * sizeof *a), *b;
    assert_ok(source_read_held_out(all, &j.c, 0, n, a, &e), &e);
    source_close(all);
    assert_ok(corpus_keep_held_out(&j.k, 1, j.o.held_out, &e), &e);
    assert_true(j.k.n_docs > 0 && j.k.n_docs < n_docs / 2);
    j.o.held_out = 0;
    source *held = open_live(&j);
    assert_int_equal(held->n_rows, n);
    b = epoch_of(held, 0, NULL);
    for (int64_t i = 0; i < n; i++) {
        int64_t k = 0;
        while (k < n && !same_row(a + i * D, b + k * D)) k++;
        assert_true(k < n);
    }
    source_close(held);
    n_docs = j.k.n_docs;
    assert_ok(corpus_keep_held_out(&j.k, 1, 0, &e), &e); /* none are: all stay */
    assert_int_equal(j.k.n_docs, n_docs);
    free(a), free(b);
    end(&j);
}

static void rows_are_those_of_a_capture(void **state) {
    (void)state;
    static const int64_t pools[] = {1 << 17, 100, 7}; /* the last one smaller than a document */
    for (int skip = 0; skip < 2; skip++) {
        job j;
        begin(&j);
        j.o.skip_first = skip;
        j.o.target = &j.target;
        source *file = open_captured(&j, true);
        for (int i = 0; i < 3; i++) {
            j.o.pool_rows = pools[i];
            source *live = open_live(&j);
            assert_string_equal(live->hook_name, "blocks.1.hook_resid_post");
            assert_string_equal(live->hook_out, "blocks.2.hook_mlp_out");
            assert_string_equal(live->model_sha256, file->model_sha256);
            assert_int_equal(live->skip_first, skip);
            assert_int_equal(live->context, 16);
            check_epochs(live, file);
            check_held_out(live, file);
            source_close(live);
        }
        source_close(file);
        end(&j);
    }
}

/* To the bit, on any threads, in a source of its own. */
static void any_position_at_any_time(void **state) {
    (void)state;
    job j;
    err e;
    begin(&j);
    j.o.pool_rows = 90;
    source *one = open_live(&j), *other = open_live(&j);
    ctx three = test_ctx(3);
    int64_t n = one->n_rows;
    float *all = malloc((size_t)(2 * n * D) * sizeof *all), *part = malloc((size_t)(n * D) * sizeof *part);
    assert_ok(source_read(one, &j.c, 0, 2 * n, all, &e), &e);
    rng r = rng_stream(2, RNG_CONTROL, 0);
    for (int i = 0; i < 12; i++) {
        int64_t first = (int64_t)rng_below(&r, (uint64_t)(2 * n)), m = first + 100 < 2 * n ? 100 : 2 * n - first;
        assert_ok(source_read(other, &three, first, m, part, &e), &e);
        assert_memory_equal(part, all + first * D, (size_t)(m * D) * sizeof *part);
    }
    int64_t held = one->n_held_out;
    assert_ok(source_read_held_out(one, &j.c, 0, held, all, &e), &e);
    assert_ok(source_read_held_out(other, &three, held - 5, 5, part, &e), &e);
    assert_memory_equal(part, all + (held - 5) * D, 5 * D * sizeof *part);
    free(all), free(part);
    source_close(one), source_close(other);
    end(&j);
}

static void an_id_says_what_rows_depend_on(void **state) {
    (void)state;
    job j;
    begin(&j);
    char ids[7][65];
    const live_opts o = j.o;
    for (int i = 0; i < 7; i++) {
        j.o = o;
        if (i == 1) j.o.seed++;
        if (i == 2) j.o.pool_rows = 90;
        if (i == 3) j.o.held_out = 0.1;
        if (i == 4) j.o.hook = (hook_point){1, HOOK_RESID_MID};
        if (i == 5) j.o.target = &j.target;
        if (i == 6) j.o.pool_rows *= 2; /* one pool all the same */
        source *s = open_live(&j);
        memcpy(ids[i], s->id, 65);
        source_close(s);
    }
    for (int i = 1; i < 6; i++) assert_string_not_equal(ids[0], ids[i]);
    assert_string_equal(ids[0], ids[6]);
    end(&j);
}

/* ---- training ---- */

static volatile sig_atomic_t cancelled;
static int64_t cancel_at;
static void cancel_then(void *user, const progress *p) {
    (void)user;
    cancelled = p->done >= cancel_at;
}

static char *weights_of(const char *dir, size_t *size) {
    char *path, *bytes;
    err e;
    assert_int_equal(path_join(dir, "sae_weights.safetensors", &path, NULL), ERR_OK);
    assert_ok(file_read(path, 1 << 24, &bytes, size, &e), &e);
    free(path);
    return bytes;
}

/* Stopped at a step, and again before a pool was full: each time another process goes on, on other threads. */
static void goes_on_to_the_same_bytes(void **state) {
    (void)state;
    job j;
    err e;
    train_result result;
    train_opts o = TRAIN_DEFAULTS;
    begin(&j);
    char *whole = test_make_dir(), *stopped = test_make_dir();
    j.o.pool_rows = 200;
    o.width = 60, o.k = 4, o.batch = 32, o.rows = 3200, o.log_every = 320, o.out = whole;
    source *s = open_live(&j);
    assert_ok(train_run(&j.c, s, &o, &result, &e), &e);
    source_close(s);

    static const int64_t stops[] = {320, 1600, 100, INT64_MAX}; /* rows trained on; 100: of a pool */
    j.c.cancel = &cancelled;
    j.c.report = cancel_then;
    o.out = stopped;
    for (int i = 0; i < 4; i++) {
        cancelled = 0;
        cancel_at = INT64_MAX;
        j.c.threads = 1 + i;
        s = open_live(&j);
        cancel_at = stops[i];
        err_code rc = train_run(&j.c, s, &o, &result, &e);
        assert_int_equal(rc, i < 3 ? ERR_CANCELLED : ERR_OK);
        if (i == 2) assert_non_null(strstr(e.message, "1600 of 3200"));
        source_close(s);
    }
    assert_int_equal(result.resumed_from, 1600);
    size_t n, m;
    char *a = weights_of(whole, &n), *b = weights_of(stopped, &m);
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n);
    free(a), free(b);
    test_remove_dir(whole), test_remove_dir(stopped);
    end(&j);
}

/* ---- trouble ---- */

/* The model with one token's embedding three hundred times as long. */
static void lengthen_token(job *j, int64_t token) {
    char *from = test_fixture("models/llama/model.gguf"), *to, *bytes;
    size_t size;
    err e;
    assert_ok(file_read(from, 1 << 24, &bytes, &size, &e), &e);
    const tensor_view *t = weights_find(model_weights(j->m), "token_embd.weight");
    for (int64_t i = token * D; i < (token + 1) * D; i++) {
        float x;
        memcpy(&x, bytes + t->offset + (size_t)i * sizeof x, sizeof x);
        x *= 300;
        memcpy(bytes + t->offset + (size_t)i * sizeof x, &x, sizeof x);
    }
    assert_int_equal(path_join(j->dir, "long.gguf", &to, NULL), ERR_OK);
    assert_ok(file_write(to, bytes, size, &e), &e);
    model_close(j->m);
    assert_ok(model_open(&j->c, to, &j->m, &e), &e);
    free(from), free(to), free(bytes);
}

/* A file leaves them out; here each gives its place to another row, so that those that are left come once or a few times. */
static void long_rows_are_replaced(void **state) {
    (void)state;
    job j;
    err e;
    begin(&j);
    lengthen_token(&j, 100);
    for (int64_t t = 7; t < j.k.n_tokens; t += 41) j.k.tokens[t] = 100;
    source *file = open_captured(&j, false), *live = open_live(&j);
    int64_t n = file->n_rows, more = live->n_rows - n, missing = 0, twice = 0;
    assert_true(more >= 3);
    assert_true(live->n_held_out > file->n_held_out);
    assert_true(live->max_norm > 0 && fabs(live->max_norm / file->max_norm - 1) < 0.2);
    float *a = epoch_of(live, 0, NULL), *b = epoch_of(file, 0, NULL);
    for (int64_t k = 0; k < n; k++) {
        int64_t times = 0;
        for (int64_t i = 0; i < live->n_rows; i++) times += same_row(a + i * D, b + k * D);
        missing += times == 0;
        twice += times - (times > 0);
    }
    assert_int_equal(missing, 0);
    assert_int_equal(twice, more);
    float *held = malloc((size_t)(live->n_held_out * D) * sizeof *held);
    assert_ok(source_read_held_out(live, &j.c, 0, live->n_held_out, held, &e), &e);
    for (int64_t i = 0; i < live->n_held_out; i++) {
        double length = 0;
        for (int64_t d = 0; d < D; d++) length += pow((double)held[i * D + d], 2);
        assert_true(sqrt(length) <= live->max_norm);
    }
    free(a), free(b), free(held);
    source_close(file), source_close(live);
    end(&j);
}

static err_code open_and_read(void *user, err *e) {
    job *j = user;
    source *s = NULL;
    float x[4 * D];
    err_code rc;
    TRY(source_open_live(&j->c, j->m, &j->k, &j->o, &s, e));
    TRY(source_read(s, &j->c, 0, 4, x, e));
    TRY(source_read_held_out(s, &j->c, 0, 1, x, e));
done:
    source_close(s);
    return rc;
}

static void no_memory(void **state) {
    (void)state;
    job j;
    begin(&j);
    j.c.threads = 1;
    int64_t n_docs = j.k.n_docs;
    j.k.n_docs = 12;
    oom_sweep(open_and_read, &j, 2000);
    j.k.n_docs = n_docs;
    end(&j);
}

static void refusals(void **state) {
    (void)state;
    job j;
    err e;
    source *s;
    begin(&j);
    j.o.skip_first = 16;
    assert_int_equal(source_open_live(&j.c, j.m, &j.k, &j.o, &s, &e), ERR_FORMAT);
    assert_non_null(strstr(e.message, "expected more than 16 tokens"));
    j.o.skip_first = 1;
    j.o.held_out = 1;
    assert_int_equal(source_open_live(&j.c, j.m, &j.k, &j.o, &s, &e), ERR_USAGE);
    end(&j);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_those_of_a_capture),
        cmocka_unit_test(held_out_documents_are_those_of_the_source),
        cmocka_unit_test(any_position_at_any_time),
        cmocka_unit_test(an_id_says_what_rows_depend_on),
        cmocka_unit_test(goes_on_to_the_same_bytes),
        cmocka_unit_test(long_rows_are_replaced),
        cmocka_unit_test(no_memory),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
