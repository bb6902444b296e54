#include "activations/deviation.h"

#include "core/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One hook: its rows of the first pass, then what the second finds. */
typedef struct watch {
    float *rows; /* [n_tokens, d_model] */
    int64_t skip_first, n;
    deviation *out; /* mean: a sum until the end */
} watch;

static err_code keep_rows(void *user, const ctx *c, const hook_rows *r, err *e) {
    const watch *w = user;
    (void)c, (void)e;
    memcpy(w->rows, r->x, (size_t)(r->n_tokens * r->d_model) * sizeof *r->x);
    return ERR_OK;
}

static double distance(const float *a, const float *exact, int64_t d) {
    double difference = 0, length = 0;
    for (int64_t i = 0; i < d; i++) {
        double x = exact[i], off = (double)a[i] - x;
        difference += off * off, length += x * x;
    }
    return difference == 0 ? 0 : sqrt(difference / length);
}

static err_code compare_rows(void *user, const ctx *c, const hook_rows *r, err *e) {
    watch *w = user;
    (void)c, (void)e;
    for (int64_t i = 0; i < r->n_tokens; i++) {
        if (r->pos[i] < w->skip_first) continue;
        double off = distance(w->rows + i * r->d_model, r->x + i * r->d_model, r->d_model);
        w->out->mean += off, w->n++;
        w->out->max = off > w->out->max ? off : w->out->max;
    }
    return ERR_OK;
}

err_code deviation_measure(const ctx *c, model *m, const model_batch *b, const hook_point *hooks, int n_hooks,
                           int64_t skip_first, deviation *out, err *e) {
    size_t d = (size_t)model_config_of(m)->d_model;
    model *exact = NULL;
    watch *watches = NULL;
    model_hook *callbacks = NULL;
    err_code rc;
    TRY(mem_new0(&watches, (size_t)n_hooks, sizeof *watches, "hooks", e));
    TRY(mem_new(&callbacks, (size_t)n_hooks, sizeof *callbacks, "hooks", e));
    for (int i = 0; i < n_hooks; i++) {
        out[i] = (deviation){0};
        watches[i] = (watch){.skip_first = skip_first, .out = out + i};
        callbacks[i] = (model_hook){hooks[i], keep_rows, watches + i};
        TRY(mem_new(&watches[i].rows, (size_t)b->n_tokens, d * sizeof(float), "rows of a batch", e));
    }
    TRY(model_forward(c, m, b, NULL, callbacks, n_hooks, NULL, e));
    TRY(model_open(c, weights_path(model_weights(m)), &exact, e));
    for (int i = 0; i < n_hooks; i++) callbacks[i].fn = compare_rows;
    TRY(model_forward(c, exact, b, NULL, callbacks, n_hooks, NULL, e));
    for (int i = 0; i < n_hooks; i++) out[i].mean /= (double)watches[i].n;
done:
    for (int i = 0; watches && i < n_hooks; i++) free(watches[i].rows);
    free(watches), free(callbacks);
    model_close(exact);
    return rc;
}
