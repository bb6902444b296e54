/* fvu.h — how well reconstructions stand for rows: sums over a stream of rows, in double.
 *
 *   FVU = sum_r ||x_r - x_hat_r||^2 / sum_r ||x_r - mean x||^2     0: exact; 1: no better than the mean
 *
 * The variance is kept per channel around a running mean (Welford 1962; merging as Chan, Golub and LeVeque 1979), so that a
 * mean far larger than the spread costs no digits, and a channel that holds most of the variance can be left out.
 * Sums depend on the order of fvu_add and fvu_merge: workers take fixed blocks of rows, merged in order.
 */
#ifndef SAE_FVU_H
#define SAE_FVU_H

#include "core/err.h"

#include <stdint.h>

typedef struct fvu_sums {
    int64_t d, n_rows;
    int64_t n_fired;   /* latents over all rows */
    int64_t n_angles;  /* rows of which neither x nor x_hat is zero */
    double cosine;     /* sum over those of <x, x_hat> / (||x|| ||x_hat||) */
    double norm_ratio; /* sum over those of ||x_hat|| / ||x|| */
    double *mean;      /* [d] of x */
    double *spread;    /* [d] sum (x - mean)^2 */
    double *error;     /* [d] sum (x - x_hat)^2 */
} fvu_sums;            /* zero-initialise */

err_code fvu_init(fvu_sums *s, int64_t d, err *e); /* ERR_NOMEM */
void fvu_release(fvu_sums *s);
void fvu_reset(fvu_sums *s); /* no rows; keeps d and the memory */

void fvu_add(fvu_sums *s, const float *x /* [n, d] */, const float *x_hat /* [n, d] */, int64_t n, int64_t n_fired);
void fvu_merge(fvu_sums *s, const fvu_sums *behind); /* the rows of `behind` come after those of s; same d */

double fvu_of(const fvu_sums *s); /* NAN without spread */
double fvu_without(const fvu_sums *s,
                   int64_t n_channels); /* leaving out the channels of largest spread; NAN if none are left */
double fvu_l0(const fvu_sums *s);       /* latents a row; NAN without rows, as the next two */
double fvu_cosine(const fvu_sums *s);
double fvu_norm_ratio(const fvu_sums *s);

#endif
