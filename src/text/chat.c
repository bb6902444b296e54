#include "text/chat.h"

#include "core/file.h"
#include "text/folder.h"
#include "text/jinja.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The day for templates that write one: SOURCE_DATE_EPOCH (seconds) for prompts that can be made again, else today. */
static struct tm today(void) {
    const char *fixed = getenv("SOURCE_DATE_EPOCH");
    struct tm day = {0};
    time_t now = fixed && *fixed ? (time_t)strtoll(fixed, NULL, 10) : time(NULL);
    if (!gmtime_r(&now, &day)) day.tm_mday = 1; /* a year that no calendar has */
    return day;
}

/* ---- GGUF ---- */

static err_code metadata_template(const weights *w, char **out, err *e) {
    static const char key[] = "tokenizer.chat_template";
    return weights_meta(w, key) ? weights_meta_string(w, key, out, e) : ERR_OK;
}

/* The token whose id metadata `key` holds, NULL when there is none. */
static err_code metadata_token(const weights *w, const char *key, char **out, err *e) {
    const meta_value *tokens = weights_meta(w, "tokenizer.ggml.tokens"), *id = weights_meta(w, key);
    if (!tokens || tokens->kind != META_ARRAY || tokens->array.kind != META_STRING || !id || id->kind != META_INT)
        return ERR_OK;
    if (id->integer < 0 || id->integer >= tokens->array.count) return ERR_OK;
    const meta_value *token = &tokens->array.items[id->integer];
    *out = strndup(token->string.bytes, token->string.len);
    return *out ? ERR_OK : err_nomem(e, "a token", token->string.len);
}

/* ---- folders ---- */

/* "..", or of [{"name": "default", "template": ".."}, ..] the default one. */
static const json_t *config_template(const json_t *config) {
    const json_t *v = json_object_get(config, "chat_template"), *named;
    size_t i;
    if (!json_is_array(v)) return v;
    json_array_foreach(v, i, named) {
        const char *name = json_string_value(json_object_get(named, "name"));
        if (name && !strcmp(name, "default")) return json_object_get(named, "template");
    }
    return NULL;
}

static err_code copy_string(const json_t *v, char **out, err *e) {
    if (json_is_object(v)) v = json_object_get(v, "content"); /* of a token */
    if (*out || !json_is_string(v)) return ERR_OK;
    *out = strdup(json_string_value(v));
    return *out ? ERR_OK : err_nomem(e, "text", json_string_length(v));
}

/* ---- both ---- */

typedef struct found {
    char *template, *bos, *eos;
} found;

static err_code read_folder(const weights *w, found *f, err *e) {
    char *folder = NULL;
    size_t n;
    json_t *config = NULL;
    err_code rc;
    TRY(model_folder(w, &folder, e));
    if (!f->template && model_folder_has(folder, "chat_template.jinja"))
        TRY(model_folder_read(folder, "chat_template.jinja", &f->template, &n, e));
    TRY(model_folder_json(folder, "tokenizer_config.json", &config, e));
    TRY(copy_string(config_template(config), &f->template, e));
    TRY(copy_string(json_object_get(config, "bos_token"), &f->bos, e));
    rc = copy_string(json_object_get(config, "eos_token"), &f->eos, e);
done:
    json_decref(config);
    free(folder);
    return rc;
}

static err_code find(const weights *w, const char *template, found *f, err *e) {
    err_code rc = ERR_OK;
    if (template && !(f->template = strdup(template))) return err_nomem(e, "a chat template", strlen(template));
    if (!weights_meta(w, "tokenizer.ggml.model")) {
        TRY(read_folder(w, f, e));
    } else {
        if (!template) TRY(metadata_template(w, &f->template, e));
        TRY(metadata_token(w, "tokenizer.ggml.bos_token_id", &f->bos, e));
        TRY(metadata_token(w, "tokenizer.ggml.eos_token_id", &f->eos, e));
    }
    if (!f->template) rc = err_set(e, ERR_UNSUPPORTED, "the model has no chat template: use raw text");
done:
    return rc;
}

err_code chat_render_with(const weights *w, const char *template, const chat_message *messages, int n, strbuf *out, err *e) {
    found f = {0};
    err_code rc = find(w, template, &f, e);
    if (!rc) {
        jinja_context c = {.messages = messages, .n = n, .bos = f.bos, .eos = f.eos, .today = today()};
        rc = jinja_render(f.template, strlen(f.template), &c, out, e);
    }
    free(f.template);
    free(f.bos);
    free(f.eos);
    return rc ? err_prefix(e, rc, "%s", weights_path(w)) : ERR_OK;
}

err_code chat_render(const weights *w, const chat_message *messages, int n, strbuf *out, err *e) {
    return chat_render_with(w, NULL, messages, n, out, e);
}
