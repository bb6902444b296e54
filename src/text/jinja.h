/* jinja.h — a safe subset of the Jinja template language, as much as chat templates need. Internal to text/.
 *
 * Statements: for (with if and else, loop.*, break, continue), if/elif/else, set (names, attributes of a namespace); expressions
 * with literals, attributes, subscripts, slices, arithmetic, comparisons, and/or/not, in, is, inline if, filters, tests, and the
 * methods of strings and mappings that the tables of jinja_calls.c list. White space as Hugging Face sets it: trim_blocks and
 * lstrip_blocks. Anything else is refused by its name, when it is reached: a template may mention tools it does not need.
 *
 * Templates come with model files and are hostile: a template reads the messages and writes text, nothing more; its size, depth,
 * steps, memory and output are bounded. Threads: no state. Errors: ERR_UNSUPPORTED, ERR_FORMAT (the template is broken), both
 * with the line; ERR_NOMEM.
 */
#ifndef TEXT_JINJA_H
#define TEXT_JINJA_H

#include "core/strbuf.h"
#include "text/chat.h"

#include <time.h>

enum { JINJA_TEMPLATE_MAX = 1 << 20 };

typedef struct jinja_context {
    const chat_message *messages;
    int n;
    const char *bos, *eos; /* NULL: not defined */
    struct tm today;       /* of strftime_now */
} jinja_context;

err_code jinja_render(const char *template, size_t n, const jinja_context *context, strbuf *out, err *e);

#endif
