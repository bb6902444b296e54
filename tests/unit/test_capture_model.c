/* Rows captured from the default model against those recorded from PyTorch in float32. */
#include "support/recorded.h"
#include "support/test.h"

#include "activations/capture.h"

/* ||difference|| <= 1e-4 ||row|| as golden/smollm2/README.md derives; float16 adds at most 2^-11 of each number. */
static void check(store_dtype type, double tolerance) {
    char *dir = test_make_dir(), path[4096];
    recorded r = recorded_open("smollm2/expected.safetensors");
    int64_t n, kept, *ids = recorded_ints(&r, "li_bai.input_ids", &n);
    int64_t *positions = recorded_ints(&r, "li_bai.positions", &kept);
    const float *expected = recorded_floats(&r, "li_bai.blocks.16.hook_resid_post", NULL);
    ctx c = test_ctx(2);
    model *m;
    store *s;
    err e;
    capture_result result;
    hook_point hook = {16, HOOK_RESID_POST};
    capture_opts o = CAPTURE_DEFAULTS;
    uint64_t offsets[2] = {0, (uint64_t)n};
    char source[] = "a.txt", *sources[1] = {source};
    uint32_t *tokens = malloc((size_t)n * sizeof *tokens);
    for (int64_t i = 0; i < n; i++) tokens[i] = (uint32_t)ids[i];
    token_corpus k = {.tokens = tokens, .n_tokens = n, .doc_offsets = offsets, .n_docs = 1, .doc_source = sources};
    snprintf(path, sizeof path, "%s/a.h5", dir);
    o.hooks = &hook;
    o.n_hooks = 1;
    o.dtype = type;
    assert_ok(model_open(&c, test_model_path(), &m, &e), &e);
    assert_ok(capture_run(&c, m, &k, path, &o, &result, &e), &e);
    assert_ok(store_open(path, &s, &e), &e);
    float row[576];
    for (int64_t i = 0; i < kept; i++) {
        if (!positions[i]) continue; /* skipped: an attention sink */
        assert_ok(store_read_rows(s, &c, 0, positions[i] - 1, 1, row, &e), &e);
        assert_true(test_relative_distance(row, expected + i * 576, 576) <= tolerance);
    }
    store_close(s);
    model_close(m);
    recorded_close(&r);
    free(ids), free(positions), free(tokens);
    test_remove_dir(dir);
}

static void test_recorded_rows(void **state) {
    (void)state;
    check(STORE_F32, 1e-4);
    check(STORE_F16, 1e-4 + 0x1p-11);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_recorded_rows)};
    return test_model_path() ? cmocka_run_group_tests(tests, NULL, NULL) : TEST_SKIP;
}
