#include "model/hooks.h"
#include "core/names.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
} kinds[] = {
    [HOOK_RESID_PRE] = {"hook_resid_pre"}, [HOOK_ATTN_OUT] = {"hook_attn_out"},     [HOOK_RESID_MID] = {"hook_resid_mid"},
    [HOOK_MLP_OUT] = {"hook_mlp_out"},     [HOOK_RESID_POST] = {"hook_resid_post"},
};
enum { N_KINDS = sizeof kinds / sizeof *kinds, LAYER_DIGITS_MAX = 9 };

static err_code malformed(const char *name, err *e) {
    return err_set(e, ERR_USAGE, "'%.80s' is no hook: expected a name like blocks.0.hook_resid_post", name);
}

err_code hook_parse(const char *name, int64_t n_layers, hook_point *out, err *e) {
    static const char prefix[] = "blocks.";
    if (strncmp(name, prefix, sizeof prefix - 1)) return malformed(name, e);
    const char *digits = name + sizeof prefix - 1, *dot = digits;
    while (isdigit((unsigned char)*dot)) dot++;
    if (dot == digits || dot - digits > LAYER_DIGITS_MAX || *dot != '.') return malformed(name, e);
    int layer = atoi(digits), kind = names_find(dot + 1, kinds, N_KINDS, sizeof *kinds);
    if (layer >= n_layers)
        return err_set(e, ERR_USAGE, "%.80s: the model has no block %d, only 0 to %lld", name, layer,
                       (long long)n_layers - 1);
    if (kind < 0) return names_unknown(e, ERR_USAGE, "hook", dot + 1, kinds, N_KINDS, sizeof *kinds);
    *out = (hook_point){.layer = layer, .kind = (hook_kind)kind};
    return ERR_OK;
}

void hook_format(hook_point p, char out[HOOK_NAME_MAX]) {
    snprintf(out, HOOK_NAME_MAX, "blocks.%d.%s", p.layer, kinds[p.kind].name);
}

int hook_compare(hook_point a, hook_point b) { return a.layer != b.layer ? a.layer - b.layer : (int)a.kind - (int)b.kind; }
