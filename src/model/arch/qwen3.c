/* Qwen3 (Yang et al. 2025): LLaMA with an RMS norm on every head of q and of k before rope, both with one gain for all heads. */
#include "model/arch.h"

static err_code describe(const weights *w, model_spec *s, err *e) {
    bool windows;
    err_code rc = ERR_OK;
    TRY(config_read(w, "qwen3", s, e));
    TRY(config_expect_activation(w, "silu", "silu", e));
    TRY(config_bool_or(w, (config_key){"", "use_sliding_window"}, false, &windows, e));
    if (windows) TRY(err_set(e, ERR_UNSUPPORTED, "use_sliding_window: only Qwen models without a window are known"));
    s->names.q_norm = config_is_gguf(w) ? "blk.%d.attn_q_norm" : "model.layers.%d.self_attn.q_norm";
    s->names.k_norm = config_is_gguf(w) ? "blk.%d.attn_k_norm" : "model.layers.%d.self_attn.k_norm";
done:
    return rc;
}

const arch arch_qwen3 = {.name = "qwen3", .describe = describe};
