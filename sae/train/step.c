#include "sae/train/step.h"
#include "core/mem.h"
#include "sae/encode.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_ROWS = 64, BLOCK_LATENTS = 64 };

const char *const step_part_names[N_STEP_PARTS] = {"encode", "residual", "invert", "auxk", "latents"};

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t blocks_of(int64_t n, int64_t size) { return (n + size - 1) / size; }

/* ---- life ---- */

err_code learner_init(learner *l, const sae_config *cfg, const step_rules *rules, err *e) {
    *l = (learner){.rules = *rules};
    err_code rc = sae_new(cfg, &l->s, e);
    if (!rc) rc = sae_new(cfg, &l->m, e);
    if (!rc) rc = sae_new(cfg, &l->v, e);
    if (!rc) rc = mem_new(&l->g_b_enc, (size_t)cfg->d_sae, sizeof *l->g_b_enc, "gradients", e);
    if (!rc) rc = mem_new(&l->g_b_dec, (size_t)cfg->d_in, sizeof *l->g_b_dec, "gradients", e);
    if (rc) learner_release(l);
    return rc;
}

void learner_release(learner *l) {
    sae_free(l->s);
    sae_free(l->m);
    sae_free(l->v);
    sparse_release(&l->f);
    inverted_release(&l->fired);
    auxk_release(&l->aux);
    free(l->u);
    free(l->block_vectors);
    free(l->block_scalars);
    free(l->g_b_enc);
    free(l->g_b_dec);
    free(l->thread_vectors);
    *l = (learner){0};
}

static err_code reserve(const ctx *c, learner *l, int64_t n, err *e) {
    size_t d = (size_t)l->s->cfg.d_in, row_bytes = d * sizeof(float);
    int64_t row_blocks = blocks_of(n, BLOCK_ROWS), latent_blocks = blocks_of(l->s->cfg.d_sae, BLOCK_LATENTS);
    size_t blocks = (size_t)(row_blocks > latent_blocks ? row_blocks : latent_blocks);
    err_code rc = mem_grow(&l->u, &l->cap_u, (size_t)n, row_bytes, "residuals", e);
    if (!rc) rc = mem_grow(&l->block_vectors, &l->cap_vectors, blocks, 2 * row_bytes, "sums of blocks", e);
    if (!rc) rc = mem_grow(&l->block_scalars, &l->cap_scalars, blocks, 2 * sizeof(double), "sums of blocks", e);
    if (!rc) rc = mem_grow(&l->thread_vectors, &l->cap_thread_vectors, (size_t)c->threads, 2 * row_bytes, "gradients", e);
    return rc;
}

/* ---- rows: forward ---- */

static void subtract_b_dec(const ctx *c, const sae *s, float *x, int64_t n) {
    int64_t d = s->cfg.d_in;
#pragma omp parallel for num_threads(c->threads)
    for (int64_t r = 0; r < n; r++)
        for (int64_t j = 0; j < d; j++) x[r * d + j] -= s->b_dec[j];
}

/* u = f W_dec - x, which is x_hat - x because b_dec was subtracted from x. */
static void residual_row(const sparse_kernels *k, learner *l, const float *x, int64_t row) {
    int64_t d = l->s->cfg.d_in, from = l->f.indptr[row];
    float *u = l->u + row * d;
    for (int64_t j = 0; j < d; j++) u[j] = -x[j];
    k->add_rows(u, d, l->s->W_dec, l->f.indices + from, l->f.values + from, l->f.indptr[row + 1] - from);
}

/* Residuals of a block of rows, and its sums: vectors (sum x, sum u), scalars (sum ||x||^2, sum ||u||^2). */
static void residual_block(const sparse_kernels *k, learner *l, const float *x, int64_t block, int64_t n) {
    int64_t d = l->s->cfg.d_in, first = block * BLOCK_ROWS, rows = min64(BLOCK_ROWS, n - first);
    float *sum_x = l->block_vectors + block * 2 * d, *sum_u = sum_x + d, ones[BLOCK_ROWS];
    double *squares = l->block_scalars + block * 2;
    uint32_t each[BLOCK_ROWS];
    memset(sum_x, 0, 2 * (size_t)d * sizeof *sum_x);
    squares[0] = squares[1] = 0;
    for (int64_t r = 0; r < rows; r++) {
        const float *xr = x + (first + r) * d, *ur = l->u + (first + r) * d;
        residual_row(k, l, xr, first + r);
        squares[0] += (double)k->dot(xr, xr, d);
        squares[1] += (double)k->dot(ur, ur, d);
        ones[r] = 1;
        each[r] = (uint32_t)r;
    }
    k->add_rows(sum_x, d, x + first * d, each, ones, rows);
    k->add_rows(sum_u, d, l->u + first * d, each, ones, rows);
}

/* Of the whole batch. */
typedef struct batch_sums {
    double uu;       /* sum ||u||^2 */
    double x_spread; /* sum ||x - mean x||^2 */
    double u_spread;
} batch_sums;

/* Adds up the blocks; leaves sum u in g_b_dec. */
static batch_sums sum_blocks(learner *l, int64_t n) {
    int64_t d = l->s->cfg.d_in, n_blocks = blocks_of(n, BLOCK_ROWS);
    batch_sums sums = {0};
    for (int64_t b = 0; b < n_blocks; b++) {
        sums.x_spread += l->block_scalars[2 * b];
        sums.uu += l->block_scalars[2 * b + 1];
    }
    sums.u_spread = sums.uu;
    for (int64_t j = 0; j < d; j++) {
        double x = 0, u = 0;
        for (int64_t b = 0; b < n_blocks; b++) {
            x += (double)l->block_vectors[2 * b * d + j];
            u += (double)l->block_vectors[(2 * b + 1) * d + j];
        }
        sums.x_spread -= x * x / (double)n;
        sums.u_spread -= u * u / (double)n;
        l->g_b_dec[j] = (float)u;
    }
    return sums;
}

/* ---- latents: backward and Adam ---- */

/* What the pass over the latents needs to know. */
typedef struct backward {
    const sparse_kernels *k;
    learner *l;
    const float *x;  /* [n, d_in] */
    float scale;     /* the loss's gradient at x_hat is scale u */
    float aux_scale; /* that of AuxK at e_hat is aux_scale r */
    float clip;      /* gradients are multiplied with it */
    adam_step adam;
    bool update; /* else only norms are wanted */
} backward;

/* g [2 d] = gradients of W_enc_i and W_dec_i, the latter projected; returns b_enc_i's. */
static float latent_gradient(const backward *b, int64_t i, float *g) {
    const learner *l = b->l;
    int64_t d = l->s->cfg.d_in;
    const float *w_dec = l->s->W_dec + i * d;
    latent_rows fired = inverted_latent(&l->fired, i);
    memset(g, 0, 2 * (size_t)d * sizeof *g);
    float g_b = b->k->latent_gradient(&fired, b->scale, b->x, l->u, d, w_dec, g, g + d);
    if (l->aux.active) {
        latent_rows revived = inverted_latent(&l->aux.fired, i);
        g_b += b->k->latent_gradient(&revived, b->aux_scale, b->x, l->aux.r, d, w_dec, g, g + d);
    }
    if (l->rules.project) b->k->project_out(g + d, w_dec, d);
    return g_b;
}

static void update_latent(const backward *b, int64_t i, const float *g) {
    learner *l = b->l;
    int64_t d = l->s->cfg.d_in, at = i * d;
    b->k->adam(&b->adam, b->clip, g, l->s->W_enc + at, l->m->W_enc + at, l->v->W_enc + at, d);
    b->k->adam(&b->adam, b->clip, g + d, l->s->W_dec + at, l->m->W_dec + at, l->v->W_dec + at, d);
    if (l->rules.renormalize) b->k->normalize(l->s->W_dec + at, d);
}

/* A block's vector is sum_i g_b_i W_enc_i, what its latents contribute to b_dec through x - b_dec, with W_enc as it was; its
 * scalar the square of its gradients. */
static void latent_block(const backward *b, int64_t block, float *g) {
    learner *l = b->l;
    int64_t d = l->s->cfg.d_in, first = block * BLOCK_LATENTS, end = min64(first + BLOCK_LATENTS, l->s->cfg.d_sae);
    float *pull = l->block_vectors + block * 2 * d;
    double *squares = l->block_scalars + block * 2;
    memset(pull, 0, (size_t)d * sizeof *pull);
    *squares = 0;
    for (int64_t i = first; i < end; i++) {
        uint32_t row = (uint32_t)i;
        l->g_b_enc[i] = latent_gradient(b, i, g);
        if (l->g_b_enc[i] != 0) b->k->add_rows(pull, d, l->s->W_enc, &row, l->g_b_enc + i, 1);
        if (b->update)
            update_latent(b, i, g);
        else
            *squares += (double)b->k->dot(g, g, 2 * d) + (double)l->g_b_enc[i] * (double)l->g_b_enc[i];
    }
    if (b->update)
        b->k->adam(&b->adam, b->clip, l->g_b_enc + first, l->s->b_enc + first, l->m->b_enc + first, l->v->b_enc + first,
                   end - first);
}

static void all_latents(const ctx *c, const backward *b) {
    int64_t d = b->l->s->cfg.d_in, n_blocks = blocks_of(b->l->s->cfg.d_sae, BLOCK_LATENTS);
#pragma omp parallel for num_threads(c->threads) schedule(dynamic)
    for (int64_t block = 0; block < n_blocks; block++)
        latent_block(b, block, b->l->thread_vectors + omp_get_thread_num() * 2 * d);
}

/* b_dec's gradient: scale sum u, less what goes through x - b_dec. sum_u may be the result. */
static void b_dec_gradient(const backward *b, const float *sum_u, float *g) {
    int64_t d = b->l->s->cfg.d_in, n_blocks = blocks_of(b->l->s->cfg.d_sae, BLOCK_LATENTS);
    for (int64_t j = 0; j < d; j++) {
        double sum = (double)b->scale * (double)sum_u[j];
        for (int64_t block = 0; block < n_blocks; block++) sum -= (double)b->l->block_vectors[2 * block * d + j];
        g[j] = (float)sum;
    }
}

/* The norm of all gradients; the factor that clips it goes to b->clip. */
static double clip_gradients(const ctx *c, backward *b) {
    learner *l = b->l;
    int64_t d = l->s->cfg.d_in;
    float *g_b_dec = l->thread_vectors;
    double squares = 0;
    b->update = false;
    all_latents(c, b);
    for (int64_t block = 0; block < blocks_of(l->s->cfg.d_sae, BLOCK_LATENTS); block++)
        squares += l->block_scalars[2 * block];
    b_dec_gradient(b, l->g_b_dec, g_b_dec);
    squares += (double)b->k->dot(g_b_dec, g_b_dec, d);
    double norm = sqrt(squares);
    b->clip = (float)fmin(1, l->rules.clip / (norm + 1e-6)); /* 1e-6: as torch.nn.utils.clip_grad_norm_ */
    return norm;
}

/* ---- a step ---- */

/* Seconds since *clock, which moves on. */
static double lap(double *clock) {
    double now = omp_get_wtime(), passed = now - *clock;
    *clock = now;
    return passed;
}

static double scale_for(double coefficient, double spread) { return spread > 0 ? coefficient / spread : 0; }

err_code learner_step(const ctx *c, learner *l, float *x, int64_t n, double lr, const uint32_t *dead, int64_t n_dead,
                      step_report *out, err *e) {
    err_code rc;
    const sparse_kernels *k = sparse_kernels_for(c->cpu);
    double clock = omp_get_wtime();
    *out = (step_report){0};
    TRY(reserve(c, l, n, e));

    subtract_b_dec(c, l->s, x, n);
    TRY(sae_encode_centred(c, l->s, x, n, &l->f, e));
    out->l0 = (double)l->f.indptr[n] / (double)n;
    out->seconds[STEP_ENCODE] = lap(&clock);

#pragma omp parallel for num_threads(c->threads) schedule(dynamic)
    for (int64_t block = 0; block < blocks_of(n, BLOCK_ROWS); block++) residual_block(k, l, x, block, n);
    batch_sums sums = sum_blocks(l, n);
    double per_square = l->rules.fvu ? scale_for(1, sums.x_spread) : 1 / (double)n;
    out->loss = per_square * sums.uu;
    out->seconds[STEP_RESIDUAL] = lap(&clock);

    TRY(inverted_build(&l->fired, &l->f, l->s->cfg.d_sae, e));
    out->seconds[STEP_INVERT] = lap(&clock);

    l->aux.active = false;
    double aux_per_square = scale_for(l->rules.auxk, sums.u_spread);
    if (n_dead && l->rules.auxk > 0 && l->rules.k_aux > 0) {
        TRY(auxk_forward(c, &l->aux, l->s, x, l->u, n, dead, n_dead, l->rules.k_aux, e));
        out->auxk = aux_per_square * l->aux.squares;
    }
    out->seconds[STEP_AUXK] = lap(&clock);

    backward b = {.k = k,
                  .l = l,
                  .x = x,
                  .scale = (float)(2 * per_square),
                  .aux_scale = (float)(2 * aux_per_square),
                  .clip = 1,
                  .adam = adam_step_at(&l->rules.adam, lr, l->steps + 1)};
    if (l->rules.clip > 0) out->grad_norm = clip_gradients(c, &b);
    b.update = true;
    all_latents(c, &b);
    b_dec_gradient(&b, l->g_b_dec, l->g_b_dec);
    k->adam(&b.adam, b.clip, l->g_b_dec, l->s->b_dec, l->m->b_dec, l->v->b_dec, l->s->cfg.d_in);
    l->steps++;
    out->seconds[STEP_LATENTS] = lap(&clock);
done:
    return rc;
}
