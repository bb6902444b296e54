/* Qwen2 (Yang et al. 2024): LLaMA with biases on q, k and v. Folders may name a window and switch it off. */
#include "model/arch.h"

static err_code describe(const weights *w, model_spec *s, err *e) {
    bool windows;
    err_code rc = ERR_OK;
    TRY(config_read(w, "qwen2", s, e));
    TRY(config_expect_activation(w, "silu", "silu", e));
    TRY(config_bool_or(w, "qwen2", (config_key){"", "use_sliding_window"}, false, &windows, e));
    if (windows) TRY(err_set(e, ERR_UNSUPPORTED, "use_sliding_window: only Qwen models without a window are known"));
done:
    return rc;
}

static err_code write(const model_spec *s, const config_out *to, err *e) {
    (void)s;
    return config_put_text(to, (config_key){"", "hidden_act"}, "silu", e);
}

const arch arch_qwen2 = {.name = "qwen2", .folder_class = "Qwen2ForCausalLM", .describe = describe, .write = write};
