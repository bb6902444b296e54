/* preselect.h — scores of latents from whole numbers, each with a bound on how wrong it can be, so that the largest exact scores
 * can be found among few.
 *
 * The product x . w is unchanged when channel j of x is divided and that of w multiplied by a power of two s_j. Both are then
 * rounded to multiples of a step, x' = a q + r with |r_j| <= a / 2, and
 *
 *   | x . w  -  a c <q, p> |  <=  |r_x| |w'| + |x^| |r_w|          (Cauchy and Schwarz, twice)
 *
 * with x^ = a q. The norms are measured while rounding and made larger by what float32 arithmetic can lose, here and in a dot
 * product of float32 in any order: with ups of at least L, no latent is left out whose float32 score reaches L.
 * The bound is a share of |x| |w|, about 0.018 in 8 bits, while scores of unrelated latents spread by |x| |w| / sqrt(d). The
 * kernels count in 8 bits where the machine multiplies these four at a time (VNNI) and in 16 bits elsewhere. With VNNI, 16 bits
 * at half the rate leave a third of the candidates at d 4,096 and are no faster: 0.92 of the rate of a step there, 1.0 at 2,048.
 */
#ifndef MATH_PRESELECT_H
#define MATH_PRESELECT_H

#include "core/ctx.h"

#include <math.h>

/* Latents, packed for one kernel: panels of `panel` latents, behind the last one latents that never score. */
typedef struct preselect_latents {
    int64_t n, d;
    void *q;             /* whole numbers, [panels, d_padded / group, panel, group] */
    float *step;         /* [panels * panel] c */
    float *norm, *error; /* |w'|, |r_w|, rounded up */
    float *bias, *slack; /* the latent's bias; what adding it can lose */
    int32_t *offset;     /* to be subtracted from the sum of products */
} preselect_latents;

/* A row of x as the kernels see it. */
typedef struct preselect_row {
    float step;        /* a */
    float norm, error; /* |x^|, |r_x|, rounded up; error is NaN when x is not finite */
} preselect_row;

/* What is kept of a row: latents whose upper bound is above the floor, in ascending order. */
typedef struct preselect_picks {
    float *values; /* upper bounds */
    uint32_t *indices;
    int64_t n;
    float floor;
} preselect_picks;

typedef struct preselect_kernels {
    int bits;      /* 8 or 16 */
    int64_t panel; /* latents in a panel */
    int64_t group; /* channels that are multiplied together; rows are padded to a multiple */
    int64_t max_d; /* more channels overflow */

    /* q [padded d] of x [d] / s, given 1 / s; scratch [d]. */
    preselect_row (*round_row)(const float *x, const float *inverse_s, int64_t d, void *q, float *scratch);

    /* Latent i of l from w [d]; scratch [d]. */
    void (*pack_latent)(preselect_latents *l, int64_t i, const float *w, float bias, const float *s, float *scratch);

    /* Appends to picks[r], for rows r of q [n_rows, padded d], the latents first .. first + n - 1, n a multiple of the panel,
     * whose upper bound is above its floor. Room for n more and SPARSE_SLACK behind them. */
    void (*scan)(const preselect_latents *l, int64_t first, int64_t n, const void *q, const preselect_row *rows,
                 int64_t n_rows, preselect_picks *picks);
} preselect_kernels;

const preselect_kernels *preselect_kernels_for(cpu_level level);

/* What a float32 sum of d products can lose, as a share of the product of the factors' norms, with room for a few roundings. */
static inline float preselect_loss(int64_t d) { return (float)(d + 16) * 0x1p-23f; }

/* What adding a bias can lose. */
static inline float preselect_slack(float bias) { return 0x1p-21f * fabsf(bias) + 1e-30f; }

/* A row whose cheap scores are a float32 product, against latents of which error is 0. */
static inline preselect_row preselect_row_of_floats(float square /* |x|^2 */, int64_t d) {
    return (preselect_row){0, 0, 1.001f * preselect_loss(d) * sqrtf(square) + 1e-30f};
}

/* How far the exact score can lie below its upper bound, twice the bound of the error. */
static inline float preselect_width(const preselect_latents *l, const preselect_row *x, int64_t i) {
    return 2.0001f * (x->error * l->norm[i] + x->norm * l->error[i] + l->slack[i]);
}

#endif
