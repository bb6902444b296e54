/* Rows a second of a training step, part by part, on one thread and on all, beside what the machine can do at most:
 *
 *   bench_train [d_in [d_sae [k [batch [steps [only]]]]]]      default 576 9216 32 4096 8, all kinds of step
 *
 * Rows are sums of k of as many planted directions as there are latents, 2 to 6 times each, plus noise of 0.3 in every channel;
 * the encoder begins as these directions, as after training. The scores of all other latents then spread by |x| / sqrt(d_in),
 * about 1. "float" and "whole": how TopK's largest scores are looked for (sae/top.h); "dense": ReLU with half of the latents
 * firing, all of it matrix products. "of bound" is the time that x W_enc^T alone takes at the machine's peak, of whole numbers
 * for "whole" and else of float32, divided by the step's; "of GEMM" is the same with OpenBLAS's time of that product. The last
 * lines have 5 % of the latents dead. */
#include "support/peak.h"
#include "support/test.h"

#include "core/mem.h"
#include "core/rng.h"
#include "math/blas.h"
#include "sae/train/step.h"

#include <omp.h>

typedef struct shape {
    int64_t d_in, d_sae, k, batch, steps;
} shape;

static void must(err_code rc, const err *e) {
    if (!rc) return;
    fprintf(stderr, "%s\n", e->message);
    exit(1);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int64_t n) {
    qsort(v, (size_t)n, sizeof *v, by_value);
    return v[n / 2];
}

static void random_directions(float *w, int64_t n, int64_t d) {
    for (int64_t i = 0; i < n; i++) {
        rng r = rng_stream(1, RNG_INIT, (uint64_t)i);
        for (int64_t j = 0; j < d; j++) w[i * d + j] = (float)(rng_normal(&r) / sqrt((double)d));
    }
}

static void make_rows(const shape *s, const float *directions, float *x) {
    for (int64_t i = 0; i < s->batch; i++) {
        rng r = rng_stream(2, RNG_SYNTHETIC, (uint64_t)i);
        for (int64_t j = 0; j < s->d_in; j++) x[i * s->d_in + j] = 0.3f * (float)rng_normal(&r);
        for (int64_t f = 0; f < s->k; f++) {
            const float *w = directions + (int64_t)rng_below(&r, (uint64_t)s->d_sae) * s->d_in;
            float a = 2 + 4 * (float)rng_uniform(&r);
            for (int64_t j = 0; j < s->d_in; j++) x[i * s->d_in + j] += a * w[j];
        }
    }
}

static double gemm_seconds(const ctx *c, const shape *s, const float *x, const float *w) {
    float *y;
    double seconds[9];
    err e;
    must(mem_new(&y, (size_t)s->batch, (size_t)s->d_sae * sizeof *y, "scores", &e), &e);
    for (int i = 0; i < 10; i++) {
        double began = omp_get_wtime();
        blas_gemm_nt(c, s->batch, s->d_sae, s->d_in, x, s->d_in, w, s->d_in, 0, y, s->d_sae);
        if (i) seconds[i - 1] = omp_get_wtime() - began;
    }
    free(y);
    return median(seconds, 9);
}

/* What is timed. */
typedef struct step_kind {
    const char *name;
    const sae_training *training;
    preselect how;
    bool has_dead;
} step_kind;

static const step_kind kinds[] = {
    {"dense", &sae_training_standard, PRESELECT_OFF, false},     {"float", &sae_training_topk, PRESELECT_OFF, false},
    {"whole", &sae_training_topk, PRESELECT_ON, false},          {"float, 5 % dead", &sae_training_topk, PRESELECT_OFF, true},
    {"whole, 5 % dead", &sae_training_topk, PRESELECT_ON, true},
};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

/* Seconds of the encoder's product alone. */
typedef struct yardstick {
    double bound_float, bound_whole; /* at the machine's peaks */
    double gemm;                     /* as OpenBLAS does it */
} yardstick;

static void print_step(const shape *s, const step_kind *k, int threads, const yardstick *y, double total,
                       const double *parts) {
    double bound = k->how == PRESELECT_ON ? y->bound_whole : y->bound_float;
    printf("%d threads, %-16s %9.1f ms %8.0f rows/s  %4.1f %% of bound  %4.2f of GEMM ", threads, k->name, 1e3 * total,
           (double)s->batch / total, 100 * bound / total, y->gemm / total);
    for (int p = 0; p < N_STEP_PARTS; p++) printf(" %s %4.1f%%", step_part_names[p], 100 * parts[p] / total);
    printf("\n");
}

/* Median times of steps. */
static void run_steps(const ctx *c, const shape *s, const step_kind *how, const float *directions, const float *rows,
                      const yardstick *y) {
    learner l;
    err e = {0};
    step_rules rules = step_defaults(how->training);
    sae_config cfg = step_config(how->training, s->d_in, s->d_in, s->d_sae, s->k);
    int64_t n_dead = how->has_dead ? s->d_sae / 20 : 0;
    double *total = calloc((size_t)s->steps, sizeof *total), *parts[N_STEP_PARTS], medians[N_STEP_PARTS];
    size_t row_bytes = (size_t)s->batch * (size_t)s->d_in * sizeof(float);
    float *x = malloc(row_bytes);
    uint32_t *dead = malloc((size_t)n_dead * sizeof *dead + 1);
    for (int p = 0; p < N_STEP_PARTS; p++) parts[p] = calloc((size_t)s->steps, sizeof(double));
    for (int64_t i = 0; i < n_dead; i++) dead[i] = (uint32_t)(i * (s->d_sae / n_dead));
    top_counts looked = {0};
    rules.k_aux = s->d_in / 2;
    rules.own.preselect = how->how;
    must(learner_init(&l, &cfg, &rules, &e), &e);
    memcpy(l.s->W_enc, directions, (size_t)(s->d_sae * s->d_in) * sizeof(float));
    memcpy(l.s->W_dec, directions, (size_t)(s->d_sae * s->d_in) * sizeof(float));
    for (int64_t t = -1; t < s->steps; t++) {
        step_report report;
        memcpy(x, rows, row_bytes);
        double began = omp_get_wtime();
        must(learner_step(c, &l, x, NULL, s->batch, 1e-4, dead, n_dead, &report, &e), &e);
        if (t < 0) continue;
        total[t] = omp_get_wtime() - began;
        top_counts_add(&looked, &report.top);
        for (int p = 0; p < N_STEP_PARTS; p++) parts[p][t] = report.seconds[p];
    }
    for (int p = 0; p < N_STEP_PARTS; p++) medians[p] = median(parts[p], s->steps);
    print_step(s, how, c->threads, y, median(total, s->steps), medians);
    if (looked.rows)
        printf("%33s%.1f exact scores a row, %.4f %% of the rows with too many candidates\n", "",
               (double)looked.rescored / (double)looked.rows, 100 * (double)looked.fallbacks / (double)looked.rows);
    for (int p = 0; p < N_STEP_PARTS; p++) free(parts[p]);
    free(total);
    free(x);
    free(dead);
    learner_release(&l);
}

int main(int argc, char **argv) {
    int64_t of[] = {576, 9216, 32, 4096, 8};
    for (int i = 1; i < argc && i <= 5; i++) of[i - 1] = atoll(argv[i]);
    const char *only = argc > 6 ? argv[6] : NULL;
    const shape s = {of[0], of[1], of[2], of[3], of[4]};
    float *directions, *rows;
    err e;
    blas_init();
    must(mem_new(&directions, (size_t)s.d_sae, (size_t)s.d_in * sizeof *directions, "directions", &e), &e);
    must(mem_new(&rows, (size_t)s.batch, (size_t)s.d_in * sizeof *rows, "rows", &e), &e);
    random_directions(directions, s.d_sae, s.d_in);
    make_rows(&s, directions, rows);
    printf("training step: d_in %lld, d_sae %lld, k %lld, batch %lld, median of %lld steps, %s kernels\n", (long long)s.d_in,
           (long long)s.d_sae, (long long)s.k, (long long)s.batch, (long long)s.steps, cpu_level_name(cpu_best()));
    for (int threads = 1; threads <= omp_get_num_procs();
         threads = threads < omp_get_num_procs() ? omp_get_num_procs() : threads + 1) {
        ctx c = test_ctx(threads);
        double floats = peak_f32(&c), wholes = peak_whole(&c),
               work = 2.0 * (double)s.batch * (double)s.d_sae * (double)s.d_in;
        yardstick y = {work / floats, work / wholes, gemm_seconds(&c, &s, rows, directions)};
        printf("%d threads, peaks: %.1f GFLOP/s in float32, %.1f in whole numbers; OpenBLAS's x W_enc^T %.1f, %.0f rows/s\n",
               threads, 1e-9 * floats, 1e-9 * wholes, 1e-9 * work / y.gemm, (double)s.batch / y.gemm);
        for (int k = 0; k < N_KINDS; k++)
            if (!only || !strcmp(kinds[k].name, only)) run_steps(&c, &s, &kinds[k], directions, rows, &y);
    }
    free(directions);
    free(rows);
}
