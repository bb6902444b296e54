/* A model whose matrices stay in blocks has the bits of the same model in float32, in passes that unpack a block of layers at once
 * and in passes of a few rows. Catches: blocks packed in another order than they are read in; a row of the file put elsewhere. */
#include "support/large_model.h"
#include "support/test.h"

#include "core/file.h"
#include "model/export.h"
#include "model/model.h"

enum { D = 256, VOCAB = 300, TOKENS = 200 };

/* Rows behind the final norm [n, D], then logits of the last of them [VOCAB]. */
static float *pass(const ctx *c, model *m, int64_t n) {
    uint32_t tokens[TOKENS];
    int32_t seq[TOKENS] = {0}, pos[TOKENS];
    float *out = malloc((size_t)(n * D + VOCAB) * sizeof *out);
    err e = {0};
    for (int i = 0; i < TOKENS; i++) tokens[i] = (uint32_t)(i * 7919 % VOCAB), pos[i] = i;
    assert_ok(model_forward(c, m, &(model_batch){n, tokens, seq, pos}, NULL, NULL, 0, out, &e), &e);
    assert_ok(model_logits(c, m, out + (n - 1) * D, 1, out + n * D, &e), &e);
    return out;
}

static void check_type(const char *type, cpu_level level) {
    static const int64_t rows[] = {1, 5, TOKENS};
    const model_shape shape = {
        .n_layers = 1, .d_model = D, .n_heads = 4, .d_ff = 256, .n_vocab = VOCAB, .n_ctx = 256, .type = type};
    char *dir = test_make_dir(), *path, *floats;
    model *small, *large;
    export_result result;
    err e = {0};
    ctx c = test_ctx(2);
    c.cpu = level;
    assert_ok(path_join(dir, "small.gguf", &path, &e), &e);
    assert_ok(path_join(dir, "large.gguf", &floats, &e), &e);
    assert_true(write_large_model(path, &shape));
    assert_ok(model_open(&c, path, &small, &e), &e);
    const export_opts o = {.format = EXPORT_GGUF, .type = quant_by_name("F32")};
    assert_ok(model_export(&c, model_weights(small), &o, floats, &result, &e), &e);
    assert_ok(model_open(&c, floats, &large, &e), &e);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        float *x = pass(&c, small, rows[i]), *expected = pass(&c, large, rows[i]);
        for (int64_t j = 0; j < rows[i] * D + VOCAB; j++)
            if (!isfinite(expected[j]) || x[j] != expected[j])
                fail_msg("%s, %s, %d rows: %g at %ld, expected %g", type, cpu_level_name(level), (int)rows[i], (double)x[j],
                         (long)j, (double)expected[j]);
        free(x), free(expected);
    }
    model_close(small), model_close(large), free(path), free(floats), test_remove_dir(dir);
}

static void blocks_have_the_bits_of_floats(void **state) {
    (void)state;
    static const char *const types[] = {"Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"};
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        check_type(types[t], CPU_PORTABLE);
        check_type(types[t], cpu_best());
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(blocks_have_the_bits_of_floats)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
