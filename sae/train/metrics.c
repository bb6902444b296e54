#include "sae/train/metrics.h"
#include "core/file.h"
#include "core/strbuf.h"

#include <stdlib.h>
#include <string.h>

#define HEADER "step,rows,fvu,l0,dead,lr,fallback,rows_per_second\n"

enum { BYTES_MAX = 64 << 20 };

/* The lines of text with at most `rows` in the second column; the last one only if it is whole. */
static void keep_lines(const char *text, int64_t rows, strbuf *out) {
    for (const char *end; (end = strchr(text, '\n')); text = end + 1) {
        const char *comma = strchr(text, ',');
        if (comma && comma < end && text[0] >= '0' && text[0] <= '9' && strtoll(comma + 1, NULL, 10) <= rows)
            strbuf_add(out, text, (size_t)(end + 1 - text));
    }
}

err_code metrics_open(metrics_file *m, const char *path, int64_t rows, err *e) {
    err_code rc;
    char *old = NULL;
    size_t size;
    strbuf kept = STRBUF_INIT;
    *m = (metrics_file){0};
    strbuf_add_str(&kept, HEADER);
    if (rows > 0 && file_exists(path)) {
        TRY(file_read(path, BYTES_MAX, &old, &size, e));
        keep_lines(old, rows, &kept);
    }
    TRY(strbuf_check(&kept, e));
    TRY(file_write(path, kept.data, kept.len, e));
    m->path = strdup(path);
    if (!m->path)
        rc = err_nomem(e, "path", strlen(path));
    else if (!(m->file = fopen(path, "ae")))
        rc = err_set_errno(e, "%s: cannot open", path);
done:
    if (rc) metrics_close(m);
    free(old);
    strbuf_release(&kept);
    return rc;
}

err_code metrics_add(metrics_file *m, const metrics_line *l, err *e) {
    if (fprintf(m->file, "%lld,%lld,%.6g,%.6g,%.6g,%.6g,%.6g,%.6g\n", (long long)l->step, (long long)l->rows, l->fvu, l->l0,
                l->dead, l->lr, l->fallback, l->rows_per_second) < 0 ||
        fflush(m->file))
        return err_set_errno(e, "%s: cannot write", m->path);
    return ERR_OK;
}

void metrics_close(metrics_file *m) {
    if (m->file) fclose(m->file);
    free(m->path);
    *m = (metrics_file){0};
}
