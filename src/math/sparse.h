/* sparse.h — kernels of a sparse autoencoder: picking the few latents that fire, and work on the rows of W that they name.
 *
 * Sizes n, d, k may be anything, 0 included; pointers need no alignment. Restrict-qualified arguments must not overlap.
 * Each function is written once (kernels/sparse.c) and compiled per machine level; tests/unit/test_sparse_kernels.c compares
 * all levels with naive double-precision versions.
 */
#ifndef MATH_SPARSE_H
#define MATH_SPARSE_H

#include "core/ctx.h"

/* Room that scan_* may write to behind the values it counts. */
enum { SPARSE_SLACK = 16 };

/* One step of Adam (Kingma and Ba 2015, algorithm 1) with its bias corrections worked out. */
typedef struct adam_step {
    float beta1, beta2;
    float share1, share2; /* 1 - beta, before beta is rounded: 1 - 0.999f would be 0.00100005 */
    float rate;           /* lr / (1 - beta1^t) */
    float inverse_v;      /* 1 / sqrt(1 - beta2^t) */
    float eps;            /* outside the root */
} adam_step;

/* A latent's share of the batch: the rows that it fired on. */
typedef struct latent_rows {
    const uint32_t *rows; /* [n] */
    const float *values;  /* [n] f */
    int64_t n;
} latent_rows;

/* How a term of the loss weighs what a latent did. */
typedef struct latent_weights {
    float scale;  /* the term's gradient at the reconstruction is scale * e */
    float offset; /* what the term asks of f itself */
    float gain;   /* d f / d (x . w_enc) */
} latent_weights;

typedef struct sparse_kernels {
    /* Appends (score + bias, first + j) of every j with score[j] + bias[j] > floor, in order of j; returns how many.
     * values and indices have room for n + SPARSE_SLACK. NaN is never above. */
    int64_t (*scan_above)(const float *restrict scores, const float *restrict bias, int64_t n, float floor, uint32_t first,
                          float *restrict values, uint32_t *restrict indices);

    /* The same with a floor per latent, or 0 where that is larger. */
    int64_t (*scan_above_each)(const float *restrict scores, const float *restrict bias, const float *restrict floors,
                               int64_t n, uint32_t first, float *restrict values, uint32_t *restrict indices);

    /* Leaves the k largest of n values in place, in their old order; among equals the first ones stay. n > k >= 1. Returns
     * the smallest value left. No NaN among the values. */
    float (*keep_largest)(float *restrict values, uint32_t *restrict indices, int64_t n, int64_t k);

    /* y [d] += sum_e values[e] * rows[indices[e]]; rows [.., d] */
    void (*add_rows)(float *restrict y, int64_t d, const float *restrict rows, const uint32_t *restrict indices,
                     const float *restrict values, int64_t n);

    /* The gradient of one latent in one term, on the rows it fired on:
     *   p_r = scale <e_r, w_dec> + offset,   g_dec += scale sum_r f_r e_r,   g_enc += gain sum_r p_r x_r,   returns sum_r p_r
     * x [.., d_in], e [.., d_out] indexed by l->rows. g_dec NULL: not wanted. */
    float (*latent_gradient)(const latent_rows *l, const latent_weights *w, const float *restrict x, int64_t d_in,
                             const float *restrict e, int64_t d_out, const float *restrict w_dec, float *restrict g_enc,
                             float *restrict g_dec);

    /* g -= <g, u> u with u = w / ||w|| */
    void (*project_out)(float *restrict g, const float *restrict w, int64_t d);

    /* w /= ||w||, unless that is 0 */
    void (*normalize)(float *w, int64_t d);

    /* m = beta1 m + share1 s g;  v = beta2 v + share2 (s g)^2;  w -= rate m / (sqrt(v) inverse_v + eps) */
    void (*adam)(const adam_step *a, float s, const float *restrict g, float *restrict w, float *restrict m,
                 float *restrict v, int64_t d);

    float (*dot)(const float *a, const float *b, int64_t d);

    /* out[e] = <x, rows[indices[e]]>, each with the bits of dot; rows [.., d] */
    void (*dots)(const float *restrict x, int64_t d, const float *restrict rows, const uint32_t *restrict indices, int64_t n,
                 float *restrict out);
} sparse_kernels;

const sparse_kernels *sparse_kernels_for(cpu_level level);

#endif
