/* SmolLM3 (Bakouch et al. 2025): LLaMA without positions in every fourth layer. Folders say which, GGUF files do not. */
#include "model/arch.h"

#include <string.h>

static err_code describe(const weights *w, model_spec *s, err *e) {
    const meta_value *turned = weights_meta(w, "no_rope_layers"); /* 1: this layer has rope */
    int64_t period;
    err_code rc = ERR_OK;
    TRY(config_read(w, "smollm3", s, e));
    TRY(config_expect_activation(w, "silu", "silu", e));
    TRY(config_size_or(w, "smollm3", (config_key){"", "no_rope_layer_interval"}, 4, LAYERS_MAX, &period, e));
    if (turned && (turned->kind != META_ARRAY || turned->array.kind != META_INT || turned->array.count != s->cfg.n_layers))
        TRY(err_set(e, ERR_FORMAT, "no_rope_layers: expected a number for each of the %lld layers",
                    (long long)s->cfg.n_layers));
    for (int64_t i = 0; i < s->cfg.n_layers; i++)
        if (turned ? !turned->array.items[i].integer : (i + 1) % period == 0) s->layers[i] |= LAYER_NO_ROPE;
    s->rope_pairs = config_is_gguf(w);
done:
    return rc;
}

static err_code write(const model_spec *s, const config_out *to, err *e) {
    meta_value turned = {.kind = META_ARRAY, .array = {.kind = META_INT, .count = s->cfg.n_layers}};
    meta_value *items;
    err_code rc = config_put_text(to, (config_key){"", "hidden_act"}, "silu", e);
    if (rc || to->gguf) return rc;
    TRY(weights_items(to->w, s->cfg.n_layers, &items, e));
    for (int64_t i = 0; i < s->cfg.n_layers; i++)
        items[i] = (meta_value){.kind = META_INT, .integer = !(s->layers[i] & LAYER_NO_ROPE)};
    turned.array.items = items;
    TRY(weights_add_meta(to->w, &turned, "no_rope_layers", strlen("no_rope_layers"), e));
done:
    return rc;
}

const arch arch_smollm3 = {.name = "smollm3", .folder_class = "SmolLM3ForCausalLM", .describe = describe, .write = write};
