/* report.h — a study as one HTML file that needs no network: what was captured, how training went, the features, where the
 * concept is, what steering does, and the command that repeats each step.
 *
 * Everything shown comes from the study's own files. Text of models and corpora is escaped. Figures are gnuplot's SVG; where
 * gnuplot is missing the report says so and shows the numbers as tables.
 * Errors: ERR_FORMAT (a database that is none), ERR_IO, ERR_NOSPACE, ERR_NOMEM. A missing part is left out, never an error.
 */
#ifndef ANALYSIS_REPORT_H
#define ANALYSIS_REPORT_H

#include "core/ctx.h"

#include <jansson.h>

typedef struct report_inputs {
    /* {concept, model {name, path, sha256, architecture}, hook, stages[] {name, command, seconds, result {..}}}: study.h */
    const json_t *study;
    const json_t *eval, *find, *steering; /* what the commands print with --json; NULL: there is none */
    const char *db;                       /* features.db; NULL: there is none yet */
    const char *metrics;                  /* metrics.csv of the training; NULL or absent: there is none */
} report_inputs;

/* Writes out_path in one step: it never holds half a report. */
err_code report_write(const ctx *c, const report_inputs *in, const char *out_path, err *e);

#endif
