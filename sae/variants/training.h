/* training.h — how autoencoders are trained, one row each: what differs is which latents fire on a batch, the terms of the
 * loss, and what is special about their gradients. sae/train/step.c is the engine of all of them.
 *
 *   x [n, d_in] what the encoder reads, less b_dec where the row says so     y [n, d_out] what the reconstruction stands for
 *   u = x_hat - y      loss = unit (sum ||u||^2 + terms of the row) + AuxK      unit = 1 / sum ||y - mean y||^2 (fvu) or 1 / n
 *
 * Penalties carry the same unit: their weight means the same in both forms of the loss, and rows come with E ||x||^2 = d.
 *
 * Every term's gradient has one shape (loss_term), which the engine knows how to compute from sparse latents, a latent at a
 * time, or with matrix products where many fire. With p_r the gradient at latent i on row r,
 *
 *   p_r = scale <e_r, W_dec_i> + offset_i      g_enc_i += gain_i sum_r p_r x_r      g_dec_i += scale sum_r f_r e_r
 *
 * How to add one: write sae/variants/<name>.c with `choose` and what else it needs and a const row, declare the row below, add
 * it to the table in training.c. Tests loop over the table: gradients against a double-precision reference, save and load,
 * threads, kill and resume, a planted dictionary.
 */
#ifndef SAE_VARIANTS_TRAINING_H
#define SAE_VARIANTS_TRAINING_H

#include "sae/encode.h"
#include "sae/inverted.h"
#include "sae/variants/variants.h"

enum { PREFIXES_MAX = 16, TERMS_MAX = PREFIXES_MAX + 2 };

/* The constants of the rows' own terms. */
typedef struct training_rules {
    int64_t k;             /* batchtopk: latents a row, on average over the batch */
    double sparsity;       /* weight of the penalty: L1 or L0 */
    double bandwidth;      /* jumprelu: of the step function's estimator */
    double threshold_keep; /* batchtopk: share of its threshold that a step leaves as it was */
    int n_prefixes;        /* matryoshka: latents that must reconstruct alone, ascending, the last one d_sae; 0: all */
    int64_t prefixes[PREFIXES_MAX];
    preselect preselect; /* how the largest scores are looked for; changes no result */
} training_rules;

/* Latents of a batch, both ways. */
typedef struct latent_set {
    sparse_acts by_row;
    inverted_acts by_latent;
} latent_set;

typedef struct loss_term {
    const inverted_acts *set;
    const float *e;      /* [n, d_out] */
    float scale;         /* the loss's gradient at the reconstruction is scale e */
    const float *offset; /* [d_sae]; NULL: 0 */
    const float *gain;   /* [d_sae]; NULL: 1 */
    int64_t first, end;  /* the latents it is about */
    bool sum_only;       /* nothing but sum_r p_r is wanted, where p_r = scale f_r <e_r, W_dec_i> + offset_i */
    bool keeps_decoder;  /* it has no gradient in W_dec */
} loss_term;

/* A batch as a row of the table sees it, and what the rows keep from step to step. */
typedef struct train_batch {
    const ctx *c;
    const sparse_kernels *k;
    sae *s;
    const training_rules *rules;
    const float *x;      /* [n, d_in] */
    const float *y;      /* [n, d_out]; x itself for an autoencoder */
    const float *linear; /* [n, d_out] x W_skip^T; NULL without */
    int64_t n;
    double unit;
    preselect preselect; /* how this batch's largest scores are looked for */
    top_counts *counts;  /* of the engine */

    latent_set f;               /* latents that fire: what is decoded */
    latent_set other;           /* gated: gates that are open; jumprelu: latents within the estimator's window */
    const float *u;             /* [n, d_out] */
    loss_term terms[TERMS_MAX]; /* the reconstruction's first, one for each prefix */
    int n_terms;
    double sparsity; /* loss of the penalty */
    double gates;    /* loss of the gates' reconstruction */

    float *vector[2]; /* [d_sae] scratch */
    float *r;         /* [n, d_out] scratch */
    size_t cap_vector[2], cap_r;
    float floor; /* batchtopk: below what fired in the last batch; speeds up the next, changes nothing. 0: none yet */
} train_batch;

/* The gradient of one latent while it is put together. */
typedef struct latent_gradient {
    float *enc, *dec;      /* [d_in], [d_out] */
    float sums[TERMS_MAX]; /* sum_r p_r of each term */
    float pre;             /* sum over terms and rows of gain p: the gradient at x . W_enc_i */
    float b_enc, threshold, b_gate, r_mag;
} latent_gradient;

/* Options of train.h that not every row has. */
enum {
    TRAINS_K = 1,          /* k */
    TRAINS_AUXK = 2,       /* auxk, k_aux */
    TRAINS_SPARSITY = 4,   /* sparsity */
    TRAINS_L0 = 8,         /* l0: a target for what is not set by k */
    TRAINS_BANDWIDTH = 16, /* bandwidth */
    TRAINS_PREFIXES = 32,  /* prefixes */
    TRAINS_TARGET = 64     /* target: rows of another hook; must be given */
};

typedef struct sae_training {
    const char *name; /* first, as core/names.h wants it */
    const char *help;
    const char *paper;
    const sae_variant *variant; /* what it encodes with, and is saved as */
    unsigned options;
    bool subtracts_b_dec;  /* from the rows, before the encoder */
    bool unit_decoder;     /* rows of W_dec have length 1; the gradient along them is taken out */
    bool skip;             /* has W_skip */
    bool uses_other;       /* fills `other` */
    bool trains_threshold; /* by its logarithm: threshold of a latent_gradient is the gradient there */
    double beta1;          /* of Adam */
    double threshold;      /* at the start */

    /* Fills f, and other. ERR_NOMEM. */
    err_code (*choose)(train_batch *b, err *e);
    /* Changes the reconstruction's term and adds others; sets the losses above. NULL: nothing to add. ERR_NOMEM. */
    err_code (*add_terms)(train_batch *b, err *e);
    /* Completes a latent's gradient, where b_enc is the sum of all p already. NULL: nothing to add. */
    void (*complete)(const train_batch *b, int64_t i, latent_gradient *g);
    /* After the parameters have changed; f is still what fired. NULL: nothing to do. */
    void (*after)(train_batch *b);
} sae_training;

extern const sae_training *const sae_trainings[];
extern const int n_sae_trainings;

extern const sae_training sae_training_topk, sae_training_standard, sae_training_gated, sae_training_batchtopk,
    sae_training_jumprelu, sae_training_matryoshka, sae_training_transcoder, sae_training_skip_transcoder;

/* ERR_UNSUPPORTED with the nearest name. */
err_code sae_training_find(const char *name, const sae_training **out, err *e);

/* ---- for the rows ---- */

void train_batch_release(train_batch *b);

/* A vector of d_sae floats, which: 0 or 1; NULL after ERR_NOMEM. */
float *train_batch_vector(train_batch *b, int which, err *e);

/* What u is on these rows without latents: b_dec - y, and x W_skip^T. Where b_dec was subtracted from x, y lost it too. */
void train_batch_start(const train_batch *b, int64_t first, int64_t rows, float *u /* [rows, d_out] */);

/* Latents that fire, of the encoder of `part`, whose W_enc is that of b->s. */
err_code train_batch_encode(const train_batch *b, const sae *part, sparse_acts *out, err *e);

/* The k n largest positive scores of the whole batch; among equals the first. */
err_code choose_batchtopk(train_batch *b, err *e);
void update_threshold(train_batch *b);

#endif
