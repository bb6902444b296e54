/* chat.h — messages to prompt text, as the model's own template writes them.
 * Templates in the file are recognised (a table of known templates by content), never interpreted; an unknown one is refused.
 * Contents are put in as they are: special tokens written in them take effect when the prompt is tokenised.
 * Errors: ERR_UNSUPPORTED (no template, or one we do not know: names its first line), ERR_FORMAT, ERR_NOMEM.
 */
#ifndef TEXT_CHAT_H
#define TEXT_CHAT_H

#include "core/strbuf.h"
#include "formats/weights.h"

typedef struct chat_message {
    const char *role; /* "system", "user", "assistant" */
    const char *content;
} chat_message;

/* Appends the prompt, ending where the assistant's answer begins. A template with a system message of its own puts it first
 * when the first message is none. */
err_code chat_render(const weights *w, const chat_message *messages, int n, strbuf *out, err *e);

#endif
