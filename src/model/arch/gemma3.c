/* Gemma 3 (Gemma Team 2025), text: Gemma 2 without soft caps, with an RMS norm on every head of q and k, and a window in all
 * layers but every sixth. The local layers turn by a rope of their own, base 10000 and never stretched. */
#include "model/arch/gemma2.h"

static const config_key local_base = {"rope.freq_base_swa",
                                      "rope_local_base_freq|rope_parameters.sliding_attention.rope_theta"};
enum { PERIOD = 6 };

static void name_tensors(bool gguf, tensor_names *t) {
    gemma2_names(gguf, t);
    t->q_norm = gguf ? "blk.%d.attn_q_norm" : "model.layers.%d.self_attn.q_norm";
    t->k_norm = gguf ? "blk.%d.attn_k_norm" : "model.layers.%d.self_attn.k_norm";
}

static err_code describe(const weights *w, model_spec *s, err *e) {
    int64_t period;
    err_code rc;
    TRY(gemma2_read(w, "gemma3", &(gemma_27b){.n_layers = 62, .d_model = 5376}, s, e));
    TRY(config_size_or(w, "gemma3", (config_key){"", "sliding_window_pattern|_sliding_window_pattern"}, PERIOD, LAYERS_MAX,
                       &period, e));
    TRY(config_windows(w, "gemma3", period, s, e));
    s->local_rope = (rope_spec){.stretch = 1};
    TRY(config_real_or(w, "gemma3", local_base, 10000, 1, &s->local_rope.base, e));
    for (int64_t i = 0; i < s->cfg.n_layers; i++)
        if (s->layers[i] & LAYER_WINDOW) s->layers[i] |= LAYER_LOCAL_ROPE;
done:
    return rc;
}

static err_code write(const model_spec *s, const config_out *to, err *e) {
    err_code rc = gemma2_write(s, PERIOD, to, e);
    return rc ? rc : config_put_real(to, local_base, s->local_rope.base, e);
}

const arch arch_gemma3 = {.name = "gemma3",
                          .folder_name = "gemma3_text",
                          .folder_class = "Gemma3ForCausalLM",
                          .name_tensors = name_tensors,
                          .describe = describe,
                          .write = write};
