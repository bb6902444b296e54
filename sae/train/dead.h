/* dead.h — when each latent fired last, and which are dead: those that did not fire in the last `window` rows. */
#ifndef SAE_TRAIN_DEAD_H
#define SAE_TRAIN_DEAD_H

#include "sae/inverted.h"

typedef struct dead_latents {
    int64_t n, window;
    int64_t rows;   /* seen */
    int64_t *last;  /* [n] rows seen when it had fired last; 0: never */
    uint32_t *dead; /* [n_dead] ascending, of the last dead_find */
    int64_t n_dead;
} dead_latents;

/* 10 million rows (Gao et al. 2024), but no more than a tenth of the run and no fewer than 200 steps. */
int64_t dead_default_window(int64_t run_rows, int64_t batch);

err_code dead_init(dead_latents *d, int64_t n, int64_t window, err *e);
void dead_release(dead_latents *d);

void dead_count(dead_latents *d, const inverted_acts *fired, int64_t batch); /* a batch more was seen */
void dead_find(dead_latents *d);                                             /* fills dead, n_dead */

#endif
