#include "sae/splice.h"
#include "core/mem.h"

#include <stdlib.h>
#include <string.h>

/* x_hat of all rows of the batch; skipped ones are computed too, which costs less than gathering the others. */
static err_code reconstruct(splice *s, const ctx *c, const hook_rows *rows, err *e) {
    err_code rc =
        mem_grow(&s->x_hat, &s->cap, (size_t)(rows->n_tokens * rows->d_model), sizeof *s->x_hat, "reconstruction", e);
    if (!rc) rc = sae_encode(c, s->sae, rows->x, rows->n_tokens, &s->acts, e);
    if (!rc) rc = sae_reconstruct(c, s->sae, &s->acts, rows->x, s->x_hat, e);
    return rc;
}

static err_code replace_rows(void *user, const ctx *c, const hook_rows *rows, err *e) {
    splice *s = user;
    size_t bytes = (size_t)rows->d_model * sizeof(float);
    err_code rc = sae_check_fits(s->sae, NULL, NULL, rows->d_model, e);
    if (!rc && s->mode == SPLICE_RECONSTRUCT) rc = reconstruct(s, c, rows, e);
    for (int64_t t = 0; !rc && t < rows->n_tokens; t++) {
        float *x = rows->x + t * rows->d_model;
        if (rows->pos[t] < s->skip_first || sae_row_is_long(s->sae, x)) continue;
        switch (s->mode) {
        case SPLICE_RECONSTRUCT: memcpy(x, s->x_hat + t * rows->d_model, bytes); break;
        case SPLICE_ZERO: memset(x, 0, bytes); break;
        case SPLICE_MEAN: memcpy(x, s->mean, bytes); break;
        }
        s->rows_changed++;
    }
    return rc;
}

err_code splice_hook(splice *s, int64_t n_layers, model_hook *out, err *e) {
    if (!s->sae->cfg.hook_name[0])
        return err_set(e, ERR_MISMATCH, "the autoencoder does not say at which hook it was trained");
    err_code rc = sae_check_autoencoder(s->sae, e);
    if (rc) return rc;
    *out = (model_hook){.fn = replace_rows, .user = s};
    return hook_parse(s->sae->cfg.hook_name, n_layers, &out->at, e);
}

void splice_release(splice *s) {
    sparse_release(&s->acts);
    free(s->x_hat);
    s->x_hat = NULL;
    s->cap = 0;
}
