/* Qwen3 (Yang et al. 2025): LLaMA with an RMS norm on every head of q and of k before rope, both with one gain for all heads. */
#include "model/arch.h"

static void name_tensors(bool gguf, tensor_names *t) {
    config_llama_names(gguf, t);
    t->q_norm = gguf ? "blk.%d.attn_q_norm" : "model.layers.%d.self_attn.q_norm";
    t->k_norm = gguf ? "blk.%d.attn_k_norm" : "model.layers.%d.self_attn.k_norm";
}

static err_code describe(const weights *w, model_spec *s, err *e) {
    bool windows;
    err_code rc = ERR_OK;
    TRY(config_read(w, "qwen3", s, e));
    TRY(config_expect_activation(w, "silu", "silu", e));
    TRY(config_bool_or(w, "qwen3", (config_key){"", "use_sliding_window"}, false, &windows, e));
    if (windows) TRY(err_set(e, ERR_UNSUPPORTED, "use_sliding_window: only Qwen models without a window are known"));
done:
    return rc;
}

static err_code write(const model_spec *s, const config_out *to, err *e) {
    (void)s;
    return config_put_text(to, (config_key){"", "hidden_act"}, "silu", e);
}

const arch arch_qwen3 = {
    .name = "qwen3", .folder_class = "Qwen3ForCausalLM", .name_tensors = name_tensors, .describe = describe, .write = write};
