/* Phi-3 (Abdin et al. 2024): LLaMA with one matrix for q, k and v, one for gate and up, and a window. */
#include "model/arch.h"

static void name_tensors(bool gguf, tensor_names *t) {
    config_llama_names(gguf, t);
    t->q = t->k = t->v = t->gate = t->up = NULL;
    t->qkv = gguf ? "blk.%d.attn_qkv" : "model.layers.%d.self_attn.qkv_proj";
    t->gate_up = gguf ? "blk.%d.ffn_up" : "model.layers.%d.mlp.gate_up_proj";
}

static err_code describe(const weights *w, model_spec *s, err *e) {
    err_code rc = ERR_OK;
    TRY(config_read(w, "phi3", s, e));
    TRY(config_expect_activation(w, "silu", "silu", e));
    if (weights_find(w, "rope_factors_long.weight"))
        TRY(err_set(e, ERR_UNSUPPORTED, "rope_factors_long: only Phi-3 models of the short context are known"));
    TRY(config_windows(w, "phi3", 0, s, e));
done:
    return rc;
}

static err_code write(const model_spec *s, const config_out *to, err *e) {
    err_code rc;
    TRY(config_put_windows(s, 0, to, e));
    if (to->gguf && !s->window) TRY(config_put_int(to, (config_key){"attention.sliding_window", ""}, 0, e));
    TRY(config_put_text(to, (config_key){"", "hidden_act"}, "silu", e));
done:
    return rc;
}

const arch arch_phi3 = {
    .name = "phi3", .folder_class = "Phi3ForCausalLM", .name_tensors = name_tensors, .describe = describe, .write = write};
