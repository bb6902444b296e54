/* OLMo 2 (OLMo Team 2024): LLaMA whose norms stand behind the sub-layers, not before them, and with an RMS norm over all heads of
 * q at once and of k.
 *   x += norm(attention(x));  x += norm(mlp(x))
 */
#include "model/arch.h"

static void name_tensors(bool gguf, tensor_names *t) {
    config_llama_names(gguf, t);
    t->attn_norm = t->mlp_norm = NULL;
    t->q_norm = gguf ? "blk.%d.attn_q_norm" : "model.layers.%d.self_attn.q_norm";
    t->k_norm = gguf ? "blk.%d.attn_k_norm" : "model.layers.%d.self_attn.k_norm";
    t->attn_post_norm = gguf ? "blk.%d.post_attention_norm" : "model.layers.%d.post_attention_layernorm";
    t->mlp_post_norm = gguf ? "blk.%d.post_ffw_norm" : "model.layers.%d.post_feedforward_layernorm";
}

static err_code describe(const weights *w, model_spec *s, err *e) {
    err_code rc = ERR_OK;
    TRY(config_read(w, "olmo2", s, e));
    TRY(config_expect_activation(w, "silu", "silu", e));
    s->whole_q_norm = true;
done:
    return rc;
}

static err_code write(const model_spec *s, const config_out *to, err *e) {
    (void)s;
    return config_put_text(to, (config_key){"", "hidden_act"}, "silu", e);
}

const arch arch_olmo2 = {
    .name = "olmo2", .folder_class = "Olmo2ForCausalLM", .name_tensors = name_tensors, .describe = describe, .write = write};
