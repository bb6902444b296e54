/* Mistral (Jiang et al. 2023): LLaMA whose queries see the last `sliding_window` keys. GGUF files call it llama and have lost
 * the window, so this one is found in folders only. */
#include "model/arch.h"

static err_code describe(const weights *w, model_spec *s, err *e) {
    err_code rc = ERR_OK;
    TRY(config_read(w, "mistral", s, e));
    TRY(config_expect_activation(w, "silu", "silu", e));
    TRY(config_windows(w, "mistral", 0, s, e));
done:
    return rc;
}

static err_code write(const model_spec *s, const config_out *to, err *e) {
    err_code rc = config_put_windows(s, 0, to, e);
    return rc ? rc : config_put_text(to, (config_key){"", "hidden_act"}, "silu", e);
}

const arch arch_mistral = {
    .folder_name = "mistral", .folder_class = "MistralForCausalLM", .describe = describe, .write = write};
