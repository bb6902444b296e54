/* GPT-NeoX (Black et al. 2022), Pythia: LayerNorm, biases everywhere, an MLP without a gate, rope on the first quarter of each
 * head. Attention and MLP read the same rows:
 *   x += attention(norm_1(x)) + mlp(norm_2(x))        or one after the other, where use_parallel_residual is false
 * Folders store q, k and v of one head together.
 */
#include "model/arch.h"

static const tensor_names gguf_names = {
    .embedding = "token_embd",
    .final_norm = "output_norm",
    .head = "output",
    .attn_norm = "blk.%d.attn_norm",
    .qkv = "blk.%d.attn_qkv",
    .attn_out = "blk.%d.attn_output",
    .mlp_norm = "blk.%d.ffn_norm",
    .up = "blk.%d.ffn_up",
    .down = "blk.%d.ffn_down",
};
static const tensor_names folder_names = {
    .embedding = "gpt_neox.embed_in",
    .final_norm = "gpt_neox.final_layer_norm",
    .head = "embed_out",
    .attn_norm = "gpt_neox.layers.%d.input_layernorm",
    .qkv = "gpt_neox.layers.%d.attention.query_key_value",
    .attn_out = "gpt_neox.layers.%d.attention.dense",
    .mlp_norm = "gpt_neox.layers.%d.post_attention_layernorm",
    .up = "gpt_neox.layers.%d.mlp.dense_h_to_4h",
    .down = "gpt_neox.layers.%d.mlp.dense_4h_to_h",
};

static const config_key key_parallel = {"use_parallel_residual", "use_parallel_residual"};

static void name_tensors(bool gguf, tensor_names *t) { *t = gguf ? gguf_names : folder_names; }

static err_code describe(const weights *w, model_spec *s, err *e) {
    bool gguf = config_is_gguf(w);
    err_code rc = ERR_OK;
    TRY(config_read(w, "gptneox", s, e));
    TRY(config_expect_activation(w, "gelu", "gelu", e));
    TRY(config_bool_or(w, "gptneox", key_parallel, true, &s->parallel, e));
    s->layer_norm = true;
    s->gate = GATE_GELU;
    s->gated = false;
    s->qkv_by_head = !gguf;
done:
    return rc;
}

static err_code write(const model_spec *s, const config_out *to, err *e) {
    err_code rc;
    TRY(config_put_bool(to, key_parallel, s->parallel, e));
    TRY(config_put_real(to, (config_key){"", "rotary_emb_base"}, s->rope.base, e));
    TRY(config_put_real(to, (config_key){"", "rotary_pct"}, config_rotated_share(s), e));
    TRY(config_put_text(to, (config_key){"", "hidden_act"}, "gelu", e));
done:
    return rc;
}

const arch arch_gpt_neox = {.name = "gptneox",
                            .folder_name = "gpt_neox",
                            .folder_class = "GPTNeoXForCausalLM",
                            .name_tensors = name_tensors,
                            .describe = describe,
                            .write = write};
