/* GGUF: files built here byte by byte, and then broken in every way; and files other programs wrote. */
#define _GNU_SOURCE /* memmem */
#include "cli/inspect.h"
#include "core/file.h"
#include "core/strbuf.h"
#include "formats/weights_internal.h"
#include "model/export.h"
#include "support/oom.h"
#include "support/test.h"

/* ---- writing ---- */

enum { U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 }; /* kinds of values in the file */

static void put_u32(strbuf *s, uint32_t x) { strbuf_add(s, &x, sizeof x); }
static void put_u64(strbuf *s, uint64_t x) { strbuf_add(s, &x, sizeof x); }
static void put_text(strbuf *s, const char *text) {
    put_u64(s, strlen(text));
    strbuf_add_str(s, text);
}

static void put_header(strbuf *s, uint32_t version, uint64_t n_tensors, uint64_t n_keys) {
    strbuf_add(s, "GGUF", 4);
    put_u32(s, version);
    put_u64(s, n_tensors);
    put_u64(s, n_keys);
}

static void put_key(strbuf *s, const char *key, uint32_t kind, const void *value, size_t size) {
    put_text(s, key);
    put_u32(s, kind);
    strbuf_add(s, value, size);
}

static void put_key_u32(strbuf *s, const char *key, uint32_t x) { put_key(s, key, U32, &x, sizeof x); }

static void put_tensor(strbuf *s, const char *name, uint64_t fastest, uint64_t slowest, uint32_t type, uint64_t offset) {
    put_text(s, name);
    put_u32(s, 2);
    put_u64(s, fastest);
    put_u64(s, slowest);
    put_u32(s, type);
    put_u64(s, offset);
}

static void pad(strbuf *s, size_t alignment) {
    while (s->len % alignment) strbuf_add_char(s, 0);
}

/* Opens a copy of exactly this size, so that ASan sees a read behind it. */
static err_code open_copy(const strbuf *s, size_t size, weights **w, char **copy, err *e) {
    *copy = malloc(size ? size : 1);
    memcpy(*copy, s->data, size);
    return weights_open_bytes("model.gguf", (const uint8_t *)*copy, size, w, e);
}

/* One of each kind of value, and two tensors. */
static strbuf small_file(void) {
    strbuf s = STRBUF_INIT;
    uint8_t u8 = 200, yes = 1;
    int8_t i8 = -3;
    uint16_t u16 = 60000;
    int16_t i16 = -300;
    int32_t i32 = -70000;
    float f32 = 0.5f;
    double f64 = 1e300;
    uint64_t u64 = INT64_MAX;
    int64_t i64 = INT64_MIN;
    put_header(&s, 3, 2, 14);
    put_key(&s, "u8", U8, &u8, sizeof u8);
    put_key(&s, "i8", I8, &i8, sizeof i8);
    put_key(&s, "u16", U16, &u16, sizeof u16);
    put_key(&s, "i16", I16, &i16, sizeof i16);
    put_key_u32(&s, "u32", 4000000000u);
    put_key(&s, "i32", I32, &i32, sizeof i32);
    put_key(&s, "f32", F32, &f32, sizeof f32);
    put_key(&s, "bool", BOOL, &yes, sizeof yes);
    put_key(&s, "u64", U64, &u64, sizeof u64);
    put_key(&s, "i64", I64, &i64, sizeof i64);
    put_key(&s, "f64", F64, &f64, sizeof f64);
    put_key(&s, "text", STRING, NULL, 0);
    put_u64(&s, 5);
    strbuf_add(&s, "a\0b\xff!", 5);
    put_key(&s, "words", ARRAY, NULL, 0);
    put_u32(&s, STRING);
    put_u64(&s, 2);
    put_text(&s, "one");
    put_text(&s, "");
    put_key_u32(&s, "general.alignment", 64);
    put_tensor(&s, "a", 3, 2, 0, 0);
    put_tensor(&s, "b", 32, 1, 2, 64);
    pad(&s, 64);
    for (int i = 0; i < 6; i++) {
        float x = (float)i;
        strbuf_add(&s, &x, sizeof x);
    }
    pad(&s, 64);
    for (int i = 0; i < 18; i++) strbuf_add_char(&s, (char)i);
    return s;
}

/* ---- what a sound file gives ---- */

static void reads_values_of_every_kind(void **state) {
    (void)state;
    err e = {0};
    strbuf s = small_file();
    weights *w;
    char *copy, *text;
    int64_t n;
    double x;
    bool yes;
    assert_ok(open_copy(&s, s.len, &w, &copy, &e), &e);
    assert_string_equal(weights_format(w), "GGUF v3");
    assert_int_equal(weights_file_size(w), s.len);
    assert_int_equal(weights_meta_count(w), 14);
    const struct {
        const char *key;
        int64_t value;
    } whole[] = {{"u8", 200},          {"i8", -3},      {"u16", 60000},     {"i16", -300},
                 {"u32", 4000000000u}, {"i32", -70000}, {"u64", INT64_MAX}, {"i64", INT64_MIN}};
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) {
        assert_ok(weights_meta_int(w, whole[i].key, &n, &e), &e);
        assert_int_equal(n, whole[i].value);
    }
    assert_ok(weights_meta_float(w, "f32", &x, &e), &e);
    assert_true(x == 0.5);
    assert_ok(weights_meta_float(w, "f64", &x, &e), &e);
    assert_true(x == 1e300);
    assert_ok(weights_meta_float(w, "i8", &x, &e), &e); /* a whole number is a number too */
    assert_true(x == -3);
    assert_ok(weights_meta_bool_or(w, "bool", false, &yes, &e), &e);
    assert_true(yes);
    const meta_value *v = weights_meta(w, "text");
    assert_int_equal(v->string.len, 5);
    assert_memory_equal(v->string.bytes, "a\0b\xff!", 5);
    v = weights_meta(w, "words");
    assert_true(v->kind == META_ARRAY && v->array.kind == META_STRING && v->array.count == 2);
    assert_memory_equal(v->array.items[0].string.bytes, "one", 3);
    assert_int_equal(v->array.items[1].string.len, 0);

    assert_int_equal(weights_meta_string(w, "text", &text, &e), ERR_FORMAT); /* a zero byte in a C string */
    assert_int_equal(weights_meta_int(w, "absent", &n, &e), ERR_FORMAT);
    assert_string_equal(e.message, "key absent: expected a whole number, found no such key");
    assert_int_equal(weights_meta_int_or(w, "f32", 7, &n, &e), ERR_FORMAT);
    assert_string_equal(e.message, "key f32: expected a whole number, found a number");
    assert_ok(weights_meta_int_or(w, "absent", 7, &n, &e), &e);
    assert_int_equal(n, 7);
    assert_ok(weights_meta_float_or(w, "absent", 0.25, &x, &e), &e);
    assert_true(x == 0.25);
    assert_ok(weights_meta_bool_or(w, "absent", true, &yes, &e), &e);
    assert_true(yes);
    assert_ok(weights_meta_string_or(w, "absent", "none", &text, &e), &e);
    assert_string_equal(text, "none");
    free(text);
    weights_close(w);
    free(copy);
    strbuf_release(&s);
}

static void shapes_come_slowest_first(void **state) {
    (void)state;
    err e = {0};
    strbuf s = small_file();
    weights *w;
    char *copy;
    const tensor_view *t;
    assert_ok(open_copy(&s, s.len, &w, &copy, &e), &e);
    assert_ok(weights_require(w, "a", 2, (int64_t[]){2, 3}, &t, &e), &e);
    assert_int_equal(tensor_count(t), 6);
    assert_int_equal(t->size, 24);
    float x;
    memcpy(&x, (const char *)t->data + 20, sizeof x);
    assert_true(x == 5);
    assert_ok(weights_require(w, "b", 2, (int64_t[]){1, 32}, &t, &e), &e);
    assert_string_equal(t->type->name, "Q4_0");
    assert_int_equal(t->offset % 64, 0);
    assert_ptr_equal(t->data, copy + t->offset);
    assert_int_equal(weights_require(w, "a", 2, (int64_t[]){3, 2}, &t, &e), ERR_FORMAT);
    assert_string_equal(e.message, "tensor a: expected [3, 2], found [2, 3]");
    assert_int_equal(weights_require(w, "c", 1, (int64_t[]){3}, &t, &e), ERR_FORMAT);
    assert_string_equal(e.message, "tensor c: expected [3], found none of this name");
    weights_close(w);
    free(copy);
    strbuf_release(&s);
}

static void finds_each_of_thousands_of_tensors(void **state) {
    (void)state;
    enum { N = 5000 };
    err e = {0};
    strbuf s = STRBUF_INIT;
    weights *w;
    char *copy, name[32];
    put_header(&s, 3, N, 0);
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "blk.%d.weight", i * 7919 % N);
        put_tensor(&s, name, 1, 1, 24, (uint64_t)i * 32);
    }
    pad(&s, 32);
    for (int i = 0; i < N; i++) {
        strbuf_add_char(&s, (char)(i * 7919 % N));
        pad(&s, 32);
    }
    assert_ok(open_copy(&s, s.len, &w, &copy, &e), &e);
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "blk.%d.weight", i);
        const tensor_view *t = weights_find(w, name);
        assert_non_null(t);
        assert_int_equal(*(const char *)t->data, (char)i);
    }
    assert_null(weights_find(w, "blk.5000.weight"));
    assert_null(weights_find(w, ""));
    weights_close(w);
    free(copy);
    strbuf_release(&s);
}

/* Vocabulary of GPT-2 as llama.cpp ships it: no tensors at all. */
static void reads_a_file_of_another_program(void **state) {
    (void)state;
    err e = {0};
    weights *w;
    char *path = test_fixture("tokenizers/ggml-vocab-gpt-2.gguf"), *text;
    assert_ok(weights_open(path, &w, &e), &e);
    assert_ok(weights_meta_string(w, "tokenizer.ggml.model", &text, &e), &e);
    assert_string_equal(text, "gpt2");
    const meta_value *tokens = weights_meta(w, "tokenizer.ggml.tokens");
    assert_int_equal(tokens->array.count, 50257);
    assert_int_equal(tokens->array.items[50256].string.len, strlen("<|endoftext|>"));
    assert_memory_equal(tokens->array.items[50256].string.bytes, "<|endoftext|>", 13);
    assert_string_equal(weights_path(w), path);
    free(text);
    free(path);
    weights_close(w);
}

/* ---- what a damaged one gives ---- */

static void refuses(const strbuf *s, err_code expected, const char *sentence) {
    err e = {0};
    weights *w;
    char *copy;
    err_code rc = open_copy(s, s->len, &w, &copy, &e);
    if (rc != expected || !strstr(e.message, sentence))
        fail_msg("expected '%s', found code %d '%s'", sentence, rc, e.message);
    assert_null(w);
    assert_int_equal(strncmp(e.message, "model.gguf: ", 12), 0);
    free(copy);
}

static void refuses_header(uint32_t version, uint64_t n_tensors, uint64_t n_keys, err_code code, const char *sentence) {
    strbuf s = STRBUF_INIT;
    put_header(&s, version, n_tensors, n_keys);
    refuses(&s, code, sentence);
    strbuf_release(&s);
}

static void refuses_headers_that_lie(void **state) {
    (void)state;
    refuses_header(1, 0, 0, ERR_UNSUPPORTED, "GGUF version 1: expected 2 or 3 (convert");
    refuses_header(4, 0, 0, ERR_UNSUPPORTED, "GGUF version 4: expected 2 or 3");
    refuses_header(0, 0, 0, ERR_UNSUPPORTED, "GGUF version 0");
    refuses_header(0x03000000, 0, 0, ERR_UNSUPPORTED, "big-endian");
    refuses_header(3, 1, 0, ERR_FORMAT, "speaks of 1 tensors, for which the file's 24 bytes are too few");
    refuses_header(3, 0, 1, ERR_FORMAT, "speaks of 1 keys");
    refuses_header(3, UINT64_MAX, 0, ERR_FORMAT, "the number of tensors is 18446744073709551615, which no file holds");
    refuses_header(3, 0, 1ull << 62, ERR_FORMAT, "keys");
}

static void refuses_key(const char *key, uint32_t kind, const void *value, size_t size, err_code code, const char *sentence) {
    strbuf s = STRBUF_INIT;
    put_header(&s, 3, 0, 1);
    put_key(&s, key, kind, value, size);
    pad(&s, 64);
    refuses(&s, code, sentence);
    strbuf_release(&s);
}

static void refuses_keys_that_lie(void **state) {
    (void)state;
    const uint64_t top = 1ull << 63, most = UINT64_MAX;
    const uint32_t nested[] = {ARRAY, 1, 0, STRING, 0, 0}, strange[] = {99, 1, 0}, many[] = {U8, 1u << 30, 0};
    const uint32_t strings[] = {STRING, 100, 0}, negative[] = {U8, 0, 0x80000000};
    refuses_key("k", 13, NULL, 0, ERR_FORMAT, "key k: byte 33: values of kind 13 are unknown");
    refuses_key("k", U64, &top, 8, ERR_UNSUPPORTED,
                "key k: byte 37: expected a number below 2^63, found 9223372036854775808");
    refuses_key("k", BOOL, "\2", 1, ERR_FORMAT, "expected true (1) or false (0), found 2");
    refuses_key("k", STRING, &most, 8, ERR_FORMAT, "which no file holds");
    refuses_key("k", STRING, "\xff\xff\0\0\0\0\0", 8, ERR_FORMAT,
                "expected 65535 bytes of a string, found the end of the file");
    refuses_key("k", ARRAY, nested, sizeof nested, ERR_UNSUPPORTED, "an array of arrays");
    refuses_key("k", ARRAY, strange, sizeof strange, ERR_FORMAT, "kind 99");
    refuses_key("k", ARRAY, many, sizeof many, ERR_FORMAT, "an array of 1073741824 items goes beyond the end of the file");
    refuses_key("k", ARRAY, strings, sizeof strings, ERR_FORMAT, "an array of 100 items goes beyond the end of the file");
    refuses_key("k", ARRAY, negative, sizeof negative, ERR_FORMAT, "which no file holds");
    refuses_key("", U8, "\0", 1, ERR_FORMAT, "empty name");
    refuses_key("general.alignment", U32, "\0\0\0\0", 4, ERR_FORMAT, "general.alignment: expected a power of two, found 0");
    refuses_key("general.alignment", U32, "\30\0\0\0", 4, ERR_FORMAT, "expected a power of two, found 24");
    refuses_key("general.alignment", I64, &most, 8, ERR_FORMAT, "expected a power of two, found -1");
    refuses_key("general.alignment", F32, "\0\0\0\0", 4, ERR_FORMAT, "general.alignment: expected a whole number");
    refuses_key("split.count", U16, "\2\0", 2, ERR_FORMAT, "expected a name that ends in -00001-of-00002.gguf");
    refuses_key("split.count", U16, "\xff\xff", 2, ERR_UNSUPPORTED, "split.count: expected at most 1000");
    refuses_key("split.count", I16, "\xff\xff", 2, ERR_UNSUPPORTED, "split.count: expected at most 1000, found -1");
}

static void refuses_names_that_come_twice(void **state) {
    (void)state;
    strbuf s = STRBUF_INIT;
    put_header(&s, 3, 0, 2);
    put_key_u32(&s, "k", 1);
    put_key_u32(&s, "k", 1);
    refuses(&s, ERR_FORMAT, "key 'k' appears twice");
    strbuf_reset(&s);
    put_header(&s, 3, 2, 0);
    put_tensor(&s, "t", 1, 1, 24, 0);
    put_tensor(&s, "t", 1, 1, 24, 32);
    pad(&s, 64);
    pad(&s, 64);
    for (int i = 0; i < 64; i++) strbuf_add_char(&s, 0);
    refuses(&s, ERR_FORMAT, "tensor 't' appears twice");
    strbuf_release(&s);
}

static void refuses_tensor(uint64_t fastest, uint64_t slowest, uint32_t type, uint64_t offset, err_code code,
                           const char *sentence) {
    strbuf s = STRBUF_INIT;
    put_header(&s, 3, 1, 0);
    put_tensor(&s, "t", fastest, slowest, type, offset);
    pad(&s, 32);
    for (int i = 0; i < 32; i++) strbuf_add_char(&s, 0);
    refuses(&s, code, sentence);
    strbuf_release(&s);
}

static void refuses_tensors_that_lie(void **state) {
    (void)state;
    refuses_tensor(3, 3, 0, 0, ERR_FORMAT, "tensor t: expected 36 bytes at byte 96, found the end of the file at 128");
    refuses_tensor(2, 2, 0, 32, ERR_FORMAT, "tensor 1 of 1: byte 57: expected the tensor at offset 0 of the data, found 32");
    refuses_tensor(2, 2, 0, 1ull << 63, ERR_FORMAT, "which no file holds");
    refuses_tensor(16, 1, 2, 0, ERR_FORMAT, "shape [1, 16]: expected rows of whole blocks of 32 values, as Q4_0 has");
    refuses_tensor(16, 2, 2, 0, ERR_FORMAT, "shape [2, 16]: expected rows of whole blocks"); /* 32 values, but not in a row */
    refuses_tensor(1, 1, 4, 0, ERR_UNSUPPORTED, "values of type 4 are unknown");
    refuses_tensor(1, 1, UINT32_MAX, 0, ERR_UNSUPPORTED, "values of type 4294967295 are unknown");
    refuses_tensor(1ull << 32, 1ull << 31, 0, 0, ERR_FORMAT, "is larger than any file");
    refuses_tensor(1ull << 32, 1ull << 30, 28, 0, ERR_FORMAT, "shape [1073741824, 4294967296]");
    refuses_tensor(UINT64_MAX, 1, 0, 0, ERR_FORMAT, "a dimension is 18446744073709551615");
    strbuf s = STRBUF_INIT;
    put_header(&s, 3, 1, 0);
    put_text(&s, "t");
    put_u32(&s, 5);
    pad(&s, 64);
    refuses(&s, ERR_FORMAT, "expected at most 4 dimensions, found 5");
    strbuf_release(&s);
}

static void refuses_every_file_cut_short(void **state) {
    (void)state;
    strbuf s = small_file();
    for (size_t size = 0; size < s.len; size++) {
        err e = {0};
        weights *w;
        char *copy;
        err_code rc = open_copy(&s, size, &w, &copy, &e);
        if (rc != ERR_FORMAT) fail_msg("%zu of %zu bytes gave code %d: %s", size, s.len, rc, e.message);
        free(copy);
    }
    strbuf_release(&s);
}

/* Any one byte may be anything: an answer or a sentence, and what is handed out can be read. */
static void survives_every_changed_byte(void **state) {
    (void)state;
    const unsigned char values[] = {0, 1, 0x7f, 0x80, 0xff};
    strbuf s = small_file();
    float sum = 0, out[256];
    for (size_t i = 0; i < s.len * sizeof values; i++) {
        err e = {0};
        weights *w;
        char *copy = NULL, kept = s.data[i / sizeof values];
        s.data[i / sizeof values] = (char)values[i % sizeof values];
        err_code rc = open_copy(&s, s.len, &w, &copy, &e);
        s.data[i / sizeof values] = kept;
        if (rc) assert_true(e.message[0]);
        for (int64_t t = 0; !rc && t < weights_tensor_count(w); t++) {
            const tensor_view *v = weights_tensor_at(w, t);
            if (tensor_count(v) > 256) continue;
            v->type->dequantize(v->data, tensor_count(v), out);
            sum += out[0];
        }
        weights_close(w);
        free(copy);
    }
    (void)sum;
    strbuf_release(&s);
}

static err_code open_small(void *arg, err *e) {
    const strbuf *s = arg;
    weights *w;
    err_code rc = weights_open_bytes("model.gguf", (const uint8_t *)s->data, s->len, &w, e);
    weights_close(w);
    return rc;
}

static void survives_every_failing_allocation(void **state) {
    (void)state;
    strbuf s = small_file();
    oom_sweep(open_small, &s, 1000);
    strbuf_release(&s);
}

/* ---- split files ---- */

/* A part with one tensor, t<no>, unless another name is given. */
static void write_part(const char *dir, const char *name, int16_t no, uint16_t count, int32_t n_tensors, const char *tensor) {
    err e = {0};
    strbuf s = STRBUF_INIT;
    char own[16], *path;
    put_header(&s, 3, 1, 4);
    put_key(&s, "split.no", I16, &no, sizeof no);
    put_key(&s, "split.count", U16, &count, sizeof count);
    put_key(&s, "split.tensors.count", I32, &n_tensors, sizeof n_tensors);
    put_key_u32(&s, "same.key", (uint32_t)no);
    snprintf(own, sizeof own, "t%d", no);
    put_tensor(&s, tensor ? tensor : own, 1, 1, 24, 0);
    pad(&s, 32);
    strbuf_add_char(&s, (char)(10 + no));
    assert_ok(path_join(dir, name, &path, &e), &e);
    assert_ok(file_write(path, s.data, s.len, &e), &e);
    free(path);
    strbuf_release(&s);
}

static void expect_open(const char *dir, const char *name, const char *sentence) {
    err e = {0};
    char *path;
    weights *w;
    assert_ok(path_join(dir, name, &path, &e), &e);
    assert_int_not_equal(weights_open(path, &w, &e), ERR_OK);
    if (!strstr(e.message, sentence)) fail_msg("expected '%s', found '%s'", sentence, e.message);
    assert_null(w);
    free(path);
}

static void refuses_parts_that_do_not_fit(void **state) {
    (void)state;
    static const char one[] = "m-00001-of-00003.gguf", two[] = "m-00002-of-00003.gguf", three[] = "m-00003-of-00003.gguf";
    char *dir = test_make_dir();
    write_part(dir, one, 0, 3, 3, NULL);
    write_part(dir, three, 2, 3, 3, NULL);
    expect_open(dir, one,
                "m-00001-of-00003.gguf: one of 3 parts: expected part 2 beside it, m-00002-of-00003.gguf, found no");
    expect_open(dir, three,
                "m-00003-of-00003.gguf: one of 3 parts: expected part 2 beside it, m-00002-of-00003.gguf, found no");
    write_part(dir, two, 2, 3, 3, NULL);
    expect_open(dir, one, "m-00002-of-00003.gguf: expected part 2 of 3, found part 3 of 3");
    expect_open(dir, two, "split.no: part 3 of 3: expected the name m-00003-of-00003.gguf");
    write_part(dir, two, 1, 4, 3, NULL);
    expect_open(dir, one, "m-00002-of-00003.gguf: expected part 2 of 3, found part 2 of 4");
    expect_open(dir, two, "one of 4 parts: expected a name that ends in -00001-of-00004.gguf");
    write_part(dir, two, 3, 3, 3, NULL);
    expect_open(dir, two, "split.no: expected 0 .. 2, found 3");
    write_part(dir, two, -1, 3, 3, NULL);
    expect_open(dir, two, "split.no: expected 0 .. 2, found -1");
    write_part(dir, two, 1, 3, 4, NULL);
    expect_open(dir, one, "m-00002-of-00003.gguf: split.tensors.count: expected 3, as another part says, found 4");
    write_part(dir, two, 1, 3, 3, "t0");
    expect_open(dir, one, "tensor 't0' appears twice");
    write_part(dir, one, 0, 3, 4, NULL);
    write_part(dir, two, 1, 3, 4, NULL);
    write_part(dir, three, 2, 3, 4, NULL);
    expect_open(dir, two, "split.tensors.count: expected the 3 parts to have 4 tensors, found 3");
    test_remove_dir(dir);
}

enum { PARTS = 3 };

static char *part_of(const char *dir, int i) {
    char name[32], *path;
    err e = {0};
    snprintf(name, sizeof name, "m-%05d-of-%05d.gguf", i + 1, PARTS);
    assert_ok(path_join(dir, name, &path, &e), &e);
    return path;
}

/* Takes a model file apart as gguf-split does: the first part has the keys. */
static void split_model(const char *model, const char *dir) {
    weights *w;
    char *bytes;
    size_t size;
    err e = {0};
    assert_ok(weights_open(model, &w, &e), &e);
    assert_ok(file_read(model, 1 << 24, &bytes, &size, &e), &e);
    const int32_t n = (int32_t)weights_tensor_count(w);
    const char *tensors = memmem(bytes, size, weights_tensor_at(w, 0)->name, strlen(weights_tensor_at(w, 0)->name));
    for (int i = 0; i < PARTS; i++) {
        strbuf s = STRBUF_INIT;
        uint16_t no = (uint16_t)i, count = PARTS;
        int first = i * n / PARTS, end = (i + 1) * n / PARTS;
        uint64_t offset = 0;
        put_header(&s, 3, (uint64_t)(end - first), 3 + (i ? 0 : (uint64_t)weights_meta_count(w)));
        if (!i) strbuf_add(&s, bytes + 24, (size_t)(tensors - 8 - (bytes + 24)));
        put_key(&s, "split.no", U16, &no, sizeof no);
        put_key(&s, "split.count", U16, &count, sizeof count);
        put_key(&s, "split.tensors.count", I32, &n, sizeof n);
        for (int k = first; k < end; k++) {
            const tensor_view *t = weights_tensor_at(w, k);
            put_text(&s, t->name);
            put_u32(&s, (uint32_t)t->n_dims);
            for (int d = t->n_dims; d-- > 0;) put_u64(&s, (uint64_t)t->shape[d]);
            put_u32(&s, t->type->ggml_id);
            put_u64(&s, offset);
            offset += (t->size + 31) / 32 * 32;
        }
        for (int k = first; k < end; k++) {
            pad(&s, 32);
            strbuf_add(&s, weights_tensor_at(w, k)->data, weights_tensor_at(w, k)->size);
        }
        char *path = part_of(dir, i);
        assert_ok(file_write(path, s.data, s.len, &e), &e);
        free(path), strbuf_release(&s);
    }
    free(bytes), weights_close(w);
}

static strbuf converted(const char *dir, const weights *from) {
    const ctx c = test_ctx(1);
    const export_opts o = {.format = EXPORT_GGUF};
    export_result result;
    char *path, *bytes;
    size_t size;
    strbuf s = STRBUF_INIT;
    err e = {0};
    assert_ok(path_join(dir, "converted.gguf", &path, &e), &e);
    assert_ok(model_export(&c, from, &o, path, &result, &e), &e);
    assert_ok(file_read(path, 1 << 24, &bytes, &size, &e), &e);
    strbuf_add(&s, bytes, size);
    free(path), free(bytes);
    return s;
}

static void any_part_opens_the_whole_model(void **state) {
    (void)state;
    char *dir = test_make_dir(), *model = test_fixture("models/llama/model.gguf"), first[SHA256_HEX];
    weights *whole;
    err e = {0};
    split_model(model, dir);
    assert_ok(weights_open(model, &whole, &e), &e);
    strbuf expected = converted(dir, whole);
    for (int i = 0; i < PARTS; i++) {
        char *path = part_of(dir, i), digest[SHA256_HEX];
        weights *w;
        assert_ok(weights_open(path, &w, &e), &e);
        assert_string_equal(weights_format(w), "GGUF v3");
        assert_int_equal(weights_meta_count(w), weights_meta_count(whole) + 3);
        assert_int_equal(weights_tensor_count(w), weights_tensor_count(whole));
        for (int64_t k = 0; k < weights_tensor_count(w); k++) {
            const tensor_view *t = weights_tensor_at(w, k), *u = weights_tensor_at(whole, k);
            assert_string_equal(t->name, u->name);
            assert_int_equal(t->size, u->size);
            assert_memory_equal(t->data, u->data, t->size);
        }
        strbuf bytes = converted(dir, w); /* as one file, which speaks of no parts */
        assert_int_equal(bytes.len, expected.len);
        assert_memory_equal(bytes.data, expected.data, bytes.len);
        assert_ok(weights_sha256(w, i ? digest : first, &e), &e);
        if (i) assert_string_equal(digest, first);
        json_t *doc = json_object();
        assert_ok(inspect_model(path, doc, &e), &e);
        assert_int_equal(json_integer_value(json_object_get(doc, "files")), PARTS);
        json_decref(doc), strbuf_release(&bytes), weights_close(w), free(path);
    }
    strbuf_release(&expected), weights_close(whole), free(model), test_remove_dir(dir);
}

/* ---- what is no model ---- */

static void names_what_it_cannot_open(void **state) {
    (void)state;
    char *dir = test_make_dir(), *path;
    err e = {0};
    expect_open(dir, "absent.gguf", "absent.gguf: cannot open: No such file or directory");
    assert_ok(path_join(dir, "empty.gguf", &path, &e), &e);
    assert_ok(file_write(path, "", 0, &e), &e);
    expect_open(dir, "empty.gguf", "empty.gguf: expected a model, found an empty file");
    free(path);
    assert_ok(path_join(dir, "text.txt", &path, &e), &e);
    assert_ok(file_write(path, "hello", 5, &e), &e);
    expect_open(dir, "text.txt", "text.txt: not a model file of a kind known here (.gguf");
    free(path);
    assert_ok(path_join(dir, "text.GGUF", &path, &e), &e);
    assert_ok(file_write(path, "hello", 5, &e), &e);
    expect_open(dir, "text.GGUF", "text.GGUF: expected a file that starts with GGUF");
    free(path);
    test_remove_dir(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_values_of_every_kind),         cmocka_unit_test(shapes_come_slowest_first),
        cmocka_unit_test(finds_each_of_thousands_of_tensors), cmocka_unit_test(reads_a_file_of_another_program),
        cmocka_unit_test(refuses_headers_that_lie),           cmocka_unit_test(refuses_keys_that_lie),
        cmocka_unit_test(refuses_names_that_come_twice),      cmocka_unit_test(refuses_tensors_that_lie),
        cmocka_unit_test(refuses_every_file_cut_short),       cmocka_unit_test(survives_every_changed_byte),
        cmocka_unit_test(survives_every_failing_allocation),  cmocka_unit_test(refuses_parts_that_do_not_fit),
        cmocka_unit_test(any_part_opens_the_whole_model),     cmocka_unit_test(names_what_it_cannot_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
