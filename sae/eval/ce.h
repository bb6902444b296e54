/* ce.h — what an SAE costs the model it was trained on: the loss with its reconstruction spliced in.
 *
 *   ce                 mean -log p(next token) in nats, the model left alone
 *   ce_sae             rows at the SAE's hook replaced by their reconstruction (sae/splice.h); ce_zero, ce_mean: by zeros, by
 *                      the mean row
 *   delta_ce           ce_sae - ce
 *   ce_recovered       (ce_zero - ce_sae) / (ce_zero - ce): 1 when the reconstruction costs nothing, 0 when it costs as much as
 *                      having no row at all; ce_recovered_mean: the same against ce_mean
 *
 * Positions below skip_first (the attention sink) keep their rows and are not counted: the losses are over the tokens that
 * follow a replaced row. Reconstruction quality (recon.h) is measured on the same rows in the same pass.
 * Intervals, 95 %: bootstrap over documents. Cost: four forward passes of the corpus, or two.
 * Errors: ERR_MISMATCH (the SAE is not this model's), ERR_USAGE (no token to predict), ERR_CANCELLED, ERR_NOMEM.
 */
#ifndef SAE_EVAL_CE_H
#define SAE_EVAL_CE_H

#include "activations/tokens.h"
#include "model/model.h"
#include "sae/eval/recon.h"

typedef struct ce_opts {
    int64_t skip_first; /* -1: what the SAE was trained with */
    int64_t batch_tokens;
    bool delta_only; /* ce, ce_sae and delta_ce alone, in half the passes; the others are NAN */
    uint64_t seed;   /* of the bootstrap */
} ce_opts;
#define CE_DEFAULTS ((ce_opts){.skip_first = -1, .batch_tokens = 4096})

typedef struct ce_result {
    int64_t documents, tokens; /* tokens predicted */
    interval ce, ce_sae, ce_zero, ce_mean, delta_ce, ce_recovered, ce_recovered_mean;
    recon_result recon;
    double seconds;
} ce_result;

err_code ce_run(const ctx *c, model *m, const sae *s, const token_corpus *k, const ce_opts *o, ce_result *out, err *e);

#endif
