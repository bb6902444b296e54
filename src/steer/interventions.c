/* The kinds of intervention. How to add one: a function and a row. */
#include "core/names.h"
#include "steer/intervene.h"

static float clamp(const intervention *v, float f_i) { return v->value - f_i; }

static float add(const intervention *v, float f_i) {
    (void)f_i;
    return v->value;
}

static float scale(const intervention *v, float f_i) { return (v->value - 1) * f_i; }

static float ablate(const intervention *v, float f_i) {
    (void)v;
    return -f_i;
}

static float ablate_mean(const intervention *v, float f_i) { return v->mean - f_i; }

const intervention_kind intervention_kinds[] = {
    {"clamp", "hold the feature at a value, whatever it was", true, true, true, clamp},
    {"add", "add a multiple of the feature's direction", true, true, false, add},
    {"scale", "multiply the feature's activation where it fires", true, true, true, scale},
    {"ablate", "take the feature out: its activation becomes 0", true, false, true, ablate},
    {"ablate_mean", "hold the feature at its mean over the corpus", true, false, true, ablate_mean},
    {"direction", "add a multiple of any unit vector", false, true, false, add},
};
const int n_intervention_kinds = sizeof intervention_kinds / sizeof *intervention_kinds;

const intervention_kind *intervention_kind_by_name(const char *name, err *e) {
    int i = names_find(name, intervention_kinds, n_intervention_kinds, sizeof *intervention_kinds);
    if (i >= 0) return &intervention_kinds[i];
    names_unknown(e, ERR_USAGE, "intervention", name, intervention_kinds, n_intervention_kinds, sizeof *intervention_kinds);
    return NULL;
}
