/* documents.h — a corpus file, a JSON document a line, that grows while work goes on and continues where it was stopped.
 *
 * "<path>.part" holds one line that says what the documents are made from, then the documents, each written as soon as it and
 * all before it are there. documents_finish turns it into path, without the first line. Opened again with the same first line, it
 * continues behind its last whole document; with another one it is refused.
 * Errors: ERR_USAGE (path is there already), ERR_MISMATCH (begun differently), ERR_IO, ERR_NOSPACE, ERR_NOMEM.
 */
#ifndef CLI_DOCUMENTS_H
#define CLI_DOCUMENTS_H

#include "core/err.h"

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

typedef struct documents {
    char *path, *part;
    size_t first; /* bytes of the first line */
    FILE *to;
    int64_t n; /* in the file */
} documents;   /* zero-initialise */

err_code documents_open(const char *path, const json_t *made_from, documents *out, err *e);
err_code documents_add(documents *d, const json_t *document, err *e);
err_code documents_finish(documents *d, err *e);
void documents_close(documents *d); /* what was added stays in the .part file */

#endif
