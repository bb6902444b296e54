#include "sae/train/sweep.h"
#include "core/file.h"
#include "sae/train/plot.h"

#include <math.h>
#include <stdlib.h>

static int by_l0(const void *a, const void *b) {
    const sweep_point *x = a, *y = b;
    if (x->l0 != y->l0) return x->l0 < y->l0 ? -1 : 1;
    return (x->fvu > y->fvu) - (x->fvu < y->fvu);
}

void sweep_sort(sweep_point *points, int n) { qsort(points, (size_t)n, sizeof *points, by_l0); }

static bool beats(const sweep_point *a, const sweep_point *b) {
    return a->l0 <= b->l0 && a->fvu <= b->fvu && (a->l0 < b->l0 || a->fvu < b->fvu);
}

void sweep_mark_front(sweep_point *points, int n) {
    for (int i = 0; i < n; i++) {
        points[i].on_front = true;
        for (int j = 0; j < n; j++) points[i].on_front &= !beats(&points[j], &points[i]);
    }
}

err_code sweep_write(const char *folder, const char *const *axes, int n_axes, const sweep_point *points, int n, err *e) {
    strbuf text = STRBUF_INIT;
    char *path = NULL;
    err_code rc;
    strbuf_add_str(&text, "name,l0,fvu,dead,delta_ce,front,rows");
    for (int i = 0; i < n_axes; i++) strbuf_addf(&text, ",%s", axes[i]);
    for (const sweep_point *p = points; p < points + n; p++) {
        strbuf_addf(&text, "\n%s,%.6g,%.6g,%.6g,", p->name, p->l0, p->fvu, p->dead);
        if (!isnan(p->delta_ce)) strbuf_addf(&text, "%.6g", p->delta_ce);
        strbuf_addf(&text, ",%d,%lld", p->on_front, (long long)p->rows);
        for (int i = 0; i < n_axes; i++) strbuf_addf(&text, ",%s", p->values[i]);
    }
    strbuf_add_str(&text, "\n");
    TRY(strbuf_check(&text, e));
    TRY(path_join(folder, "sweep.csv", &path, e));
    TRY(file_write(path, text.data, text.len, e));
done:
    strbuf_release(&text);
    free(path);
    return rc;
}

/* A column against L0: a point each run, in colour and with their names those on the front, which `line` joins. */
static void add_plot(strbuf *s, const char *csv, const char *title, int column, bool line) {
    static const char front[] = " every ::1 using ($6 == 1 ? $2 : NaN)";
    strbuf_addf(s, "set ylabel '%s'\nplot ", title);
    plot_add_quoted(s, csv);
    strbuf_addf(s, " every ::1 using 2:%d with points pointtype 7 linecolor rgb 'gray50' notitle, ", column);
    plot_add_quoted(s, csv);
    if (line)
        strbuf_addf(s, "%s:%d smooth unique with linespoints pointtype 7 linewidth 2 linecolor 1 notitle, ", front, column);
    else
        strbuf_addf(s, "%s:%d with points pointtype 7 linecolor 1 notitle, ", front, column);
    plot_add_quoted(s, csv);
    strbuf_addf(s, "%s:%d:1 with labels offset 0,0.8 font ',8' noenhanced notitle\n", front, column);
}

err_code sweep_draw(const char *folder, bool with_delta_ce, bool *drawn, err *e) {
    char *csv = NULL;
    strbuf script = STRBUF_INIT;
    err_code rc;
    TRY(path_join(folder, "sweep.csv", &csv, e));
    strbuf_add_str(&script, "set datafile separator ','\nset datafile missing NaN\nset grid\nset xlabel 'latents a row'\nset "
                            "offsets graph 0.1,0.1,0.1,0.05\n");
    strbuf_addf(&script, "set multiplot layout %d,1\n", with_delta_ce ? 2 : 1);
    add_plot(&script, csv, "FVU, held out", 3, true);
    if (with_delta_ce) add_plot(&script, csv, "rise of the loss, nats per token", 5, false);
    strbuf_add_str(&script, "unset multiplot\n");
    TRY(plot_png(folder, "sweep.png", 900, with_delta_ce ? 1000 : 600, &script, drawn, e));
done:
    strbuf_release(&script);
    free(csv);
    return rc;
}
