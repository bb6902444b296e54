/* LLaMA (Touvron et al. 2023) and what is built like it: SmolLM 1 and 2, LLaMA 3, and in GGUF files Mistral.
 *   x += W_o attention(rope(W_q n), rope(W_k n), W_v n)   n = rms_norm(x), keys and values shared by groups of heads
 *   x += W_down (silu(W_gate n) * W_up n)                 n = rms_norm(x)
 */
#include "model/arch.h"

/* llama.cpp's converter reorders q and k for its rope; LLaMA 3's scaling comes as the tensor rope_freqs. A window in a GGUF file
 * is Mistral's, written by us. */
static err_code describe(const weights *w, model_spec *s, err *e) {
    int64_t experts = 0;
    err_code rc = ERR_OK;
    TRY(config_read(w, "llama", s, e));
    TRY(config_expect_activation(w, "silu", "silu", e));
    TRY(weights_meta_int_or(w, "llama.expert_count", 0, &experts, e));
    if (experts)
        return err_set(e, ERR_UNSUPPORTED, "a mixture of %lld experts: only models with one MLP per block are known",
                       (long long)experts);
    s->rope_pairs = config_is_gguf(w);
    if (config_is_gguf(w)) TRY(config_windows(w, "llama", 0, s, e));
done:
    return rc;
}

static err_code write(const model_spec *s, const config_out *to, err *e) {
    err_code rc = config_put_windows(s, 0, to, e);
    return rc ? rc : config_put_text(to, (config_key){"", "hidden_act"}, "silu", e);
}

const arch arch_llama = {.name = "llama", .folder_class = "LlamaForCausalLM", .describe = describe, .write = write};
