/* Storage types: each block format against values of ggml, the plain numbers against arithmetic. */
#include "core/half.h"
#include "formats/quant.h"
#include "formats/weights.h"
#include "support/test.h"

static weights *open_fixture(const char *name) {
    err e = {0};
    weights *w;
    char *path = test_fixture(name);
    assert_ok(weights_open(path, &w, &e), &e);
    free(path);
    return w;
}

static const tensor_view *tensor(const weights *w, const char *name, const char *suffix) {
    char full[64];
    snprintf(full, sizeof full, "%s%s", name, suffix);
    return weights_find(w, full);
}

/* Also from an odd address: rows of a safetensors file or an odd block size stand anywhere. */
static void blocks_equal_ggml_bit_for_bit(void **state) {
    (void)state;
    enum { N = 1024 };
    weights *w = open_fixture("quants/quants.safetensors"), *packed = open_fixture("quants/quants.gguf");
    int n_tested = 0;
    uint32_t expected[N], found[N];
    float out[N + 1];
    for (int i = 0; i < n_quant_types; i++) {
        const quant_type *t = &quant_types[i];
        const tensor_view *bytes = tensor(w, t->name, ".bytes"), *values = tensor(w, t->name, ".f32");
        if (!bytes) continue;
        const tensor_view *same = weights_find(packed, t->name);
        assert_non_null(same);
        assert_ptr_equal(same->type, t);
        assert_int_equal(same->size, bytes->size);
        assert_memory_equal(same->data, bytes->data, bytes->size);
        assert_true(same->n_dims == 2 && same->shape[0] == 2 && same->shape[1] == 512);

        memcpy(expected, values->data, sizeof expected);
        char *shifted = malloc(bytes->size + 1);
        memcpy(shifted + 1, bytes->data, bytes->size);
        out[N] = 7;
        t->dequantize(shifted + 1, N, out);
        free(shifted);
        memcpy(found, out, sizeof found);
        for (int j = 0; j < N; j++)
            if (found[j] != expected[j])
                fail_msg("%s: value %d: expected %a, found %a", t->name, j, ((const float *)values->data)[j], out[j]);
        assert_true(out[N] == 7);
        n_tested++;
    }
    assert_int_equal(n_tested, 25);
    assert_int_equal(n_tested * 2, weights_tensor_count(w));
    weights_close(packed);
    weights_close(w);
}

static void expect_bits(const char *what, size_t i, uint32_t expected, float x) {
    uint32_t found;
    memcpy(&found, &x, sizeof found);
    bool is_nan = (expected & 0x7fffffff) > 0x7f800000;
    if (is_nan ? !isnan(x) : found != expected) fail_msg("%s of 0x%zx: expected 0x%x, found 0x%x", what, i, expected, found);
}

static void every_half_converts_exactly(void **state) {
    (void)state;
    enum { N = 65536 };
    weights *w = open_fixture("quants/conversions.safetensors");
    const uint32_t *f16 = weights_find(w, "f16_all.f32bits")->data, *bf16 = weights_find(w, "bf16_all.f32bits")->data;
    uint16_t *codes = malloc(N * sizeof *codes);
    float *out = malloc(N * sizeof *out);
    for (int i = 0; i < N; i++) codes[i] = (uint16_t)i;
    quant_by_name("F16")->dequantize(codes, N, out);
    for (size_t i = 0; i < N; i++) {
        expect_bits("F16", i, f16[i], out[i]);
        expect_bits("half_to_f32", i, f16[i], half_to_f32(codes[i]));
    }
    quant_by_name("BF16")->dequantize(codes, N, out);
    for (size_t i = 0; i < N; i++) {
        expect_bits("BF16", i, bf16[i], out[i]);
        expect_bits("bf16_to_f32", i, bf16[i], bf16_to_f32(codes[i]));
    }
    free(out);
    free(codes);
    weights_close(w);
}

static void floats_round_to_the_nearest_half(void **state) {
    (void)state;
    weights *w = open_fixture("quants/conversions.safetensors");
    const tensor_view *from = weights_find(w, "to_half.f32bits");
    const float *x = from->data;
    const uint16_t *f16 = weights_find(w, "to_half.f16bits")->data, *bf16 = weights_find(w, "to_half.bf16bits")->data;
    assert_true(tensor_count(from) > 8000);
    for (int64_t i = 0; i < tensor_count(from); i++) {
        if (isnan(x[i])) {
            assert_true(isnan(half_to_f32(half_from_f32(x[i]))) && isnan(bf16_to_f32(bf16_from_f32(x[i]))));
        } else if (half_from_f32(x[i]) != f16[i] || bf16_from_f32(x[i]) != bf16[i]) {
            fail_msg("%a: expected 0x%x and 0x%x, found 0x%x and 0x%x", x[i], f16[i], bf16[i], half_from_f32(x[i]),
                     bf16_from_f32(x[i]));
        }
    }
    weights_close(w);
}

/* sign (1.m or 0.m) 2^(exponent - bias), with the library's own ldexp */
static double small_float(int code, int exponent_bits, int bias) {
    int mantissa_bits = 7 - exponent_bits, exponent = code >> mantissa_bits & ((1 << exponent_bits) - 1);
    double fraction = (double)(code & ((1 << mantissa_bits) - 1)) / (1 << mantissa_bits);
    double magnitude = exponent ? ldexp(1 + fraction, exponent - bias) : ldexp(fraction, 1 - bias);
    return code & 0x80 ? -magnitude : magnitude;
}

static void eight_bit_floats_equal_their_definition(void **state) {
    (void)state;
    for (int code = 0; code < 256; code++) {
        uint8_t byte = (uint8_t)code;
        float x;
        quant_by_name("F8_E4M3")->dequantize(&byte, 1, &x);
        if ((code & 0x7f) == 0x7f)
            assert_true(isnan(x));
        else
            assert_true((double)x == small_float(code, 4, 7) && !signbit(x) == !(code >> 7));
        quant_by_name("F8_E5M2")->dequantize(&byte, 1, &x);
        if ((code & 0x7f) > 0x7c)
            assert_true(isnan(x));
        else if ((code & 0x7f) == 0x7c)
            assert_true(isinf(x) && !signbit(x) == !(code >> 7));
        else
            assert_true((double)x == small_float(code, 5, 15));
    }
}

static void plain_numbers_become_floats(void **state) {
    (void)state;
    const double f64[] = {1.5, 1e300, -0.1};
    const int64_t i64[] = {-5, (1ll << 24) + 1};
    const uint64_t u64[] = {UINT64_MAX};
    const int16_t i16[] = {-300};
    const uint8_t u8[] = {255, 1};
    float out[3];
    quant_by_name("f64")->dequantize(f64, 3, out);
    assert_true(out[0] == 1.5f && isinf(out[1]) && out[2] == -0.1f);
    quant_by_name("I64")->dequantize(i64, 2, out);
    assert_true(out[0] == -5 && out[1] == 0x1p24f);
    quant_by_name("U64")->dequantize(u64, 1, out);
    assert_true(out[0] == 0x1p64f);
    quant_by_name("I16")->dequantize(i16, 1, out);
    assert_true(out[0] == -300);
    quant_by_name("U8")->dequantize(u8, 2, out);
    assert_true(out[0] == 255 && out[1] == 1);
    quant_by_name("I8")->dequantize(u8, 2, out);
    assert_true(out[0] == -1);
    quant_by_name("F32")->dequantize(NULL, 0, out);
}

static void sizes_are_checked(void **state) {
    (void)state;
    size_t bytes;
    assert_true(quant_bytes(quant_by_name("Q4_1"), 64, &bytes) && bytes == 40);
    assert_true(quant_bytes(quant_by_name("Q6_K"), 0, &bytes) && bytes == 0);
    assert_false(quant_bytes(quant_by_name("Q4_1"), 33, &bytes));
    assert_false(quant_bytes(quant_by_name("F32"), -4, &bytes));
    assert_false(quant_bytes(quant_by_name("F64"), INT64_MAX, &bytes));
    assert_null(quant_by_name("Q9_9"));
    assert_null(quant_by_id(4));
    assert_null(quant_by_id(QUANT_NO_ID));
    assert_string_equal(quant_by_id(3)->name, "Q4_1");
    for (int i = 0; i < n_quant_types; i++) assert_ptr_equal(quant_by_name(quant_types[i].name), &quant_types[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_equal_ggml_bit_for_bit),    cmocka_unit_test(every_half_converts_exactly),
        cmocka_unit_test(floats_round_to_the_nearest_half), cmocka_unit_test(eight_bit_floats_equal_their_definition),
        cmocka_unit_test(plain_numbers_become_floats),      cmocka_unit_test(sizes_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
