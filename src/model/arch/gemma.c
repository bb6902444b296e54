/* Gemma (Gemma Team 2024): LLaMA with a gelu gate, heads of 256, embeddings times sqrt(d), and gains stored less one (GGUF's
 * converter has added it). */
#include "model/arch.h"

#include <math.h>

static err_code describe(const weights *w, model_spec *s, err *e) {
    err_code rc = ERR_OK;
    TRY(config_read(w, "gemma", s, e));
    TRY(config_expect_activation(w, "gelu_pytorch_tanh", "gelu", e)); /* early files say gelu and mean this */
    s->gate = GATE_GELU_TANH;
    s->gain_of_one = !config_is_gguf(w);
    s->embedding_scale = sqrt((double)s->cfg.d_model);
    s->cfg.tied_embedding = true;
done:
    return rc;
}

const arch arch_gemma = {.name = "gemma", .describe = describe};
