/* plot.h — pictures by gnuplot, a program of its own that need not be there. */
#ifndef SAE_TRAIN_PLOT_H
#define SAE_TRAIN_PLOT_H

#include "core/strbuf.h"

#include <stdbool.h>

/* 'text' as gnuplot reads it: a quote within is two. */
void plot_add_quoted(strbuf *script, const char *text);

/* Keeps at `path` what gnuplot writes to stdout when it runs the script, which says on what terminal. *drawn false, nothing new at
 * path, and no error: there is no gnuplot, or it could not. */
err_code plot_run(const char *script, const char *path, bool *drawn, err *e);

/* FOLDER/NAME of so many pixels by a script that says nothing of terminals. */
err_code plot_png(const char *folder, const char *name, int width, int height, const strbuf *script, bool *drawn, err *e);

#endif
