/* Qwen2 (Yang et al. 2024): LLaMA with biases on q, k and v. Folders may name a window and switch it off. */
#include "model/arch.h"

static err_code describe(const weights *w, model_spec *s, err *e) {
    bool windows;
    err_code rc = ERR_OK;
    TRY(config_read(w, "qwen2", s, e));
    TRY(config_expect_activation(w, "silu", "silu", e));
    TRY(config_bool_or(w, (config_key){"", "use_sliding_window"}, false, &windows, e));
    if (windows) TRY(err_set(e, ERR_UNSUPPORTED, "use_sliding_window: only Qwen models without a window are known"));
done:
    return rc;
}

const arch arch_qwen2 = {.name = "qwen2", .describe = describe};
