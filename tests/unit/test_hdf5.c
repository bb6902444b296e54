/* The corpus of tests/fuzz/corpus/hdf5, file by file: what is sound is read, what lies is refused in one sentence. */
#include "support/test.h"

#include "activations/codes.h"
#include "activations/source.h"
#include "activations/store.h"
#include "core/file.h"
#include "core/mem.h"

#include <dirent.h>
#include <hdf5.h>

/* Everything a reader of this kind asks of a file; its kind is in its name. */
static err_code read_all_of_store(const char *path, err *e) {
    ctx c = test_ctx(1);
    store *s = NULL;
    token_corpus k = {0};
    uint64_t row_token[2000];
    const char *bytes;
    const uint64_t *offsets;
    float x[2000];
    err_code rc;
    TRY(store_open(path, &s, e));
    TRY(store_read_corpus(s, &k, e));
    TRY(store_read_row_token(s, row_token, e));
    TRY(store_vocab(s, &bytes, &offsets, e));
    for (int i = 0; i < store_info_of(s)->n_hooks; i++) TRY(store_read_rows(s, &c, i, 0, store_info_of(s)->n_rows, x, e));
done:
    corpus_release(&k);
    store_close(s);
    return rc;
}

static err_code read_all_of_source(const char *path, const char *dataset, err *e) {
    ctx c = test_ctx(1);
    source *s = NULL;
    float x[2000];
    source_opts o = {.dataset = dataset};
    err_code rc;
    TRY(source_open_hdf5(&c, path, &o, &s, e));
    if (s->n_rows * s->d_in <= 2000) TRY(source_read(s, &c, 0, s->n_rows, x, e));
done:
    source_close(s);
    return rc;
}

static err_code read_all_of_codes(const char *path, err *e) {
    codes k;
    err_code rc = codes_read(path, &k, e);
    if (!rc) codes_release(&k);
    return rc;
}

static err_code read_file(const char *name, const char *path, err *e) {
    if (strstr(name, "_codes")) return read_all_of_codes(path, e);
    if (strstr(name, "_matrix")) return read_all_of_source(path, "x", e);
    err_code rc = read_all_of_store(path, e);
    return rc ? rc : read_all_of_source(path, "blocks.1.hook_mlp_out", e);
}

/* What differs from the usual and is still sound. */
static bool is_sound(const char *name) {
    static const char *const sound[] = {"lies_fixed_text", "lies_long_text", "lies_matrix_big_endian", "lies_matrix_float80",
                                        "lies_matrix_rank_9"};
    for (size_t i = 0; i < sizeof sound / sizeof *sound; i++)
        if (!strcmp(name, sound[i])) return true;
    return !strncmp(name, "valid_", 6);
}

static void test_corpus(void **state) {
    (void)state;
    static const char dir[] = SAE_TESTS_DIR "/fuzz/corpus/hdf5";
    DIR *d = opendir(dir);
    int n = 0;
    assert_non_null(d);
    for (struct dirent *entry; (entry = readdir(d));) {
        const char *name = entry->d_name;
        char *path;
        if (name[0] == '.') continue;
        assert_int_equal(path_join(dir, name, &path, NULL), ERR_OK);
        err e = {0};
        err_code rc = read_file(name, path, &e);
        if (is_sound(name) && rc) fail_msg("%s: %s", name, e.message);
        if (!strncmp(name, "lies_", 5) && !is_sound(name) && !rc) fail_msg("%s: was taken for sound", name);
        if (rc) {
            assert_int_equal(rc, e.code);
            assert_true(strlen(e.message) > strlen(path) && !strncmp(e.message, path, strlen(path)) &&
                        !strchr(e.message, '\n'));
            if (getenv("VERBOSE")) printf("%s\n", e.message + strlen(dir) + 1);
        }
        free(path);
        n++;
    }
    closedir(d);
    assert_true(n > 100);
}

/* x, and a link to it from another file. */
static void make_linked(const char *rows, const char *linked) {
    static const float x[2][2] = {{1, 2}, {3, 4}};
    const hsize_t dims[2] = {2, 2};
    hid_t file = H5Fcreate(rows, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), space = H5Screate_simple(2, dims, NULL);
    hid_t dataset = H5Dcreate2(file, "x", H5T_NATIVE_FLOAT, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(H5Dwrite(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, x) >= 0);
    H5Dclose(dataset);
    H5Sclose(space);
    H5Fclose(file);
    file = H5Fcreate(linked, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(H5Lcreate_external(rows, "x", file, "x", H5P_DEFAULT, H5P_DEFAULT) >= 0);
    assert_true(H5Lcreate_external(rows, "/", file, "hooks", H5P_DEFAULT, H5P_DEFAULT) >= 0);
    H5Fclose(file);
}

/* A file never makes its reader open another one. */
static void links_into_other_files(void **state) {
    (void)state;
    char *dir = test_make_dir(), rows[4096], linked[4096];
    store *s;
    err e = {0};
    snprintf(rows, sizeof rows, "%s/rows.h5", dir);
    snprintf(linked, sizeof linked, "%s/linked.h5", dir);
    make_linked(rows, linked);
    assert_ok(read_all_of_source(rows, "x", &e), &e);
    assert_int_equal(read_all_of_source(linked, "x", &e), ERR_FORMAT);
    assert_non_null(strstr(e.message, "expected a dataset x in the file, found none"));
    assert_int_equal(read_all_of_source(linked, NULL, &e), ERR_FORMAT);
    assert_int_equal(store_open(linked, &s, &e), ERR_FORMAT);
    test_remove_dir(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_corpus), cmocka_unit_test(links_into_other_files)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
