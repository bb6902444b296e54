#include "sae/train/state.h"
#include "core/rng.h"

#include <string.h>

err_code state_init(train_state *t, const sae_config *cfg, const step_rules *rules, int64_t dead_window, err *e) {
    *t = (train_state){0};
    err_code rc = learner_init(&t->learner, cfg, rules, e);
    if (!rc) rc = dead_init(&t->dead, cfg->d_sae, dead_window, e);
    if (!rc) rc = normal_init(&t->normal, cfg->d_in, e);
    if (!rc && cfg->transcoder) rc = normal_init(&t->target, cfg->d_out, e);
    if (rc) state_release(t);
    return rc;
}

void state_release(train_state *t) {
    learner_release(&t->learner);
    dead_release(&t->dead);
    normal_release(&t->normal);
    normal_release(&t->target);
}

static void random_direction(float *w, int64_t d, uint64_t seed, int64_t index) {
    rng r = rng_stream(seed, RNG_INIT, (uint64_t)index);
    for (int64_t j = 0; j < d; j++) w[j] = (float)rng_normal(&r);
    sparse_kernels_for(CPU_PORTABLE)->normalize(w, d); /* the same start on every machine */
}

void state_start(train_state *t, uint64_t seed) {
    sae *s = t->learner.s;
    int64_t d = s->cfg.d_in, d_out = s->cfg.d_out, n = s->cfg.d_sae;
    for (int64_t i = 0; i < n; i++) {
        random_direction(s->W_dec + i * d_out, d_out, seed, i);
        if (s->cfg.transcoder)
            random_direction(s->W_enc + i * d, d, seed, n + i);
        else
            memcpy(s->W_enc + i * d, s->W_dec + i * d, (size_t)d * sizeof *s->W_enc);
        if (s->threshold) s->threshold[i] = (float)t->learner.rules.training->threshold;
    }
}
