#include "core/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Length of the UTF-8 character at s that may stand in a line of text, 0 when there is none: a control character too. */
static size_t plain_char(const unsigned char *s) {
    static const unsigned least[] = {0, 0, 0xa0, 0x800, 0x10000}; /* shortest form, without C1 */
    size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;
    if (n <= 1) return s[0] < ' ' || s[0] == 0x7f ? 0 : n;
    unsigned code = s[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) return 0;
        code = code << 6 | (s[i] & 0x3f);
    }
    return code < least[n] || (code >= 0xd800 && code < 0xe000) || code > 0x10ffff ? 0 : n;
}

/* Messages quote what stands in files: what would end the line, drive a terminal or is no UTF-8 becomes '?'. */
static void make_plain(char *message) {
    for (char *at = message; *at;) {
        size_t n = plain_char((const unsigned char *)at);
        if (!n) *at = '?';
        at += n ? n : 1;
    }
}

err_code err_set(err *e, err_code code, const char *fmt, ...) {
    if (e) {
        va_list args;
        va_start(args, fmt);
        e->code = code;
        vsnprintf(e->message, sizeof e->message, fmt, args);
        va_end(args);
        make_plain(e->message);
    }
    return code;
}

err_code err_set_errno(err *e, const char *fmt, ...) {
    int cause = errno;
    err_code code = cause == ENOSPC || cause == EDQUOT ? ERR_NOSPACE : cause == ENOMEM ? ERR_NOMEM : ERR_IO;
    if (e) {
        va_list args;
        va_start(args, fmt);
        e->code = code;
        vsnprintf(e->message, sizeof e->message, fmt, args);
        va_end(args);
        size_t used = strlen(e->message);
        snprintf(e->message + used, sizeof e->message - used, ": %s", strerror(cause));
        make_plain(e->message);
    }
    return code;
}

err_code err_nomem(err *e, const char *what, unsigned long long bytes) {
    return err_set(e, ERR_NOMEM, "out of memory: %s needs %llu bytes", what, bytes);
}

err_code err_prefix(err *e, err_code code, const char *fmt, ...) {
    if (!e) return code;
    char old[ERR_MESSAGE_MAX];
    memcpy(old, e->message, sizeof old);
    va_list args;
    va_start(args, fmt);
    vsnprintf(e->message, sizeof e->message, fmt, args);
    va_end(args);
    size_t used = strlen(e->message);
    snprintf(e->message + used, sizeof e->message - used, ": %s", old);
    make_plain(e->message);
    return code;
}

int err_exit_code(err_code code) {
    switch (code) {
#define X(name, exit_code, meaning)                                                                                          \
    case ERR_##name: return exit_code;
        ERR_LIST(X)
#undef X
    }
    return 1;
}
