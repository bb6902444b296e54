#include "cli/prompts.h"

#include "core/file.h"
#include "core/mem.h"
#include "text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

enum { PROMPTS_BYTES_MAX = 64 << 20 };

/* Printable text is what comes out as it went in. */
static err_code check_utf8(const char *text, err_code code, const char *where, err *e) {
    strbuf printable = STRBUF_INIT;
    text_add_printable(&printable, text, strlen(text));
    err_code rc = strbuf_check(&printable, e);
    if (!rc && strcmp(printable.data, text))
        rc = err_set(e, code, "%s: expected UTF-8 text, found bytes that are none (%.60s)", where, printable.data);
    strbuf_release(&printable);
    return rc;
}

static err_code add(prompt_list *l, const char *prompt, err *e) {
    err_code rc = mem_grow(&l->items, &l->cap, (size_t)l->n + 1, sizeof *l->items, "prompts", e);
    if (!rc) l->items[l->n++] = prompt;
    return rc;
}

static err_code add_lines(prompt_list *l, const char *path, err *e) {
    size_t size;
    err_code rc;
    TRY(file_read(path, PROMPTS_BYTES_MAX, &l->file, &size, e));
    if (memchr(l->file, '\0', size)) {
        rc = err_set(e, ERR_FORMAT, "%s: expected text with a prompt a line, found a binary file", path);
        goto done;
    }
    TRY(check_utf8(l->file, ERR_FORMAT, path, e));
    for (char *at = l->file; *at;) {
        size_t n = strcspn(at, "\r\n");
        char *next = at + n + (at[n] != '\0');
        at[n] = '\0';
        if (at[strspn(at, " \t")]) TRY(add(l, at, e));
        at = next;
    }
done:
    return rc;
}

err_code prompt_list_read(const parsed_options *o, prompt_list *out, err *e) {
    *out = (prompt_list){0};
    err_code rc = ERR_OK;
    for (int i = 0; i < opt_count(o, "prompt"); i++) {
        TRY(check_utf8(opt_string_at(o, "prompt", i), ERR_USAGE, "--prompt", e));
        TRY(add(out, opt_string_at(o, "prompt", i), e));
    }
    if (opt_given(o, "prompts")) TRY(add_lines(out, opt_string(o, "prompts"), e));
done:
    if (rc) prompt_list_release(out);
    return rc;
}

bool prompts_are_chat(const parsed_options *o) { return opt_flag(o, "chat") || opt_given(o, "chat-template"); }

err_code prompts_open_chat(const parsed_options *o, const weights *w, chat **out, err *e) {
    *out = NULL;
    if (!prompts_are_chat(o)) return ERR_OK;
    return chat_open(w, opt_given(o, "chat-template") ? opt_string(o, "chat-template") : NULL, out, e);
}

void prompt_list_release(prompt_list *l) {
    free(l->items);
    free(l->file);
    *l = (prompt_list){0};
}
