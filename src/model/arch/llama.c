/* LLaMA (Touvron et al. 2023) and what is built like it: SmolLM 1 and 2, Mistral without its window, LLaMA 3.
 *   x += W_o attention(rope(W_q n), rope(W_k n), W_v n)   n = rms_norm(x), keys and values shared by groups of heads
 *   x += W_down (silu(W_gate n) * W_up n)                 n = rms_norm(x)
 */
#include "model/arch.h"

#include <stdlib.h>
#include <string.h>

/* llama.cpp's converter reorders q and k for its rope; LLaMA 3's scaling comes as the tensor rope_freqs. */
static err_code describe(const weights *w, model_spec *s, err *e) {
    err_code rc = config_from_gguf(w, "llama", s, e);
    if (rc != ERR_OK) return rc;
    int64_t experts = 0;
    rc = weights_meta_int_or(w, "llama.expert_count", 0, &experts, e);
    if (rc != ERR_OK) return rc;
    if (experts)
        return err_set(e, ERR_UNSUPPORTED, "a mixture of %lld experts: only models with one MLP per block are known",
                       (long long)experts);
    s->names = &gguf_names;
    s->rope_pairs = true;
    return ERR_OK;
}

const arch arch_llama = {.name = "llama", .describe = describe};
