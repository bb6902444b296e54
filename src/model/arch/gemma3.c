/* Gemma 3 (Gemma Team 2025), text: Gemma 2 without soft caps, with an RMS norm on every head of q and k, and a window in all
 * layers but every sixth. The local layers turn by a rope of their own, base 10000 and never stretched. */
#include "model/arch.h"

#include <math.h>

/* GGUF cannot say query_pre_attn_scalar; only the 27B model has one that is not d_head: there it is d_model / n_heads. */
static double default_scalar(const weights *w, const model_config *g) {
    bool largest = config_is_gguf(w) && g->n_layers == 62 && g->d_model == 5376;
    return (double)(largest ? g->d_model / g->n_heads : g->d_head);
}

static err_code describe(const weights *w, model_spec *s, err *e) {
    static const config_key local_base = {"rope.freq_base_swa",
                                          "rope_local_base_freq|rope_parameters.sliding_attention.rope_theta"};
    bool gguf = config_is_gguf(w);
    double scalar;
    int64_t period;
    err_code rc = ERR_OK;
    TRY(config_read(w, "gemma3", s, e));
    TRY(config_expect_activation(w, "gelu_pytorch_tanh", "gelu_pytorch_tanh", e));
    s->gate = GATE_GELU_TANH;
    s->gain_of_one = !gguf;
    s->embedding_scale = sqrt((double)s->cfg.d_model);
    s->cfg.tied_embedding = true;
    s->names.q_norm = gguf ? "blk.%d.attn_q_norm" : "model.layers.%d.self_attn.q_norm";
    s->names.k_norm = gguf ? "blk.%d.attn_k_norm" : "model.layers.%d.self_attn.k_norm";
    s->names.attn_post_norm = gguf ? "blk.%d.post_attention_norm" : "model.layers.%d.post_attention_layernorm";
    s->names.mlp_norm = gguf ? "blk.%d.ffn_norm" : "model.layers.%d.pre_feedforward_layernorm";
    s->names.mlp_post_norm = gguf ? "blk.%d.post_ffw_norm" : "model.layers.%d.post_feedforward_layernorm";
    TRY(config_real_or(w, "gemma3", (config_key){"", "query_pre_attn_scalar"}, default_scalar(w, &s->cfg), 1e-6, &scalar, e));
    s->attention_scale = 1 / sqrt(scalar);
    TRY(config_size_or(w, "gemma3", (config_key){"", "sliding_window_pattern|_sliding_window_pattern"}, 6, LAYERS_MAX,
                       &period, e));
    TRY(config_windows(w, "gemma3", period, s, e));
    s->local_rope = (rope_spec){.stretch = 1};
    TRY(config_real_or(w, "gemma3", local_base, 10000, 1, &s->local_rope.base, e));
    for (int64_t i = 0; i < s->cfg.n_layers; i++)
        if (s->layers[i] & LAYER_WINDOW) s->layers[i] |= LAYER_LOCAL_ROPE;
done:
    return rc;
}

const arch arch_gemma3 = {.name = "gemma3", .folder_name = "gemma3_text", .describe = describe};
