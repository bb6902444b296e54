/* logit_lens.h — which tokens a direction of the residual stream promotes and suppresses when read straight through the head.
 *
 * logit_v = sum_j gain_j d_j U_vj with the final norm's gain folded in (its division by the row's norm and any bias are the same
 * for all tokens of a position, and left out), then standardised: (logit_v - mean) / sd over the vocabulary, so that scores of
 * different features compare. raw: no gain, no standardising, as SAEDashboard has it.
 * Source: nostalgebraist 2020, "interpreting GPT: the logit lens". Cost: 2 n d_model n_vocab flops, in blocks.
 */
#ifndef ANALYSIS_LOGIT_LENS_H
#define ANALYSIS_LOGIT_LENS_H

#include "analysis/toplist.h"
#include "model/model.h"

typedef struct lens_top {
    top_entry *promoted;   /* [n, top] tokens, highest first */
    top_entry *suppressed; /* [n, top] tokens, lowest first, scores negated back */
    int64_t n;
    int top;
} lens_top; /* zero-initialise */

err_code logit_lens(const ctx *c, const model *m, const float *directions /* [n, d_model] */, int64_t n, int top, bool raw,
                    lens_top *out, err *e);
void lens_top_release(lens_top *l);

#endif
