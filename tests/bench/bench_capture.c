/* Tokens a second of capturing one layer, beside the same forward passes alone; then rows a second of the shuffled stream.
 *
 *   bench_capture [tokens [layer [threads]]]      default 16384 16 and all cores
 *
 * Documents are random tokens at context 256, which cost what text costs. "writing" is the share of the capture's time in
 * converting, writing and syncing chunks; "of forward" the capture's rate over that of the passes alone, median of 3 each; "of
 * peak" what of the machine's measured float32 operations both use. */
#include "support/flops.h"
#include "support/peak.h"
#include "support/test.h"

#include "activations/capture.h"
#include "activations/source.h"
#include "core/mem.h"
#include "core/rng.h"

#include <omp.h>
#include <unistd.h>

enum { CONTEXT = 256, BATCH = 4096, ROUNDS = 3, STREAM_ROWS = 1 << 20, D = 576 };

static void must(err_code rc, const err *e) {
    if (!rc) return;
    fprintf(stderr, "%s\n", e->message);
    exit(1);
}

static double median(double v[ROUNDS]) {
    for (int i = 0; i < ROUNDS; i++)
        for (int j = i; j > 0 && v[j - 1] > v[j]; j--) {
            double t = v[j];
            v[j] = v[j - 1], v[j - 1] = t;
        }
    return v[ROUNDS / 2];
}

static token_corpus make_corpus(int64_t n_docs, int64_t n_vocab) {
    token_corpus k = {.n_tokens = n_docs * CONTEXT, .n_docs = n_docs};
    rng r = rng_stream(1, RNG_SYNTHETIC, 0);
    err e;
    must(mem_new(&k.tokens, (size_t)k.n_tokens, sizeof *k.tokens, "tokens", &e), &e);
    must(mem_new(&k.doc_offsets, (size_t)n_docs + 1, sizeof *k.doc_offsets, "documents", &e), &e);
    must(mem_new(&k.doc_source, (size_t)n_docs, sizeof *k.doc_source, "documents", &e), &e);
    for (int64_t i = 0; i < k.n_tokens; i++) k.tokens[i] = (uint32_t)rng_below(&r, (uint64_t)n_vocab);
    for (int64_t d = 0; d < n_docs; d++) {
        char name[32];
        snprintf(name, sizeof name, "random:%lld", (long long)d);
        k.doc_source[d] = strdup(name);
        k.doc_offsets[d] = (uint64_t)(d * CONTEXT);
    }
    k.doc_offsets[n_docs] = (uint64_t)k.n_tokens;
    return k;
}

static err_code look_away(void *user, const ctx *c, const hook_rows *rows, err *e) {
    (void)user, (void)c, (void)rows, (void)e;
    return ERR_OK;
}

/* Seconds of the passes that a capture makes. */
static double forward(const ctx *c, model *m, const token_corpus *k, hook_point at) {
    static int32_t seq[BATCH], pos[BATCH];
    model_hook hook = {at, look_away, NULL};
    err e;
    double began = seconds_now();
    for (int i = 0; i < BATCH; i++) seq[i] = i / CONTEXT, pos[i] = i % CONTEXT;
    for (int64_t t = 0; t < k->n_tokens; t += BATCH) {
        model_batch b = {k->n_tokens - t < BATCH ? k->n_tokens - t : BATCH, k->tokens + t, seq, pos};
        must(model_forward(c, m, &b, NULL, &hook, 1, NULL, &e), &e);
    }
    return seconds_now() - began;
}

static void stream(const ctx *c, const char *path) {
    source_opts o = SOURCE_DEFAULTS;
    source *s;
    err e;
    double began = seconds_now();
    must(source_open_hdf5(c, path, &o, &s, &e), &e);
    float *x = malloc((size_t)(BATCH * s->d_in) * sizeof *x);
    must(source_read(s, c, 0, 1, x, &e), &e);
    printf("shuffled rows   %lld in the file, opened in %.2f s", (long long)s->n_rows, seconds_now() - began);
    began = seconds_now();
    for (int64_t r = 0; r < STREAM_ROWS; r += BATCH) must(source_read(s, c, r, BATCH, x, &e), &e);
    printf(", %.2f M rows/s at d %lld\n", STREAM_ROWS / (seconds_now() - began) / 1e6, (long long)s->d_in);
    free(x);
    source_close(s);
}

/* A file of random rows, as large as a quickstart's, for the stream alone. */
static void stream_of_random_rows(const ctx *c, model *m, const char *path, int64_t n_docs) {
    token_corpus k = make_corpus(n_docs, 1000);
    store_info info = {.context = CONTEXT, .n_hooks = 1, .hooks = {{.name = "blocks.16.hook_resid_post", .d_model = D}}};
    uint64_t *row_token;
    float *x;
    store *s;
    err e;
    rng r = rng_stream(2, RNG_SYNTHETIC, 0);
    must(mem_new(&row_token, (size_t)k.n_tokens, sizeof *row_token, "rows", &e), &e);
    must(mem_new(&x, STORE_CHUNK_ROWS, D * sizeof *x, "rows", &e), &e);
    for (int64_t i = 0; i < k.n_tokens; i++) row_token[i] = (uint64_t)i;
    for (int64_t i = 0; i < STORE_CHUNK_ROWS * D; i++) x[i] = (float)rng_normal(&r);
    double began = seconds_now();
    must(store_create(path, &info, &k, row_token, k.n_tokens, model_tokenizer(m), &s, &e), &e);
    printf("new file        %.0f MB laid out in %.2f s\n", (double)k.n_tokens * D * 2e-6, seconds_now() - began);
    began = seconds_now();
    for (int64_t i = 0; i * STORE_CHUNK_ROWS < k.n_tokens; i++) must(store_write_chunk(s, c, 0, i, x, &e), &e);
    double written = seconds_now();
    must(store_finish_hook(s, c, 0, &e), &e);
    printf("chunks          %.2f M rows/s converted, written, synced; statistics in %.2f s\n",
           (double)k.n_tokens / (written - began) / 1e6, seconds_now() - written);
    store_close(s);
    stream(c, path);
    free(x), free(row_token);
    corpus_release(&k);
}

int main(int argc, char **argv) {
    const char *model_path = test_model_path();
    int64_t tokens = argc > 1 ? atoll(argv[1]) : 16384;
    hook_point at = {argc > 2 ? atoi(argv[2]) : 16, HOOK_RESID_POST};
    ctx c = test_ctx(argc > 3 ? atoi(argv[3]) : omp_get_max_threads());
    char *dir = test_make_dir(), path[4096];
    double passes[ROUNDS], captures[ROUNDS], writing[ROUNDS], peak = 0;
    model *m;
    err e;
    if (!model_path) return TEST_SKIP;
    snprintf(path, sizeof path, "%s/a.h5", dir);
    must(model_open(&c, model_path, &m, &e), &e);
    token_corpus k = make_corpus(tokens / CONTEXT, model_config_of(m)->n_vocab);
    capture_opts o = CAPTURE_DEFAULTS;
    o.hooks = &at, o.n_hooks = 1, o.batch_tokens = BATCH;
    forward(&c, m, &k, at); /* packs the weights */
    for (int i = 0; i < ROUNDS; i++) {
        capture_result r;
        peak = fmax(peak, peak_f32(&c));
        passes[i] = forward(&c, m, &k, at);
        unlink(path);
        must(capture_run(&c, m, &k, path, &o, &r, &e), &e);
        captures[i] = r.seconds, writing[i] = r.writing_seconds / r.seconds;
    }
    double pass = median(passes), whole = median(captures),
           flops = (double)k.n_tokens * (at.layer + 1) * block_flops(model_config_of(m), CONTEXT);
    printf("%lld tokens to block %d, %d threads, %s: peak %.1f GFLOP/s\n", (long long)k.n_tokens, at.layer, c.threads,
           cpu_level_name(c.cpu), peak / 1e9);
    printf("forward alone   %.0f tokens/s, %.0f %% of peak\n", (double)k.n_tokens / pass, 100 * flops / pass / peak);
    printf("capture         %.0f tokens/s, %.0f %% of peak, %.3f of forward, writing %.1f %%\n", (double)k.n_tokens / whole,
           100 * flops / whole / peak, pass / whole, 100 * median(writing));
    unlink(path);
    stream_of_random_rows(&c, m, path, 1024);
    corpus_release(&k);
    model_close(m);
    test_remove_dir(dir);
    return 0;
}
