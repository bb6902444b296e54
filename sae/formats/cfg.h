/* cfg.h — a configuration in JSON, read by a table of its keys: a key that is not in the table is refused by name, because
 * the program that wrote it gave it a meaning and leaving it out would compute another function.
 */
#ifndef SAE_FORMATS_CFG_H
#define SAE_FORMATS_CFG_H

#include "core/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum cfg_kind {
    CFG_IGNORED, /* about the run that made the file, or about where and how tensors lie */
    CFG_SIZE,    /* int64_t, at least 1 */
    CFG_COUNT,   /* int64_t, at least 0 */
    CFG_NUMBER,  /* double, finite */
    CFG_BOOL,    /* bool */
    CFG_TEXT,    /* const char *, borrowed from the JSON */
    CFG_OBJECT,  /* const json_t *, borrowed */
    CFG_ANY,     /* const json_t *, borrowed; any value but null */
} cfg_kind;

typedef struct cfg_key {
    const char *name;
    cfg_kind kind;
    void *to; /* left alone where the key is absent or null */
} cfg_key;

/* The file's JSON, refusing names that appear twice. Free with json_decref. Messages name the file. */
err_code cfg_load(const char *path, json_t **out, err *e);

/* ERR_FORMAT for a value of the wrong kind, ERR_UNSUPPORTED for a key that is not in the table. */
err_code cfg_read(const json_t *object, const cfg_key *keys, size_t n, err *e);

/* The same where any other key may stand: what is said there changes no function. */
err_code cfg_read_some(const json_t *object, const cfg_key *keys, size_t n, err *e);

/* Copies text that may be NULL into out; ERR_FORMAT when it is too long. */
err_code cfg_copy(const char *key, const char *text, char *out, size_t size, err *e);

/* "key: expected .., found .." */
err_code cfg_wrong_value(const char *key, const char *expected, const json_t *found, err *e);

#endif
