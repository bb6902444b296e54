/* report_internal.h — building HTML and figures; for report*.c and their test only. */
#ifndef ANALYSIS_REPORT_INTERNAL_H
#define ANALYSIS_REPORT_INTERNAL_H

#include "analysis/db.h"
#include "analysis/report.h"
#include "core/strbuf.h"

/* ---- HTML (report_html.c) ---- */

extern const char report_style[]; /* the sheet */

/* Text as text: & < > " ' escaped, control characters but line breaks left out. */
void html_text(strbuf *h, const char *text);
void html_text_n(strbuf *h, const char *text, size_t n);

/* A table: columns "name" (text), "name#" (numbers, right-aligned); cells are added one by one, in order. */
void html_table_begin(strbuf *h, const char *const *columns, int n);
void html_row(strbuf *h);                                                                        /* begins the next row */
void html_cell(strbuf *h, const char *text);                                                     /* text, escaped */
void html_number(strbuf *h, const char *format, double x) __attribute__((format(printf, 2, 0))); /* "–" for NAN */
void html_table_end(strbuf *h);

/* A context with its tokens coloured by how strongly the feature fires there, relative to max. */
void html_example(strbuf *h, const feature_example *x, double max);

/* ---- figures (report_plot.c) ---- */

/* Runs gnuplot on a script that writes SVG to stdout and appends the SVG. *drawn false: there is no gnuplot, or it failed. */
err_code plot_svg(const char *script, const char *scratch_path, strbuf *h, bool *drawn, err *e);

#endif
