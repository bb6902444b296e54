/* pass.h — activations and an SAE into a feature database: the pass behind `sae features`.
 *
 * One streaming pass over the activation file encodes every row; codes go to "<stem>.codes.h5" beside the database and stay
 * in memory as postings (postings.h). Everything else is computed feature by feature from its own postings, exactly and in
 * parallel: counts, quantiles, examples, histogram, co-occurrence, rule labels (labels.h); then decoder neighbours and the
 * logit lens (logit_lens.h).
 *
 * Score columns:
 *   interpretability  held-out F1 of the feature's best rule (labels.h)
 *   selectivity       1 - exp(H_feature) / exp(H_text), H the entropy over token types of the feature's activation mass, and of
 *                     the corpus: 1 when a single token carries it all, 0 when it is as varied as text itself
 *   neighbour         largest cosine of its decoder row with another's
 *   output            output_score.h, when asked for: a forward pass for every feature
 *
 * The database appears under its name only when complete. Memory: 16 bytes a non-zero code plus O(d_sae).
 * Same inputs, options and seed give the same database for any thread count.
 */
#ifndef ANALYSIS_PASS_H
#define ANALYSIS_PASS_H

#include "core/ctx.h"

#include <stdint.h>

typedef struct features_opts {
    const char
        *model; /* for the logit lens; NULL: the path in the activation file. Without a model there is no lens, with a note */
    const char *dataset; /* hook name; NULL: the SAE's, else the file's only one */
    bool output_scores;  /* measure them: about as long as capturing four tokens a feature */
    bool lens_raw;       /* logits as SAEDashboard gives them: no final-norm gain, no standardising */
    uint64_t seed;       /* of the split into documents that choose a label and documents that score it */
    const char *command; /* provenance, may be NULL */
} features_opts;
#define FEATURES_DEFAULTS ((features_opts){.seed = 0})

typedef struct features_result {
    int64_t features, alive, rows;
    double seconds, rows_per_second;
} features_result;

err_code features_build(const ctx *c, const char *activations, const char *sae_folder, const char *out_db,
                        const features_opts *o, features_result *result, err *e);

#endif
