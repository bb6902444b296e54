/* metrics.h — metrics.csv: step,rows,fvu,l0,dead,lr,fallback,rows_per_second, a line each time a run logs, appended as it goes. */
#ifndef SAE_TRAIN_METRICS_H
#define SAE_TRAIN_METRICS_H

#include "core/err.h"

#include <stdint.h>
#include <stdio.h>

typedef struct metrics_line {
    int64_t step, rows;
    double fvu, l0, dead, lr, rows_per_second;
    double fallback; /* share of the last batch's rows that had too many candidates for the largest scores */
} metrics_line;

typedef struct metrics_file {
    FILE *file;
    char *path;
} metrics_file; /* zero-initialise */

/* Begins the file, or goes on with the lines up to `rows`: what stands behind them is done again. */
err_code metrics_open(metrics_file *m, const char *path, int64_t rows, err *e);
err_code metrics_add(metrics_file *m, const metrics_line *line, err *e);
void metrics_close(metrics_file *m);

#endif
