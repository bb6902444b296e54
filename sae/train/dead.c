#include "sae/train/dead.h"
#include "core/mem.h"

#include <stdlib.h>

enum { WINDOW = 10000000, WINDOW_STEPS = 200 };

int64_t dead_default_window(int64_t run_rows, int64_t batch) {
    int64_t window = run_rows / 10 < WINDOW ? run_rows / 10 : WINDOW, least = WINDOW_STEPS * batch;
    return window < least ? least : window;
}

err_code dead_init(dead_latents *d, int64_t n, int64_t window, err *e) {
    *d = (dead_latents){.n = n, .window = window};
    err_code rc = mem_new0(&d->last, (size_t)n, sizeof *d->last, "when latents fired", e);
    if (!rc) rc = mem_new(&d->dead, (size_t)n, sizeof *d->dead, "dead latents", e);
    if (rc) dead_release(d);
    return rc;
}

void dead_release(dead_latents *d) {
    free(d->last);
    free(d->dead);
    *d = (dead_latents){0};
}

void dead_count(dead_latents *d, const inverted_acts *fired, int64_t batch) {
    d->rows += batch;
    for (int64_t i = 0; i < d->n; i++)
        if (fired->starts[i + 1] > fired->starts[i]) d->last[i] = d->rows;
}

void dead_find(dead_latents *d) {
    d->n_dead = 0;
    for (int64_t i = 0; i < d->n; i++)
        if (d->rows - d->last[i] >= d->window) d->dead[d->n_dead++] = (uint32_t)i;
}
