#include "sae/variants/variants.h"
#include "core/names.h"

#include <string.h>

/* How to add one: variants.h. */
const sae_variant *const sae_variants[] = {&sae_topk, &sae_standard, &sae_jumprelu, &sae_gated, &sae_abstopk, &sae_groupmax};
const int n_sae_variants = sizeof sae_variants / sizeof *sae_variants;

err_code sae_variant_find(const char *name, const sae_variant **out, err *e) {
    struct {
        const char *name;
    } names[sizeof sae_variants / sizeof *sae_variants];
    for (int i = 0; i < n_sae_variants; i++) names[i].name = sae_variants[i]->name;
    int found = names_find(name, names, n_sae_variants, sizeof *names);
    if (found < 0) return names_unknown(e, ERR_UNSUPPORTED, "architecture", name, names, n_sae_variants, sizeof *names);
    *out = sae_variants[found];
    return ERR_OK;
}
