#include "sae/formats/metadata.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

err_code metadata_read(const json_t *metadata, sae_config *cfg, err *e) {
    const char *hook = NULL, *out = NULL, *model = NULL, *sha256 = NULL;
    const json_t *context = NULL, *seed = NULL, *rows = NULL, *skip = NULL, *max_norm = NULL;
    const cfg_key keys[] = {
        {"hook_name", CFG_TEXT, &hook},      {"hook_name_out", CFG_TEXT, &out},   {"model_name", CFG_TEXT, &model},
        {"model_sha256", CFG_TEXT, &sha256}, {"context_size", CFG_ANY, &context}, {"seed", CFG_ANY, &seed},
        {"trained_rows", CFG_ANY, &rows},    {"skip_first", CFG_ANY, &skip},      {"max_norm", CFG_ANY, &max_norm},
    };
    const struct {
        const json_t **found;
        int64_t *to;
    } numbers[] = {{&context, &cfg->context}, {&seed, &cfg->seed}, {&rows, &cfg->trained_rows}, {&skip, &cfg->skip_first}};
    err_code rc;
    TRY(cfg_read_some(metadata, keys, sizeof keys / sizeof *keys, e));
    TRY(cfg_copy("hook_name", hook, cfg->hook_name, sizeof cfg->hook_name, e));
    TRY(cfg_copy("hook_name_out", out, cfg->hook_out, sizeof cfg->hook_out, e));
    TRY(cfg_copy("model_name", model, cfg->model_name, sizeof cfg->model_name, e));
    TRY(cfg_copy("model_sha256", sha256, cfg->model_sha256, sizeof cfg->model_sha256, e));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        const json_t *v = *numbers[i].found; /* other programs may mean something else by it */
        if (json_is_integer(v) && json_integer_value(v) >= 0) *numbers[i].to = json_integer_value(v);
    }
    if (json_is_real(max_norm) && json_real_value(max_norm) > 0) cfg->max_norm = json_real_value(max_norm);
done:
    return rc;
}

/* A model file may call itself anything; a name that is not UTF-8 is left out. */
static json_t *text_or_nothing(const char *text) {
    json_t *s = json_string(text);
    return s ? s : json_string("");
}

json_t *metadata_to_json(const sae_config *cfg) {
    json_t *root = json_pack("{s:s, s:o, s:o, s:I, s:I, s:I, s:I}", "sae_version", SAE_VERSION, "hook_name",
                             text_or_nothing(cfg->hook_name), "model_name", text_or_nothing(cfg->model_name), "context_size",
                             (json_int_t)cfg->context, "seed", (json_int_t)cfg->seed, "trained_rows",
                             (json_int_t)cfg->trained_rows, "skip_first", (json_int_t)cfg->skip_first);
    int failed = !root;
    if (!failed && cfg->max_norm > 0) failed = json_object_set_new(root, "max_norm", json_real(cfg->max_norm));
    if (!failed && cfg->model_sha256[0]) failed = json_object_set_new(root, "model_sha256", json_string(cfg->model_sha256));
    if (!failed && cfg->hook_out[0]) failed = json_object_set_new(root, "hook_name_out", text_or_nothing(cfg->hook_out));
    if (!failed) return root;
    json_decref(root);
    return NULL;
}

err_code cfg_write(json_t *root, const char *path, err *e) {
    char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    err_code rc =
        text ? file_write(path, text, strlen(text), e) : err_set(e, ERR_FAILED, "%s: cannot be put into JSON", path);
    free(text);
    json_decref(root);
    return rc;
}

err_code folder_write(sae *s, const char *folder, const char *cfg_name, const char *weights_name,
                      err_code (*write_cfg)(const sae_config *cfg, const char *path, err *e),
                      err_code (*write_weights)(const sae *s, const char *path, err *e), err *e) {
    err_code rc;
    char *cfg_path = NULL, *weights_path = NULL;
    TRY(path_join(folder, cfg_name, &cfg_path, e));
    TRY(path_join(folder, weights_name, &weights_path, e));
    TRY(file_make_dirs(folder, e));
    if (unlink(cfg_path) && errno != ENOENT) {
        rc = err_set_errno(e, "%s: cannot remove the old file", cfg_path);
        goto done;
    }
    TRY(write_weights(s, weights_path, e));
    TRY(write_cfg(&s->cfg, cfg_path, e));
    TRY(file_sha256(weights_path, s->sha256, e));
done:
    free(cfg_path);
    free(weights_path);
    return rc;
}
