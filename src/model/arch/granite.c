/* Granite 3 (Granite Team 2024): LLaMA with four multipliers: of the embeddings, of the scores in place of 1 / sqrt(d_head), of
 * what each sub-layer adds, and one that divides the logits. */
#include "model/arch.h"

static const config_key key_embedding = {"embedding_scale", "embedding_multiplier"},
                        key_residual = {"residual_scale", "residual_multiplier"},
                        key_attention = {"attention.scale", "attention_multiplier"},
                        key_logits = {"logit_scale", "logits_scaling"};

static err_code describe(const weights *w, model_spec *s, err *e) {
    double divisor, scale;
    err_code rc = ERR_OK;
    TRY(config_read(w, "granite", s, e));
    TRY(config_expect_activation(w, "silu", "silu", e));
    TRY(config_real_or(w, "granite", key_embedding, 1, 1e-12, &s->embedding_scale, e));
    TRY(config_real_or(w, "granite", key_residual, 1, 1e-12, &s->residual_scale, e));
    TRY(config_real_or(w, "granite", key_attention, s->attention_scale, 0, &scale, e));
    if (scale > 0) s->attention_scale = scale; /* GGUF files say 0 for the usual one */
    TRY(config_real_or(w, "granite", key_logits, 1, 1e-12, &divisor, e));
    s->logit_scale = 1 / divisor;
    s->rope_pairs = config_is_gguf(w);
done:
    return rc;
}

static err_code write(const model_spec *s, const config_out *to, err *e) {
    err_code rc;
    TRY(config_put_real(to, key_embedding, s->embedding_scale, e));
    TRY(config_put_real(to, key_residual, s->residual_scale, e));
    TRY(config_put_real(to, key_attention, s->attention_scale, e));
    TRY(config_put_real(to, key_logits, 1 / s->logit_scale, e));
    TRY(config_put_text(to, (config_key){"", "hidden_act"}, "silu", e));
done:
    return rc;
}

const arch arch_granite = {.name = "granite", .folder_class = "GraniteForCausalLM", .describe = describe, .write = write};
