/* Figures by gnuplot as SVG. Scripts hold numbers and our own words only. */
#include "analysis/report_internal.h"

#include "core/file.h"
#include "sae/train/plot.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SVG_BYTES_MAX = 8 << 20 };

/* Appends <svg ..>..</svg> without what stands around it in a file of its own. */
static bool add_svg(strbuf *h, const char *file) {
    const char *first = strstr(file, "<svg"), *last = NULL;
    for (const char *at = first; at && (at = strstr(at, "</svg>")); at++) last = at;
    if (!last) return false;
    strbuf_add(h, first, (size_t)(last - first) + strlen("</svg>"));
    return true;
}

err_code plot_svg(const char *script, const char *scratch_path, strbuf *h, bool *drawn, err *e) {
    char *file = NULL;
    size_t size;
    err_code rc;
    TRY(plot_run(script, scratch_path, drawn, e));
    if (!*drawn) goto done;
    rc = file_read(scratch_path, SVG_BYTES_MAX, &file, &size, e);
    unlink(scratch_path);
    if (!rc) *drawn = add_svg(h, file);
done:
    free(file);
    return rc;
}
