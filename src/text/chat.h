/* chat.h — messages to prompt text, as the model's own template writes them.
 *
 * The template is the GGUF metadata tokenizer.chat_template, or chat_template.jinja or tokenizer_config.json beside the weights: a
 * program in a subset of Jinja (jinja.h), run with bounds. Contents are put in as they are: special tokens written in them take
 * effect when the prompt is tokenised. A template writes BOS itself where the model wants one: tokenise without adding another.
 * Errors: ERR_UNSUPPORTED (no template; a construct or messages it refuses: says which), ERR_FORMAT, ERR_NOMEM.
 */
#ifndef TEXT_CHAT_H
#define TEXT_CHAT_H

#include "core/strbuf.h"
#include "formats/weights.h"

typedef struct chat_message {
    const char *role; /* "system", "user", "assistant" */
    const char *content;
} chat_message;

/* Appends the prompt, ending where the assistant's answer begins. */
err_code chat_render(const weights *w, const chat_message *messages, int n, strbuf *out, err *e);

/* The same with another template; NULL is the model's own. */
err_code chat_render_with(const weights *w, const char *template, const chat_message *messages, int n, strbuf *out, err *e);

#endif
