#include "core/names.h"
#include "model/arch.h"

#include <stdlib.h>

/* How to add one: arch/<name>.c with a describe function and its const arch, its declaration in arch.h, a row here, and a tiny
 * model with recorded activations in tests/golden/models. */
static const arch *const archs[] = {&arch_llama,  &arch_mistral, &arch_qwen2,  &arch_qwen3,    &arch_gemma,
                                    &arch_gemma2, &arch_gemma3,  &arch_gpt2,   &arch_gpt_neox, &arch_phi3,
                                    &arch_olmo2,  &arch_granite, &arch_smollm3};
enum { N_ARCHS = sizeof archs / sizeof *archs };

err_code arch_find(const weights *w, const arch **out, err *e) {
    bool gguf = config_is_gguf(w);
    char *name = NULL;
    if (!gguf && !weights_meta(w, "model_type"))
        return err_set(e, ERR_FORMAT,
                       "it does not say what architecture it has: a model in Hugging Face's layout is opened by its "
                       "folder, whose config.json does");
    err_code rc = weights_meta_string(w, gguf ? "general.architecture" : "model_type", &name, e);
    if (rc != ERR_OK) return rc;
    struct {
        const char *name;
    } known[N_ARCHS];
    const arch *rows[N_ARCHS];
    int n = 0;
    for (int i = 0; i < N_ARCHS; i++) {
        const char *spelling = gguf || !archs[i]->folder_name ? archs[i]->name : archs[i]->folder_name;
        if (spelling) known[n].name = spelling, rows[n++] = archs[i];
    }
    int i = names_find(name, known, n, sizeof *known);
    if (i >= 0)
        *out = rows[i];
    else
        rc = names_unknown(e, ERR_UNSUPPORTED, "architecture", name, known, n, sizeof *known);
    free(name);
    return rc;
}

void arch_names(const arch *a, bool gguf, tensor_names *t) {
    if (a->name_tensors)
        a->name_tensors(gguf, t);
    else
        config_llama_names(gguf, t);
}

err_code arch_read(const arch *a, const weights *w, model_spec *s, err *e) {
    *s = (model_spec){0};
    arch_names(a, config_is_gguf(w), &s->names);
    return a->describe(w, s, e);
}

err_code arch_describe(const weights *w, model_spec *s, err *e) {
    const arch *a;
    err_code rc = arch_find(w, &a, e);
    return rc ? rc : arch_read(a, w, s, e);
}
