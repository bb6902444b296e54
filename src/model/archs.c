#include "core/names.h"
#include "model/arch.h"

#include <stdlib.h>

/* How to add one: arch/<name>.c with a describe function and its const arch, its declaration in arch.h, a row here, and a tiny
 * model with recorded activations in tests/golden/models. */
static const arch *const archs[] = {&arch_llama};
enum { N_ARCHS = sizeof archs / sizeof *archs };

err_code arch_describe(const weights *w, model_spec *s, err *e) {
    char *name = NULL;
    err_code rc = weights_meta_string(w, "general.architecture", &name, e);
    if (rc != ERR_OK) return rc;
    struct {
        const char *name;
    } known[N_ARCHS];
    for (int i = 0; i < N_ARCHS; i++) known[i].name = archs[i]->name;
    int i = names_find(name, known, N_ARCHS, sizeof *known);
    rc = i >= 0 ? archs[i]->describe(w, s, e)
                : names_unknown(e, ERR_UNSUPPORTED, "architecture", name, known, N_ARCHS, sizeof *known);
    free(name);
    return rc;
}
