#include "text/chat.h"

#include <stdlib.h>
#include <string.h>

/* ChatML: every message is <|im_start|>role\ncontent<|im_end|>\n. */
#define CHATML_MESSAGE "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
#define CHATML_ANSWER  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"

/* A template is `before`, the system message used when there is none, `after`; all of it must match, but for line ends written
 * as \n. How to add one: a row, and the text it makes in tests/unit/test_chat.c; another style than ChatML also needs a
 * function in the row. */
static const struct {
    const char *before;
    const char *after; /* NULL: `before` is the whole template, without a system message of its own */
} templates[] = {
    {.before = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
               "{{ '<|im_start|>system\n",
     .after = "<|im_end|>\n' }}{% endif %}" CHATML_MESSAGE CHATML_ANSWER},
    {.before = "{% for message in messages %}" CHATML_MESSAGE CHATML_ANSWER},
};
enum { N_TEMPLATES = sizeof templates / sizeof *templates };

/* The template's text with each \n made a line end: files have both. */
static void normalise(char *template) {
    char *to = template;
    for (const char *from = template; *from; to++) {
        bool escaped = from[0] == '\\' && from[1] == 'n';
        *to = escaped ? '\n' : *from;
        from += escaped ? 2 : 1;
    }
    *to = '\0';
}

/* Recognises template i; *system is then the text between its halves, cut out of `template` in place, or NULL. */
static bool recognise(int i, char *template, const char **system) {
    const char *before = templates[i].before, *after = templates[i].after;
    size_t n = strlen(template), n_before = strlen(before), n_after = after ? strlen(after) : 0;
    *system = NULL;
    if (!after) return !strcmp(template, before);
    if (n < n_before + n_after || strncmp(template, before, n_before) || strcmp(template + n - n_after, after)) return false;
    template[n - n_after] = '\0';
    *system = template + n_before;
    return !strpbrk(*system, "'{}"); /* a text, not another piece of program */
}

static err_code find_template(const weights *w, char **text, const char **system, err *e) {
    static const char key[] = "tokenizer.chat_template";
    if (!weights_meta(w, key))
        return err_set(e, ERR_UNSUPPORTED, "%s: the model has no chat template: use raw text", weights_path(w));
    err_code rc = weights_meta_string(w, key, text, e);
    if (rc) return err_prefix(e, rc, "%s", weights_path(w));
    char first_line[81] = "";
    strncpy(first_line, *text, sizeof first_line - 1);
    first_line[strcspn(first_line, "\n")] = '\0';
    normalise(*text);
    for (int i = 0; i < N_TEMPLATES; i++)
        if (recognise(i, *text, system)) return ERR_OK;
    return err_set(e, ERR_UNSUPPORTED, "%s: unknown chat template, beginning '%s': use raw text", weights_path(w),
                   first_line);
}

static void add_message(strbuf *out, const char *role, const char *content) {
    strbuf_addf(out, "<|im_start|>%s\n", role);
    strbuf_add_str(out, content);
    strbuf_add_str(out, "<|im_end|>\n");
}

err_code chat_render(const weights *w, const chat_message *messages, int n, strbuf *out, err *e) {
    char *text = NULL;
    const char *system;
    err_code rc = find_template(w, &text, &system, e);
    if (rc) goto done;
    if (system && n && strcmp(messages[0].role, "system")) add_message(out, "system", system);
    for (int i = 0; i < n; i++) add_message(out, messages[i].role, messages[i].content);
    strbuf_add_str(out, "<|im_start|>assistant\n");
    rc = strbuf_check(out, e);
done:
    free(text);
    return rc;
}
