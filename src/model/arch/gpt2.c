/* GPT-2 (Radford et al. 2019): learned positions, LayerNorm, biases everywhere, one matrix for q, k and v, an MLP without a
 * gate. Folders store matrices [in, out], and their names with or without "transformer." in front. */
#include "model/arch.h"

#define FOLDER_NAMES(prefix)                                                                                                 \
    {                                                                                                                        \
        .embedding = prefix "wte", .positions = prefix "wpe", .final_norm = prefix "ln_f", .head = "lm_head",                \
        .attn_norm = prefix "h.%d.ln_1", .qkv = prefix "h.%d.attn.c_attn", .attn_out = prefix "h.%d.attn.c_proj",            \
        .mlp_norm = prefix "h.%d.ln_2", .up = prefix "h.%d.mlp.c_fc", .down = prefix "h.%d.mlp.c_proj"                       \
    }
static const tensor_names long_names = FOLDER_NAMES("transformer."), short_names = FOLDER_NAMES("");

static const tensor_names gguf_names = {
    .embedding = "token_embd",
    .positions = "position_embd",
    .final_norm = "output_norm",
    .head = "output",
    .attn_norm = "blk.%d.attn_norm",
    .qkv = "blk.%d.attn_qkv",
    .attn_out = "blk.%d.attn_output",
    .mlp_norm = "blk.%d.ffn_norm",
    .up = "blk.%d.ffn_up",
    .down = "blk.%d.ffn_down",
};

static void name_tensors(bool gguf, tensor_names *t) { *t = gguf ? gguf_names : long_names; }

static err_code describe(const weights *w, model_spec *s, err *e) {
    bool gguf = config_is_gguf(w), unscaled;
    err_code rc = ERR_OK;
    if (!gguf && weights_find(w, "wte.weight")) s->names = short_names;
    TRY(config_read(w, "gpt2", s, e));
    TRY(config_expect_activation(w, "gelu_new", "gelu_pytorch_tanh", e));
    TRY(config_bool_or(w, "gpt2", (config_key){"", "scale_attn_by_inverse_layer_idx"}, false, &unscaled, e));
    if (unscaled) TRY(err_set(e, ERR_UNSUPPORTED, "scale_attn_by_inverse_layer_idx: only GPT-2 without it is known"));
    s->layer_norm = true;
    s->gate = GATE_GELU_TANH;
    s->gated = false;
    s->transposed = !gguf;
    if (!gguf) s->cfg.tied_embedding = true;
done:
    return rc;
}

static err_code write(const model_spec *s, const config_out *to, err *e) {
    (void)s;
    return config_put_text(to, (config_key){"", "activation_function"}, "gelu_new", e);
}

const arch arch_gpt2 = {.name = "gpt2",
                        .folder_class = "GPT2LMHeadModel",
                        .last_spelling = true,
                        .name_tensors = name_tensors,
                        .describe = describe,
                        .write = write};
