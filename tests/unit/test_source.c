/* Sources of rows: every epoch a permutation, any position at any time, whole texts held out, other programs' files. */
#include "support/oom.h"
#include "support/store_fixture.h"
#include "support/test.h"

#include "activations/source.h"
#include "core/half.h"

#include <hdf5.h>

#define assert_contains(text, part) assert_non_null(strstr(text, part))

static char *path_in(const char *dir, const char *name) {
    char *path = malloc(strlen(dir) + strlen(name) + 2);
    sprintf(path, "%s/%s", dir, name);
    return path;
}

/* A dataset whose row r is r, r+0.25, .. in `type`; dims [n, d1, d2] with d2 0 for a matrix. */
static void write_matrix(const char *path, hid_t type, int64_t n, int64_t d1, int64_t d2, bool compressed) {
    int64_t d = d2 ? d1 * d2 : d1;
    double *x = malloc((size_t)(n * d) * sizeof *x);
    for (int64_t i = 0; i < n * d; i++) x[i] = (double)(i / d) + 0.25 * (double)(i % d);
    hsize_t dims[3] = {(hsize_t)n, (hsize_t)d1, (hsize_t)d2}, chunk[3] = {100, (hsize_t)d1, (hsize_t)d2};
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hid_t space = H5Screate_simple(d2 ? 3 : 2, dims, NULL), list = H5Pcreate(H5P_DATASET_CREATE);
    if (compressed) {
        H5Pset_chunk(list, d2 ? 3 : 2, chunk);
        H5Pset_deflate(list, 1);
    }
    hid_t dataset = H5Dcreate2(file, "x", type, space, H5P_DEFAULT, list, H5P_DEFAULT);
    assert_true(H5Dwrite(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, x) >= 0);
    H5Dclose(dataset), H5Pclose(list), H5Sclose(space), H5Fclose(file);
    free(x);
}

/* Every row of an epoch comes once; another epoch, another order; pieces of any size give the same stream. */
static void check_stream(source *s, int threads) {
    ctx c = test_ctx(threads);
    err e;
    int64_t n = s->n_rows, d = s->d_in;
    float *all = malloc((size_t)(2 * n * d) * sizeof *all), *part = malloc((size_t)(n * d) * sizeof *part);
    uint8_t *seen = calloc((size_t)(n + s->n_held_out), 1);
    assert_ok(source_read(s, &c, 0, 2 * n, all, &e), &e);
    for (int64_t i = 0; i < 2 * n; i++) {
        int64_t row = (int64_t)all[i * d];
        assert_true(row >= 0 && row < n + s->n_held_out);
        for (int64_t j = 0; j < d; j++) assert_float_equal(all[i * d + j], (float)row + 0.25f * (float)j, 0);
        if (i < n) assert_int_equal(seen[row]++, 0);
        if (i >= n) assert_int_equal(seen[row]++, 1);
    }
    if (n > 10) assert_int_not_equal(memcmp(all, all + n * d, (size_t)(n * d) * sizeof *all), 0);
    static const int64_t starts[] = {0, 1, 77, 300};
    for (int i = 0; i < 4; i++) { /* also across the end of the epoch, and back again */
        int64_t first = (n - starts[i] % n) % n, count = first + 111 < 2 * n ? 111 : 2 * n - first;
        if (count > n) count = n;
        assert_ok(source_read(s, &c, first, count, part, &e), &e);
        assert_memory_equal(part, all + first * d, (size_t)(count * d) * sizeof *part);
    }
    float before = -1;
    for (int64_t i = 0; i < s->n_held_out; i++) { /* in order, and never in the stream */
        assert_ok(source_read_held_out(s, &c, i, 1, part, &e), &e);
        assert_true(part[0] > before);
        assert_int_equal(seen[(int64_t)part[0]]++, 0);
        before = part[0];
    }
    for (int64_t i = 0; i < n + s->n_held_out; i++) assert_true(seen[i]);
    free(all), free(part), free(seen);
}

static void test_any_matrix(void **state) {
    (void)state;
    char *dir = test_make_dir(), *path = path_in(dir, "m.h5");
    hid_t f16 = H5Tcopy(H5T_IEEE_F32BE); /* a half in the other byte order: HDF5 converts */
    H5Tset_fields(f16, 15, 10, 5, 0, 10), H5Tset_size(f16, 2), H5Tset_ebias(f16, 15);
    const struct {
        hid_t type;
        int64_t n, d1, d2;
        bool compressed;
    } cases[] = {{H5T_IEEE_F32LE, 1000, 3, 0, false}, {H5T_IEEE_F64LE, 1000, 3, 0, true},
                 {H5T_IEEE_F32BE, 777, 1, 0, false},  {f16, 500, 2, 0, false},
                 {H5T_IEEE_F32LE, 600, 2, 3, true},   {H5T_IEEE_F32LE, 2, 5, 0, false},
                 {H5T_IEEE_F32LE, 1, 5, 0, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int held = 0; held < 2; held++) {
            err e;
            source *s;
            ctx c = test_ctx(2);
            write_matrix(path, cases[i].type, cases[i].n, cases[i].d1, cases[i].d2, cases[i].compressed);
            source_opts o = {.seed = 5, .held_out = held ? 0.3 : 0};
            assert_ok(source_open_hdf5(&c, path, &o, &s, &e), &e);
            assert_int_equal(s->n_rows + s->n_held_out, cases[i].n);
            assert_true(cases[i].n <= 256 || held == (s->n_held_out > 0));
            assert_string_equal(s->hook_name, "");
            check_stream(s, 1);
            check_stream(s, 3);
            source_close(s);
        }
    H5Tclose(f16);
    test_remove_dir(dir), free(path);
}

static void expect_refusal(const char *path, const char *dataset, err_code code, const char *words) {
    source *s = NULL;
    err e = {0};
    ctx c = test_ctx(1);
    float x[64];
    source_opts o = {.dataset = dataset};
    err_code rc = source_open_hdf5(&c, path, &o, &s, &e);
    if (!rc) rc = source_read(s, &c, 0, 1, x, &e);
    source_close(s);
    assert_int_equal(rc, code);
    if (!strstr(e.message, words)) fail_msg("expected '%s' in '%s'", words, e.message);
}

/* The same rows in a .npy of `descr`; shape as text, "(500, 2, 3)". */
static void write_npy(const char *path, const char *descr, const char *shape, int64_t n, int64_t d) {
    char header[119];
    FILE *f = fopen(path, "wb");
    memset(header, ' ', sizeof header);
    header[snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': False, 'shape': %s, }", descr, shape)] = ' ';
    header[117] = '\n';
    fwrite("\x93NUMPY\1\0\x76\0", 1, 10, f);
    fwrite(header, 1, 118, f);
    for (int64_t i = 0; i < n * d; i++) {
        double x = (double)(i / d) + 0.25 * (double)(i % d);
        float single = (float)x;
        uint16_t half = half_from_f32(single);
        if (descr[2] == '8') fwrite(&x, 1, 8, f);
        if (descr[2] == '4') fwrite(descr[1] == 'i' ? (void *)&i : (void *)&single, 1, 4, f);
        if (descr[2] == '2') fwrite(&half, 1, 2, f);
    }
    fclose(f);
}

static void test_npy(void **state) {
    (void)state;
    char *dir = test_make_dir(), *path = path_in(dir, "m.npy");
    const struct {
        const char *descr, *shape;
        int64_t n, d;
    } cases[] = {{"<f4", "(1000, 3)", 1000, 3}, {"<f8", "(777, 1)", 777, 1}, {"<f2", "(500, 2, 3)", 500, 6}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        err e;
        source *s;
        ctx c = test_ctx(2);
        write_npy(path, cases[i].descr, cases[i].shape, cases[i].n, cases[i].d);
        source_opts o = {.seed = 5, .held_out = 0.3};
        assert_ok(source_open_hdf5(&c, path, &o, &s, &e), &e);
        assert_int_equal(s->n_rows + s->n_held_out, cases[i].n);
        assert_int_equal(s->d_in, cases[i].d);
        check_stream(s, 2);
        source_close(s);
    }
    expect_refusal(path, "x", ERR_USAGE, "no datasets");
    write_npy(path, "<i4", "(50, 3)", 50, 3);
    expect_refusal(path, NULL, ERR_FORMAT, "found I32");
    write_npy(path, "<f4", "(150,)", 50, 3);
    expect_refusal(path, NULL, ERR_FORMAT, "found 1 dimensions");
    write_npy(path, "<f4", "(50, 3)", 49, 3);
    expect_refusal(path, NULL, ERR_FORMAT, "expected 600 bytes");
    test_remove_dir(dir), free(path);
}

/* More rows than a pool holds: blocks go to another pool each epoch, and the short last block may stand in any of them. */
static void test_several_pools(void **state) {
    enum { N = (1 << 22) * 2 + 1000 };
    (void)state;
    char *dir = test_make_dir(), *path = path_in(dir, "m.h5");
    source *s;
    err e;
    ctx c = test_ctx(2);
    write_matrix(path, H5T_IEEE_F32LE, N, 1, 0, false);
    source_opts o = {.seed = 9, .held_out = 0.01};
    assert_ok(source_open_hdf5(&c, path, &o, &s, &e), &e);
    int64_t n = s->n_rows;
    float *x = malloc((size_t)n * sizeof *x), part[3000];
    uint8_t *seen = calloc(N, 1);
    for (int epoch = 0; epoch < 2; epoch++) {
        assert_ok(source_read(s, &c, epoch * n, n, x, &e), &e);
        int64_t low = 0;
        for (int64_t i = 0; i < n; i++) {
            assert_int_equal(seen[(int64_t)x[i]]++, epoch);
            low += i < n / 2 && x[i] < (float)N / 2;
        }
        assert_true(llabs(low - n / 4) < n / 100); /* the first half of the epoch is not the first half of the file */
        for (int64_t first = 0; first < n; first += n / 3 - 1) { /* across pools and epochs, back and forth */
            int64_t at = n - first < 3000 ? n - 3000 : first;
            assert_ok(source_read(s, &c, epoch * n + at, 3000, part, &e), &e);
            assert_memory_equal(part, x + at, sizeof part);
        }
    }
    free(x), free(seen);
    source_close(s);
    test_remove_dir(dir), free(path);
}

static void id_of(const char *path, uint64_t seed, double held_out, char id[65], float *first) {
    source *s;
    err e;
    ctx c = test_ctx(2);
    source_opts o = {.seed = seed, .held_out = held_out};
    assert_ok(source_open_hdf5(&c, path, &o, &s, &e), &e);
    assert_ok(source_read(s, &c, 0, 1, first, &e), &e);
    memcpy(id, s->id, 65);
    source_close(s);
}

/* The id tells apart what would continue differently, and nothing else. */
static void test_ids(void **state) {
    (void)state;
    char *dir = test_make_dir(), *a = path_in(dir, "a.h5"), *b = path_in(dir, "b.h5"), ids[5][65];
    float x[8];
    write_matrix(a, H5T_IEEE_F32LE, 2000, 3, 0, false);
    write_matrix(b, H5T_IEEE_F32LE, 2000, 3, 0, true);
    id_of(a, 1, 0.1, ids[0], x);
    id_of(b, 1, 0.1, ids[1], x);
    id_of(a, 2, 0.1, ids[2], x);
    id_of(a, 1, 0.5, ids[3], x);
    write_matrix(b, H5T_IEEE_F32LE, 2000, 4, 0, false);
    id_of(b, 1, 0.1, ids[4], x);
    assert_string_equal(ids[0], ids[1]);
    for (int i = 2; i < 5; i++) assert_string_not_equal(ids[0], ids[i]);
    test_remove_dir(dir), free(a), free(b);
}

/* All windows of a text go to one side. */
/* Two rows a hundred times as long as others: no epoch serves them, and the source says where the line is. */
static void test_long_rows_stay_out(void **state) {
    (void)state;
    char *dir = test_make_dir(), *path = path_in(dir, "long.h5");
    store_fixture f;
    store *file;
    source *s;
    err e;
    ctx c = test_ctx(2);
    store_fixture_init(&f, 5000);
    f.info.n_hooks = 1;
    int64_t n = f.n_rows, d = f.info.hooks[0].d_model, n_long = 0, seen = 0;
    float *x = calloc((size_t)(n * d), sizeof *x), *row = malloc((size_t)d * sizeof *row);
    for (int64_t r = 0; r < n; r++) x[r * d] = r == 7 || r == 4500 ? 1000 : 1 + (float)(r % 9);
    assert_ok(store_create(path, &f.info, &f.k, f.row_token, n, f.t, &file, &e), &e);
    for (int64_t j = 0; j * STORE_CHUNK_ROWS < n; j++)
        assert_ok(store_write_chunk(file, &c, 0, j, x + j * STORE_CHUNK_ROWS * d, &e), &e);
    assert_ok(store_finish_hook(file, &c, 0, &e), &e);
    store_close(file);
    source_opts o = {.seed = 1, .held_out = 0.25};
    assert_ok(source_open_hdf5(&c, path, &o, &s, &e), &e);
    assert_int_equal(s->n_rows + s->n_held_out, n - 2);
    assert_true(s->max_norm == 50); /* ten times the median of 1 .. 9 */
    for (int64_t r = 0; r < s->n_rows; r++, seen++) {
        assert_ok(source_read(s, &c, r, 1, row, &e), &e);
        n_long += row[0] > 9;
    }
    for (int64_t r = 0; r < s->n_held_out; r++, seen++) {
        assert_ok(source_read_held_out(s, &c, r, 1, row, &e), &e);
        n_long += row[0] > 9;
    }
    assert_int_equal(seen, n - 2);
    assert_int_equal(n_long, 0);
    source_close(s);
    free(x), free(row);
    store_fixture_release(&f);
    test_remove_dir(dir), free(path);
}

static void test_texts_stay_together(void **state) {
    (void)state;
    char *dir = test_make_dir(), *path = path_in(dir, "a.h5");
    store_fixture f;
    source *s;
    err e;
    ctx c = test_ctx(2);
    store_fixture_init(&f, 5000);
    store_fixture_write(&f, path);
    for (int i = 0; i < STORE_DTYPES; i++) {
        source_opts o = {.dataset = f.info.hooks[i].name, .seed = 1, .held_out = 0.25};
        assert_ok(source_open_hdf5(&c, path, &o, &s, &e), &e);
        assert_string_equal(s->hook_name, f.info.hooks[i].name);
        assert_string_equal(s->model_name, "a model");
        assert_string_equal(s->model_sha256, "aa");
        assert_int_equal(s->d_in, 10 + i);
        assert_int_equal(s->n_rows + s->n_held_out, f.n_rows);
        assert_true(s->n_held_out > f.n_rows / 5 && s->n_held_out < f.n_rows * 3 / 10);
        /* held-out rows in order: follow them through the file; a text is in or out as a whole */
        float *held = malloc((size_t)(s->n_held_out * s->d_in) * sizeof *held), *row = malloc((size_t)s->d_in * sizeof *row);
        assert_ok(source_read_held_out(s, &c, 0, s->n_held_out, held, &e), &e);
        int64_t at = 0, r = 0;
        bool inside = false, text_held = false;
        for (int64_t doc = 0; doc < f.k.n_docs; doc++)
            for (uint64_t t = f.k.doc_offsets[doc] + 1; t < f.k.doc_offsets[doc + 1]; t++, r++) {
                store_fixture_rows(&f, i, r, 1, row);
                inside = at < s->n_held_out && !memcmp(row, held + at * s->d_in, (size_t)s->d_in * sizeof *row);
                bool first = t == f.k.doc_offsets[doc] + 1 && doc % 4 != 3;
                if (first) text_held = inside;
                assert_int_equal(inside, text_held);
                at += inside;
            }
        assert_int_equal(at, s->n_held_out);
        free(held), free(row);
        source_close(s);
    }
    source_opts all = SOURCE_DEFAULTS;
    assert_int_equal(source_open_hdf5(&c, path, &all, &s, &e), ERR_USAGE);
    assert_contains(e.message, "say which one");
    store_fixture_release(&f);
    test_remove_dir(dir), free(path);
}

static err_code open_and_read(void *arg, err *e) {
    source *s = NULL;
    ctx c = test_ctx(1);
    float x[64];
    source_opts o = {.dataset = "blocks.10.hook_mlp_out", .held_out = 0.2};
    err_code rc;
    TRY(source_open_hdf5(&c, arg, &o, &s, e));
    TRY(source_read(s, &c, 0, 3, x, e));
    TRY(source_read_held_out(s, &c, 0, 1, x, e));
done:
    source_close(s);
    return rc;
}

static void test_no_memory(void **state) {
    (void)state;
    char *dir = test_make_dir(), *path = path_in(dir, "a.h5");
    store_fixture f;
    store_fixture_init(&f, 60);
    store_fixture_write(&f, path);
    oom_sweep(open_and_read, path, 1000);
    store_fixture_release(&f);
    test_remove_dir(dir), free(path);
}

static void test_refusals(void **state) {
    (void)state;
    char *dir = test_make_dir(), *path = path_in(dir, "m.h5"), *text = path_in(dir, "t.h5"), *none = path_in(dir, "none.h5");
    FILE *f = fopen(text, "w");
    fputs("not HDF5", f);
    fclose(f);
    expect_refusal(none, NULL, ERR_IO, "cannot open");
    expect_refusal(text, NULL, ERR_FORMAT, "expected an HDF5 file");
    expect_refusal(dir, NULL, ERR_FORMAT, "expected an HDF5 file");
    write_matrix(path, H5T_IEEE_F32LE, 300, 3, 0, false);
    expect_refusal(path, "y", ERR_FORMAT, "expected a dataset y");
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT), dataset = H5Dopen2(file, "x", H5P_DEFAULT);
    float x[900];
    for (int i = 0; i < 900; i++) x[i] = 1;
    x[123 * 3 + 1] = INFINITY;
    H5Dwrite(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, x);
    H5Dclose(dataset), H5Fclose(file);
    expect_refusal(path, NULL, ERR_FORMAT, "row 123 ");
    write_matrix(path, H5T_STD_I32LE, 300, 3, 0, false);
    expect_refusal(path, NULL, ERR_FORMAT, "found none");
    expect_refusal(path, "x", ERR_FORMAT, "expected rows of real numbers");
    test_remove_dir(dir), free(path), free(text), free(none);
}

static void test_synthetic(void **state) {
    (void)state;
    synth_opts o = {.d_in = 64, .n_features = 32, .n_rows = 500, .n_held_out = 50, .p_active = 0.05, .seed = 3};
    source *s;
    err e;
    const float *w;
    ctx one = test_ctx(1), three = test_ctx(3);
    assert_ok(source_open_synthetic(&o, &s, &w, &e), &e);
    float *a = malloc(1000 * 64 * sizeof *a), *b = malloc(1000 * 64 * sizeof *b);
    assert_ok(source_read(s, &one, 0, 1000, a, &e), &e);
    assert_ok(source_read(s, &three, 0, 300, b, &e), &e);
    assert_ok(source_read(s, &three, 300, 700, b + 300 * 64, &e), &e);
    assert_memory_equal(a, b, 1000 * 64 * sizeof *a);
    double norms = 0; /* E ||x||^2 = n p E a^2 (1 + cross terms of independent directions, of mean 0) */
    for (int i = 0; i < 500 * 64; i++) norms += (double)a[i] * a[i] / 500;
    assert_true(fabs(norms / (32 * 0.05 * (1 + 1.0 / 12)) - 1) < 0.35);
    int found = 0; /* the second epoch has the rows of the first, elsewhere */
    for (int i = 500; i < 1000; i++) found += !memcmp(a, a + i * 64, 64 * sizeof *a);
    assert_true(found >= 1);
    assert_int_not_equal(memcmp(a, a + 500 * 64, 64 * 20 * sizeof *a), 0);
    assert_ok(source_read_held_out(s, &one, 0, 50, b, &e), &e);
    for (int i = 0; i < 50; i++)
        for (int j = 0; j < 500; j++) assert_true(b[i * 64] == 0 || memcmp(b + i * 64, a + j * 64, 64 * sizeof *a) != 0);
    source_close(s);
    free(a), free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_matrix),
        cmocka_unit_test(test_npy),
        cmocka_unit_test(test_several_pools),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_texts_stay_together),
        cmocka_unit_test(test_long_rows_stay_out),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_synthetic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
