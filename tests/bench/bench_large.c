/* A model of 7 billion weights on a small machine: what a capture keeps in memory beside what inspect announces, and how fast it
 * is beside the measured peak.
 *
 *   bench_large FILE [TOKENS [CONTEXT [LAYER [THREADS]]]]      default 1024 tokens in one document, to block 16, 2 threads
 *
 * FILE is written when it is absent: 3.9 GB of random weights in Q4_0, in the shape of LLaMA 2 7B. Delete it afterwards. */
#include "support/flops.h"
#include "support/large_model.h"
#include "support/peak.h"
#include "support/test.h"

#include "core/file.h"
#include "core/mem.h"
#include "model/model.h"

static const model_shape shape = {
    .n_layers = 32, .d_model = 4096, .n_heads = 32, .d_ff = 11008, .n_vocab = 32000, .n_ctx = 1 << 16};

static err e;

static void must(err_code rc) {
    if (!rc) return;
    fprintf(stderr, "bench_large: %s\n", e.message);
    exit(1);
}

static err_code look(void *user, const ctx *c, const hook_rows *rows, err *ee) {
    (void)c, (void)ee;
    *(float *)user += rows->x[0];
    return ERR_OK;
}

static double run(const ctx *c, model *m, int64_t n, int64_t context, int layer) {
    uint32_t *tokens;
    int32_t *seq, *pos;
    float sum = 0;
    must(mem_new(&tokens, (size_t)n, sizeof *tokens, "tokens", &e));
    must(mem_new(&seq, (size_t)n, sizeof *seq, "tokens", &e));
    must(mem_new(&pos, (size_t)n, sizeof *pos, "tokens", &e));
    for (int64_t i = 0; i < n; i++) {
        tokens[i] = (uint32_t)(i * 7919 % shape.n_vocab);
        seq[i] = (int32_t)(i / context);
        pos[i] = (int32_t)(i % context);
    }
    const model_batch b = {n, tokens, seq, pos};
    const model_hook hook = {{layer, HOOK_RESID_POST}, look, &sum};
    double start = seconds_now();
    must(model_forward(c, m, &b, NULL, &hook, 1, NULL, &e));
    double seconds = seconds_now() - start;
    free(tokens), free(seq), free(pos);
    return seconds;
}

int main(int argc, char **argv) {
    int64_t n = argc > 2 ? atoll(argv[2]) : 1024, context = argc > 3 ? atoll(argv[3]) : n;
    int layer = argc > 4 ? atoi(argv[4]) : 16;
    ctx c = test_ctx(argc > 5 ? atoi(argv[5]) : 2);
    model *m;
    model_memory announced;
    if (argc < 2) return fprintf(stderr, "bench_large: expected a file to write the model to\n"), 2;
    if (!file_exists(argv[1]) && !write_large_model(argv[1], &shape))
        return fprintf(stderr, "bench_large: %s: cannot be written\n", argv[1]), 1;
    setvbuf(stdout, NULL, _IOLBF, 0);
    double before = (double)peak_resident_bytes(), peak = peak_f32(&c);
    must(model_open(&c, argv[1], &m, &e));
    must(model_measure(model_weights(m), MODEL_F32, &announced, &e));
    double expected = (double)announced.blocks * (layer + 1) / (double)shape.n_layers + (double)announced.layer +
                      (double)announced.embedding + (double)announced.pass +
                      (double)((n + 1023) / 1024) * (double)announced.pass_1024;
    for (int i = 0; i < 2; i++) { /* the first packs the weights */
        double seconds = run(&c, m, n, context, layer);
        double flops = (double)(layer + 1) * (double)n * block_flops(model_config_of(m), context);
        peak = fmax(peak, peak_f32(&c));
        printf("%lld tokens at context %lld to block %d: %.1f s, %.1f tokens/s, %.0f %% of %.1f GFLOP/s; "
               "%.2f GB resident, %.2f announced\n",
               (long long)n, (long long)context, layer, seconds, (double)n / seconds, 100 * flops / seconds / peak,
               peak / 1e9, ((double)peak_resident_bytes() - before) / 1e9, expected / 1e9);
    }
    model_close(m);
    return 0;
}
