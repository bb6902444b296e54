/* Activation files: what is written comes back in every dtype, whatever kills the writer, and nothing else is taken for it. */
#include "support/oom.h"
#include "support/store_fixture.h"
#include "support/test.h"

#include "core/file.h"
#include "core/half.h"
#include "core/mem.h"
#include "core/rng.h"

#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define assert_says(e, words)                                                                                                \
    do {                                                                                                                     \
        if (!strstr((e)->message, words)) fail_msg("expected '%s' in '%s'", words, (e)->message);                            \
    } while (0)

typedef struct place { /* a folder and a file in it */
    char *dir, *path, *tmp;
} place;

static place make_place(void) {
    place p = {.dir = test_make_dir()};
    assert_int_equal(path_join(p.dir, "a.h5", &p.path, NULL), ERR_OK);
    assert_int_equal(path_join(p.dir, "a.h5.tmp", &p.tmp, NULL), ERR_OK);
    return p;
}

static void remove_place(place *p) {
    test_remove_dir(p->dir);
    free(p->path), free(p->tmp);
}

static err_code create(const store_fixture *f, const char *path, store **s, err *e) {
    return store_create(path, &f->info, &f->k, f->row_token, f->n_rows, f->t, s, e);
}

/* ---- what comes back ---- */

static float as_stored(store_dtype type, float x) {
    return type == STORE_F16 ? half_to_f32(half_from_f32(x)) : type == STORE_BF16 ? bf16_to_f32(bf16_from_f32(x)) : x;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Rows longer than ten times the median, by sorting the lengths; none where all positions were to be kept. */
static void check_long_rows(const store *s, int hook, store_dtype type, const float *x) {
    int64_t n = store_info_of(s)->n_rows, d = store_info_of(s)->hooks[hook].d_model, n_long;
    double *norm = malloc((size_t)n * sizeof *norm), *sorted = malloc((size_t)n * sizeof *sorted);
    uint8_t *is_long = malloc((size_t)n);
    err e;
    for (int64_t row = 0; row < n; row++) {
        norm[row] = 0;
        for (int64_t j = 0; j < d; j++) norm[row] += pow(as_stored(type, x[row * d + j]), 2);
        sorted[row] = norm[row] = sqrt(norm[row]);
    }
    qsort(sorted, (size_t)n, sizeof *sorted, by_size);
    double most = store_info_of(s)->skip_first > 0 ? 10 * sorted[n / 2] : INFINITY;
    assert_ok(store_read_long(s, hook, is_long, &n_long, &e), &e);
    for (int64_t row = 0; row < n; row++) {
        assert_int_equal(is_long[row], norm[row] > most);
        n_long -= is_long[row];
    }
    assert_int_equal(n_long, 0);
    free(norm), free(sorted), free(is_long);
}

/* Random numbers over the whole range of float16, by core/half.h one at a time. */
static void test_identity(void **state) {
    static const int64_t sizes[] = {1, 2, 4095, 4096, 4097, 9001};
    (void)state;
    for (size_t size = 0; size < sizeof sizes / sizeof *sizes; size++) {
        place p = make_place();
        store_fixture f;
        store *s;
        err e;
        ctx two = test_ctx(2), three = test_ctx(3);
        store_fixture_init(&f, sizes[size]);
        int64_t n = f.n_rows;
        float *x[STORE_DTYPES], *back = malloc((size_t)n * 12 * sizeof *back);
        rng r = rng_stream(1, RNG_CONTROL, size);
        assert_ok(create(&f, p.path, &s, &e), &e);
        for (int i = 0; i < STORE_DTYPES; i++) {
            int64_t d = f.info.hooks[i].d_model;
            double squares = 0, norms = 0;
            x[i] = malloc((size_t)(n * d) * sizeof *x[i]);
            for (int64_t j = 0; j < n * d; j++) x[i][j] = (float)(rng_normal(&r) * exp2(rng_uniform(&r) * 36 - 24));
            for (int64_t c = 0; c * STORE_CHUNK_ROWS < n; c++)
                assert_ok(store_write_chunk(s, &two, i, c, x[i] + c * STORE_CHUNK_ROWS * d, &e), &e);
            assert_int_equal(store_info_of(s)->hooks[i].rows_done, n);
            assert_true(isnan(store_info_of(s)->hooks[i].mean_norm));
            assert_ok(store_finish_hook(s, &two, i, &e), &e);
            for (int64_t row = 0; row < n; row++) {
                double square = 0;
                for (int64_t j = 0; j < d; j++) square += pow(as_stored((store_dtype)i, x[i][row * d + j]), 2);
                squares += square, norms += sqrt(square);
            }
            assert_true(fabs(store_info_of(s)->hooks[i].rms / sqrt(squares / (double)(n * d)) - 1) < 1e-9);
            assert_true(fabs(store_info_of(s)->hooks[i].mean_norm / (norms / (double)n) - 1) < 1e-9);
        }
        double rms = store_info_of(s)->hooks[0].rms;
        store_close(s);
        assert_ok(store_open(p.path, &s, &e), &e);
        assert_true(store_info_of(s)->hooks[0].rms == rms);
        for (int i = 0; i < STORE_DTYPES; i++) {
            int64_t d = f.info.hooks[i].d_model, first = (int64_t)rng_below(&r, (uint64_t)n),
                    m = 1 + (int64_t)rng_below(&r, (uint64_t)(n - first));
            assert_int_equal(store_find_hook(s, f.info.hooks[i].name, &e), i);
            check_long_rows(s, i, (store_dtype)i, x[i]);
            assert_ok(store_read_rows(s, &three, i, 0, n, back, &e), &e);
            for (int64_t j = 0; j < n * d; j++) assert_true(back[j] == as_stored((store_dtype)i, x[i][j]));
            assert_ok(store_read_rows(s, &two, i, first, m, back, &e), &e);
            for (int64_t j = 0; j < m * d; j++) assert_true(back[j] == as_stored((store_dtype)i, x[i][first * d + j]));
            free(x[i]);
        }
        store_close(s);
        free(back);
        store_fixture_release(&f);
        remove_place(&p);
    }
}

static void test_what_the_file_says(void **state) {
    (void)state;
    place p = make_place();
    store_fixture f;
    store *s;
    token_corpus k;
    err e;
    store_fixture_init(&f, 5000);
    store_fixture_write(&f, p.path);
    assert_ok(store_open(p.path, &s, &e), &e);
    const store_info *i = store_info_of(s);
    assert_string_equal(i->model_name, "a model");
    assert_string_equal(i->model_path, "/models/a.gguf");
    assert_string_equal(i->command, "sae capture 'Li Bai'");
    assert_int_equal(i->context, 11);
    assert_int_equal(i->skip_first, 1);
    assert_false(i->bos);
    assert_true(i->corpus_hash == f.k.hash);
    assert_int_equal(i->n_hooks, STORE_DTYPES);
    for (int h = 0; h < STORE_DTYPES; h++) { /* in the order they were given, which is not that of their names */
        assert_string_equal(i->hooks[h].name, f.info.hooks[h].name);
        assert_int_equal(i->hooks[h].layer, 1 + h);
        assert_int_equal(i->hooks[h].dtype, h);
        assert_int_equal(i->hooks[h].rows_done, f.n_rows);
    }
    assert_ok(store_read_corpus(s, &k, &e), &e);
    assert_int_equal(k.n_docs, f.k.n_docs);
    assert_memory_equal(k.tokens, f.k.tokens, (size_t)k.n_tokens * sizeof *k.tokens);
    assert_memory_equal(k.doc_offsets, f.k.doc_offsets, (size_t)(k.n_docs + 1) * sizeof *k.doc_offsets);
    for (int64_t d = 0; d < k.n_docs; d++) assert_string_equal(k.doc_source[d], f.k.doc_source[d]);
    assert_true(k.hash == f.k.hash);
    uint64_t *row_token = malloc((size_t)f.n_rows * sizeof *row_token);
    assert_ok(store_read_row_token(s, row_token, &e), &e);
    assert_memory_equal(row_token, f.row_token, (size_t)f.n_rows * sizeof *row_token);
    const char *bytes;
    const uint64_t *offsets;
    assert_ok(store_vocab(s, &bytes, &offsets, &e), &e);
    for (int64_t v = 0; v < i->n_vocab; v++) {
        size_t len;
        const char *piece = tokenizer_piece(f.t, (uint32_t)v, &len);
        assert_int_equal(len, offsets[v + 1] - offsets[v]);
        assert_memory_equal(piece, bytes + offsets[v], len);
    }
    assert_int_equal(store_find_hook(s, "blocks.9.hook_mlp_out", &e), -1);
    assert_says(&e, "blocks.10.hook_mlp_out");
    store_close(s);
    free(row_token);
    corpus_release(&k);
    store_fixture_release(&f);
    remove_place(&p);
}

/* ---- continuing ---- */

static void test_mismatches(void **state) {
    (void)state;
    place p = make_place();
    store_fixture f;
    store *s, *other;
    err e;
    store_fixture_init(&f, 300);
    assert_ok(create(&f, p.path, &s, &e), &e);
    assert_int_equal(create(&f, p.path, &other, &e), ERR_FAILED);
    assert_says(&e, "another capture is writing");
    store_close(s);
    store_info right = f.info;
    const struct {
        const char *words;
        store_info wrong;
    } cases[] = {
        {"expected model_sha256 cc, found aa", {.model_sha256 = "cc"}},
        {"expected tokenizer_sha256 cc, found bb", {.tokenizer_sha256 = "cc"}},
        {"expected context 12, found 11", {.context = 12}},
        {"expected skipped first positions 2, found 1", {.skip_first = 2}},
        {"expected number of hooks 2, found 3", {.n_hooks = 2}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const store_info *w = &cases[i].wrong;
        f.info = right;
        if (w->model_sha256) f.info.model_sha256 = w->model_sha256;
        if (w->tokenizer_sha256) f.info.tokenizer_sha256 = w->tokenizer_sha256;
        if (w->context) f.info.context = w->context;
        if (w->skip_first) f.info.skip_first = w->skip_first;
        if (w->n_hooks) f.info.n_hooks = w->n_hooks;
        assert_int_equal(create(&f, p.path, &s, &e), ERR_MISMATCH);
        assert_says(&e, cases[i].words);
    }
    f.info = right;
    f.info.hooks[2].dtype = STORE_F16;
    assert_int_equal(create(&f, p.path, &s, &e), ERR_MISMATCH);
    assert_says(&e, "expected dtype float16, found float32");
    f.info = right;
    strcpy(f.info.hooks[1].name, "blocks.3.hook_mlp_out");
    assert_int_equal(create(&f, p.path, &s, &e), ERR_MISMATCH);
    assert_says(&e, "expected hook blocks.3.hook_mlp_out, found blocks.10.hook_mlp_out");
    f.info = right;
    f.k.hash++;
    assert_int_equal(create(&f, p.path, &s, &e), ERR_MISMATCH);
    assert_says(&e, "its corpus has other texts");
    f.k.hash--;
    f.info.hooks[1].dtype = STORE_F16; /* bfloat16 in the file: fine */
    assert_ok(create(&f, p.path, &s, &e), &e);
    store_close(s);
    store_fixture_release(&f);
    remove_place(&p);
}

/* Every complete chunk holds what was written; true when all are. */
static bool check_rows(const store_fixture *f, const char *path) {
    store *s;
    err e;
    ctx c = test_ctx(1);
    bool complete = true;
    assert_ok(store_open(path, &s, &e), &e);
    float *x = malloc((size_t)STORE_CHUNK_ROWS * 12 * sizeof *x), *y = malloc((size_t)STORE_CHUNK_ROWS * 12 * sizeof *y);
    for (int i = 0; i < f->info.n_hooks; i++)
        for (int64_t j = 0; j * STORE_CHUNK_ROWS < f->n_rows; j++) {
            int64_t first = j * STORE_CHUNK_ROWS,
                    n = f->n_rows - first < STORE_CHUNK_ROWS ? f->n_rows - first : STORE_CHUNK_ROWS;
            complete &= store_chunk_done(s, i, j) && !isnan(store_info_of(s)->hooks[i].rms);
            if (!store_chunk_done(s, i, j)) continue;
            store_fixture_rows(f, i, first, n, x);
            assert_ok(store_read_rows(s, &c, i, first, n, y, &e), &e);
            assert_memory_equal(x, y, (size_t)(n * f->info.hooks[i].d_model) * sizeof *x);
        }
    free(x), free(y);
    store_close(s);
    return complete;
}

/* A writer is killed again and again, a little later each time; what is at the path always opens, and nothing marked is lost. */
static void test_killed_at_any_moment(void **state) {
    (void)state;
    place p = make_place();
    store_fixture f;
    bool complete = false;
    int kills = 0;
    rng r = rng_stream(1, RNG_CONTROL, 7);
    store_fixture_init(&f, 30000);
    for (int64_t limit = 2000; !complete; limit += 500) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (!child) {
            store_fixture_write(&f, p.path);
            _exit(0);
        }
        usleep((useconds_t)rng_below(&r, (uint64_t)limit));
        kill(child, SIGKILL);
        int status;
        waitpid(child, &status, 0);
        kills += WIFSIGNALED(status);
        if (file_exists(p.path)) complete = check_rows(&f, p.path);
    }
    assert_true(kills > 3);
    store_fixture_write(&f, p.path); /* and nothing is missing */
    assert_true(check_rows(&f, p.path));
    store_fixture_release(&f);
    remove_place(&p);
}

/* ---- numbers that do not fit ---- */

static void test_overflow_and_restart(void **state) {
    (void)state;
    place p = make_place();
    store_fixture f;
    store *s;
    err e;
    ctx c = test_ctx(2);
    store_fixture_init(&f, 9000);
    float *x = malloc((size_t)STORE_CHUNK_ROWS * 12 * sizeof *x), *y = malloc((size_t)STORE_CHUNK_ROWS * 12 * sizeof *y);
    assert_ok(create(&f, p.path, &s, &e), &e);
    for (int i = 0; i < 2; i++) {
        store_fixture_rows(&f, i, 0, STORE_CHUNK_ROWS, x);
        assert_ok(store_write_chunk(s, &c, i, 0, x, &e), &e);
    }
    store_fixture_rows(&f, 0, STORE_CHUNK_ROWS, STORE_CHUNK_ROWS, x);
    x[77 * 10 + 3] = -65520;
    assert_int_equal(store_write_chunk(s, &c, 0, 1, x, &e), ERR_FORMAT);
    assert_says(&e, "row 4173 of blocks.1.hook_resid_pre");
    assert_false(store_chunk_done(s, 0, 1));
    assert_ok(store_restart_hook(s, 0, STORE_BF16, &f.k, f.row_token, f.t, &e), &e);
    assert_false(file_exists(p.tmp));
    assert_false(store_chunk_done(s, 0, 0));
    assert_true(store_chunk_done(s, 1, 0));
    assert_int_equal(store_info_of(s)->hooks[0].rows_done, 0);
    assert_ok(store_write_chunk(s, &c, 0, 1, x, &e), &e);
    x[5] = NAN;
    assert_int_equal(store_write_chunk(s, &c, 0, 0, x, &e), ERR_FORMAT);
    x[5] = 0;
    store_close(s);
    assert_ok(store_open(p.path, &s, &e), &e);
    assert_int_equal(store_info_of(s)->hooks[0].dtype, STORE_BF16);
    assert_ok(store_read_rows(s, &c, 0, STORE_CHUNK_ROWS, STORE_CHUNK_ROWS, y, &e), &e);
    assert_true(y[77 * 10 + 3] == bf16_to_f32(bf16_from_f32(-65520)));
    store_fixture_rows(&f, 1, 0, STORE_CHUNK_ROWS, x);
    assert_ok(store_read_rows(s, &c, 1, 0, STORE_CHUNK_ROWS, y, &e), &e);
    assert_memory_equal(x, y, (size_t)STORE_CHUNK_ROWS * 11 * sizeof *x);
    store_close(s);
    free(x), free(y);
    store_fixture_release(&f);
    remove_place(&p);
}

/* ---- no room ---- */

/* In a process of its own, since the limit stays: creating fails with a sentence, and nothing is left. */
static int create_under_limit(const store_fixture *f, const place *p, rlim_t bytes) {
    struct rlimit limit = {bytes, bytes};
    store *s;
    err e = {0};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
    err_code rc = create(f, p->path, &s, &e);
    if (rc != ERR_IO && rc != ERR_NOSPACE) return 1;
    if (!strstr(e.message, "cannot reserve")) return 2;
    return file_exists(p->path) || file_exists(p->tmp) ? 3 : 0;
}

static void test_file_size_limit(void **state) {
    (void)state;
    place p = make_place();
    store_fixture f;
    store_fixture_init(&f, 9000);
    for (rlim_t bytes = 0; bytes < 1500000; bytes = bytes * 4 + 1000) {
        int status;
        pid_t child = fork();
        if (!child) _exit(create_under_limit(&f, &p, bytes));
        waitpid(child, &status, 0);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
    store_fixture_release(&f);
    remove_place(&p);
}

static void test_full_disk(void **state) {
    (void)state;
    place p = make_place();
    store_fixture f;
    store *s;
    err e;
    store_fixture_init(&f, 9000);
    if (mount("sae-test", p.dir, "tmpfs", 0, "size=1m")) {
        store_fixture_release(&f);
        remove_place(&p);
        skip(); /* only root may mount */
    }
    err_code rc = create(&f, p.path, &s, &e);
    bool left = file_exists(p.path) || file_exists(p.tmp);
    umount(p.dir);
    assert_int_equal(rc, ERR_NOSPACE);
    assert_says(&e, "bytes");
    assert_false(left);
    store_fixture_release(&f);
    remove_place(&p);
}

/* ---- no memory ---- */

typedef struct sweep {
    const store_fixture *f;
    const place *p;
} sweep;

static err_code read_everything(void *arg, err *e) {
    const sweep *w = arg;
    ctx c = test_ctx(1);
    store *s = NULL;
    token_corpus k = {0};
    const char *bytes;
    const uint64_t *offsets;
    float x[12];
    err_code rc;
    TRY(store_open(w->p->path, &s, e));
    TRY(store_read_corpus(s, &k, e));
    TRY(store_vocab(s, &bytes, &offsets, e));
    TRY(store_read_rows(s, &c, 0, 0, 1, x, e));
done:
    corpus_release(&k);
    store_close(s);
    return rc;
}

static err_code create_again(void *arg, err *e) {
    const sweep *w = arg;
    store *s = NULL;
    unlink(w->p->path);
    err_code rc = create(w->f, w->p->path, &s, e);
    if (!rc) rc = store_restart_hook(s, 0, STORE_BF16, &w->f->k, w->f->row_token, w->f->t, e);
    store_close(s);
    return rc;
}

static void test_no_memory(void **state) {
    (void)state;
    place p = make_place();
    store_fixture f;
    store_fixture_init(&f, 30);
    store_fixture_write(&f, p.path);
    sweep w = {&f, &p};
    oom_sweep(read_everything, &w, 1000);
    oom_sweep(create_again, &w, 150);
    store_fixture_release(&f);
    remove_place(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed_at_any_moment), /* first: it forks, and no thread exists yet */
        cmocka_unit_test(test_file_size_limit),
        cmocka_unit_test(test_identity),
        cmocka_unit_test(test_what_the_file_says),
        cmocka_unit_test(test_mismatches),
        cmocka_unit_test(test_overflow_and_restart),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
