#include "text/chat.h"

#include "core/file.h"
#include "core/mem.h"
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

struct chat {
    char *source; /* the file that has the template */
    char *template, *bos, *eos;
};

static err_code read_folder(const weights *w, chat *c, err *e) {
    char *folder = NULL;
    size_t n;
    json_t *config = NULL;
    err_code rc;
    TRY(model_folder(w, &folder, e));
    if (!c->template && model_folder_has(folder, "chat_template.jinja"))
        TRY(model_folder_read(folder, "chat_template.jinja", &c->template, &n, e));
    TRY(model_folder_json(folder, "tokenizer_config.json", &config, e));
    TRY(copy_string(config_template(config), &c->template, e));
    TRY(copy_string(json_object_get(config, "bos_token"), &c->bos, e));
    rc = copy_string(json_object_get(config, "eos_token"), &c->eos, e);
done:
    json_decref(config);
    free(folder);
    return rc;
}

/* What the model says; a template that is there already stays. */
static err_code read_model(const weights *w, chat *c, err *e) {
    err_code rc;
    if (!weights_meta(w, "tokenizer.ggml.model")) return read_folder(w, c, e);
    if (!c->template) TRY(metadata_template(w, &c->template, e));
    TRY(metadata_token(w, "tokenizer.ggml.bos_token_id", &c->bos, e));
    rc = metadata_token(w, "tokenizer.ggml.eos_token_id", &c->eos, e);
done:
    return rc;
}

err_code chat_template_of(const weights *w, char **out, err *e) {
    chat c = {0};
    err_code rc = read_model(w, &c, e);
    *out = rc ? NULL : c.template;
    if (rc) free(c.template);
    free(c.bos), free(c.eos);
    return rc;
}

static err_code read_file(const char *file, char **out, err *e) {
    size_t n;
    err_code rc = file_read(file, JINJA_TEMPLATE_MAX, out, &n, e);
    if (!rc && strlen(*out) < n) rc = err_set(e, ERR_FORMAT, "%s: byte %zu is a NUL, expected a text", file, strlen(*out));
    return rc;
}

err_code chat_open(const weights *w, const char *file, chat **out, err *e) {
    chat *c;
    *out = NULL;
    err_code rc = mem_new0(&c, 1, sizeof *c, "a chat template", e);
    if (rc) return rc;
    const char *source = file ? file : weights_path(w);
    if (!(c->source = strdup(source))) rc = err_nomem(e, "a file's name", strlen(source));
    if (!rc && file) rc = read_file(file, &c->template, e);
    if (!rc && (rc = read_model(w, c, e))) err_prefix(e, rc, "%s", weights_path(w));
    if (!rc && !c->template)
        rc = err_set(e, ERR_UNSUPPORTED, "%s: the model has no chat template: use raw text, or another template", source);
    if (rc)
        chat_close(c);
    else
        *out = c;
    return rc;
}

void chat_close(chat *c) {
    if (!c) return;
    free(c->source);
    free(c->template);
    free(c->bos);
    free(c->eos);
    free(c);
}

err_code chat_render(const chat *c, const chat_message *messages, int n, strbuf *out, err *e) {
    jinja_context known = {.messages = messages, .n = n, .bos = c->bos, .eos = c->eos, .today = today()};
    err_code rc = jinja_render(c->template, strlen(c->template), &known, out, e);
    return rc ? err_prefix(e, rc, "%s", c->source) : ERR_OK;
}
