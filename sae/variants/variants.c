#include "sae/variants/variants.h"
#include "core/names.h"


/* How to add one: variants.h. */
const sae_variant *const sae_variants[] = {&sae_topk, &sae_standard, &sae_jumprelu, &sae_gated, &sae_abstopk, &sae_groupmax};
const int n_sae_variants = sizeof sae_variants / sizeof *sae_variants;

err_code sae_variant_find(const char *name, const sae_variant **out, err *e) {
    int found = names_find(name, sae_variants, n_sae_variants, NAMES_OF_POINTERS);
    if (found < 0)
        return names_unknown(e, ERR_UNSUPPORTED, "architecture", name, sae_variants, n_sae_variants, NAMES_OF_POINTERS);
    *out = sae_variants[found];
    return ERR_OK;
}
