#include "sae/train/step.h"
#include "core/mem.h"
#include "math/blas.h"
#include "sae/decode.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_ROWS = DECODE_ROWS, BLOCK_LATENTS = 64, CHUNK_ROWS = 512 };

/* Whole numbers do not pay when more than one score in so many is computed exactly; they are tried again after so many steps. */
enum { WHOLE_PAYS_BELOW = 16, STEPS_WITHOUT_WHOLE = 32 };

const char *const step_part_names[N_STEP_PARTS] = {"encode", "residual", "invert", "auxk", "latents"};

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t blocks_of(int64_t n, int64_t size) { return (n + size - 1) / size; }

/* ---- life ---- */

step_rules step_defaults(const sae_training *t) {
    return (step_rules){.training = t,
                        .adam = {.beta1 = t->beta1, .beta2 = 0.999, .eps = 1e-8},
                        .fvu = true,
                        .project = t->unit_decoder,
                        .renormalize = t->unit_decoder,
                        .auxk = t->options & TRAINS_AUXK ? 1.0 / 32 : 0};
}

sae_config step_config(const sae_training *t, int64_t d_in, int64_t d_out, int64_t d_sae, int64_t k) {
    return (sae_config){.variant = t->variant,
                        .d_in = d_in,
                        .d_out = d_out,
                        .d_sae = d_sae,
                        .k = t->variant->uses_k ? k : 0,
                        .apply_b_dec_to_input = t->subtracts_b_dec,
                        .transcoder = t->options & TRAINS_TARGET,
                        .skip = t->skip};
}

static float *latent_vector(const sae *s, int which) {
    float *const all[] = {s->b_enc, s->b_gate, s->r_mag, s->threshold};
    return all[which];
}

/* A threshold that no gradient reaches is set by other means. */
static bool trains_vector(const learner *l, int which) {
    return latent_vector(l->s, which) && (which != VECTOR_THRESHOLD || l->rules.training->trains_threshold);
}

err_code learner_init(learner *l, const sae_config *cfg, const step_rules *rules, err *e) {
    *l = (learner){.rules = *rules};
    err_code rc = sae_new(cfg, &l->s, e);
    if (!rc) rc = sae_new(cfg, &l->m, e);
    if (!rc) rc = sae_new(cfg, &l->v, e);
    for (int i = 0; !rc && i < N_LATENT_VECTORS; i++)
        if (trains_vector(l, i)) rc = mem_new(&l->g_vectors[i], (size_t)cfg->d_sae, sizeof *l->g_vectors[i], "gradients", e);
    if (!rc) rc = mem_new(&l->order, (size_t)cfg->d_sae, sizeof *l->order, "latents", e);
    if (!rc) rc = mem_new(&l->g_b_dec, (size_t)l->s->cfg.d_out, sizeof *l->g_b_dec, "gradients", e);
    if (!rc && cfg->skip)
        rc = mem_new(&l->g_W_skip, (size_t)l->s->cfg.d_out, (size_t)cfg->d_in * sizeof *l->g_W_skip, "gradients", e);
    if (rc) learner_release(l);
    return rc;
}

void learner_release(learner *l) {
    sae_free(l->s);
    sae_free(l->m);
    sae_free(l->v);
    train_batch_release(&l->batch);
    auxk_release(&l->aux);
    free(l->u);
    free(l->linear);
    free(l->block_vectors);
    free(l->block_scalars);
    for (int i = 0; i < N_LATENT_VECTORS; i++) free(l->g_vectors[i]);
    free(l->order);
    free(l->g_b_dec);
    free(l->g_W_skip);
    free(l->thread_scratch);
    *l = (learner){0};
}

static int64_t n_prefixes(const learner *l) { return max64(l->rules.own.n_prefixes, 1); }

/* Floats of a thread: a run of latents' gradients and decoder, two chunks of a set as a matrix, a row. */
static int64_t scratch_floats(const sae *s) {
    return BLOCK_LATENTS * (s->cfg.d_in + 2 * s->cfg.d_out) + 2 * BLOCK_LATENTS * CHUNK_ROWS + s->cfg.d_out;
}

static int64_t vector_floats(const sae *s) { return 3 * max64(s->cfg.d_in, s->cfg.d_out); }

static err_code reserve(const ctx *c, learner *l, int64_t n, err *e) {
    size_t row_bytes = (size_t)l->s->cfg.d_out * sizeof(float), prefixes = (size_t)n_prefixes(l);
    size_t blocks = (size_t)max64(blocks_of(n, BLOCK_ROWS), blocks_of(l->s->cfg.d_sae, BLOCK_LATENTS));
    err_code rc = mem_grow(&l->u, &l->cap_u, (size_t)n * prefixes, row_bytes, "residuals", e);
    if (!rc && l->s->W_skip) rc = mem_grow(&l->linear, &l->cap_linear, (size_t)n, row_bytes, "linear maps of rows", e);
    if (!rc)
        rc = mem_grow(&l->block_vectors, &l->cap_vectors, blocks, (size_t)vector_floats(l->s) * sizeof(float),
                      "sums of blocks", e);
    if (!rc) rc = mem_grow(&l->block_scalars, &l->cap_scalars, blocks, (1 + prefixes) * sizeof(double), "sums of blocks", e);
    if (!rc)
        rc = mem_grow(&l->thread_scratch, &l->cap_scratch, (size_t)c->threads, (size_t)scratch_floats(l->s) * sizeof(float),
                      "gradients", e);
    return rc;
}

/* ---- rows: forward ---- */

static void subtract_b_dec(const ctx *c, const sae *s, float *x, int64_t n) {
    int64_t d = s->cfg.d_in;
#pragma omp parallel for num_threads(c->threads)
    for (int64_t r = 0; r < n; r++)
        for (int64_t j = 0; j < d; j++) x[r * d + j] -= s->b_dec[j];
}

/* Residual of the first `end` latents where u holds that of the first `begin` ones. Latents of a row are ascending. */
static void add_prefix(const train_batch *b, int64_t first, int64_t rows, int64_t begin, int64_t end, float *u) {
    const sparse_acts *f = &b->f.by_row;
    int64_t d = b->s->cfg.d_out;
    for (int64_t r = 0; r < rows; r++) {
        int64_t from = f->indptr[first + r], to = f->indptr[first + r + 1];
        while (from < to && f->indices[from] < begin) from++;
        while (to > from && f->indices[to - 1] >= end) to--;
        b->k->add_rows(u + r * d, d, b->s->W_dec, f->indices + from, f->values + from, to - from);
    }
}

/* u of every prefix on a block of rows, then each of them with those behind it added; squares of each before that. */
static void prefix_block(const learner *l, int64_t first, int64_t rows, double *squares) {
    const train_batch *b = &l->batch;
    int64_t d = b->s->cfg.d_out, size = b->n * d, begin = 0;
    int last = l->rules.own.n_prefixes - 1;
    for (int p = 0; p <= last; p++) {
        float *u = l->u + p * size + first * d;
        if (p) memcpy(u, u - size, (size_t)(rows * d) * sizeof *u);
        add_prefix(b, first, rows, begin, l->rules.own.prefixes[p], u);
        begin = l->rules.own.prefixes[p];
        for (int64_t r = 0; r < rows; r++) squares[p] += (double)b->k->dot(u + r * d, u + r * d, d);
    }
    for (int p = last; p > 0; p--) {
        float *u = l->u + (p - 1) * size + first * d;
        for (int64_t j = 0; j < rows * d; j++) u[j] += u[size + j];
    }
}

/* Residuals of a block of rows, and its sums: vectors (sum y, sum u, sum of the longest prefix's u), scalars (sum ||y||^2, and
 * sum ||u||^2 of each prefix). */
static void residual_block(const learner *l, int64_t block) {
    const train_batch *b = &l->batch;
    int64_t d = b->s->cfg.d_out, first = block * BLOCK_ROWS, rows = min64(BLOCK_ROWS, b->n - first), prefixes = n_prefixes(l);
    float *sum_y = l->block_vectors + block * vector_floats(b->s), *u = l->u + first * d, ones[BLOCK_ROWS];
    double *squares = l->block_scalars + block * (1 + prefixes);
    uint32_t each[BLOCK_ROWS];
    memset(sum_y, 0, 3 * (size_t)d * sizeof *sum_y);
    memset(squares, 0, (size_t)(1 + prefixes) * sizeof *squares);
    train_batch_start(b, first, rows, u);
    if (l->rules.own.n_prefixes)
        prefix_block(l, first, rows, squares + 1);
    else
        decode_add_block(b->c, b->s, &b->f.by_row, first, rows, u);
    for (int64_t r = 0; r < rows; r++) {
        const float *yr = b->y + (first + r) * d;
        squares[0] += (double)b->k->dot(yr, yr, d);
        if (!l->rules.own.n_prefixes) squares[1] += (double)b->k->dot(u + r * d, u + r * d, d);
        ones[r] = 1;
        each[r] = (uint32_t)r;
    }
    b->k->add_rows(sum_y, d, b->y + first * d, each, ones, rows);
    b->k->add_rows(sum_y + d, d, u, each, ones, rows);
    b->k->add_rows(sum_y + 2 * d, d, u + (prefixes - 1) * b->n * d, each, ones, rows);
}

/* Of the whole batch. */
typedef struct batch_sums {
    double uu;       /* sum ||u||^2, over prefixes too */
    double y_spread; /* sum ||y - mean y||^2 */
    double u_spread; /* of the longest prefix */
} batch_sums;

/* Adds up the blocks; leaves sum u in g_b_dec. */
static batch_sums sum_blocks(const learner *l) {
    int64_t d = l->s->cfg.d_out, n_blocks = blocks_of(l->batch.n, BLOCK_ROWS), prefixes = n_prefixes(l);
    double n = (double)l->batch.n;
    batch_sums sums = {0};
    for (int64_t b = 0; b < n_blocks; b++) {
        const double *squares = l->block_scalars + b * (1 + prefixes);
        sums.y_spread += squares[0];
        sums.u_spread += squares[prefixes];
        for (int64_t p = 1; p <= prefixes; p++) sums.uu += squares[p];
    }
    for (int64_t j = 0; j < d; j++) {
        double y = 0, u = 0, longest = 0;
        for (int64_t b = 0; b < n_blocks; b++) {
            const float *vectors = l->block_vectors + b * vector_floats(l->s);
            y += (double)vectors[j];
            u += (double)vectors[d + j];
            longest += (double)vectors[2 * d + j];
        }
        sums.y_spread -= y * y / n;
        sums.u_spread -= longest * longest / n;
        l->g_b_dec[j] = (float)u;
    }
    return sums;
}

static batch_sums residuals(const ctx *c, const learner *l) {
#pragma omp parallel for num_threads(c->threads) schedule(dynamic)
    for (int64_t block = 0; block < blocks_of(l->batch.n, BLOCK_ROWS); block++) residual_block(l, block);
    return sum_blocks(l);
}

/* The reconstruction's terms: latents between two prefixes learn from the residuals of all prefixes that hold them. */
static void reconstruction_terms(learner *l) {
    train_batch *b = &l->batch;
    b->n_terms = 0;
    for (int p = 0; p < n_prefixes(l); p++)
        b->terms[b->n_terms++] = (loss_term){
            .set = &b->f.by_latent,
            .e = l->u + p * b->n * b->s->cfg.d_out,
            .scale = (float)(2 * b->unit),
            .first = p ? l->rules.own.prefixes[p - 1] : 0,
            .end = l->rules.own.n_prefixes ? l->rules.own.prefixes[p] : b->s->cfg.d_sae,
        };
}

/* ---- latents: backward and Adam ---- */

/* What the pass over the latents needs to know. */
typedef struct backward {
    learner *l;
    float clip; /* gradients are multiplied with it */
    adam_step adam;
    bool update; /* else only norms are wanted */
} backward;

/* Scratch of a thread. */
typedef struct scratch {
    float *enc, *dec; /* [BLOCK_LATENTS, d_in], [BLOCK_LATENTS, d_out] */
    float *w_dec;     /* [BLOCK_LATENTS, d_out] */
    float *p, *f;     /* [BLOCK_LATENTS, CHUNK_ROWS] */
    float *row;       /* [d_out] */
} scratch;

static scratch scratch_of(const learner *l, int thread) {
    const sae_config *cfg = &l->s->cfg;
    scratch s = {.enc = l->thread_scratch + thread * scratch_floats(l->s)};
    s.dec = s.enc + BLOCK_LATENTS * cfg->d_in;
    s.w_dec = s.dec + BLOCK_LATENTS * cfg->d_out;
    s.p = s.w_dec + BLOCK_LATENTS * cfg->d_out;
    s.f = s.p + BLOCK_LATENTS * CHUNK_ROWS;
    s.row = s.f + BLOCK_LATENTS * CHUNK_ROWS;
    return s;
}

/* The rows of latent i in a term; none outside its range. */
static latent_rows rows_of(const loss_term *t, int64_t i) {
    if (i >= t->first && i < t->end) return inverted_latent(t->set, i);
    return (latent_rows){.n = 0};
}

static latent_weights weights_of(const loss_term *t, int64_t i) {
    return (latent_weights){.scale = t->scale, .offset = t->offset ? t->offset[i] : 0, .gain = t->gain ? t->gain[i] : 1};
}

/* One latent's gradient in one term from the rows it fired on; returns sum_r p_r. */
static float sparse_term(const train_batch *b, const loss_term *t, int64_t i, float *enc, float *dec, float *row) {
    int64_t d_in = b->s->cfg.d_in, d_out = b->s->cfg.d_out;
    latent_rows rows = rows_of(t, i);
    latent_weights w = weights_of(t, i);
    const float *w_dec = b->s->W_dec + i * d_out;
    if (!t->sum_only)
        return b->k->latent_gradient(&rows, &w, b->x, d_in, t->e, d_out, w_dec, enc, t->keeps_decoder ? NULL : dec);
    memset(row, 0, (size_t)d_out * sizeof *row);
    b->k->add_rows(row, d_out, t->e, rows.rows, rows.values, rows.n);
    return w.scale * b->k->dot(row, w_dec, d_out) + w.offset * (float)rows.n;
}

/* Of products <e_r, W_dec_i> on rows first .. first + n - 1 leaves gain p_r where the latent fired, zeros elsewhere, and puts
 * scale f_r beside. Returns the sum of p_r. rows->rows moves on. */
static double mask_products(latent_rows *rows, const latent_weights *w, int64_t first, int64_t n, float *p, float *f) {
    int64_t j = 0, at = 0;
    double sum = 0;
    memset(f, 0, (size_t)n * sizeof *f);
    for (; at < rows->n && rows->rows[at] < first + n; at++) {
        int64_t r = rows->rows[at] - first;
        for (; j < r; j++) p[j] = 0;
        float product = p[r] * w->scale + w->offset;
        sum += (double)product;
        p[r] = w->gain * product;
        f[r] = w->scale * rows->values[at];
        j = r + 1;
    }
    for (; j < n; j++) p[j] = 0;
    *rows = (latent_rows){rows->rows + at, rows->values + at, rows->n - at};
    return sum;
}

/* The gradients of n latents in one term, with the set as a matrix, a chunk of rows at a time. */
static void dense_term(const train_batch *b, const loss_term *t, const uint32_t *latents, int64_t n, const scratch *s,
                       float *sums) {
    int64_t d_in = b->s->cfg.d_in, d_out = b->s->cfg.d_out;
    latent_rows rows[BLOCK_LATENTS];
    double sum[BLOCK_LATENTS] = {0};
    for (int64_t i = 0; i < n; i++) {
        rows[i] = rows_of(t, latents[i]);
        memcpy(s->w_dec + i * d_out, b->s->W_dec + latents[i] * d_out, (size_t)d_out * sizeof *s->w_dec);
    }
    for (int64_t r = 0; r < b->n; r += CHUNK_ROWS) {
        int64_t m = min64(CHUNK_ROWS, b->n - r);
        const float *x = b->x + r * d_in, *e = t->e + r * d_out;
        blas_gemm_nt_serial(b->c, n, m, d_out, s->w_dec, d_out, e, d_out, 0, s->p, CHUNK_ROWS);
        for (int64_t i = 0; i < n; i++) {
            latent_weights w = weights_of(t, latents[i]);
            sum[i] += mask_products(&rows[i], &w, r, m, s->p + i * CHUNK_ROWS, s->f + i * CHUNK_ROWS);
        }
        blas_gemm_nn_serial(b->c, n, d_in, m, s->p, CHUNK_ROWS, x, d_in, 1, s->enc, d_in);
        if (!t->keeps_decoder) blas_gemm_nn_serial(b->c, n, d_out, m, s->f, CHUNK_ROWS, e, d_out, 1, s->dec, d_out);
    }
    for (int64_t i = 0; i < n; i++) sums[i] = (float)sum[i];
}

static bool is_dense(const train_batch *b, const loss_term *t, const uint32_t *latents, int64_t n) {
    int64_t entries = 0;
    for (int64_t i = 0; i < n; i++) entries += rows_of(t, latents[i]).n;
    return !t->sum_only && (double)entries > DENSE_SHARE * (double)(n * b->n);
}

/* The gradients of n latents: their matrices in s, sums[term][latent]. */
static void gradients(const train_batch *b, const uint32_t *latents, int64_t n, const scratch *s,
                      float sums[][BLOCK_LATENTS]) {
    int64_t d_in = b->s->cfg.d_in, d_out = b->s->cfg.d_out;
    memset(s->enc, 0, (size_t)(n * d_in) * sizeof *s->enc);
    memset(s->dec, 0, (size_t)(n * d_out) * sizeof *s->dec);
    for (int t = 0; t < b->n_terms; t++) {
        if (n > 1 && is_dense(b, &b->terms[t], latents, n)) {
            dense_term(b, &b->terms[t], latents, n, s, sums[t]);
            continue;
        }
        for (int64_t i = 0; i < n; i++)
            sums[t][i] = sparse_term(b, &b->terms[t], latents[i], s->enc + i * d_in, s->dec + i * d_out, s->row);
    }
}

/* Puts together what belongs to latent i, the j-th of its run. */
static latent_gradient complete(const backward *b, int64_t i, int64_t j, const scratch *s,
                                const float sums[][BLOCK_LATENTS]) {
    const learner *l = b->l;
    const train_batch *batch = &l->batch;
    const sae_config *cfg = &l->s->cfg;
    latent_gradient g = {.enc = s->enc + j * cfg->d_in, .dec = s->dec + j * cfg->d_out};
    for (int t = 0; t < batch->n_terms; t++) {
        g.sums[t] = sums[t][j];
        if (!batch->terms[t].sum_only) g.pre += weights_of(&batch->terms[t], i).gain * g.sums[t];
    }
    g.b_enc = g.pre;
    if (l->rules.training->complete) l->rules.training->complete(batch, i, &g);
    if (l->rules.project) batch->k->project_out(g.dec, l->s->W_dec + i * cfg->d_out, cfg->d_out);
    return g;
}

static void update_latent(const backward *b, int64_t i, const latent_gradient *g) {
    learner *l = b->l;
    const sparse_kernels *k = l->batch.k;
    int64_t d_in = l->s->cfg.d_in, d_out = l->s->cfg.d_out, enc = i * d_in, dec = i * d_out;
    k->adam(&b->adam, b->clip, g->enc, l->s->W_enc + enc, l->m->W_enc + enc, l->v->W_enc + enc, d_in);
    k->adam(&b->adam, b->clip, g->dec, l->s->W_dec + dec, l->m->W_dec + dec, l->v->W_dec + dec, d_out);
    if (l->rules.renormalize) k->normalize(l->s->W_dec + dec, d_out);
}

/* Adam on the logarithm of thresholds: they are multiplied with what it would add. */
static void update_thresholds(const backward *b, int64_t first, int64_t n) {
    learner *l = b->l;
    float change[BLOCK_LATENTS] = {0};
    l->batch.k->adam(&b->adam, b->clip, l->g_vectors[VECTOR_THRESHOLD] + first, change, l->m->threshold + first,
                     l->v->threshold + first, n);
    for (int64_t i = 0; i < n; i++) l->s->threshold[first + i] *= expf(change[i]);
}

static void update_vectors(const backward *b, int64_t first, int64_t n) {
    learner *l = b->l;
    for (int v = 0; v < N_LATENT_VECTORS; v++) {
        if (!l->g_vectors[v]) continue;
        if (v == VECTOR_THRESHOLD)
            update_thresholds(b, first, n);
        else
            l->batch.k->adam(&b->adam, b->clip, l->g_vectors[v] + first, latent_vector(l->s, v) + first,
                             latent_vector(l->m, v) + first, latent_vector(l->v, v) + first, n);
    }
}

static double squares_of(const sparse_kernels *k, const float *g, int64_t n) { return g ? (double)k->dot(g, g, n) : 0; }

/* Latents whose matrices' gradients were made together. */
static void finish_run(const backward *b, const uint32_t *latents, int64_t n, const scratch *s,
                       const float sums[][BLOCK_LATENTS], float *pull, double *squares) {
    learner *l = b->l;
    const sparse_kernels *k = l->batch.k;
    int64_t d_in = l->s->cfg.d_in, d_out = l->s->cfg.d_out;
    for (int64_t j = 0; j < n; j++) {
        int64_t i = latents[j];
        latent_gradient g = complete(b, i, j, s, sums);
        const float vectors[N_LATENT_VECTORS] = {g.b_enc, g.b_gate, g.r_mag, g.threshold};
        for (int v = 0; v < N_LATENT_VECTORS; v++)
            if (l->g_vectors[v]) l->g_vectors[v][i] = vectors[v];
        if (g.pre != 0) k->add_rows(pull, d_in, l->s->W_enc, latents + j, &g.pre, 1);
        if (b->update)
            update_latent(b, i, &g);
        else
            *squares += squares_of(k, g.enc, d_in) + squares_of(k, g.dec, d_out);
    }
}

/* A block's vector is sum_i pre_i W_enc_i, what its latents contribute to b_dec through x - b_dec, with W_enc as it was; its
 * scalar the square of its gradients. */
static void latent_block(const backward *b, int64_t block, const scratch *s) {
    learner *l = b->l;
    int64_t first = block * BLOCK_LATENTS, n = min64(BLOCK_LATENTS, l->s->cfg.d_sae - first), run = 1;
    const uint32_t *latents = l->order + first;
    float *pull = l->block_vectors + block * vector_floats(l->s), sums[TERMS_MAX][BLOCK_LATENTS];
    double *squares = l->block_scalars + block * (1 + n_prefixes(l));
    memset(pull, 0, (size_t)l->s->cfg.d_in * sizeof *pull);
    *squares = 0;
    for (int t = 0; t < l->batch.n_terms; t++)
        if (is_dense(&l->batch, &l->batch.terms[t], latents, n)) run = n;
    for (int64_t j = 0; j < n; j += run) {
        gradients(&l->batch, latents + j, run, s, sums);
        finish_run(b, latents + j, run, s, (const float(*)[BLOCK_LATENTS])sums, pull, squares);
    }
}

/* The same of the parameters that are one number a latent, once all their gradients are there. */
static void vector_block(const backward *b, int64_t block) {
    learner *l = b->l;
    int64_t first = block * BLOCK_LATENTS, n = min64(BLOCK_LATENTS, l->s->cfg.d_sae - first);
    double *squares = l->block_scalars + block * (1 + n_prefixes(l));
    if (b->update) update_vectors(b, first, n);
    for (int v = 0; v < N_LATENT_VECTORS; v++)
        if (l->g_vectors[v]) *squares += squares_of(l->batch.k, l->g_vectors[v] + first, n);
}

static void all_latents(const ctx *c, const backward *b) {
    int64_t n_blocks = blocks_of(b->l->s->cfg.d_sae, BLOCK_LATENTS);
#pragma omp parallel for num_threads(c->threads) schedule(dynamic)
    for (int64_t block = 0; block < n_blocks; block++) {
        scratch s = scratch_of(b->l, omp_get_thread_num());
        latent_block(b, block, &s);
    }
#pragma omp parallel for num_threads(c->threads)
    for (int64_t block = 0; block < n_blocks; block++) vector_block(b, block);
}

/* b_dec's gradient: scale sum u, less what goes through x - b_dec. sum_u may be the result. */
static void b_dec_gradient(const learner *l, const float *sum_u, float *g) {
    int64_t n_blocks = blocks_of(l->s->cfg.d_sae, BLOCK_LATENTS);
    double scale = (double)l->batch.terms[0].scale;
    for (int64_t j = 0; j < l->s->cfg.d_out; j++) {
        double sum = scale * (double)sum_u[j];
        for (int64_t block = 0; l->s->cfg.apply_b_dec_to_input && block < n_blocks; block++)
            sum -= (double)l->block_vectors[block * vector_floats(l->s) + j];
        g[j] = (float)sum;
    }
}

/* W_skip's gradient: scale u^T x. */
static void skip_gradient(const ctx *c, const learner *l) {
    int64_t d_in = l->s->cfg.d_in, d_out = l->s->cfg.d_out;
    if (!l->g_W_skip) return;
    blas_gemm_tn(c, d_out, d_in, l->batch.n, l->u, d_out, l->batch.x, d_in, 0, l->g_W_skip, d_in);
    for (int64_t i = 0; i < d_out * d_in; i++) l->g_W_skip[i] *= l->batch.terms[0].scale;
}

/* The norm of all gradients; the factor that clips it goes to b->clip. */
static double clip_gradients(const ctx *c, backward *b) {
    learner *l = b->l;
    const sparse_kernels *k = l->batch.k;
    float *g_b_dec = l->thread_scratch;
    double squares = squares_of(k, l->g_W_skip, l->s->cfg.d_out * l->s->cfg.d_in);
    b->update = false;
    all_latents(c, b);
    for (int64_t block = 0; block < blocks_of(l->s->cfg.d_sae, BLOCK_LATENTS); block++)
        squares += l->block_scalars[block * (1 + n_prefixes(l))];
    b_dec_gradient(l, l->g_b_dec, g_b_dec);
    squares += squares_of(k, g_b_dec, l->s->cfg.d_out);
    double norm = sqrt(squares);
    b->clip = (float)fmin(1, l->rules.clip / (norm + 1e-6)); /* 1e-6: as torch.nn.utils.clip_grad_norm_ */
    return norm;
}

static void update_all(const ctx *c, backward *b) {
    learner *l = b->l;
    const sparse_kernels *k = l->batch.k;
    b->update = true;
    all_latents(c, b);
    b_dec_gradient(l, l->g_b_dec, l->g_b_dec);
    k->adam(&b->adam, b->clip, l->g_b_dec, l->s->b_dec, l->m->b_dec, l->v->b_dec, l->s->cfg.d_out);
    if (l->g_W_skip)
        k->adam(&b->adam, b->clip, l->g_W_skip, l->s->W_skip, l->m->W_skip, l->v->W_skip, l->s->cfg.d_out * l->s->cfg.d_in);
    l->steps++;
}

/* ---- a step ---- */

/* Seconds since *clock, which moves on. */
static double lap(double *clock) {
    double now = omp_get_wtime(), passed = now - *clock;
    *clock = now;
    return passed;
}

static double share_of(double coefficient, double spread) { return spread > 0 ? coefficient / spread : 0; }

/* Dead latents stand together: AuxK lets them fire on so many rows that matrix products are faster for them. */
static void order_latents(const learner *l, const uint32_t *dead, int64_t n_dead) {
    int64_t alive = 0;
    for (int64_t i = 0, j = 0; i < l->s->cfg.d_sae; i++) {
        if (j < n_dead && dead[j] == i)
            j++;
        else
            l->order[alive++] = (uint32_t)i;
    }
    for (int64_t j = 0; j < n_dead; j++) l->order[alive + j] = dead[j];
}

/* How this step looks for the largest scores, and what that says about the next ones. */
static preselect begin_looking(learner *l) {
    preselect how = l->rules.own.preselect;
    if (how != PRESELECT_AUTO || !l->steps_without_whole) return how;
    l->steps_without_whole--;
    return PRESELECT_OFF;
}

static void end_looking(learner *l, const top_counts *found) {
    bool pays = found->rescored <= found->rows * l->s->cfg.d_sae / WHOLE_PAYS_BELOW;
    if (l->batch.preselect == PRESELECT_AUTO && !pays) l->steps_without_whole = STEPS_WITHOUT_WHOLE;
}

/* Fills what the variant may read before it chooses. */
static void begin_batch(const ctx *c, learner *l, float *x, const float *y, int64_t n) {
    train_batch *b = &l->batch;
    int64_t d_in = l->s->cfg.d_in, d_out = l->s->cfg.d_out;
    b->c = c;
    b->k = sparse_kernels_for(c->cpu);
    b->s = l->s;
    b->rules = &l->rules.own;
    b->x = x;
    b->y = y ? y : x;
    b->linear = l->s->W_skip ? l->linear : NULL;
    b->n = n;
    b->u = l->u + (n_prefixes(l) - 1) * n * d_out;
    b->sparsity = b->gates = 0;
    if (l->s->cfg.apply_b_dec_to_input) subtract_b_dec(c, l->s, x, n);
    if (l->s->W_skip) blas_gemm_nt(c, n, d_out, d_in, x, d_in, l->s->W_skip, d_in, 0, l->linear, d_out);
}

static double dense_share(const learner *l) {
    int64_t d_sae = l->s->cfg.d_sae, n_blocks = blocks_of(d_sae, BLOCK_LATENTS), dense = 0;
    for (int64_t i = 0; i < d_sae; i += BLOCK_LATENTS)
        dense += is_dense(&l->batch, &l->batch.terms[0], l->order + i, min64(BLOCK_LATENTS, d_sae - i));
    return (double)dense / (double)n_blocks;
}

/* The terms of the loss, and what they come to. */
static err_code lose(const ctx *c, learner *l, const batch_sums *sums, const uint32_t *dead, int64_t n_dead, step_report *out,
                     err *e) {
    train_batch *b = &l->batch;
    err_code rc;
    double per_aux = share_of(l->rules.auxk, sums->u_spread);
    b->unit = l->rules.fvu ? share_of(1, sums->y_spread) : 1 / (double)b->n;
    reconstruction_terms(l);
    if (l->rules.training->add_terms) TRY(l->rules.training->add_terms(b, e));
    if (n_dead && l->rules.auxk > 0 && l->rules.k_aux > 0) {
        TRY(auxk_forward(c, &l->aux, l->s, b->x, b->u, b->n, dead, n_dead, l->rules.k_aux, e));
        b->terms[b->n_terms++] =
            (loss_term){.set = &l->aux.fired, .e = l->aux.r, .scale = (float)(2 * per_aux), .end = l->s->cfg.d_sae};
        out->auxk = per_aux * l->aux.squares;
    }
    out->loss = b->unit * sums->uu;
    out->sparsity = b->sparsity;
    out->gates = b->gates;
    out->dense = dense_share(l);
done:
    return rc;
}

err_code learner_step(const ctx *c, learner *l, float *x, const float *y, int64_t n, double lr, const uint32_t *dead,
                      int64_t n_dead, step_report *out, err *e) {
    err_code rc;
    train_batch *b = &l->batch;
    const sae_training *t = l->rules.training;
    double clock = omp_get_wtime();
    *out = (step_report){0};
    TRY(reserve(c, l, n, e));
    begin_batch(c, l, x, y, n);
    order_latents(l, dead, n_dead);
    b->counts = &out->top;
    b->preselect = begin_looking(l);
    TRY(t->choose(b, e));
    end_looking(l, &out->top);
    out->l0 = (double)b->f.by_row.indptr[n] / (double)n;
    out->seconds[STEP_ENCODE] = lap(&clock);

    batch_sums sums = residuals(c, l);
    out->seconds[STEP_RESIDUAL] = lap(&clock);

    TRY(inverted_build(&b->f.by_latent, &b->f.by_row, l->s->cfg.d_sae, e));
    if (t->uses_other) TRY(inverted_build(&b->other.by_latent, &b->other.by_row, l->s->cfg.d_sae, e));
    out->seconds[STEP_INVERT] = lap(&clock);

    TRY(lose(c, l, &sums, dead, n_dead, out, e));
    out->seconds[STEP_AUXK] = lap(&clock);

    backward back = {.l = l, .clip = 1, .adam = adam_step_at(&l->rules.adam, lr, l->steps + 1)};
    skip_gradient(c, l);
    if (l->rules.clip > 0) out->grad_norm = clip_gradients(c, &back);
    update_all(c, &back);
    if (t->after) t->after(b);
    out->seconds[STEP_LATENTS] = lap(&clock);
done:
    return rc;
}
