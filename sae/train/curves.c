#include "sae/train/curves.h"
#include "core/file.h"
#include "sae/train/plot.h"

#include <stdlib.h>

/* Columns of metrics.csv: step, rows, fvu, l0, dead, lr, fallback, rows_per_second. */
static void add_plot(strbuf *s, const char *csv, const char *title, const char *column, const char *more) {
    strbuf_addf(s, "set ylabel '%s'\n%splot ", title, more);
    plot_add_quoted(s, csv);
    strbuf_addf(s, " using 2:%s every ::1 with lines linewidth 2 notitle\nunset logscale\n", column);
}

static void write_script(strbuf *s, const char *csv) {
    strbuf_add_str(s, "set datafile separator ','\nset grid\nset format x '%.1s%c'\nset multiplot layout 4,1\n");
    add_plot(s, csv, "FVU, held out", "3", "");
    add_plot(s, csv, "latents a row", "4", "set logscale y\n");
    add_plot(s, csv, "dead, %", "(100*$5)", "set yrange [0:*]\n");
    strbuf_add_str(s, "set xlabel 'rows'\n");
    add_plot(s, csv, "learning rate", "6", "");
    strbuf_add_str(s, "unset multiplot\n");
}

bool curves_exist(const char *folder) {
    char *path;
    bool there = !path_join(folder, "metrics.png", &path, NULL) && file_exists(path);
    free(path);
    return there;
}

err_code curves_draw(const char *folder, bool *drawn, err *e) {
    char *csv = NULL;
    strbuf script = STRBUF_INIT;
    err_code rc = path_join(folder, "metrics.csv", &csv, e);
    if (!rc) write_script(&script, csv);
    if (!rc) rc = plot_png(folder, "metrics.png", 900, 1000, &script, drawn, e);
    strbuf_release(&script);
    free(csv);
    return rc;
}
