/* plan.h — the options of a run with every default and rule worked out for one source of rows. */
#ifndef SAE_TRAIN_PLAN_H
#define SAE_TRAIN_PLAN_H

#include "sae/train/schedule.h"
#include "sae/train/step.h"
#include "sae/train/target.h"
#include "sae/train/train.h"

#include <jansson.h>

typedef struct train_plan {
    sae_config cfg;
    step_rules rules;
    schedule lr;
    l0_target l0;
    int64_t batch, steps, rows; /* rows = batch x steps */
    int64_t normal_rows;        /* the first rows of the stream, which normal.h measures */
    int64_t dead_window;        /* rows */
    int64_t log_steps;          /* steps between two lines of metrics */
    int64_t log_rows;           /* rows that a line of metrics looks at */
} train_plan;

/* ERR_USAGE: an option out of range; ERR_UNSUPPORTED: the variant; ERR_MISMATCH: the source has too few rows. */
err_code plan_make(const train_opts *o, const source *rows, train_plan *out, err *e);

/* Everything that decides the result, by name. New reference; NULL when out of memory. */
json_t *plan_to_json(const train_plan *p, const source *rows);

#endif
