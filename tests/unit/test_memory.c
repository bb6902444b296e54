/* What inspect says about memory is what a process has resident: a model whose matrices are 103 MB as float32 and 14 MB in its
 * file. Catches: weights expanded to stay; a file that stays in memory beside what was packed from it; scratch that grows from
 * pass to pass. */
#include "support/large_model.h"
#include "support/test.h"

#include "core/file.h"
#include "model/model.h"

#include <sys/wait.h>
#include <unistd.h>

static const model_shape shape = {.n_layers = 8, .d_model = 512, .n_heads = 8, .d_ff = 1408, .n_vocab = 4000, .n_ctx = 4096};
enum { SLACK = 3 << 20, FIRST_SLACK = 10 << 20 }; /* threads, tokenizer; and large pages that the first pass does not fill */

#if defined(__SANITIZE_ADDRESS__)
enum { MEASURED = 0 }; /* sanitizers keep what was freed */
#else
enum { MEASURED = 1 };
#endif

static model_precision precision;

static err_code look(void *user, const ctx *c, const hook_rows *rows, err *e) {
    (void)c, (void)e;
    *(float *)user += rows->x[0];
    return ERR_OK;
}

/* n tokens in documents of `length` and a shorter last one, through all blocks. */
static void pass(const ctx *c, model *m, int64_t n, int64_t length) {
    uint32_t *tokens = malloc((size_t)n * sizeof *tokens);
    int32_t *seq = malloc((size_t)n * sizeof *seq), *pos = malloc((size_t)n * sizeof *pos);
    float sum = 0;
    err e = {0};
    for (int64_t i = 0; i < n; i++) {
        tokens[i] = (uint32_t)(i * 7919 % shape.n_vocab);
        seq[i] = (int32_t)(i / length);
        pos[i] = (int32_t)(i % length);
    }
    const model_batch b = {n, tokens, seq, pos};
    const model_hook hook = {{(int)shape.n_layers - 1, HOOK_RESID_POST}, look, &sum};
    assert_ok(model_forward(c, m, &b, NULL, &hook, 1, NULL, &e), &e);
    assert_true(isfinite(sum) && sum != 0);
    free(tokens), free(seq), free(pos);
}

static void assert_grown_by(const char *what, int64_t from, size_t most, size_t slack) {
    int64_t grown = peak_resident_bytes() - from;
    if (MEASURED && grown > (int64_t)(most + slack))
        fail_msg("%s took %.1f MB, announced %.1f", what, (double)grown / 1e6, (double)most / 1e6);
}

static void resident_as_announced(void **state) {
    (void)state;
    char *dir = test_make_dir(), *path, sha256[SHA256_HEX];
    err e = {0};
    model *m;
    model_memory announced;
    kvcache *kv;
    const ctx c = test_ctx(2);
    assert_ok(path_join(dir, "large.gguf", &path, &e), &e);
    assert_true(write_large_model(path, &shape));
    int64_t start = peak_resident_bytes();
    assert_ok(model_open_as(&c, path, precision, &m, &e), &e);
    assert_ok(model_measure(model_weights(m), precision, &announced, &e), &e);
    assert_true(announced.blocks < (precision == MODEL_BF16 ? 60e6 : 20e6) && announced.blocks_in_file == 0);
    assert_true(announced.layer < (precision == MODEL_F32 ? 14e6 : 1));
    assert_ok(model_sha256(m, sha256, &e), &e);
    assert_grown_by("opening", start, 16 << 20, SLACK); /* stretches of the file while it is hashed */
    pass(&c, m, 1000, 256);
    size_t expected = announced.blocks + announced.embedding + announced.layer + announced.pass + announced.pass_1024;
    assert_grown_by("a pass", start, expected, FIRST_SLACK);
    int64_t first = peak_resident_bytes();
    for (int i = 0; i < 4; i++) pass(&c, m, MEASURED ? 1020 - 41 * i : 300, 100 + 90 * i);
    assert_grown_by("more of the corpus", first, 0, SLACK);
    assert_ok(kvcache_new(m, 1, 1024, &kv, &e), &e);
    assert_grown_by("a cache", first, announced.cache_1024, SLACK);
    kvcache_free(kv), model_close(m), free(path), test_remove_dir(dir);
}

/* Each precision in a process of its own: a peak stays. */
int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(resident_as_announced)};
    int failed = 0, status;
    for (precision = MODEL_F32; precision < (MEASURED ? MODEL_PRECISIONS : MODEL_BF16); precision++) {
        pid_t child = fork();
        if (!child) return cmocka_run_group_tests(tests, NULL, NULL);
        failed |= child < 0 || waitpid(child, &status, 0) != child || status;
    }
    return failed;
}
