/* Phi-3 (Abdin et al. 2024): LLaMA with one matrix for q, k and v, one for gate and up, and a window. */
#include "model/arch.h"

static err_code describe(const weights *w, model_spec *s, err *e) {
    bool gguf = config_is_gguf(w);
    err_code rc = ERR_OK;
    TRY(config_read(w, "phi3", s, e));
    TRY(config_expect_activation(w, "silu", "silu", e));
    if (weights_find(w, "rope_factors_long.weight"))
        TRY(err_set(e, ERR_UNSUPPORTED, "rope_factors_long: only Phi-3 models of the short context are known"));
    TRY(config_windows(w, "phi3", 0, s, e));
    s->names.q = s->names.k = s->names.v = s->names.gate = s->names.up = NULL;
    s->names.qkv = gguf ? "blk.%d.attn_qkv" : "model.layers.%d.self_attn.qkv_proj";
    s->names.gate_up = gguf ? "blk.%d.ffn_up" : "model.layers.%d.mlp.gate_up_proj";
done:
    return rc;
}

const arch arch_phi3 = {.name = "phi3", .describe = describe};
