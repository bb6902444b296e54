/* ref_training.h — the loss and the gradient of every row of sae/variants/training.h, in double precision and with no thought of
 * speed: the equations of the papers written down once more, with nothing of the trainer's but its names.
 *
 * Gradients are the closed forms, straight-through parts as the papers define them. Where nothing is straight-through they are
 * the loss's differences, which the tests check too; `fixed` holds the parameters of what the loss keeps constant (AuxK's
 * residual, the gates' decoder).
 */
#ifndef TESTS_SUPPORT_REF_TRAINING_H
#define TESTS_SUPPORT_REF_TRAINING_H

#include "sae/train/step.h"

/* Parameters in the order and the layout of sae, one behind the other; absent ones have no entries. */
typedef struct ref_params {
    double *W_enc, *W_dec, *b_enc, *b_dec, *log_threshold, *b_gate, *r_mag, *W_skip;
    double *all;
    int64_t n;
} ref_params;

typedef struct ref_case {
    const step_rules *rules;
    const sae_config *cfg;
    const float *x, *y; /* [rows, d_in], [rows, d_out] */
    int64_t rows;
    const bool *dead; /* [d_sae] */
} ref_case;

typedef struct ref_losses {
    double reconstruction, auxk, sparsity, gates, total;
    double l0;
} ref_losses;

ref_params ref_params_of(const sae_config *cfg); /* zeros; free with ref_params_free */
void ref_params_free(ref_params *p);
void ref_params_from(const sae *s, ref_params *p); /* log_threshold from s->threshold, where it is trained */

/* g may be NULL. */
ref_losses ref_loss(const ref_case *c, const ref_params *p, const ref_params *fixed, ref_params *g);

#endif
