/* hooks.h — where one can look into a forward pass, in TransformerLens' names, and how.
 *
 *   blocks.L.hook_resid_pre   input of block L
 *   blocks.L.hook_attn_out    what attention adds
 *   blocks.L.hook_resid_mid   after attention was added
 *   blocks.L.hook_mlp_out     what the MLP adds
 *   blocks.L.hook_resid_post  output of block L, before any final norm
 *
 * A hook's callback receives all rows of the batch at its point and may read them or rewrite them in place; a rewrite is
 * what the rest of the forward pass then sees. Several hooks at one point run in the order given.
 */
#ifndef MODEL_HOOKS_H
#define MODEL_HOOKS_H

#include "core/ctx.h"

#include <stdint.h>

typedef enum hook_kind { HOOK_RESID_PRE, HOOK_ATTN_OUT, HOOK_RESID_MID, HOOK_MLP_OUT, HOOK_RESID_POST } hook_kind;

typedef struct hook_point {
    int layer;
    hook_kind kind;
} hook_point;

enum { HOOK_NAME_MAX = 48 };

/* ERR_USAGE with the nearest right name, or the layers the model has. */
err_code hook_parse(const char *name, int64_t n_layers, hook_point *out, err *e);
void hook_format(hook_point p, char out[HOOK_NAME_MAX]);
int hook_compare(hook_point a, hook_point b); /* order in the forward pass, as strcmp */

typedef struct hook_rows {
    hook_point at;
    int64_t n_tokens, d_model;
    float *x;           /* [n_tokens, d_model], borrowed for the call; rewrite in place or leave */
    const int32_t *seq; /* [n_tokens] which sequence of the batch */
    const int32_t *pos; /* [n_tokens] position in that sequence, 0 first */
} hook_rows;

typedef err_code hook_fn(void *user, const ctx *c, const hook_rows *rows, err *e);

typedef struct model_hook {
    hook_point at;
    hook_fn *fn;
    void *user;
} model_hook;

#endif
