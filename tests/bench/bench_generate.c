/* Tokens a second of generation for batches of sequences, beside what this machine can do at most, then the cost of a draw.
 *
 *   bench_generate [MODEL [THREADS [SEQUENCES [TOKENS]]]]      default: the default model, 2 threads, 1, 8, 32 and 64
 *                                                              sequences, 128 tokens behind prompts of 16, each
 *                                                              in float32 and with blocks in whole numbers
 *
 * A step of a batch reads every weight once, as small as it lies in memory, and does two operations with it for each sequence:
 * few sequences are bounded by reading, many by arithmetic. Both are printed with their share of what was measured beside the
 * row (support/peak.h), for shared machines change speed. The best of three runs counts, from the first token drawn to the last.
 */
#include "support/peak.h"
#include "support/test.h"

#include "core/mem.h"
#include "core/rng.h"
#include "math/gemm.h"
#include "steer/generate.h"

enum { REPEATS = 3, PROMPT = 16 };

static ctx c;
static err e;

static void must(err_code rc) {
    if (!rc) return;
    fprintf(stderr, "bench_generate: %s\n", e.message);
    exit(1);
}

/* ---- whole runs ---- */

/* The matrices that every step multiplies: all but the embedding, of which a step reads a row, unless it is the head too. */
typedef struct weight_sum {
    double count, bytes;
} weight_sum;

static weight_sum weights_per_step(const model *m) {
    const weights *w = model_weights(m);
    weight_sum s = {0};
    for (int64_t i = 0; i < weights_tensor_count(w); i++) {
        const tensor_view *t = weights_tensor_at(w, i);
        if (t->n_dims != 2 || (!strcmp(t->name, "token_embd.weight") && !model_config_of(m)->tied_embedding)) continue;
        int64_t n = t->shape[0], k = t->shape[1];
        size_t bytes = 0;
        gemm_form form = gemm_form_of(t->type->name, k);
        bool block = !strncmp(t->name, "blk.", 4);
        if (block && model_precision_of(m) == MODEL_INT8) form = form == GEMM_Q4 ? GEMM_INT4 : GEMM_INT8;
        gemm_packed_size(c.cpu, form, n, k, &bytes);
        s.count += (double)n * (double)k, s.bytes += (double)bytes;
    }
    return s;
}

static generate_seq *make_seqs(const model_config *g, int64_t n) {
    generate_seq *seqs;
    must(mem_new0(&seqs, (size_t)n, sizeof *seqs, "sequences", &e));
    for (int64_t s = 0; s < n; s++) {
        rng r = rng_stream(1, RNG_SYNTHETIC, (uint64_t)s);
        must(mem_grow(&seqs[s].prompt.ids, &seqs[s].prompt.cap, PROMPT, sizeof *seqs[s].prompt.ids, "prompt", &e));
        while (seqs[s].prompt.len < PROMPT)
            seqs[s].prompt.ids[seqs[s].prompt.len++] = (uint32_t)rng_below(&r, (uint64_t)g->n_vocab);
        seqs[s].stream_index = (uint64_t)s;
    }
    return seqs;
}

/* When the first token was drawn. */
static err_code note_start(void *user, int64_t index, err *ee) {
    double *start = user;
    (void)index, (void)ee;
    if (*start == 0) *start = seconds_now();
    return ERR_OK;
}

static void generation_row(model *m, int64_t n, int64_t n_tokens) {
    generate_seq *seqs = make_seqs(model_config_of(m), n);
    generate_opts o = GENERATE_DEFAULTS;
    o.sample.top_p = 0.95;
    o.n_tokens = n_tokens;
    o.ignore_eos = true;
    double best = INFINITY, peak = 0, reading = 0;
    for (int i = 0; i < REPEATS; i++) {
        peak = fmax(peak, peak_f32(&c));
        reading = fmax(reading, peak_read(&c));
        double start = 0;
        o.token = note_start;
        o.user = &start;
        must(generate_run(&c, m, seqs, n, &o, &e));
        best = fmin(best, seconds_now() - start);
    }
    weight_sum w = weights_per_step(m);
    double steps = (double)(n_tokens - 1) / best, flops = 2 * w.count * (double)n * steps, bytes = w.bytes * steps;
    printf("| %s | %lld | %.0f | %.1f | %.0f %% | %.1f | %.0f %% |\n", model_precision_names[model_precision_of(m)],
           (long long)n, (double)n * steps, bytes / 1e9, 100 * bytes / reading, flops / 1e9, 100 * flops / peak);
    for (int64_t s = 0; s < n; s++) free(seqs[s].prompt.ids), free(seqs[s].output.ids);
    free(seqs);
}

/* ---- draws ---- */

static void draw_row(int64_t n, const char *what, sample_opts o) {
    enum { DRAWS = 200, RECENT = 300 };
    float *source, *logits;
    sample_space space;
    uint32_t recent[RECENT];
    double best = INFINITY;
    rng r = rng_stream(2, RNG_SYNTHETIC, 0);
    must(mem_new(&source, (size_t)n, sizeof *source, "logits", &e));
    must(mem_new(&logits, (size_t)n, sizeof *logits, "logits", &e));
    must(mem_new(&space.weights, (size_t)n, sizeof *space.weights, "weights", &e));
    must(mem_new0(&space.ids, (size_t)n, sizeof *space.ids, "ids", &e));
    for (int64_t i = 0; i < n; i++) source[i] = (float)(i % 37 ? 2 * rng_normal(&r) - 4 : 6 + 3 * rng_normal(&r));
    for (int i = 0; i < RECENT; i++) recent[i] = (uint32_t)rng_below(&r, (uint64_t)n);
    for (int i = 0; i < DRAWS; i++) {
        memcpy(logits, source, (size_t)n * sizeof *logits);
        double start = seconds_now();
        sample_token(&c, logits, n, &o, recent, RECENT, rng_uniform(&r), &space);
        best = fmin(best, seconds_now() - start);
    }
    printf("| %s | %.0f |\n", what, 1e6 * best);
    free(source), free(logits), free(space.weights), free(space.ids);
}

static void draws(int64_t n_vocab) {
    printf("\n| draw, vocabulary of %lld | us |\n|---|---|\n", (long long)n_vocab);
    draw_row(n_vocab, "greedy", (sample_opts){.temperature = 0, .top_p = 1, .repeat_penalty = 1.1});
    draw_row(n_vocab, "temperature", (sample_opts){.temperature = 0.7, .top_p = 1, .repeat_penalty = 1.1});
    draw_row(n_vocab, "top-k 40", (sample_opts){.temperature = 0.7, .top_p = 1, .top_k = 40, .repeat_penalty = 1.1});
    draw_row(n_vocab, "top-p 0.95", (sample_opts){.temperature = 0.7, .top_p = 0.95, .repeat_penalty = 1.1});
    draw_row(n_vocab, "min-p 0.05", (sample_opts){.temperature = 0.7, .top_p = 1, .min_p = 0.05, .repeat_penalty = 1.1});
}

int main(int argc, char **argv) {
    const char *path = argc > 1 ? argv[1] : test_model_path();
    int64_t only = argc > 3 ? atoll(argv[3]) : 0, n_tokens = argc > 4 ? atoll(argv[4]) : 128;
    static const int64_t batches[] = {1, 8, 32, 64};
    if (!path) return fprintf(stderr, "bench_generate: no default model: give one\n"), 1;
    c = test_ctx(argc > 2 ? atoi(argv[2]) : 2);
    model *m, *rounded;
    must(model_open(&c, path, &m, &e));
    must(model_open_as(&c, path, MODEL_INT8, &rounded, &e));
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("%s, %d threads, %s: peak %.1f GFLOP/s, reading %.1f GB/s; %lld tokens behind prompts of %d\n\n", model_name(m),
           c.threads, cpu_level_name(c.cpu), peak_f32(&c) / 1e9, peak_read(&c) / 1e9, (long long)n_tokens, PROMPT);
    printf("| blocks | sequences | tokens/s | GB/s | of reading | GFLOP/s | of peak |\n|---|---|---|---|---|---|---|\n");
    for (size_t b = 0; b < (only ? 1 : sizeof batches / sizeof *batches); b++)
        for (int precision = 0; precision < 2; precision++)
            generation_row(precision ? rounded : m, only ? only : batches[b], n_tokens);
    draws(model_config_of(m)->n_vocab);
    model_close(m), model_close(rounded);
    return 0;
}
