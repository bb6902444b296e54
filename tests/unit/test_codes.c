/* codes.h5: what was appended comes back; a file that contradicts itself is refused; nothing half-written under the name. */
#include "support/test.h"

#include "activations/codes.h"
#include "core/file.h"
#include "core/rng.h"

#include <hdf5.h>
#include <unistd.h>

enum { ROWS = 1000, D_SAE = 77, D_OUT = 3 };

typedef struct sparse {
    int64_t indptr[ROWS + 1];
    uint32_t indices[ROWS * 10];
    float values[ROWS * 10], reconstruction[ROWS * D_OUT];
} sparse;

/* Rows of 0 to 9 ascending latents. */
static sparse *make_codes(void) {
    sparse *s = calloc(1, sizeof *s);
    rng r = rng_stream(1, RNG_CONTROL, 0);
    for (int i = 0; i < ROWS; i++) {
        int64_t n = (int64_t)rng_below(&r, 10), at = s->indptr[i];
        for (int64_t j = 0; j < n; j++) {
            s->indices[at + j] = (uint32_t)(j * 7 + (int64_t)rng_below(&r, 7));
            s->values[at + j] = (float)rng_normal(&r);
        }
        s->indptr[i + 1] = at + n;
    }
    for (int i = 0; i < ROWS * D_OUT; i++) s->reconstruction[i] = (float)i;
    return s;
}

static err_code append(codes_writer *w, const sparse *s, int64_t first, int64_t n, err *e) {
    int64_t indptr[ROWS + 1], from = s->indptr[first];
    for (int64_t i = 0; i <= n; i++) indptr[i] = s->indptr[first + i] - from;
    return codes_append(w, n, indptr, s->indices + from, s->values + from, s->reconstruction + first * D_OUT, e);
}

static void write_codes(const char *path, const sparse *s) {
    static const int64_t sizes[] = {1, 0, 499, 500};
    codes_info info = {
        .sae_sha256 = "ab", .hook_name = "blocks.1.hook_mlp_out", .d_sae = D_SAE, .n_rows = ROWS, .d_out = D_OUT};
    codes_writer *w;
    err e;
    assert_ok(codes_create(path, &info, &w, &e), &e);
    for (int64_t i = 0, first = 0; i < 4; first += sizes[i++]) {
        assert_ok(append(w, s, first, sizes[i], &e), &e);
        assert_false(file_exists(path));
    }
    assert_ok(codes_finish(w, &e), &e);
    codes_abandon(w);
}

static char *file_in(const char *dir) {
    char *path;
    assert_int_equal(path_join(dir, "codes.h5", &path, NULL), ERR_OK);
    return path;
}

static void test_identity(void **state) {
    (void)state;
    char *dir = test_make_dir(), *path = file_in(dir);
    sparse *s = make_codes();
    codes k;
    err e;
    write_codes(path, s);
    assert_ok(codes_read(path, &k, &e), &e);
    assert_int_equal(k.n_rows, ROWS);
    assert_int_equal(k.d_sae, D_SAE);
    assert_string_equal(k.sae_sha256, "ab");
    assert_string_equal(k.hook_name, "blocks.1.hook_mlp_out");
    assert_memory_equal(k.indptr, s->indptr, sizeof s->indptr);
    assert_memory_equal(k.indices, s->indices, (size_t)s->indptr[ROWS] * sizeof *s->indices);
    assert_memory_equal(k.values, s->values, (size_t)s->indptr[ROWS] * sizeof *s->values);
    codes_release(&k);
    float x[ROWS * D_OUT];
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT), dataset = H5Dopen2(file, "/reconstruction", H5P_DEFAULT);
    assert_true(H5Dread(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, x) >= 0);
    assert_memory_equal(x, s->reconstruction, sizeof x);
    H5Dclose(dataset), H5Fclose(file);
    free(s), free(path);
    test_remove_dir(dir);
}

static void test_unfinished(void **state) {
    (void)state;
    char *dir = test_make_dir(), *path = file_in(dir), *tmp;
    sparse *s = make_codes();
    codes_info info = {.d_sae = D_SAE, .n_rows = ROWS};
    codes_writer *w;
    err e;
    assert_int_equal(path_join(dir, "codes.h5.tmp", &tmp, NULL), ERR_OK);
    assert_ok(codes_create(path, &info, &w, &e), &e);
    assert_ok(codes_append(w, 10, s->indptr, s->indices, s->values, NULL, &e), &e);
    assert_int_equal(codes_finish(w, &e), ERR_FAILED);
    assert_non_null(strstr(e.message, "expected codes of 1000 rows, got 10"));
    assert_true(file_exists(tmp));
    codes_abandon(w);
    assert_false(file_exists(tmp) || file_exists(path));
    free(s), free(path), free(tmp);
    test_remove_dir(dir);
}

static void damage(const char *path, const char *dataset, hsize_t at, int64_t value) {
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT), d = H5Dopen2(file, dataset, H5P_DEFAULT), space = H5Dget_space(d);
    hid_t one = H5Screate(H5S_SCALAR);
    H5Sselect_elements(space, H5S_SELECT_SET, 1, &at);
    assert_true(H5Dwrite(d, H5T_NATIVE_INT64, one, space, H5P_DEFAULT, &value) >= 0);
    H5Sclose(one), H5Sclose(space), H5Dclose(d), H5Fclose(file);
}

static void test_contradictions(void **state) {
    (void)state;
    static const struct {
        const char *dataset;
        hsize_t at;
        int64_t value;
        const char *words;
    } cases[] = {
        {"/latents/indptr", 500, 1 << 30, "row 499"},         {"/latents/indptr", 0, 1, "contradict"},
        {"/latents/indptr", ROWS, 3, "contradict"},           {"/latents/indptr", 500, 0, "ends before it begins"},
        {"/latents/indices", 0, D_SAE, "expected ascending"},
    };
    char *dir = test_make_dir(), *path = file_in(dir);
    sparse *s = make_codes();
    codes k;
    err e;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        unlink(path);
        write_codes(path, s);
        damage(path, cases[i].dataset, cases[i].at, cases[i].value);
        assert_int_equal(codes_read(path, &k, &e), ERR_FORMAT);
        if (!strstr(e.message, cases[i].words)) fail_msg("expected '%s' in '%s'", cases[i].words, e.message);
    }
    free(s), free(path);
    test_remove_dir(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_identity), cmocka_unit_test(test_unfinished),
                                       cmocka_unit_test(test_contradictions)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
