/* Gemma 2 (Gemma Team 2024): Gemma with
 *   norms before and after each sub-layer      x += norm(attention(norm(x)));  x += norm(mlp(norm(x)))
 *   soft caps                                  scores and logits become cap tanh(s / cap)
 *   a window in layers 0, 2, ..
 */
#include "model/arch/gemma2.h"

#include <math.h>

static const config_key key_scalar = {"", "query_pre_attn_scalar"},
                        key_attention_cap = {"attn_logit_softcapping", "attn_logit_softcapping"},
                        key_logit_cap = {"final_logit_softcapping", "final_logit_softcapping"};

void gemma2_names(bool gguf, tensor_names *t) {
    config_llama_names(gguf, t);
    t->attn_post_norm = gguf ? "blk.%d.post_attention_norm" : "model.layers.%d.post_attention_layernorm";
    t->mlp_norm = gguf ? "blk.%d.ffn_norm" : "model.layers.%d.pre_feedforward_layernorm";
    t->mlp_post_norm = gguf ? "blk.%d.post_ffw_norm" : "model.layers.%d.post_feedforward_layernorm";
}

/* GGUF cannot say query_pre_attn_scalar; only the 27B model has one that is not d_head: there it is d_model / n_heads. */
static double default_scalar(const weights *w, const model_config *g, const gemma_27b *largest) {
    bool is_largest = config_is_gguf(w) && g->n_layers == largest->n_layers && g->d_model == largest->d_model;
    return (double)(is_largest ? g->d_model / g->n_heads : g->d_head);
}

err_code gemma2_read(const weights *w, const char *architecture, const gemma_27b *largest, model_spec *s, err *e) {
    bool gguf = config_is_gguf(w);
    double scalar;
    err_code rc = ERR_OK;
    TRY(config_read(w, architecture, s, e));
    TRY(config_expect_activation(w, "gelu_pytorch_tanh", "gelu_pytorch_tanh", e));
    s->gate = GATE_GELU_TANH;
    s->gain_of_one = !gguf;
    s->embedding_scale = sqrt((double)s->cfg.d_model);
    s->cfg.tied_embedding = true;
    TRY(config_real_or(w, architecture, key_scalar, default_scalar(w, &s->cfg, largest), 1e-6, &scalar, e));
    s->attention_scale = 1 / sqrt(scalar);
done:
    return rc;
}

/* 1 / scale^2 is a whole number in every config there is. */
static double scalar_of(double attention_scale) {
    double scalar = 1 / (attention_scale * attention_scale), whole = round(scalar);
    return fabs(scalar - whole) < 1e-6 * whole ? whole : scalar;
}

err_code gemma2_write(const model_spec *s, int64_t period, const config_out *to, err *e) {
    err_code rc;
    TRY(config_put_real(to, key_scalar, scalar_of(s->attention_scale), e));
    TRY(config_put_text(to, (config_key){"", "hidden_act"}, "gelu_pytorch_tanh", e));
    TRY(config_put_text(to, (config_key){"", "hidden_activation"}, "gelu_pytorch_tanh", e));
    TRY(config_put_windows(s, period, to, e));
done:
    return rc;
}

static err_code describe(const weights *w, model_spec *s, err *e) {
    err_code rc;
    TRY(gemma2_read(w, "gemma2", &(gemma_27b){.n_layers = 46, .d_model = 4608}, s, e));
    TRY(config_real_or(w, "gemma2", key_attention_cap, 0, 0, &s->attention_cap, e));
    TRY(config_real_or(w, "gemma2", key_logit_cap, 0, 0, &s->logit_cap, e));
    TRY(config_windows(w, "gemma2", 2, s, e));
done:
    return rc;
}

/* A cap of null is none; a folder that says nothing means Gemma's own. */
static err_code write(const model_spec *s, const config_out *to, err *e) {
    err_code rc;
    TRY(gemma2_write(s, 2, to, e));
    if (s->attention_cap > 0) TRY(config_put_real(to, key_attention_cap, s->attention_cap, e));
    if (s->logit_cap > 0) TRY(config_put_real(to, key_logit_cap, s->logit_cap, e));
done:
    return rc;
}

const arch arch_gemma2 = {.name = "gemma2",
                          .folder_class = "Gemma2ForCausalLM",
                          .name_tensors = gemma2_names,
                          .describe = describe,
                          .write = write};
