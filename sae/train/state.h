/* state.h — all that changes while an autoencoder is trained: what a checkpoint keeps. */
#ifndef SAE_TRAIN_STATE_H
#define SAE_TRAIN_STATE_H

#include "sae/train/dead.h"
#include "sae/train/normal.h"
#include "sae/train/step.h"
#include "sae/train/target.h"

typedef struct train_state {
    learner learner;
    dead_latents dead;
    row_normal normal;    /* constant once the first rows were seen */
    target_state penalty; /* where its weight is moved */
    row_normal target;    /* of the rows to reconstruct; transcoders only */
} train_state;

err_code state_init(train_state *t, const sae_config *cfg, const step_rules *rules, int64_t dead_window, err *e);
void state_release(train_state *t);

/* Initial parameters: decoder rows in random directions, the encoder their copy, no biases. Gao et al. 2024, A.1. A transcoder's
 * encoder has directions of its own. */
void state_start(train_state *t, uint64_t seed);

#endif
