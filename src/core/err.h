/* err.h — how every fallible function in the library reports failure.
 *
 * A fallible function returns an err_code (ERR_OK is 0) and takes, last, an `err *` owned by the caller that receives one
 * finished sentence; it is untouched on success and may be NULL. Layers add context on the way up with err_prefix, so a
 * message reads  "model.gguf: tensor blk.3.attn_q.weight: expected [768, 768], got [768, 2304]".
 * Nothing in the library prints, exits or aborts on bad input; bugs are assert().
 * Threads: an err belongs to one thread.
 */
#ifndef CORE_ERR_H
#define CORE_ERR_H

#include <stdarg.h>

/* X(name, exit code of the program, what it means) */
#define ERR_LIST(X)                                                                                                          \
    X(OK, 0, "no error")                                                                                                     \
    X(FAILED, 1, "the work could not be done")                                                                               \
    X(NOMEM, 1, "out of memory")                                                                                             \
    X(IO, 1, "the system refused to read or write a file")                                                                   \
    X(NOSPACE, 1, "no space left on the device")                                                                             \
    X(USAGE, 2, "a wrong option or argument")                                                                                \
    X(FORMAT, 3, "a damaged file, or not the kind it was taken for")                                                         \
    X(UNSUPPORTED, 3, "a sound file that needs something this program does not have")                                        \
    X(MISMATCH, 3, "two inputs that do not belong together")                                                                 \
    X(CANCELLED, 130, "stopped on request")

typedef enum err_code {
#define X(name, exit_code, meaning) ERR_##name,
    ERR_LIST(X)
#undef X
} err_code;

enum { ERR_MESSAGE_MAX = 1024 };

typedef struct err {
    err_code code;
    char message[ERR_MESSAGE_MAX]; /* one sentence, no newline, no final full stop; UTF-8 without control characters */
} err;

/* Records code and message (cut at ERR_MESSAGE_MAX) and returns code. e may be NULL. */
err_code err_set(err *e, err_code code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Like err_set, ending in ": <strerror(errno)>"; ENOSPC and EDQUOT become ERR_NOSPACE, ENOMEM ERR_NOMEM, all others ERR_IO. */
err_code err_set_errno(err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The allocation of `bytes` bytes for `what` failed. */
err_code err_nomem(err *e, const char *what, unsigned long long bytes);

/* Puts "<prefix>: " before the message of a call that returned code; returns code. e may be NULL. */
err_code err_prefix(err *e, err_code code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The exit code of a program that ends with this error. */
int err_exit_code(err_code code);

/* Runs a call inside a function that has `err_code rc` and a `done:` label releasing everything. */
#define TRY(call)                                                                                                            \
    do {                                                                                                                     \
        rc = (call);                                                                                                         \
        if (rc != ERR_OK) goto done;                                                                                         \
    } while (0)

#endif
