/* step.h — one training step: forward, backward and Adam on one batch of rows. What is trained is a row of
 * variants/training.h; the step is the same for all.
 *
 *   pre = (x - b_dec) W_enc^T + b_enc     f = the variant's choice of pre     u = x_hat - y = f W_dec + b_dec - y
 *   loss = sum ||u||^2 / sum ||y - mean y||^2 (fvu) or sum ||u||^2 / n (mse), + the variant's terms + AuxK (auxk.h)
 *   order: forward, backward, project W_dec's gradient, clip, Adam, W_dec_i /= ||W_dec_i||
 * y is x but for transcoders; b_dec is subtracted from x where the configuration says so. With prefixes the loss is the sum over
 * m of that of the first m latents' reconstruction.
 *
 * No gradient matrix exists: one latent at a time gets its gradient from the rows it fired on, its Adam update and its new
 * length while its rows of W are in cache. Where latents fire on many rows, sixty-four of them at a time get theirs from matrix
 * products. Clipping, which needs the norm of all gradients first, goes through the latents twice.
 * Threads take fixed blocks of rows, then fixed blocks of latents; sums over blocks are made in their order, so the bits do not
 * depend on the number of threads. The moments have the shape of the parameters and are kept as two more `sae`.
 */
#ifndef SAE_TRAIN_STEP_H
#define SAE_TRAIN_STEP_H

#include "sae/sae.h"
#include "sae/train/adam.h"
#include "sae/train/auxk.h"
#include "sae/variants/training.h"

typedef struct step_rules {
    const sae_training *training;
    adam_rules adam;
    bool fvu;         /* the loss; false: mse */
    bool project;     /* out of W_dec_i's gradient what is along W_dec_i */
    bool renormalize; /* W_dec_i to length 1 */
    double clip;      /* the norm of all gradients at most; 0: no clipping */
    double auxk;      /* coefficient of AuxK; 0: none */
    int64_t k_aux;    /* dead latents it may use in a row */
    training_rules own;
} step_rules;

/* Those of a row of the table, as its paper has them. */
step_rules step_defaults(const sae_training *t);

/* The configuration of an autoencoder of that row: k is the encoder's, 0 where its batch has one instead. */
sae_config step_config(const sae_training *t, int64_t d_in, int64_t d_out, int64_t d_sae, int64_t k);

typedef enum step_part { STEP_ENCODE, STEP_RESIDUAL, STEP_INVERT, STEP_AUXK, STEP_LATENTS, N_STEP_PARTS } step_part;
extern const char *const step_part_names[N_STEP_PARTS];

/* What a step found before it changed the parameters. */
typedef struct step_report {
    double loss;      /* of the reconstruction, fvu or mse; with prefixes the sum over them */
    double auxk;      /* its term, coefficient included; 0 without dead latents */
    double sparsity;  /* the penalty, weight included */
    double gates;     /* gated: the reconstruction from open gates */
    double l0;        /* latents a row */
    double grad_norm; /* after projection, before clipping; 0 without clipping */
    double dense;     /* share of the blocks of latents whose gradients were matrix products */
    top_counts top;   /* of looking for the largest scores */
    double seconds[N_STEP_PARTS];
} step_report;

/* Parameters that are one number a latent. */
enum { VECTOR_B_ENC, VECTOR_B_GATE, VECTOR_R_MAG, VECTOR_THRESHOLD, N_LATENT_VECTORS };

/* Parameters in training, and scratch. Zero-initialise. */
typedef struct learner {
    step_rules rules;
    sae *s;                  /* parameters */
    sae *m, *v;              /* Adam's moments of each of them */
    int64_t steps;           /* done */
    int steps_without_whole; /* that PRESELECT_AUTO still goes without whole numbers; changes no result */

    train_batch batch; /* after a step batch.f.by_latent is which latents fired in it */
    auxk_term aux;
    float *u;                           /* [prefixes, batch, d_out]; after the sums, of each prefix and all longer ones */
    float *linear;                      /* [batch, d_out] x W_skip^T */
    float *block_vectors;               /* [blocks, 3 max(d_in, d_out)], of rows, then of latents */
    double *block_scalars;              /* [blocks, 1 + prefixes] */
    uint32_t *order;                    /* [d_sae] latents as the pass over them takes them */
    float *g_vectors[N_LATENT_VECTORS]; /* [d_sae] */
    float *g_b_dec;                     /* [d_out]; before that sum u */
    float *g_W_skip;                    /* [d_out, d_in] */
    float *thread_scratch;              /* [threads, ..], the gradients of a run of latents */
    size_t cap_u, cap_linear, cap_vectors, cap_scalars, cap_scratch;
} learner;

err_code learner_init(learner *l, const sae_config *cfg, const step_rules *rules, err *e); /* zero parameters */
void learner_release(learner *l);

/* A step with this learning rate. y: NULL for an autoencoder. dead: ascending, the latents that count as dead; may be NULL when
 * n_dead is 0. ERR_NOMEM only, then nothing was changed but x. */
err_code learner_step(const ctx *c, learner *l, float *x /* [n, d_in]; loses b_dec where that is subtracted */,
                      const float *y /* [n, d_out] */, int64_t n, double lr, const uint32_t *dead, int64_t n_dead,
                      step_report *out, err *e);

#endif
