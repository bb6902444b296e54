/* Granite 3 (Granite Team 2024): LLaMA with four multipliers: of the embeddings, of the scores in place of 1 / sqrt(d_head), of
 * what each sub-layer adds, and one that divides the logits. */
#include "model/arch.h"

static err_code describe(const weights *w, model_spec *s, err *e) {
    double divisor, scale;
    err_code rc = ERR_OK;
    TRY(config_read(w, "granite", s, e));
    TRY(config_expect_activation(w, "silu", "silu", e));
    TRY(config_real_or(w, "granite", (config_key){"embedding_scale", "embedding_multiplier"}, 1, 1e-12, &s->embedding_scale,
                       e));
    TRY(config_real_or(w, "granite", (config_key){"residual_scale", "residual_multiplier"}, 1, 1e-12, &s->residual_scale, e));
    TRY(config_real_or(w, "granite", (config_key){"attention.scale", "attention_multiplier"}, s->attention_scale, 0, &scale,
                       e));
    if (scale > 0) s->attention_scale = scale; /* GGUF files say 0 for the usual one */
    TRY(config_real_or(w, "granite", (config_key){"logit_scale", "logits_scaling"}, 1, 1e-12, &divisor, e));
    s->logit_scale = 1 / divisor;
    s->rope_pairs = config_is_gguf(w);
done:
    return rc;
}

const arch arch_granite = {.name = "granite", .describe = describe};
