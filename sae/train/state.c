#include "sae/train/state.h"
#include "core/rng.h"

#include <string.h>

err_code state_init(train_state *t, const sae_config *cfg, const step_rules *rules, int64_t dead_window, err *e) {
    *t = (train_state){0};
    err_code rc = learner_init(&t->learner, cfg, rules, e);
    if (!rc) rc = dead_init(&t->dead, cfg->d_sae, dead_window, e);
    if (!rc) rc = normal_init(&t->normal, cfg->d_in, e);
    if (rc) state_release(t);
    return rc;
}

void state_release(train_state *t) {
    learner_release(&t->learner);
    dead_release(&t->dead);
    normal_release(&t->normal);
}

void state_start(train_state *t, uint64_t seed) {
    const sparse_kernels *k = sparse_kernels_for(CPU_PORTABLE); /* the same start on every machine */
    sae *s = t->learner.s;
    int64_t d = s->cfg.d_in;
    for (int64_t i = 0; i < s->cfg.d_sae; i++) {
        rng r = rng_stream(seed, RNG_INIT, (uint64_t)i);
        float *w = s->W_dec + i * d;
        for (int64_t j = 0; j < d; j++) w[j] = (float)rng_normal(&r);
        k->normalize(w, d);
        memcpy(s->W_enc + i * d, w, (size_t)d * sizeof *w);
    }
}
