/* How fast a model reads: tokens per second of forward passes, each beside the machine's measured peak, then the
 * parts of a pass timed alone, and our matrix product beside OpenBLAS's.
 *
 *   bench_prefill [MODEL [THREADS]]
 *
 * Passes are run three times; the best counts. The peak is measured again beside every row: shared machines change speed.
 */
#include "support/flops.h"
#include "support/peak.h"
#include "support/test.h"

#include "core/mem.h"
#include "math/attention.h"
#include "math/blas.h"
#include "math/dense.h"
#include "math/gemm.h"
#include "model/model.h"

enum { REPEATS = 3, BATCH = 4096, CAPTURE_LAYER = 16 };

static ctx c;
static err e;

#define MUST(call)                                                                                                           \
    do {                                                                                                                     \
        if ((call) != ERR_OK) fprintf(stderr, "bench_prefill: %s\n", e.message), exit(1);                                    \
    } while (0)

#define BEST_OF(seconds, call)                                                                                               \
    double seconds = INFINITY;                                                                                               \
    for (int repeat = 0; repeat < REPEATS; repeat++) {                                                                       \
        double start = seconds_now();                                                                                        \
        call;                                                                                                                \
        seconds = fmin(seconds, seconds_now() - start);                                                                      \
    }

static float *random_floats(int64_t n) {
    float *x;
    MUST(mem_new(&x, (size_t)n, sizeof *x, "bench", &e));
    for (int64_t i = 0; i < n; i++) x[i] = (float)((i * 7919) % 1009) / 1009 - 0.5f;
    return x;
}

/* ---- whole passes ---- */

static err_code look(void *user, const ctx *cc, const hook_rows *rows, err *ee) {
    (void)user, (void)cc, (void)rows, (void)ee;
    return ERR_OK;
}

typedef struct tokens {
    model_batch b;
    uint32_t *ids;
    int32_t *seq, *pos;
} tokens;

static tokens make_tokens(const model_config *g, int64_t n, int64_t context) {
    tokens t;
    MUST(mem_new(&t.ids, (size_t)n, sizeof *t.ids, "bench", &e));
    MUST(mem_new(&t.seq, (size_t)n, sizeof *t.seq, "bench", &e));
    MUST(mem_new(&t.pos, (size_t)n, sizeof *t.pos, "bench", &e));
    for (int64_t i = 0; i < n; i++) {
        t.ids[i] = (uint32_t)(i * 7919 % g->n_vocab);
        t.seq[i] = (int32_t)(i / context);
        t.pos[i] = (int32_t)(i % context);
    }
    t.b = (model_batch){.n_tokens = n, .tokens = t.ids, .seq = t.seq, .pos = t.pos};
    return t;
}

static void free_tokens(tokens *t) { free(t->ids), free(t->seq), free(t->pos); }

static void prefill_row(model *m, const char *precision, int64_t context, bool whole) {
    const model_config *g = model_config_of(m);
    tokens t = make_tokens(g, BATCH, context);
    float *hidden = random_floats(BATCH * g->d_model);
    model_hook hook = {.at = {.layer = CAPTURE_LAYER, .kind = HOOK_RESID_POST}, .fn = look};
    int64_t layers = whole ? g->n_layers : CAPTURE_LAYER + 1;
    double flops = (double)layers * block_flops(g, context), peak = peak_f32(&c);
    BEST_OF(seconds, MUST(model_forward(&c, m, &t.b, NULL, &hook, !whole, whole ? hidden : NULL, &e)));
    peak = fmax(peak, peak_f32(&c));
    printf("| %s, %s | %lld | %.0f | %.1f | %.0f %% |\n", whole ? "all blocks" : "to block 16", precision, (long long)context,
           BATCH / seconds, flops * BATCH / seconds / 1e9, 100 * flops * BATCH / seconds / peak);
    free(hidden), free_tokens(&t);
}

/* ---- parts ---- */

static double time_gemm(int64_t m, int64_t n, int64_t k, bool blas) {
    size_t size;
    if (!gemm_packed_size(c.cpu, GEMM_F32, n, k, &size)) exit(1);
    float *x = random_floats(m * k), *w = random_floats((int64_t)(size / sizeof *w)), *y = random_floats(m * n);
    const gemm_product p = {.w = {.form = GEMM_F32, .n = n, .k = k, .panels = w}, .y = y, .ldy = n};
    BEST_OF(seconds, blas ? blas_gemm_nt(&c, m, n, k, x, k, w, k, 0, y, n) : gemm(&c, m, x, k, &p, 1));
    free(x), free(w), free(y);
    return seconds;
}

static double time_attention(const model_config *g, int64_t context) {
    attention_shape s = {.n_heads = g->n_heads, .n_kv_heads = g->n_kv_heads, .d_head = g->d_head};
    int64_t n_runs = BATCH / context, d_q = g->n_heads * g->d_head;
    attention_run *runs = malloc((size_t)n_runs * sizeof *runs);
    float *q = random_floats(BATCH * d_q), *y = random_floats(BATCH * d_q);
    size_t keys, values;
    if (!attention_key_size(c.cpu, context, g->d_head, &keys) || !attention_value_size(c.cpu, context, g->d_head, &values))
        exit(1);
    float *k = random_floats((int64_t)keys * n_runs * g->n_kv_heads),
          *v = random_floats((int64_t)values * n_runs * g->n_kv_heads);
    for (int64_t i = 0; i < n_runs; i++)
        runs[i] = (attention_run){.n_tokens = context,
                                  .q = q + i * context * d_q,
                                  .y = y + i * context * d_q,
                                  .keys = k + (size_t)(i * g->n_kv_heads) * keys,
                                  .values = v + (size_t)(i * g->n_kv_heads) * values,
                                  .key_stride = keys,
                                  .value_stride = values};
    BEST_OF(seconds, attention(&c, &s, runs, n_runs));
    free(runs), free(q), free(y), free(k), free(v);
    return seconds;
}

static double time_rows(const model_config *g) { /* two norms, rope, the gated activation and two residual sums */
    const dense_kernels *k = dense_kernels_for(c.cpu);
    int64_t d = g->d_model, d_ff = g->d_ff;
    float *x = random_floats(BATCH * d), *y = random_floats(BATCH * d), *a = random_floats(BATCH * d_ff),
          *b = random_floats(BATCH * d_ff);
    BEST_OF(seconds, {
        _Pragma("omp parallel for num_threads(c.threads)") for (int64_t i = 0; i < BATCH; i++) {
            k->rms_norm(y + i * d, x + i * d, x, d, 1e-5);
            k->rope(y + i * d, d / g->d_head, g->d_head, g->d_head, x);
            k->add(x + i * d, y + i * d, d);
            k->rms_norm(y + i * d, x + i * d, x, d, 1e-5);
            k->gates[GATE_SILU](a + i * d_ff, a + i * d_ff, b + i * d_ff, d_ff);
            k->add(x + i * d, y + i * d, d);
        }
    });
    free(x), free(y), free(a), free(b);
    return seconds;
}

static void parts(const model_config *g) {
    int64_t d = g->d_model, d_q = g->n_heads * g->d_head, d_kv = g->n_kv_heads * g->d_head;
    double products = time_gemm(BATCH, d_q, d, false) + 2 * time_gemm(BATCH, d_kv, d, false) +
                      time_gemm(BATCH, d, d_q, false) + 2 * time_gemm(BATCH, g->d_ff, d, false) +
                      time_gemm(BATCH, d, g->d_ff, false);
    const struct {
        const char *name;
        double near, far, flops_near, flops_far; /* seconds and operations at context 256 and 2048 */
    } rows[] = {
        {"products", products, products, matrix_flops(g), matrix_flops(g)},
        {"attention", time_attention(g, 256), time_attention(g, 2048), attention_flops(g, 128.5), attention_flops(g, 1024.5)},
        {"norms, rope, activation, sums", time_rows(g), time_rows(g), 0, 0},
    };
    double peak = peak_f32(&c) / BATCH, near = 0, far = 0;
    for (int i = 0; i < 3; i++) near += rows[i].near, far += rows[i].far;
    printf("\nA block of %d tokens, parts timed alone, at context 256 and 2048\n\n"
           "| part | ms | of peak | share | ms | of peak | share |\n|---|---|---|---|---|---|---|\n",
           BATCH);
    for (int i = 0; i < 3; i++)
        printf("| %s | %.1f | %.0f %% | %.0f %% | %.1f | %.0f %% | %.0f %% |\n", rows[i].name, rows[i].near * 1e3,
               100 * rows[i].flops_near / rows[i].near / peak, 100 * rows[i].near / near, rows[i].far * 1e3,
               100 * rows[i].flops_far / rows[i].far / peak, 100 * rows[i].far / far);
}

static void products(void) {
    static const int64_t shapes[][3] = {{4096, 576, 576}, {4096, 1536, 576}, {4096, 576, 1536}, {1024, 4096, 4096},
                                        {64, 1536, 576},  {8, 1536, 576},    {1, 1536, 576}};
    printf("\ny [m, n] = x [m, k] w^T, GFLOP/s\n\n| m | n | k | ours | of peak | OpenBLAS |\n|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        int64_t m = shapes[i][0], n = shapes[i][1], k = shapes[i][2];
        double flops = 2 * (double)m * (double)n * (double)k, peak = peak_f32(&c), ours = INFINITY, blas = INFINITY;
        for (int repeat = 0; repeat < 3; repeat++) { /* turn by turn: both meet the same machine */
            ours = fmin(ours, time_gemm(m, n, k, false));
            blas = fmin(blas, time_gemm(m, n, k, true));
        }
        peak = fmax(peak, peak_f32(&c));
        printf("| %lld | %lld | %lld | %.1f | %.0f %% | %.1f |\n", (long long)m, (long long)n, (long long)k,
               flops / ours / 1e9, 100 * flops / ours / peak, flops / blas / 1e9);
    }
}

int main(int argc, char **argv) {
    const char *path = argc > 1 ? argv[1] : test_model_path();
    model *m;
    c = test_ctx(argc > 2 ? atoi(argv[2]) : 2);
    if (!path) return fprintf(stderr, "bench_prefill: no model\n"), 1;
    setvbuf(stdout, NULL, _IOLBF, 0);
    double start = seconds_now();
    MUST(model_open(&c, path, &m, &e));
    printf("%s, %d threads, %s: opened in %.2f s; peak %.1f GFLOP/s, reading %.1f GB/s\n\n", model_name(m), c.threads,
           cpu_level_name(c.cpu), seconds_now() - start, peak_f32(&c) / 1e9, peak_read(&c) / 1e9);
    printf("Prefill, %d tokens a pass\n\n| depth | context | tokens/s | GFLOP/s | of peak |\n|---|---|---|---|---|\n", BATCH);
    for (int whole = 0; whole < 2; whole++) prefill_row(m, "f32", 256, whole), prefill_row(m, "f32", 2048, whole);
    for (model_precision p = MODEL_F32 + 1; p < MODEL_PRECISIONS; p++) {
        model *rounded;
        MUST(model_open_as(&c, path, p, &rounded, &e));
        prefill_row(rounded, model_precision_names[p], 256, false),
            prefill_row(rounded, model_precision_names[p], 2048, false);
        model_close(rounded);
    }
    parts(model_config_of(m));
    products();
    model_close(m);
    return 0;
}
