/* strbuf.h — a growing byte string, always NUL-terminated.
 *
 * Appending never fails at the call: running out of memory sets `failed` and later appends do nothing, so a writer checks
 * once at the end with strbuf_check. `data` is borrowed until the next append; strbuf_release frees, strbuf_reset empties.
 */
#ifndef CORE_STRBUF_H
#define CORE_STRBUF_H

#include "core/err.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct strbuf {
    char *data; /* "" when empty */
    size_t len, cap;
    bool failed;
} strbuf;

#define STRBUF_INIT ((strbuf){.data = (char *)""})

void strbuf_add(strbuf *s, const void *bytes, size_t n);
void strbuf_add_str(strbuf *s, const char *text);
void strbuf_add_char(strbuf *s, char c);
void strbuf_addf(strbuf *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void strbuf_add_shell_word(strbuf *s, const char *word); /* quoted as a shell wants it, where it needs to be */
void strbuf_reset(strbuf *s);
void strbuf_release(strbuf *s);
char *strbuf_detach(strbuf *s); /* owned by the caller, free with free(); NULL if an append failed */
err_code strbuf_check(const strbuf *s, err *e);

#endif
