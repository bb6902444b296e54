/* safetensors and model folders: written and read back, written by others, and lying in every field. */
#include "core/file.h"
#include "core/strbuf.h"
#include "formats/safetensors.h"
#include "formats/weights_internal.h"
#include "support/oom.h"
#include "support/test.h"

/* ---- helpers ---- */

static strbuf file_of(const char *header, const void *data, size_t size) {
    strbuf s = STRBUF_INIT;
    uint64_t n = strlen(header);
    strbuf_add(&s, &n, sizeof n);
    strbuf_add_str(&s, header);
    strbuf_add(&s, data, size);
    return s;
}

/* Opens a copy of exactly this size, so that ASan sees a read behind it. */
static err_code open_copy(const strbuf *s, size_t size, weights **w, char **copy, err *e) {
    *copy = malloc(size ? size : 1);
    memcpy(*copy, s->data, size);
    return weights_open_bytes("x.safetensors", (const uint8_t *)*copy, size, w, e);
}

static void refuses(const char *header, size_t n_data, err_code expected, const char *sentence) {
    err e = {0};
    char data[64] = {0}, *copy;
    weights *w;
    strbuf s = file_of(header, data, n_data);
    err_code rc = open_copy(&s, s.len, &w, &copy, &e);
    if (rc != expected || !strstr(e.message, sentence))
        fail_msg("expected '%s', found code %d '%s'", sentence, rc, e.message);
    assert_int_equal(strncmp(e.message, "x.safetensors: ", 15), 0);
    free(copy);
    strbuf_release(&s);
}

static void write_text(const char *dir, const char *name, const char *text) {
    err e = {0};
    char *path;
    assert_ok(path_join(dir, name, &path, &e), &e);
    assert_ok(file_write(path, text, strlen(text), &e), &e);
    free(path);
}

/* ---- sound files ---- */

static void written_tensors_read_back(void **state) {
    (void)state;
    err e = {0};
    weights *w;
    const tensor_view *t;
    char *dir = test_make_dir(), *path, *first, *second;
    size_t size, size2;
    const float a[6] = {1, 2, 3, 4, 5, 6};
    const uint64_t b[1] = {7};
    const uint8_t c[3] = {1, 2, 3};
    const safetensors_entry entries[] = {
        {"odd bytes", "U8", 1, {3}, c, sizeof c},
        {"a \"quoted\" n\xc3\xa4me", "F32", 2, {2, 3}, a, sizeof a},
        {"scalar", "U64", 0, {0}, b, sizeof b},
        {"nothing", "F32", 2, {0, 5}, NULL, 0},
    };
    assert_ok(path_join(dir, "x.safetensors", &path, &e), &e);
    assert_ok(safetensors_write(path, entries, 4, &e), &e);
    assert_ok(weights_open(path, &w, &e), &e);
    assert_string_equal(weights_format(w), "safetensors");
    assert_int_equal(weights_tensor_count(w), 4);
    assert_int_equal(weights_meta_count(w), 0);
    assert_ok(weights_require(w, "a \"quoted\" n\xc3\xa4me", 2, (int64_t[]){2, 3}, &t, &e), &e);
    assert_memory_equal(t->data, a, sizeof a);
    assert_string_equal(t->type->name, "F32");
    assert_ok(weights_require(w, "scalar", 0, NULL, &t, &e), &e);
    assert_memory_equal(t->data, b, sizeof b);
    assert_int_equal(tensor_count(t), 1);
    assert_ok(weights_require(w, "nothing", 2, (int64_t[]){0, 5}, &t, &e), &e);
    assert_int_equal(t->size, 0);
    assert_string_equal(weights_tensor_at(w, 0)->name, "odd bytes");
    assert_int_equal(weights_tensor_at(w, 0)->offset % 8, 0);
    weights_close(w);

    assert_ok(file_read(path, 1 << 20, &first, &size, &e), &e); /* the same tensors give the same bytes */
    assert_ok(safetensors_write(path, entries, 4, &e), &e);
    assert_ok(file_read(path, 1 << 20, &second, &size2, &e), &e);
    assert_true(size == size2 && !memcmp(first, second, size));
    free(first);
    free(second);
    free(path);
    test_remove_dir(dir);
}

static void failed_writes_leave_nothing(void **state) {
    (void)state;
    err e = {0};
    const safetensors_entry entry = {"a", "U8", 1, {1}, "x", 1}, bad = {"\xff", "U8", 1, {1}, "x", 1};
    char *dir = test_make_dir(), *path;
    assert_ok(path_join(dir, "absent/x.safetensors", &path, &e), &e);
    assert_int_equal(safetensors_write(path, &entry, 1, &e), ERR_IO);
    assert_non_null(strstr(e.message, "absent/x.safetensors.tmp: cannot create"));
    free(path);
    assert_ok(path_join(dir, "x.safetensors", &path, &e), &e);
    assert_int_equal(safetensors_write(path, &bad, 1, &e), ERR_FAILED);
    assert_false(file_exists(path));
    free(path);
    test_remove_dir(dir);
}

static void metadata_and_order_of_the_file_are_kept(void **state) {
    (void)state;
    err e = {0};
    weights *w;
    char *copy, *text;
    strbuf s = file_of("{\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]},"
                       "\"__metadata__\":{\"format\":\"pt\",\"\\u00e9\":\"\"},"
                       "\"a\":{\"dtype\":\"BOOL\",\"shape\":[1],\"data_offsets\":[0,1]}}   ",
                       "\1\2\3", 3);
    assert_ok(open_copy(&s, s.len, &w, &copy, &e), &e);
    assert_string_equal(weights_tensor_at(w, 0)->name, "a");
    assert_string_equal(weights_tensor_at(w, 1)->name, "b");
    assert_memory_equal(weights_find(w, "b")->data, "\2\3", 2);
    assert_ptr_equal(weights_find(w, "b")->data, copy + weights_find(w, "b")->offset);
    assert_ok(weights_meta_string(w, "format", &text, &e), &e);
    assert_string_equal(text, "pt");
    free(text);
    assert_int_equal(weights_meta(w, "\xc3\xa9")->string.len, 0);
    weights_close(w);
    free(copy);
    strbuf_release(&s);
}

/* ---- lying files ---- */

#define ENTRY(dtype, shape, offsets) "{\"a\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

static void refuses_fields_that_lie(void **state) {
    (void)state;
    refuses(ENTRY("\"F24\"", "[1]", "[0,4]"), 4, ERR_UNSUPPORTED, "tensor a: dtype: 'F24' is unknown");
    refuses(ENTRY("\"Q4_0\"", "[32]", "[0,18]"), 18, ERR_UNSUPPORTED, "tensor a: dtype: 'Q4_0' is unknown");
    refuses(ENTRY("4", "[1]", "[0,4]"), 4, ERR_FORMAT, "dtype: expected a string");
    refuses(ENTRY("\"F32\"", "1", "[0,4]"), 4, ERR_FORMAT, "shape: expected an array");
    refuses(ENTRY("\"F32\"", "[-1]", "[0,4]"), 4, ERR_FORMAT, "shape: expected whole numbers, none negative");
    refuses(ENTRY("\"F32\"", "[1.0]", "[0,4]"), 4, ERR_FORMAT, "shape: expected whole numbers");
    refuses(ENTRY("\"F32\"", "[1,1,1,1,1]", "[0,4]"), 4, ERR_UNSUPPORTED, "expected at most 4 dimensions, found 5");
    refuses(ENTRY("\"F32\"", "[8589934592,2147483648,2]", "[0,0]"), 0, ERR_FORMAT, "is larger than any file");
    refuses(ENTRY("\"F32\"", "[4611686018427387904]", "[0,0]"), 0, ERR_FORMAT, "is larger than any file");
    refuses(ENTRY("\"F32\"", "[2]", "[0,4]"), 4, ERR_FORMAT, "data_offsets [0, 4]: expected 8 bytes, for [2] of F32");
    refuses(ENTRY("\"F32\"", "[1]", "[0,4]"), 3, ERR_FORMAT, "expected a range within the 3 bytes of data");
    refuses(ENTRY("\"F32\"", "[1]", "[4,0]"), 4, ERR_FORMAT, "expected a range");
    refuses(ENTRY("\"F32\"", "[1]", "[-4,0]"), 4, ERR_FORMAT, "data_offsets [-4, 0]: expected a range");
    refuses(ENTRY("\"F32\"", "[1]", "[0]"), 4, ERR_FORMAT, "data_offsets: expected two whole numbers");
    refuses(ENTRY("\"F32\"", "[1]", "[0,4]"), 8, ERR_FORMAT, "expected 4 bytes of data, found 8");
    refuses(ENTRY("\"F32\"", "[1]", "[4,8]"), 8, ERR_FORMAT,
            "tensor a: expected it to begin at offset 0 of the data, found 4");
    refuses("{\"a\":[]}", 0, ERR_FORMAT, "tensor a: expected an object");
    refuses("{\"\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, ERR_FORMAT, "empty name");
    refuses("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"b\":{\"dtype\":\"U8\",\"shape\":[1],"
            "\"data_offsets\":[0,1]}}",
            1, ERR_FORMAT, "expected it to begin at offset 1 of the data, found 0"); /* overlap */
    refuses("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"a\":{\"dtype\":\"U8\",\"shape\":[1],"
            "\"data_offsets\":[0,1]}}",
            1, ERR_FORMAT, "duplicate object key");
    refuses("{\"__metadata__\":{\"a\":1}}", 0, ERR_FORMAT, "__metadata__: a: expected a string");
    refuses("{\"__metadata__\":[]}", 0, ERR_FORMAT, "__metadata__: expected an object");
    refuses("{'a':1}", 0, ERR_FORMAT, "header, byte");
    refuses("[1,2,3]", 0, ERR_FORMAT, "header: expected a JSON object");
    refuses("{\"a\\u0000b\":1}", 0, ERR_FORMAT, "header, byte");
}

static void refuses_headers_that_lie(void **state) {
    (void)state;
    err e = {0};
    weights *w;
    char *deep = malloc(100001);
    memset(deep, '[', 100000);
    deep[100000] = '\0';
    refuses(deep, 0, ERR_FORMAT, "header, byte");
    free(deep);
    const uint64_t huge[] = {1ull << 62, 0};
    assert_int_equal(weights_open_bytes("x.safetensors", (const uint8_t *)huge, 16, &w, &e), ERR_FORMAT);
    assert_string_equal(e.message,
                        "x.safetensors: expected a header of 4611686018427387904 bytes, found 8 bytes behind its length");
    assert_int_equal(weights_open_bytes("x.safetensors", (const uint8_t *)huge, 7, &w, &e), ERR_FORMAT);
    assert_non_null(strstr(e.message, "found a file of 7"));
}

static const char small_header[] = "{\"a\":{\"dtype\":\"F16\",\"shape\":[2,2],\"data_offsets\":[0,8]},"
                                   "\"__metadata__\":{\"format\":\"pt\"},"
                                   "\"b\":{\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[8,16]}}";

static void refuses_every_file_cut_short(void **state) {
    (void)state;
    strbuf s = file_of(small_header, "0123456789abcdef", 16);
    for (size_t size = 0; size < s.len; size++) {
        err e = {0};
        weights *w;
        char *copy;
        assert_int_equal(open_copy(&s, size, &w, &copy, &e), ERR_FORMAT);
        free(copy);
    }
    strbuf_release(&s);
}

static void survives_every_changed_byte(void **state) {
    (void)state;
    strbuf s = file_of(small_header, "0123456789abcdef", 16);
    const char values[] = {0, 1, '0', '9', '"', '{', ']', ',', (char)0xff};
    for (size_t i = 0; i < s.len * sizeof values; i++) {
        err e = {0};
        weights *w;
        char *copy, kept = s.data[i / sizeof values];
        s.data[i / sizeof values] = values[i % sizeof values];
        err_code rc = open_copy(&s, s.len, &w, &copy, &e);
        s.data[i / sizeof values] = kept;
        if (rc) assert_true(e.message[0]);
        for (int64_t t = 0; !rc && t < weights_tensor_count(w); t++) {
            float out[16];
            const tensor_view *v = weights_tensor_at(w, t);
            assert_in_range(tensor_count(v), 0, 16);
            v->type->dequantize(v->data, tensor_count(v), out);
        }
        weights_close(w);
        free(copy);
    }
    strbuf_release(&s);
}

static err_code open_bytes(void *arg, err *e) {
    const strbuf *s = arg;
    weights *w;
    err_code rc = weights_open_bytes("x.safetensors", (const uint8_t *)s->data, s->len, &w, e);
    weights_close(w);
    return rc;
}

static err_code write_and_open_folder(void *arg, err *e) {
    const char *dir = arg;
    char *path = NULL;
    weights *w = NULL;
    err_code rc;
    const safetensors_entry entry = {"a", "U8", 1, {1}, "x", 1};
    TRY(path_join(dir, "model.safetensors", &path, e));
    TRY(safetensors_write(path, &entry, 1, e));
    TRY(weights_open(dir, &w, e));
done:
    weights_close(w);
    free(path);
    return rc;
}

static void survives_every_failing_allocation(void **state) {
    (void)state;
    strbuf s = file_of(small_header, "0123456789abcdef", 16);
    oom_sweep(open_bytes, &s, 1000);
    strbuf_release(&s);
    char *dir = test_make_dir();
    write_text(dir, "config.json", "{\"model_type\":\"llama\",\"eos\":[1,2],\"names\":[\"a\",\"b\"],\"sub\":{\"x\":1.5}}");
    oom_sweep(write_and_open_folder, dir, 1000);
    test_remove_dir(dir);
}

/* ---- folders ---- */

static void write_shard(const char *dir, const char *name, const char *tensor, const char *bytes) {
    err e = {0};
    char *path;
    const safetensors_entry entry = {tensor, "U8", 1, {1}, bytes, 1};
    assert_ok(path_join(dir, name, &path, &e), &e);
    assert_ok(safetensors_write(path, &entry, 1, &e), &e);
    free(path);
}

static void expect_refused(const char *dir, const char *sentence) {
    err e = {0};
    weights *w;
    assert_int_not_equal(weights_open(dir, &w, &e), ERR_OK);
    if (!strstr(e.message, sentence)) fail_msg("expected '%s', found '%s'", sentence, e.message);
    assert_null(w);
}

static void config_json_becomes_metadata(void **state) {
    (void)state;
    err e = {0};
    weights *w;
    char *dir = test_make_dir(), *text;
    int64_t n;
    double x;
    bool yes;
    write_shard(dir, "model.safetensors", "t", "1");
    write_text(dir, "config.json",
               "{\"model_type\":\"llama\",\"hidden_size\":48,\"tie_word_embeddings\":true,\"none\":null,"
               "\"rope_scaling\":{\"factor\":8.0,\"deeper\":{\"still\":1}},\"eos_token_id\":[1,2],\"mixed\":[1,\"a\"],"
               "\"scales\":[1,2.5],\"layer_types\":[\"full\",\"sliding\"],\"empty\":[],\"a\":{\"b\":{\"c\":{\"d\":{\"e\":"
               "{\"f\":{\"g\":{\"h\":{\"i\":1}}}}}}}}}");
    assert_ok(weights_open(dir, &w, &e), &e);
    assert_ok(weights_meta_string(w, "model_type", &text, &e), &e);
    assert_string_equal(text, "llama");
    free(text);
    assert_ok(weights_meta_int(w, "hidden_size", &n, &e), &e);
    assert_int_equal(n, 48);
    assert_ok(weights_meta_bool_or(w, "tie_word_embeddings", false, &yes, &e), &e);
    assert_true(yes);
    assert_ok(weights_meta_float(w, "rope_scaling.factor", &x, &e), &e);
    assert_true(x == 8);
    assert_ok(weights_meta_int(w, "rope_scaling.deeper.still", &n, &e), &e);
    const meta_value *v = weights_meta(w, "eos_token_id");
    assert_true(v->array.kind == META_INT && v->array.count == 2 && v->array.items[1].integer == 2);
    v = weights_meta(w, "scales");
    assert_true(v->array.kind == META_FLOAT && v->array.items[0].real == 1 && v->array.items[1].real == 2.5);
    v = weights_meta(w, "layer_types");
    assert_true(v->array.kind == META_STRING && v->array.items[1].string.len == 7);
    assert_int_equal(weights_meta(w, "empty")->array.count, 0);
    assert_null(weights_meta(w, "none"));
    assert_null(weights_meta(w, "mixed"));
    assert_non_null(weights_find(w, "t"));
    weights_close(w);
    write_text(dir, "config.json", "{\"a\":");
    expect_refused(dir, "config.json: byte ");
    test_remove_dir(dir);
}

static void shards_of_a_folder_are_joined(void **state) {
    (void)state;
    err e = {0};
    weights *w;
    char *dir = test_make_dir();
    expect_refused(dir, "expected model.safetensors");
    write_shard(dir, "one.safetensors", "a", "1");
    write_text(dir, "model.safetensors.index.json", "{\"weight_map\":{\"b\":\"two.safetensors\",\"a\":\"one.safetensors\"}}");
    expect_refused(dir, "two.safetensors: cannot open");
    write_shard(dir, "two.safetensors", "c", "2");
    expect_refused(dir, "tensor b: expected it in two.safetensors, found none of this name");
    write_shard(dir, "two.safetensors", "a", "2");
    expect_refused(dir, "tensor 'a' appears twice");
    write_shard(dir, "two.safetensors", "b", "2");
    assert_ok(weights_open(dir, &w, &e), &e);
    assert_int_equal(weights_tensor_count(w), 2);
    assert_memory_equal(weights_find(w, "a")->data, "1", 1);
    assert_memory_equal(weights_find(w, "b")->data, "2", 1);
    weights_close(w);
    write_text(dir, "model.safetensors.index.json", "{\"weight_map\":{\"a\":\"../one.safetensors\"}}");
    expect_refused(dir, "weight_map: a: expected the name of a file in this folder");
    write_text(dir, "model.safetensors.index.json", "{\"weight_map\":{\"a\":7}}");
    expect_refused(dir, "weight_map: a: expected the name of a file in this folder");
    write_text(dir, "model.safetensors.index.json", "{}");
    expect_refused(dir, "weight_map: expected an object");
    test_remove_dir(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_tensors_read_back),
        cmocka_unit_test(failed_writes_leave_nothing),
        cmocka_unit_test(metadata_and_order_of_the_file_are_kept),
        cmocka_unit_test(refuses_fields_that_lie),
        cmocka_unit_test(refuses_headers_that_lie),
        cmocka_unit_test(refuses_every_file_cut_short),
        cmocka_unit_test(survives_every_changed_byte),
        cmocka_unit_test(survives_every_failing_allocation),
        cmocka_unit_test(config_json_becomes_metadata),
        cmocka_unit_test(shards_of_a_folder_are_joined),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
