/* output_score.h — does a feature do what its direction promises? The output score of Arad et al. 2025 ("SAEs Are Good for
 * Steering - If You Select the Right Features", section 3).
 *
 * On a neutral prompt the feature is clamped high. With T the tokens its logit lens promotes most, p the next-token
 * distribution and rank (from 0) the place of a token in it:
 *   S_out = (1 - min_T rank / n_vocab) * max_T p
 * Near 1 for features that steer to their own tokens, near 0 for those that only read. Differs from the paper: the logit lens'
 * own number of tokens instead of 20, and the clamp is OUTPUT_SCORE_MULTIPLE times the maximum instead of 10.
 * Cost: a forward pass of four tokens for every feature that fires; NAN for the others.
 */
#ifndef ANALYSIS_OUTPUT_SCORE_H
#define ANALYSIS_OUTPUT_SCORE_H

#include "analysis/logit_lens.h"
#include "analysis/postings.h"
#include "sae/sae.h"

#define OUTPUT_SCORE_MULTIPLE 4.0

err_code output_scores(const ctx *c, model *m, const sae *s, hook_point at, const postings *p, const lens_top *lens,
                       double *scores /* [d_sae] */, err *e);

#endif
