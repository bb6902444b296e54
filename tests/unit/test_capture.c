/* Capturing the tiny llama of golden/models: its recorded hooks, the same file whatever interrupts it, errors in one sentence. */
#include "support/oom.h"
#include "support/recorded.h"
#include "support/test.h"

#include "activations/capture.h"
#include "core/file.h"
#include "core/half.h"
#include "core/rng.h"

#include <sys/wait.h>
#include <unistd.h>

enum { SEQS = 2, TOKENS = 40, LAYERS = 3, KINDS = 5 };

#define assert_says(e, words)                                                                                                \
    do {                                                                                                                     \
        if (!strstr((e)->message, words)) fail_msg("expected '%s' in '%s'", words, (e)->message);                            \
    } while (0)

typedef struct job {
    ctx c;
    model *m;
    token_corpus k;
    char *dir, *path;
    hook_point hooks[LAYERS * KINDS];
    capture_opts o;
    capture_result r;
} job;

static void add_document(token_corpus *k, const uint32_t *tokens, int64_t n) {
    char source[32];
    snprintf(source, sizeof source, "a.jsonl:%lld", (long long)k->n_docs + 1);
    k->tokens = realloc(k->tokens, (size_t)(k->n_tokens + n) * sizeof *k->tokens);
    k->doc_offsets = realloc(k->doc_offsets, (size_t)(k->n_docs + 2) * sizeof *k->doc_offsets);
    k->doc_source = realloc(k->doc_source, (size_t)(k->n_docs + 1) * sizeof *k->doc_source);
    if (!k->tokens || !k->doc_offsets || !k->doc_source) fail_msg("no memory for a corpus");
    memcpy(k->tokens + k->n_tokens, tokens, (size_t)n * sizeof *tokens);
    k->doc_source[k->n_docs] = strdup(source);
    k->doc_offsets[k->n_docs] = (uint64_t)k->n_tokens;
    k->n_tokens += n;
    k->doc_offsets[++k->n_docs] = (uint64_t)k->n_tokens;
}

/* Documents of 1 to 39 random tokens, none of them `rare`, until there are n tokens. */
static void add_documents(job *j, int64_t n, uint32_t rare) {
    rng r = rng_stream(1, RNG_CONTROL, 0);
    while (j->k.n_tokens < n) {
        uint32_t tokens[TOKENS];
        int64_t len = 1 + (int64_t)rng_below(&r, TOKENS - 1);
        for (int64_t i = 0; i < len; i++) do
                tokens[i] = (uint32_t)rng_below(&r, 288);
            while (tokens[i] == rare);
        add_document(&j->k, tokens, len);
    }
}

/* j must stay where it is. */
static void use_hooks(job *j, int first, int n) {
    j->o.hooks = &j->hooks[first];
    j->o.n_hooks = n;
}

static void begin_job_of(job *j, const char *model_path) {
    err e;
    *j = (job){.c = test_ctx(1), .dir = test_make_dir(), .o = CAPTURE_DEFAULTS};
    assert_ok(model_open(&j->c, model_path, &j->m, &e), &e);
    assert_int_equal(path_join(j->dir, "a.h5", &j->path, NULL), ERR_OK);
    for (int i = 0; i < LAYERS * KINDS; i++) j->hooks[i] = (hook_point){i / KINDS, (hook_kind)(i % KINDS)};
    use_hooks(j, 6, 1); /* blocks.1.hook_attn_out */
}

static void begin_job(job *j) {
    char *path = test_fixture("models/llama/model.gguf");
    begin_job_of(j, path);
    free(path);
}

static void end_job(job *j) {
    model_close(j->m);
    corpus_release(&j->k);
    test_remove_dir(j->dir);
    free(j->path);
}

static err_code capture(job *j, err *e) { return capture_run(&j->c, j->m, &j->k, j->path, &j->o, &j->r, e); }

/* All rows of hook i of the file: [n_rows, d] */
static float *read_hook(const job *j, int i, store_info *info) {
    store *s;
    err e;
    assert_ok(store_open(j->path, &s, &e), &e);
    *info = *store_info_of(s);
    float *x = malloc((size_t)(info->n_rows * info->hooks[i].d_model) * sizeof *x);
    assert_ok(store_read_rows(s, &j->c, i, 0, info->n_rows, x, &e), &e);
    store_close(s);
    return x;
}

static void test_recorded_hooks(void **state) {
    static const int64_t batches[] = {1, 41, 4096};
    (void)state;
    recorded r = recorded_open("models/llama/expected.safetensors");
    int64_t *ids = recorded_ints(&r, "input_ids", NULL);
    for (int skip = 0; skip < 4; skip += 3)
        for (int b = 0; b < 3; b++) {
            job j;
            err e;
            uint32_t tokens[TOKENS];
            begin_job(&j);
            for (int i = 0; i < SEQS; i++) {
                for (int t = 0; t < TOKENS; t++) tokens[t] = (uint32_t)ids[i * TOKENS + t];
                add_document(&j.k, tokens, TOKENS);
            }
            use_hooks(&j, 0, LAYERS * KINDS);
            j.o.skip_first = skip;
            j.o.dtype = STORE_F32;
            j.o.batch_tokens = batches[b];
            assert_ok(capture(&j, &e), &e);
            assert_int_equal(j.r.tokens, SEQS * TOKENS);
            assert_int_equal(j.r.tokens_run, SEQS * TOKENS);
            assert_int_equal(j.r.rows, SEQS * (TOKENS - skip));
            for (int h = 0; h < LAYERS * KINDS; h++) {
                store_info info;
                int64_t n, kept = TOKENS - skip;
                float *x = read_hook(&j, h, &info);
                const float *expected = recorded_floats(&r, info.hooks[h].name, &n);
                int64_t d = info.hooks[h].d_model;
                double rms = 0;
                for (int64_t i = 0; i < n; i++) rms += (double)expected[i] * expected[i] / (double)n;
                for (int64_t row = 0; row < SEQS * kept; row++)
                    for (int64_t i = 0; i < d; i++) {
                        double right = expected[((row / kept) * TOKENS + skip + row % kept) * d + i];
                        assert_true(fabs(x[row * d + i] - right) <= 1e-4 * sqrt(rms));
                    }
                free(x);
            }
            end_job(&j);
        }
    free(ids);
    recorded_close(&r);
}

/* Everything but the command line and where the file is. */
static void assert_same_rows(const job *a, const job *b) {
    for (int i = 0; i < a->o.n_hooks; i++) {
        store_info ia, ib;
        float *x = read_hook(a, i, &ia), *y = read_hook(b, i, &ib);
        assert_int_equal(ia.n_rows, ib.n_rows);
        assert_string_equal(ia.hooks[i].name, ib.hooks[i].name);
        assert_int_equal(ia.hooks[i].dtype, ib.hooks[i].dtype);
        assert_true(ia.hooks[i].mean_norm == ib.hooks[i].mean_norm && ia.hooks[i].rms == ib.hooks[i].rms);
        assert_memory_equal(x, y, (size_t)(ia.n_rows * ia.hooks[i].d_model) * sizeof *x);
        free(x), free(y);
    }
}

static void test_threads_and_batches_do_not_matter(void **state) {
    (void)state;
    job a, b;
    err e;
    begin_job(&a), begin_job(&b);
    add_documents(&a, 10000, 300), add_documents(&b, 10000, 300);
    use_hooks(&a, 3, 2), use_hooks(&b, 3, 2);
    b.c = test_ctx(3);
    b.o.batch_tokens = 333;
    assert_ok(capture(&a, &e), &e);
    assert_ok(capture(&b, &e), &e);
    assert_same_rows(&a, &b);
    assert_ok(capture(&b, &e), &e); /* and once more: nothing is missing */
    assert_int_equal(b.r.tokens_run, 0);
    assert_same_rows(&a, &b);
    end_job(&a), end_job(&b);
}

/* Stops at the n-th report. */
typedef struct stopper {
    volatile sig_atomic_t stop;
    int reports_left;
} stopper;

static void count_report(void *user, const progress *p) {
    stopper *s = user;
    assert_true(p->done >= 0 && p->done <= p->total);
    if (--s->reports_left == 0) s->stop = 1;
}

static void test_cancelled_and_continued(void **state) {
    (void)state;
    job a, b;
    err e;
    begin_job(&a), begin_job(&b);
    add_documents(&a, 20000, 300), add_documents(&b, 20000, 300);
    assert_ok(capture(&a, &e), &e);
    int64_t run = 0;
    int stops = 0;
    for (err_code rc = ERR_CANCELLED; rc; stops++) {
        stopper s = {.reports_left = 4 + stops % 3};
        b.c.user = &s;
        b.c.report = count_report;
        b.c.cancel = &s.stop;
        b.o.batch_tokens = 3000;
        rc = capture(&b, &e);
        assert_true(rc == ERR_OK || rc == ERR_CANCELLED);
        if (rc) assert_says(&e, "the same command continues");
        run += rc ? 0 : b.r.tokens_run;
    }
    assert_true(stops > 2 && run < 20000);
    assert_same_rows(&a, &b);
    end_job(&a), end_job(&b);
}

static void test_killed_and_continued(void **state) {
    (void)state;
    job a, b;
    err e;
    begin_job(&a), begin_job(&b);
    int kills = 0;
    add_documents(&a, 40000, 300), add_documents(&b, 40000, 300);
    use_hooks(&a, 5, 3), use_hooks(&b, 5, 3);
    rng r = rng_stream(1, RNG_CONTROL, 1);
    for (uint64_t limit = 50000;; limit += 20000) {
        pid_t child = fork(); /* before any thread exists: this test comes first */
        assert_true(child >= 0);
        if (!child) {
            b.o.batch_tokens = 1000;
            _exit(capture(&b, &e) != ERR_OK);
        }
        usleep((useconds_t)rng_below(&r, limit));
        kill(child, SIGKILL);
        int status;
        waitpid(child, &status, 0);
        if (!WIFSIGNALED(status)) {
            assert_int_equal(WEXITSTATUS(status), 0);
            break;
        }
        kills++;
    }
    assert_true(kills >= 2);
    assert_ok(capture(&b, &e), &e);
    assert_int_equal(b.r.tokens_run, 0);
    assert_ok(capture(&a, &e), &e);
    assert_same_rows(&a, &b);
    end_job(&a), end_job(&b);
}

/* ---- numbers beyond float16 ---- */

/* A copy of the model in which the embedding of `token` is `times` as large. */
static void write_loud_model(const char *path, uint32_t token, float times) {
    char *from = test_fixture("models/llama/model.gguf"), *bytes;
    size_t size;
    weights *w;
    err e;
    assert_ok(file_read(from, 1 << 24, &bytes, &size, &e), &e);
    assert_ok(weights_open(from, &w, &e), &e);
    const tensor_view *t = weights_find(w, "token_embd.weight");
    float *row = (float *)(bytes + t->offset) + (int64_t)token * t->shape[1];
    for (int64_t i = 0; i < t->shape[1]; i++) row[i] *= times;
    weights_close(w);
    assert_ok(file_write(path, bytes, size, &e), &e);
    free(bytes), free(from);
}

static void count_notes(void *user, log_level level, const char *message) {
    if (level == LOG_NOTE && strstr(message, "float16 reaches")) ++*(int *)user;
}

/* The token stands in the first chunk, and is a little loud, or in the third one, and is too loud. */
static void check_loud(float largest, bool early, store_dtype expected) {
    enum { TOKEN = 7 };
    char *dir = test_make_dir(), *path;
    err e;
    assert_int_equal(path_join(dir, "loud.gguf", &path, NULL), ERR_OK);
    write_loud_model(path, TOKEN, 1);
    job plain, j;
    float row[64], most = 0;
    begin_job_of(&plain, path);
    assert_ok(model_unembed_rows(plain.m, TOKEN, 1, row, &e), &e); /* tied: the embedding */
    for (int i = 0; i < 48; i++) most = fabsf(row[i]) > most ? fabsf(row[i]) : most;
    write_loud_model(path, TOKEN, largest / most);
    begin_job_of(&j, path);
    uint32_t loud[] = {1, 2, TOKEN, 3};
    int notes = 0;
    use_hooks(&j, 0, 2); /* blocks.0.hook_resid_pre, which has it, and hook_attn_out, whose norm takes it away */
    j.c.log = count_notes;
    j.c.user = &notes;
    if (early) add_document(&j.k, loud, 4);
    add_documents(&j, 11000, TOKEN);
    if (!early) add_document(&j.k, loud, 4);
    add_documents(&j, 16000, TOKEN);
    assert_ok(capture(&j, &e), &e);
    store_info info;
    float *x = read_hook(&j, 0, &info), *y = read_hook(&j, 1, &info);
    assert_int_equal(info.hooks[0].dtype, expected);
    assert_int_equal(info.hooks[1].dtype, STORE_F16);
    assert_int_equal(notes, expected == STORE_BF16);
    assert_true(expected != STORE_BF16 || early == (j.r.tokens_run <= j.k.n_tokens)); /* late: its chunks are made again */
    j.o.dtype = STORE_F32;
    unlink(j.path);
    assert_ok(capture(&j, &e), &e);
    float *right = read_hook(&j, 0, &info), *also = read_hook(&j, 1, &info);
    for (int64_t i = 0; i < info.n_rows * 48; i++) {
        assert_true(x[i] ==
                    (expected == STORE_F16 ? half_to_f32(half_from_f32(right[i])) : bf16_to_f32(bf16_from_f32(right[i]))));
        assert_true(y[i] == half_to_f32(half_from_f32(also[i])));
    }
    free(x), free(y), free(right), free(also);
    end_job(&plain), end_job(&j);
    free(path);
    test_remove_dir(dir);
}

static void test_beyond_float16(void **state) {
    (void)state;
    check_loud(30000, true, STORE_F16);
    check_loud(40000, true, STORE_BF16);
    check_loud(40000, false, STORE_F16);
    check_loud(70000, false, STORE_BF16);
}

/* ---- wrong input ---- */

static void test_errors(void **state) {
    (void)state;
    job j;
    err e;
    uint32_t tokens[200] = {1, 2, 3};
    begin_job(&j);
    add_document(&j.k, tokens, 1);
    add_document(&j.k, tokens, 1);
    assert_int_equal(capture(&j, &e), ERR_FORMAT);
    assert_says(&e, "a.jsonl:1 and all other documents: expected more than 1 tokens");
    assert_false(file_exists(j.path));
    add_document(&j.k, tokens, 200);
    assert_int_equal(capture(&j, &e), ERR_USAGE);
    assert_says(&e, "a.jsonl:3: expected at most the 128 tokens");
    corpus_release(&j.k);
    add_documents(&j, 300, 300);
    assert_ok(capture(&j, &e), &e);
    j.o.skip_first = 0;
    assert_int_equal(capture(&j, &e), ERR_MISMATCH);
    assert_says(&e, "a.h5: holds another capture: expected skipped first positions 0, found 1");
    end_job(&j);
}

static err_code capture_again(void *arg, err *e) {
    job *j = arg;
    unlink(j->path);
    return capture(j, e);
}

static void test_no_memory(void **state) {
    (void)state;
    job j;
    begin_job(&j);
    add_documents(&j, 100, 300);
    oom_sweep(capture_again, &j, 120);
    end_job(&j);
}

/* ---- precision ---- */

static void use_precision(job *j, model_precision precision) {
    char *path = strdup(weights_path(model_weights(j->m)));
    err e;
    model_close(j->m);
    assert_ok(model_open_as(&j->c, path, precision, &j->m, &e), &e);
    free(path);
}

/* What the file says of the distance from float32 is what two files of the same rows say, over the first batch. */
static void check_deviation(model_precision precision) {
    enum { HOOKS = 3, BATCH_DOCS = 3 };
    job j;
    err e;
    begin_job(&j);
    for (int d = 0; d < 5; d++) {
        uint32_t tokens[TOKENS];
        for (int i = 0; i < TOKENS; i++) tokens[i] = (uint32_t)((d * 31 + i * 7) % 288);
        add_document(&j.k, tokens, TOKENS);
    }
    use_hooks(&j, 4, HOOKS);
    j.o.dtype = STORE_F32;
    j.o.batch_tokens = BATCH_DOCS * TOKENS + 1;
    store_info info;
    float *exact[HOOKS];
    assert_ok(capture(&j, &e), &e);
    for (int h = 0; h < HOOKS; h++) exact[h] = read_hook(&j, h, &info);
    assert_int_equal(info.precision, MODEL_F32);
    assert_true(info.hooks[0].deviation.mean == 0 && info.hooks[0].deviation.max == 0);

    use_precision(&j, precision);
    assert_int_equal(capture(&j, &e), ERR_MISMATCH);
    assert_says(&e, "precision");
    assert_int_equal(unlink(j.path), 0);
    assert_ok(capture(&j, &e), &e);
    for (int h = 0; h < HOOKS; h++) {
        float *x = read_hook(&j, h, &info);
        double sum = 0, most = 0;
        int64_t d = info.hooks[h].d_model, n = BATCH_DOCS * (TOKENS - 1);
        assert_int_equal(info.precision, precision);
        for (int64_t i = 0; i < n; i++) {
            double off = 0, length = 0;
            for (int64_t k = 0; k < d; k++) {
                double a = x[i * d + k], b = exact[h][i * d + k];
                off += (a - b) * (a - b), length += b * b;
            }
            sum += sqrt(off / length), most = fmax(most, sqrt(off / length));
        }
        if (!(most > 1e-4 && most < (precision == MODEL_INT8 ? 0.5 : 0.1)))
            fail_msg("hook %d: %g of a row's length", h, most); /* rounded, not broken */
        assert_true(fabs(info.hooks[h].deviation.mean - sum / (double)n) <= 1e-12);
        assert_true(fabs(info.hooks[h].deviation.max - most) <= 1e-12);
        free(x), free(exact[h]);
    }
    assert_ok(capture(&j, &e), &e); /* continues: nothing is missing */
    assert_int_equal(j.r.tokens_run, 0);
    end_job(&j);
}

static void test_deviation_is_measured(void **state) {
    (void)state;
    for (model_precision p = MODEL_F32 + 1; p < MODEL_PRECISIONS; p++) check_deviation(p);
}

/* Rows of a model in rounded numbers have the same bits alone and in any batch, on any number of threads. */
static void check_batches(model_precision precision) {
    static const int64_t batches[] = {1, 500, 4096};
    float *first = NULL;
    store_info info;
    for (int b = 0; b < 3; b++) {
        job j;
        err e;
        begin_job(&j);
        use_precision(&j, precision);
        j.c.threads = 1 + b;
        add_documents(&j, 900, 0);
        j.o.dtype = STORE_F32;
        j.o.batch_tokens = batches[b];
        assert_ok(capture(&j, &e), &e);
        float *x = read_hook(&j, 0, &info);
        if (first) assert_memory_equal(first, x, (size_t)(info.n_rows * info.hooks[0].d_model) * sizeof *x);
        if (first) free(x);
        if (!first) first = x;
        end_job(&j);
    }
    free(first);
}

static void test_rounded_rows_do_not_depend_on_the_batch(void **state) {
    (void)state;
    for (model_precision p = MODEL_F32 + 1; p < MODEL_PRECISIONS; p++) check_batches(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed_and_continued),
        cmocka_unit_test(test_recorded_hooks),
        cmocka_unit_test(test_threads_and_batches_do_not_matter),
        cmocka_unit_test(test_cancelled_and_continued),
        cmocka_unit_test(test_beyond_float16),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_deviation_is_measured),
        cmocka_unit_test(test_rounded_rows_do_not_depend_on_the_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
