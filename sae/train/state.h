/* state.h — all that changes while an autoencoder is trained: what a checkpoint keeps. */
#ifndef SAE_TRAIN_STATE_H
#define SAE_TRAIN_STATE_H

#include "sae/train/dead.h"
#include "sae/train/normal.h"
#include "sae/train/step.h"

typedef struct train_state {
    learner learner;
    dead_latents dead;
    row_normal normal; /* constant once the first rows were seen */
} train_state;

err_code state_init(train_state *t, const sae_config *cfg, const step_rules *rules, int64_t dead_window, err *e);
void state_release(train_state *t);

/* Initial parameters: decoder rows in random directions, the encoder their copy, no biases. Gao et al. 2024, A.1. */
void state_start(train_state *t, uint64_t seed);

#endif
