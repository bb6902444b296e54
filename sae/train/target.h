/* target.h — the weight of a penalty, moved step by step so that L0 comes to where it is wanted; at the end, thresholds.
 *
 *   error = log(L0 / goal), kept within ERROR_MAX      log weight += gain lr / lr_peak error
 *   used: weight exp(error), or where the penalty counts latents weight (1 + PULL error)
 *
 * A proportional-integral controller on the logarithm: what a weight does to L0 spans orders of magnitude and is not known
 * beforehand. The goal comes down from the first batch's L0 to the wanted one over RAMP of the run, geometrically, so that
 * the error stays small and the weight does not run away while thousands of latents still fire: that would kill them. Parameters
 * answer in proportion to the learning rate, and so does the weight.
 * Without a penalty, thresholds come down slowly or not at all, so a count's weight may turn negative for a while. This is the
 * gradient of (L0 / goal - 1)^2 near the goal: Rajamanoharan et al. 2024, "Jumping ahead", appendix.
 */
#ifndef SAE_TRAIN_TARGET_H
#define SAE_TRAIN_TARGET_H

#include "sae/sae.h"

/* What a checkpoint keeps. */
typedef struct target_state {
    double log_weight;
    double first; /* L0 of the first batch; 0: none yet */
    double error; /* of the last one */
} target_state;

typedef struct l0_target {
    double wanted; /* 0: none, the weight is fixed */
    int64_t steps; /* of the run */
    bool counts;   /* the penalty is a number of latents */
} l0_target;

/* At the start: a guess from the rows' length, E ||x||^2 = d, shared by as many latents as are wanted. */
target_state target_start(const l0_target *t, int64_t d);

double target_weight(const l0_target *t, const target_state *s);

/* After step number `step`, counted from 0, on whose batch l0 latents a row fired; lr_share: of its peak. */
void target_update(const l0_target *t, target_state *s, int64_t step, double l0, double lr_share);

/* After the last step: multiplies all thresholds by one factor, such that `wanted` latents a row fire on rows x [n, d_in],
 * normalised. More latents fire on texts that were not trained on, a running mean of thresholds is behind the weights, and a
 * penalty may not have come to its goal in a short run; latents keep their thresholds relative to each other. Where fewer could
 * fire at all, thresholds end near 0. ERR_NOMEM. */
err_code target_settle(const ctx *c, sae *s, const float *x, int64_t n, double wanted, err *e);

#endif
