/* chat.h — messages to prompt text, as a chat template writes them.
 *
 * A model's template is the GGUF metadata tokenizer.chat_template, or chat_template.jinja or tokenizer_config.json beside the
 * weights; another may be read from a file. It is a program in a subset of Jinja (jinja.h), run with bounds. Contents are put in as
 * they are: special tokens written in them take effect when the prompt is tokenised. A template writes BOS itself where the model
 * wants one: tokenise without adding another.
 * Threads: const chat may be shared. Errors: ERR_UNSUPPORTED (no template; a construct or messages it refuses: says which),
 * ERR_FORMAT, ERR_NOMEM; ERR_IO, ERR_FORMAT of the file.
 */
#ifndef TEXT_CHAT_H
#define TEXT_CHAT_H

#include "core/strbuf.h"
#include "formats/weights.h"

typedef struct chat_message {
    const char *role; /* "system", "user", "assistant" */
    const char *content;
} chat_message;

typedef struct chat chat;

/* The template in `file`; NULL: the model's own. Needs the weights no longer. */
err_code chat_open(const weights *w, const char *file, chat **out, err *e);
void chat_close(chat *c); /* accepts NULL */

/* The text of the model's own template, NULL where it has none. Owned by the caller, free with free(). */
err_code chat_template_of(const weights *w, char **out, err *e);

/* Appends the prompt, ending where the assistant's answer begins. */
err_code chat_render(const chat *c, const chat_message *messages, int n, strbuf *out, err *e);

#endif
