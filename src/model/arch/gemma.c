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

static err_code write(const model_spec *s, const config_out *to, err *e) {
    (void)s;
    err_code rc = config_put_text(to, (config_key){"", "hidden_act"}, "gelu_pytorch_tanh", e);
    return rc ? rc : config_put_text(to, (config_key){"", "hidden_activation"}, "gelu_pytorch_tanh", e);
}

const arch arch_gemma = {.name = "gemma", .folder_class = "GemmaForCausalLM", .describe = describe, .write = write};
