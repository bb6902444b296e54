/* bootstrap.h — how sure a number is that was measured on a corpus: percentile intervals from resampled documents.
 *
 * A statistic is any function of sums over documents. Tokens of one document are not independent, so whole groups (a
 * document with all its windows) are drawn, with replacement, as many as there are; the 2.5 % and 97.5 % quantiles of the
 * statistic over BOOTSTRAP_RESAMPLES draws are the interval. Source: Efron 1979, "Bootstrap methods".
 * Draw b uses stream (seed, RNG_BOOTSTRAP, b): the same intervals for any thread count. Errors: ERR_NOMEM.
 */
#ifndef SAE_EVAL_BOOTSTRAP_H
#define SAE_EVAL_BOOTSTRAP_H

#include "core/ctx.h"
#include "math/stats.h"

enum { BOOTSTRAP_RESAMPLES = 2000, BOOTSTRAP_SUMS_MAX = 16, BOOTSTRAP_VALUES_MAX = 16 };

typedef void bootstrap_statistic(const double *sums /* [n_sums] */, double *values /* [n_values] */);

/* Groups of which all sums are 0 do not count. With fewer than two groups, or where a draw has no value, low and high are NAN. */
err_code bootstrap_intervals(const ctx *c, const double *sums /* [n_groups, n_sums] */, int64_t n_groups, int n_sums,
                             bootstrap_statistic *statistic, int n_values, uint64_t seed, interval *out /* [n_values] */,
                             err *e);

#endif
