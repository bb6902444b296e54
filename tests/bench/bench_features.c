/* Rows a second of the feature pass, stage by stage, beside the encoder's matrix product alone:
 *
 *   bench_features [rows [d_sae [k [threads]]]]      default 32768 8192 32 and all cores
 *
 * Rows are random sums of decoder rows on a corpus of Zipf-distributed words, so features fire on tokens and labels have
 * something to find. "of GEMM" is the time of x W_enc^T alone divided by the stage's; its own line says what of the
 * machine's measured peak it uses. */
#include "support/mini_corpus.h"
#include "support/peak.h"
#include "support/test.h"

#include "analysis/examples.h"
#include "analysis/labels.h"
#include "analysis/neighbours.h"
#include "core/mem.h"
#include "core/rng.h"
#include "math/blas.h"
#include "sae/sae.h"
#include "sae/variants/variants.h"

#include <omp.h>

enum { D = 576, VOCAB = 4000, DOC = 256, BATCH = 4096 };

static void must(err_code rc, const err *e) {
    if (rc) {
        fprintf(stderr, "%s\n", e->message);
        exit(1);
    }
}

static void make_text(mini_corpus *m, int64_t rows) {
    rng r = rng_stream(1, RNG_SYNTHETIC, 0);
    mini_corpus_init(m);
    for (int64_t d = 0; d < rows / DOC; d++) {
        strbuf s = STRBUF_INIT;
        for (int i = 0; i < DOC + 1; i++) strbuf_addf(&s, "%s w%d", i ? "|" : "", (int)(VOCAB * pow(rng_uniform(&r), 4)));
        mini_corpus_add(m, "text", s.data);
        strbuf_release(&s);
    }
    mini_corpus_finish(m, 1);
}

static sae *make_sae(int64_t d_sae, int64_t k) {
    sae_config cfg = {.d_in = D, .d_sae = d_sae, .k = k};
    sae *s;
    err e;
    must(sae_variant_find("topk", &cfg.variant, &e), &e);
    must(sae_new(&cfg, &s, &e), &e);
    rng r = rng_stream(2, RNG_SYNTHETIC, 0);
    for (int64_t i = 0; i < d_sae * D; i++) s->W_enc[i] = s->W_dec[i] = (float)(rng_normal(&r) / sqrt(D));
    return s;
}

/* A row: four features of its token, and noise. */
static void make_rows(const mini_corpus *m, const sae *s, float *x) {
    rng r = rng_stream(3, RNG_SYNTHETIC, 0);
    for (int64_t i = 0; i < m->n_rows; i++) {
        for (int j = 0; j < D; j++) x[i * D + j] = 0.1f * (float)rng_normal(&r);
        for (int64_t f = 0; f < 4; f++) {
            const float *d =
                s->W_dec + (m->k.tokens[m->row_token[i]] * 7919 + (uint64_t)f * 104729) % (uint64_t)s->cfg.d_sae * D;
            for (int j = 0; j < D; j++) x[i * D + j] += d[j];
        }
    }
}

static double gemm_seconds(const ctx *c, const sae *s, const float *x, int64_t n) {
    float *y = malloc((size_t)BATCH * (size_t)s->cfg.d_sae * sizeof *y);
    double started = seconds_now();
    for (int64_t r = 0; r < n; r += BATCH)
        blas_gemm_nt(c, n - r < BATCH ? n - r : BATCH, s->cfg.d_sae, D, x + r * D, D, s->W_enc, D, 0, y, s->cfg.d_sae);
    free(y);
    return seconds_now() - started;
}

static void encode(const ctx *c, const sae *s, const float *x, int64_t n, sparse_acts *all) {
    sparse_acts batch = {0};
    err e;
    int64_t nnz = 0;
    must(sparse_reserve(all, n, n * s->cfg.k, &e), &e);
    all->n_rows = n;
    all->indptr[0] = 0;
    for (int64_t r = 0; r < n; r += BATCH) {
        must(sae_encode(c, s, x + r * D, n - r < BATCH ? n - r : BATCH, &batch, &e), &e);
        int64_t more = batch.indptr[batch.n_rows];
        memcpy(all->indices + nnz, batch.indices, (size_t)more * sizeof *all->indices);
        memcpy(all->values + nnz, batch.values, (size_t)more * sizeof *all->values);
        for (int64_t i = 1; i <= batch.n_rows; i++) all->indptr[r + i] = nnz + batch.indptr[i];
        nnz += more;
    }
    sparse_release(&batch);
}

static void describe(const ctx *c, const mini_corpus *m, const postings *p, bool labels) {
    label_index *index;
    err e;
    must(label_index_new(&m->index, 0, &index, &e), &e);
#pragma omp parallel num_threads(c->threads)
    {
        label_scratch *scratch;
        example_scratch examples = EXAMPLE_SCRATCH_INIT;
        err mine;
        must(label_scratch_new(index, &scratch, &mine), &mine);
#pragma omp for schedule(dynamic, 16)
        for (int64_t f = 0; f < p->n_features; f++) {
            feature_card card = {0};
            label_rule rule;
            label_score score;
            if (labels)
                must(label_feature(index, p, f, scratch, &rule, &score, &mine), &mine);
            else
                must(examples_fill(&m->index, p, f, &examples, &card, &mine), &mine);
            feature_card_release(&card);
        }
        label_scratch_free(scratch);
        example_scratch_release(&examples);
    }
    label_index_free(index);
}

static void print_stage(const char *name, double seconds, int64_t rows, double gemm) {
    printf("%-28s %8.3f s %10.0f rows/s   %5.2f of GEMM\n", name, seconds, (double)rows / seconds, gemm / seconds);
}

int main(int argc, char **argv) {
    int64_t rows = argc > 1 ? atoll(argv[1]) : 32768, d_sae = argc > 2 ? atoll(argv[2]) : 8192,
            k = argc > 3 ? atoll(argv[3]) : 32;
    ctx c = test_ctx(argc > 4 ? atoi(argv[4]) : omp_get_max_threads());
    mini_corpus m;
    sparse_acts codes = {0};
    postings p;
    float *x;
    err e;
    make_text(&m, rows);
    sae *s = make_sae(d_sae, k);
    must(mem_new(&x, (size_t)m.n_rows, D * sizeof *x, "rows", &e), &e);
    make_rows(&m, s, x);
    printf("feature pass: %lld rows, d_in %d, d_sae %lld, k %lld, %d threads, %s kernels\n", (long long)m.n_rows, D,
           (long long)d_sae, (long long)k, c.threads, cpu_level_name(c.cpu));

    gemm_seconds(&c, s, x, m.n_rows); /* warm */
    double peak = peak_f32(&c), flops = 2 * (double)m.n_rows * (double)d_sae * D;
    double gemm = gemm_seconds(&c, s, x, m.n_rows), whole = seconds_now();
    print_stage("encoder GEMM alone", gemm, m.n_rows, gemm);
    printf("%-28s %8.0f %% of the measured peak of %.1f GFLOP/s\n", "", 100 * flops / gemm / peak, peak / 1e9);
    double t = seconds_now();
    encode(&c, s, x, m.n_rows, &codes);
    print_stage("encode", seconds_now() - t, m.n_rows, gemm);
    t = seconds_now();
    must(postings_build(d_sae, codes.n_rows, codes.indptr, codes.indices, codes.values, &p, &e), &e);
    print_stage("postings", seconds_now() - t, m.n_rows, gemm);
    t = seconds_now();
    describe(&c, &m, &p, false);
    print_stage("examples, histograms", seconds_now() - t, m.n_rows, gemm);
    t = seconds_now();
    describe(&c, &m, &p, true);
    print_stage("labels", seconds_now() - t, m.n_rows, gemm);
    t = seconds_now();
    top_entry *best = calloc((size_t)d_sae * 8, sizeof *best);
    must(decoder_neighbours(&c, s->W_dec, d_sae, D, 8, best, &e), &e);
    print_stage("decoder neighbours", seconds_now() - t, m.n_rows, gemm);
    print_stage("all", seconds_now() - whole, m.n_rows, gemm);

    free(best);
    postings_release(&p);
    sparse_release(&codes);
    sae_free(s);
    free(x);
    mini_corpus_release(&m);
    return 0;
}
