/* inspect.h — what is in a file: a document that inspect prints as text or JSON, filled by kind of file. */
#ifndef CLI_INSPECT_H
#define CLI_INSPECT_H

#include "core/err.h"

#include <jansson.h>
#include <stdbool.h>

/* ---- inspect_model.c ---- */

/* Adds what the model at path holds to doc. */
err_code inspect_model(const char *path, json_t *doc, err *e);

void inspect_print_model(const json_t *doc, bool all_tensors);

/* ---- inspect_text.c ---- */

/* What is counted with powers of 1000: "98.4 MB"; borrowed from buffer. */
const char *inspect_size(double bytes, char buffer[32]);

/* A row "name  value" of a table; strings stay on their line, objects and lists are left out. */
void inspect_print_value(const char *name, const json_t *value);

#endif
