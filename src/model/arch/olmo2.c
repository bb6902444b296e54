/* OLMo 2 (OLMo Team 2024): LLaMA whose norms stand behind the sub-layers, not before them, and with an RMS norm over all heads of
 * q at once and of k.
 *   x += norm(attention(x));  x += norm(mlp(x))
 */
#include "model/arch.h"

static err_code describe(const weights *w, model_spec *s, err *e) {
    bool gguf = config_is_gguf(w);
    err_code rc = ERR_OK;
    TRY(config_read(w, "olmo2", s, e));
    TRY(config_expect_activation(w, "silu", "silu", e));
    s->whole_q_norm = true;
    s->names.attn_norm = s->names.mlp_norm = NULL;
    s->names.q_norm = gguf ? "blk.%d.attn_q_norm" : "model.layers.%d.self_attn.q_norm";
    s->names.k_norm = gguf ? "blk.%d.attn_k_norm" : "model.layers.%d.self_attn.k_norm";
    s->names.attn_post_norm = gguf ? "blk.%d.post_attention_norm" : "model.layers.%d.post_attention_layernorm";
    s->names.mlp_post_norm = gguf ? "blk.%d.post_ffw_norm" : "model.layers.%d.post_feedforward_layernorm";
done:
    return rc;
}

const arch arch_olmo2 = {.name = "olmo2", .describe = describe};
