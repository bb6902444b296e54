/* Archives of tensors: files of PyTorch and NumPy against what other readers find in them; views and storages that share
 * bytes; pickles that lie or want something called. The damaged inputs are those of tests/fuzz/corpus. */
#include "core/file.h"
#include "core/strbuf.h"
#include "formats/weights_internal.h"
#include "support/oom.h"
#include "support/test.h"

static weights *open_fixture(const char *name) {
    err e = {0};
    weights *w;
    char *path = test_fixture(name);
    assert_ok(weights_open(path, &w, &e), &e);
    free(path);
    return w;
}

static char *read_corpus(const char *name, size_t *size) {
    err e = {0};
    char path[4096], *bytes;
    snprintf(path, sizeof path, "%s/fuzz/corpus/%s", SAE_TESTS_DIR, name);
    assert_ok(file_read(path, 1 << 20, &bytes, size, &e), &e);
    return bytes;
}

/* ---- sound files ---- */

static void expect_same_tensors(const weights *expected, const weights *w) {
    for (int64_t i = 0; i < weights_tensor_count(expected); i++) {
        const tensor_view *t = weights_tensor_at(expected, i), *found;
        err e = {0};
        assert_ok(weights_require(w, t->name, t->n_dims, t->shape, &found, &e), &e);
        assert_ptr_equal(found->type, t->type);
        if (memcmp(found->data, t->data, t->size) != 0) fail_msg("tensor %s differs", t->name);
    }
}

static void pytorch_files_equal_safetensors(void **state) {
    (void)state;
    weights *expected = open_fixture("models/llama/model.safetensors"), *w = open_fixture("models/llama/pytorch_model.bin");
    assert_string_equal(weights_format(w), "PyTorch zip");
    expect_same_tensors(expected, w);
    assert_int_equal(weights_tensor_count(w), weights_tensor_count(expected) + 1);
    const tensor_view *head = weights_find(w, "lm_head.weight"), *embedding = weights_find(w, "model.embed_tokens.weight");
    assert_ptr_equal(head->data, embedding->data); /* one storage */
    assert_int_equal(w->n_copied, 0);
    char *path = test_fixture("models/llama/pytorch_model.bin"), *bytes;
    size_t size;
    err e = {0};
    assert_ok(file_read(path, 1 << 20, &bytes, &size, &e), &e);
    assert_memory_equal(bytes + head->offset, head->data, head->size);
    free(bytes);
    free(path);
    weights_close(w);
    w = open_fixture("models/llama/strided_pytorch_model.bin");
    expect_same_tensors(expected, w);
    assert_true(w->n_copied > 0);
    weights_close(w);
    weights_close(expected);
}

/* expected.safetensors: "<file>:<tensor>" as float32, read by Python without PyTorch */
static void small_archives_equal_what_python_reads(void **state) {
    (void)state;
    weights *expected = open_fixture("archives/expected.safetensors"), *w = NULL;
    char opened[64] = "";
    err e = {0};
    assert_true(weights_tensor_count(expected) >= 30);
    for (int64_t i = 0; i < weights_tensor_count(expected); i++) {
        const tensor_view *t = weights_tensor_at(expected, i), *found;
        char file[64];
        const char *colon = strchr(t->name, ':');
        snprintf(file, sizeof file, "archives/%.*s", (int)(colon - t->name), t->name);
        if (strcmp(file, opened) != 0) {
            weights_close(w);
            w = open_fixture(file);
            memcpy(opened, file, sizeof opened);
        }
        assert_ok(weights_require(w, colon + 1, t->n_dims, t->shape, &found, &e), &e);
        float *values = malloc(t->size);
        found->type->dequantize(found->data, tensor_count(found), values);
        if (memcmp(values, t->data, t->size) != 0) fail_msg("%s differs", t->name);
        free(values);
    }
    weights_close(w);
    weights_close(expected);
}

static void dictionaries_become_names_and_metadata(void **state) {
    (void)state;
    err e = {0};
    weights *w;
    size_t size;
    int64_t n;
    double x;
    bool yes;
    char *bytes = read_corpus("zip/valid_torch", &size), *text;
    assert_ok(weights_open_bytes("x.pt", (const uint8_t *)bytes, size, &w, &e), &e);
    const tensor_view *t;
    assert_ok(weights_require(w, "a.weight", 2, (int64_t[]){2, 3}, &t, &e), &e);
    assert_string_equal(t->type->name, "F32");
    assert_ok(weights_require(w, "b", 1, (int64_t[]){4}, &t, &e), &e);
    assert_string_equal(t->type->name, "I16");
    assert_ok(weights_meta_int(w, "k", &n, &e), &e);
    assert_int_equal(n, 32);
    assert_ok(weights_meta_float(w, "lr", &x, &e), &e);
    assert_true(x == 1e-3);
    assert_ok(weights_meta_string(w, "name", &text, &e), &e);
    assert_string_equal(text, "relu");
    free(text);
    assert_ok(weights_meta_string(w, "dtype", &text, &e), &e);
    assert_string_equal(text, "bfloat16");
    free(text);
    assert_ok(weights_meta_bool_or(w, "yes", false, &yes, &e), &e);
    assert_true(yes);
    assert_null(weights_meta(w, "none"));
    assert_int_equal(weights_meta(w, "dims")->array.items[1].integer, 2);
    assert_ok(weights_meta_int(w, "config.inner", &n, &e), &e);
    assert_int_equal(n, 1);
    weights_close(w);
    free(bytes);
}

static void every_valid_input_of_the_corpus_opens(void **state) {
    (void)state;
    const char *names[] = {
        "zip/valid_torch_deflated", "zip/valid_numpy", "zip/valid_numpy_deflated", "zip/valid_comment", "zip/valid_zip64",
        "zip/valid_zip64_member",   "npy/valid_v2",    "npy/valid_scalar",         "npy/valid_empty",   "npy/valid_vector"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        err e = {0};
        weights *w;
        size_t size;
        char *bytes = read_corpus(names[i], &size);
        assert_ok(weights_open_bytes("x", (const uint8_t *)bytes, size, &w, &e), &e);
        assert_true(weights_tensor_count(w) >= 1);
        weights_close(w);
        free(bytes);
    }
}

/* u1 values 0 .. 23 in column-major order as [2, 3, 2, 2]: value [i, j, k, l] is i + 2 j + 6 k + 12 l. */
static void columns_first_is_turned_to_rows_first(void **state) {
    (void)state;
    err e = {0};
    weights *w;
    size_t size;
    const tensor_view *t;
    char *bytes = read_corpus("npy/valid_fortran_4d", &size);
    assert_ok(weights_open_bytes("x", (const uint8_t *)bytes, size, &w, &e), &e);
    assert_ok(weights_require(w, "arr_0", 4, (int64_t[]){2, 3, 2, 2}, &t, &e), &e);
    const uint8_t *values = t->data;
    for (int i = 0; i < 24; i++) assert_int_equal(values[i], i / 12 + 2 * (i / 4 % 3) + 6 * (i / 2 % 2) + 12 * (i % 2));
    weights_close(w);
    free(bytes);
}

/* ---- damaged and hostile ones ---- */

static void refuses_with_a_sentence(void **state) {
    (void)state;
    const struct {
        const char *name;
        err_code code;
        const char *sentence;
    } cases[] = {
        {"zip/cut_at_100", ERR_FORMAT, "zip: expected a directory at the end, found none: the file is cut or damaged"},
        {"zip/lies_bare_pickle", ERR_UNSUPPORTED, "a bare pickle, as PyTorch wrote before version 1.6"},
        {"zip/lies_byteorder", ERR_UNSUPPORTED, "a/byteorder: expected little, found big"},
        {"zip/lies_checksum", ERR_FORMAT, "member a/data.pkl: its checksum is wrong"},
        {"zip/lies_deflate_bomb", ERR_FORMAT, "2147483647 bytes cannot come from 245 packed ones"},
        {"zip/lies_deflate_size", ERR_FORMAT, "member a/data.pkl: its packed bytes are damaged"},
        {"zip/lies_encrypted", ERR_UNSUPPORTED, "member a/data.pkl: it is encrypted"},
        {"zip/lies_member_offset", ERR_FORMAT, "expected its header at byte 2147483647"},
        {"zip/lies_method", ERR_UNSUPPORTED, "packed by method 93 (known: stored, deflated)"},
        {"zip/lies_mixed", ERR_FORMAT, "member c.txt: expected .npy files only"},
        {"zip/lies_no_tensors", ERR_FORMAT, "a zip archive without tensors"},
        {"zip/lies_twice", ERR_FORMAT, "member a/data/0 appears twice"},
        {"zip/lies_volumes", ERR_UNSUPPORTED, "an archive in several volumes"},
        {"zip/lies_zip64_count", ERR_FORMAT, "cannot list 18446744073709551615 members"},
        {"zip/lies_zip64_member_missing", ERR_FORMAT, "its 64-bit sizes are missing"},
        {"npy/lies_big_endian", ERR_UNSUPPORTED, "big-endian values"},
        {"npy/lies_objects", ERR_UNSUPPORTED, "Python objects instead of numbers"},
        {"npy/lies_shape", ERR_FORMAT, "expected 6144000 bytes, for [24000, 64] of F32, found 24"},
        {"npy/lies_shape_overflow", ERR_FORMAT, "is larger than any file"},
        {"npy/lies_shape_negative", ERR_FORMAT, "shape: expected whole numbers, none negative"},
        {"npy/lies_dimensions", ERR_UNSUPPORTED, "expected at most 4 dimensions"},
        {"npy/lies_header_code", ERR_UNSUPPORTED, "descr: '__import__("},
        {"npy/lies_header_length", ERR_FORMAT, "expected a header of 65535 bytes"},
        {"npy/lies_header_twice", ERR_FORMAT, "once each"},
        {"npy/lies_version", ERR_UNSUPPORTED, "version 9: expected 1, 2 or 3"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        err e = {0};
        weights *w;
        size_t size;
        char *bytes = read_corpus(cases[i].name, &size);
        err_code rc = weights_open_bytes("x", (const uint8_t *)bytes, size, &w, &e);
        if (rc != cases[i].code || !strstr(e.message, cases[i].sentence))
            fail_msg("%s: expected '%s', found code %d '%s'", cases[i].name, cases[i].sentence, rc, e.message);
        free(bytes);
    }
    err e = {0};
    weights *w;
    char *path = test_fixture("models/llama/evil_pytorch_model.bin");
    assert_int_equal(weights_open(path, &w, &e), ERR_UNSUPPORTED);
    assert_non_null(strstr(e.message, "pickle, byte 183: it names posix.system, which describes no tensor; nothing was run"));
    free(path);
}

/* A data.pkl whose archive has the storages 0, of 256 bytes, and 1, of 16: as tests/fuzz/fuzz_pickle.c does it. */
static err_code open_pickle(const char *name, weights **w, err *e) {
    static const uint8_t storage[256];
    zip_member members[] = {
        {.name = "a/data/0", .packed = storage, .packed_size = sizeof storage, .size = sizeof storage},
        {.name = "a/data/1", .packed = storage, .packed_size = 16, .size = 16},
    };
    const zip_archive zip = {members, 2};
    size_t size;
    char *bytes = read_corpus(name, &size);
    assert_ok(weights_new("x.pt", w, e), e);
    (*w)->file_size = sizeof storage;
    err_code rc = torch_add_pickle(*w, storage, &zip, "a/", 2, (const uint8_t *)bytes, size, e);
    if (!rc) rc = weights_index(*w, e);
    free(bytes);
    return rc;
}

static void pickles_are_data(void **state) {
    (void)state;
    const struct {
        const char *name, *sentence; /* NULL: it is fine */
    } cases[] = {
        {"pickle/valid", NULL},
        {"pickle/valid_strided", NULL},
        {"pickle/valid_parameter", NULL},
        {"pickle/valid_ordered", NULL},
        {"pickle/valid_memo", NULL},
        {"pickle/valid_protocol_4", NULL},
        {"pickle/valid_empty", NULL},
        {"pickle/cut_at_40", "expected the end of a name"},
        {"pickle/lies_calls_system", "it names posix.system, which describes no tensor; nothing was run"},
        {"pickle/lies_calls_eval", "it names builtins.eval, which describes no tensor; nothing was run"},
        {"pickle/lies_calls_storage", "expected a call of something that can be called"},
        {"pickle/lies_stride_escape", "tensor a: shape [8, 8]: expected a storage of at least 1712 bytes, found 256"},
        {"pickle/lies_stride_overflow", "tensor a: shape [2, 2] is larger than any file"},
        {"pickle/lies_stride_negative", "expected whole numbers, none negative, as shape and strides"},
        {"pickle/lies_stride_zero", "tensor a: shape [1099511627776]: a view that repeats its values"},
        {"pickle/lies_offset", "is larger than any file"},
        {"pickle/lies_shape_negative", "expected whole numbers, none negative, as shape and strides"},
        {"pickle/lies_dimensions", "a tensor of 5 dimensions (at most 4)"},
        {"pickle/lies_dimensions_differ", "expected a storage, an offset, a shape and strides"},
        {"pickle/lies_storage", "tensor a: expected its values in a/data/9, found no such member"},
        {"pickle/lies_storage_short", "tensor a: shape [8]: expected a storage of at least 32 bytes, found 16"},
        {"pickle/lies_storage_class", "expected a storage's class and key"},
        {"pickle/lies_not_a_dict", "expected a dictionary of tensors in a/data.pkl"},
        {"pickle/lies_contains_itself", "dictionaries more than 16 deep"},
        {"pickle/lies_many_paths", "more than 262144 values"},
        {"pickle/lies_twice", "key 'a' appears twice"},
        {"pickle/lies_key", "keys that are neither strings nor whole numbers"},
        {"pickle/lies_memo", "expected a value in the memo"},
        {"pickle/lies_memo_huge", "expected a smaller memo"},
        {"pickle/lies_stack_empty", "expected more values on the stack"},
        {"pickle/lies_no_mark", "expected a mark"},
        {"pickle/lies_mark_in_between", "expected more values on the stack"},
        {"pickle/lies_odd_items", "expected a value for every key"},
        {"pickle/lies_string_length", "expected more bytes"},
        {"pickle/lies_string_length_64", "expected more bytes"},
        {"pickle/lies_opcode", "opcode 0x69 is not one that describes tensors"},
        {"pickle/lies_no_end", "expected more bytes, found the end"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        err e = {0};
        weights *w;
        err_code rc = open_pickle(cases[i].name, &w, &e);
        if (!rc != !cases[i].sentence || (rc && !strstr(e.message, cases[i].sentence)))
            fail_msg("%s: expected '%s', found code %d '%s'", cases[i].name, cases[i].sentence, rc, e.message);
        weights_close(w);
    }
}

static void use_everything(const weights *w) {
    float out[256];
    for (int64_t i = 0; i < weights_tensor_count(w); i++) {
        const tensor_view *t = weights_tensor_at(w, i);
        int64_t n = tensor_count(t);
        t->type->dequantize(t->data, n < 256 ? n : 256, out);
    }
}

static void expect_no_crash(const char *bytes, size_t size) {
    err e = {0};
    weights *w;
    char *copy = malloc(size ? size : 1); /* of exactly this size, so that ASan sees a read behind it */
    memcpy(copy, bytes, size);
    if (weights_open_bytes("x", (const uint8_t *)copy, size, &w, &e))
        assert_true(e.message[0]);
    else
        use_everything(w);
    weights_close(w);
    free(copy);
}

static void survives_every_cut_and_every_changed_byte(void **state) {
    (void)state;
    const char *names[] = {"zip/valid_torch", "zip/valid_numpy_deflated", "zip/valid_zip64_member", "npy/valid_fortran"};
    const unsigned char values[] = {0, 1, 0x7f, 0xff};
    for (size_t f = 0; f < sizeof names / sizeof *names; f++) {
        size_t size;
        char *bytes = read_corpus(names[f], &size);
        for (size_t i = 0; i < size; i++) {
            char kept = bytes[i];
            expect_no_crash(bytes, i);
            for (size_t v = 0; v < sizeof values; v++) {
                bytes[i] = (char)values[v];
                expect_no_crash(bytes, size);
            }
            bytes[i] = kept;
        }
        free(bytes);
    }
}

typedef struct input {
    char *bytes;
    size_t size;
} input;

static err_code open_input(void *arg, err *e) {
    const input *in = arg;
    weights *w;
    err_code rc = weights_open_bytes("x", (const uint8_t *)in->bytes, in->size, &w, e);
    weights_close(w);
    return rc;
}

static void survives_every_failing_allocation(void **state) {
    (void)state;
    const char *names[] = {"zip/valid_torch_deflated", "zip/valid_numpy_deflated", "npy/valid_fortran"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        input in;
        in.bytes = read_corpus(names[i], &in.size);
        oom_sweep(open_input, &in, 1000);
        free(in.bytes);
    }
}

/* ---- folders ---- */

static void write_file(const char *dir, const char *name, const char *bytes, size_t size) {
    err e = {0};
    char *path;
    assert_ok(path_join(dir, name, &path, &e), &e);
    assert_ok(file_write(path, bytes, size, &e), &e);
    free(path);
}

static void model_folders_may_hold_pytorch_files(void **state) {
    (void)state;
    const char index[] = "{\"weight_map\":{\"a.weight\":\"pytorch_model-00001-of-00001.bin\"}}";
    err e = {0};
    weights *w;
    size_t size;
    char *dir = test_make_dir(), *bytes = read_corpus("zip/valid_torch", &size);
    write_file(dir, "config.json", "{\"model_type\":\"llama\"}", 22);
    write_file(dir, "pytorch_model.bin.index.json", index, strlen(index));
    write_file(dir, "pytorch_model-00001-of-00001.bin", bytes, size);
    assert_ok(weights_open(dir, &w, &e), &e);
    assert_non_null(weights_find(w, "a.weight"));
    assert_non_null(weights_meta(w, "model_type"));
    weights_close(w);
    write_file(dir, "pytorch_model.bin", "\x80\x02}.", 4);
    assert_int_equal(weights_open(dir, &w, &e), ERR_UNSUPPORTED);
    assert_non_null(strstr(e.message, "pytorch_model.bin: a bare pickle"));
    free(bytes);
    test_remove_dir(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pytorch_files_equal_safetensors),
        cmocka_unit_test(small_archives_equal_what_python_reads),
        cmocka_unit_test(dictionaries_become_names_and_metadata),
        cmocka_unit_test(every_valid_input_of_the_corpus_opens),
        cmocka_unit_test(columns_first_is_turned_to_rows_first),
        cmocka_unit_test(refuses_with_a_sentence),
        cmocka_unit_test(pickles_are_data),
        cmocka_unit_test(survives_every_cut_and_every_changed_byte),
        cmocka_unit_test(survives_every_failing_allocation),
        cmocka_unit_test(model_folders_may_hold_pytorch_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
