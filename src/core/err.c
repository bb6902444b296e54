#include "core/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

err_code err_set(err *e, err_code code, const char *fmt, ...) {
    if (e) {
        va_list args;
        va_start(args, fmt);
        e->code = code;
        vsnprintf(e->message, sizeof e->message, fmt, args);
        va_end(args);
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
