/* step.h — one training step: forward, backward and Adam on one batch of rows.
 *
 *   pre = (x - b_dec) W_enc^T + b_enc     f = the variant's choice of pre     u = x_hat - x = f W_dec + b_dec - x
 *   loss = sum ||u||^2 / sum ||x - mean x||^2 (fvu) or sum ||u||^2 / n (mse), + AuxK (auxk.h)
 *   order: forward, backward, project W_dec's gradient, clip, Adam, W_dec_i /= ||W_dec_i||
 *
 * No gradient matrix exists: one latent at a time gets its gradient from the rows it fired on, its Adam update and its new
 * length while its rows of W are in cache. Clipping, which needs the norm of all gradients first, goes through the latents
 * twice.
 * Threads take fixed blocks of rows, then fixed blocks of latents; sums over blocks are made in their order, so the bits do not
 * depend on the number of threads. The moments have the shape of the parameters and are kept as two more `sae`.
 */
#ifndef SAE_TRAIN_STEP_H
#define SAE_TRAIN_STEP_H

#include "sae/sae.h"
#include "sae/train/adam.h"
#include "sae/train/auxk.h"
#include "sae/train/inverted.h"

typedef struct step_rules {
    adam_rules adam;
    bool fvu;         /* the loss; false: mse */
    bool project;     /* out of W_dec_i's gradient what is along W_dec_i */
    bool renormalize; /* W_dec_i to length 1 */
    double clip;      /* the norm of all gradients at most; 0: no clipping */
    double auxk;      /* coefficient of AuxK; 0: none */
    int64_t k_aux;    /* dead latents it may use in a row */
} step_rules;
#define STEP_DEFAULTS                                                                                                        \
    ((step_rules){.adam = ADAM_DEFAULTS, .fvu = true, .project = true, .renormalize = true, .auxk = 1.0 / 32})

typedef enum step_part { STEP_ENCODE, STEP_RESIDUAL, STEP_INVERT, STEP_AUXK, STEP_LATENTS, N_STEP_PARTS } step_part;
extern const char *const step_part_names[N_STEP_PARTS];

/* What a step found before it changed the parameters. */
typedef struct step_report {
    double loss;      /* fvu or mse */
    double auxk;      /* its term, coefficient included; 0 without dead latents */
    double l0;        /* latents a row */
    double grad_norm; /* after projection, before clipping; 0 without clipping */
    double seconds[N_STEP_PARTS];
} step_report;

/* Parameters in training, and scratch. Zero-initialise. */
typedef struct learner {
    step_rules rules;
    sae *s;        /* parameters */
    sae *m, *v;    /* Adam's moments of each of them */
    int64_t steps; /* done */

    sparse_acts f;
    inverted_acts fired; /* f by latent: after a step, which latents fired in it */
    auxk_term aux;
    float *u;              /* [batch, d_in] */
    float *block_vectors;  /* [blocks, 2 d_in], of rows, then of latents */
    double *block_scalars; /* [blocks, 2] */
    float *g_b_enc;        /* [d_sae] */
    float *g_b_dec;        /* [d_in] */
    float *thread_vectors; /* [threads, 2 d_in], the gradient of a latent */
    size_t cap_u, cap_vectors, cap_scalars, cap_thread_vectors;
} learner;

err_code learner_init(learner *l, const sae_config *cfg, const step_rules *rules, err *e); /* zero parameters */
void learner_release(learner *l);

/* A step with this learning rate. dead: ascending, the latents that count as dead; may be NULL when n_dead is 0.
 * ERR_NOMEM only, then nothing was changed but x. */
err_code learner_step(const ctx *c, learner *l, float *x /* [n, d_in]; b_dec is subtracted from it */, int64_t n, double lr,
                      const uint32_t *dead, int64_t n_dead, step_report *out, err *e);

#endif
