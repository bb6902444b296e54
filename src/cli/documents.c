#define _GNU_SOURCE
#include "cli/documents.h"

#include "core/file.h"
#include "core/strbuf.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PART_BYTES_MAX = 1 << 30 };

static err_code begin(documents *d, const char *line, err *e) {
    d->to = fopen(d->part, "we");
    if (!d->to || fprintf(d->to, "%s\n", line) < 0 || fflush(d->to)) return err_set_errno(e, "%s: cannot write", d->part);
    d->first = strlen(line) + 1;
    return ERR_OK;
}

/* Behind the last line that is whole; a writer that was killed may have left half of one. */
static err_code resume(documents *d, const char *line, err *e) {
    char *text = NULL;
    size_t size, first = strlen(line);
    err_code rc;
    TRY(file_read(d->part, PART_BYTES_MAX, &text, &size, e));
    if (size <= first || memcmp(text, line, first) != 0 || text[first] != '\n') {
        rc = err_set(e, ERR_MISMATCH,
                     "%s was begun with another model, other prompts or options: remove it, or give another --out", d->part);
        goto done;
    }
    while (text[size - 1] != '\n') size--;
    d->first = first + 1;
    for (size_t i = d->first; i < size; i++) d->n += text[i] == '\n';
    d->to = fopen(d->part, "r+e");
    if (!d->to || ftruncate(fileno(d->to), (off_t)size) || fseek(d->to, 0, SEEK_END))
        rc = err_set_errno(e, "%s: cannot write", d->part);
done:
    free(text);
    return rc;
}

err_code documents_open(const char *path, const json_t *made_from, documents *out, err *e) {
    *out = (documents){0};
    char *line = json_dumps(made_from, JSON_COMPACT | JSON_SORT_KEYS);
    strbuf part = STRBUF_INIT;
    err_code rc = ERR_OK;
    if (file_exists(path)) {
        rc = err_set(e, ERR_USAGE, "%s is there already: remove it, or give another --out", path);
        goto done;
    }
    strbuf_addf(&part, "%s.part", path);
    out->part = strbuf_detach(&part);
    out->path = strdup(path);
    if (!line || !out->part || !out->path) {
        rc = err_nomem(e, "documents", strlen(path));
        goto done;
    }
    TRY(file_exists(out->part) ? resume(out, line, e) : begin(out, line, e));
done:
    free(line);
    if (rc) documents_close(out);
    return rc;
}

err_code documents_add(documents *d, const json_t *document, err *e) {
    char *line = document ? json_dumps(document, JSON_COMPACT) : NULL;
    if (!line) return err_nomem(e, "a document", 0);
    err_code rc = ERR_OK;
    if (fprintf(d->to, "%s\n", line) < 0 || fflush(d->to)) rc = err_set_errno(e, "%s: cannot write", d->part);
    d->n += !rc;
    free(line);
    return rc;
}

err_code documents_finish(documents *d, err *e) {
    char *text = NULL;
    size_t size;
    err_code rc;
    TRY(file_read(d->part, PART_BYTES_MAX, &text, &size, e));
    TRY(file_write(d->path, text + d->first, size - d->first, e));
    if (unlink(d->part)) rc = err_set_errno(e, "%s: cannot remove", d->part);
done:
    free(text);
    return rc;
}

void documents_close(documents *d) {
    if (d->to) fclose(d->to);
    free(d->path);
    free(d->part);
    *d = (documents){0};
}
