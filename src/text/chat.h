/* chat.h — messages to prompt text, as the model's own template writes them.
 * Templates in the file are recognised (a table of known templates by content), never interpreted; an unknown one is refused.
 */
#ifndef TEXT_CHAT_H
#define TEXT_CHAT_H

#include "core/strbuf.h"
#include "formats/weights.h"

typedef struct chat_message {
    const char *role; /* "system", "user", "assistant" */
    const char *content;
} chat_message;

/* Appends the prompt, ending where the assistant's answer begins. ERR_UNSUPPORTED names the template's first line. */
err_code chat_render(const weights *w, const chat_message *messages, int n, strbuf *out, err *e);

#endif
