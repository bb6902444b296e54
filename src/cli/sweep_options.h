/* sweep_options.h — --sweep "k=16,32 width=4096,8192": every combination as a command line of its own.
 *
 * A combination's name is "topk-k16-width4096", its folder OUT/topk-k16-width4096. Without --sweep there is one, the command line itself, and
 * its folder is OUT.
 */
#ifndef CLI_SWEEP_OPTIONS_H
#define CLI_SWEEP_OPTIONS_H

#include "cli/options.h"

enum { SWEEP_AXES_MAX = 8, SWEEP_RUNS_MAX = 64 };

typedef struct sweep_axis {
    const char *name, *label;
    const char *values[SWEEP_RUNS_MAX];
    int n;
} sweep_axis;

typedef struct sweep_run {
    char *name, *folder;
    const char *values[SWEEP_AXES_MAX];
    parsed_options *options;
} sweep_run;

typedef struct sweep {
    char *text; /* cut into names and values */
    sweep_axis axes[SWEEP_AXES_MAX];
    const char *names[SWEEP_AXES_MAX]; /* of the axes */
    int n_axes, n_runs;
    sweep_run *runs; /* [n_runs] the last axis changes fastest */
} sweep;             /* zero-initialise */

/* An option that may be varied: a row of a table for names.h. */
typedef struct sweep_name {
    const char *name;
    const char *label; /* before its value in the names of runs */
} sweep_name;

/* o has "sweep" and "out". ERR_USAGE: not names and values, an option that cannot be varied or is given already, a value that the
 * option does not take, too many runs. */
err_code sweep_read(const parsed_options *o, const sweep_name *allowed, int n_allowed, sweep *out, err *e);
void sweep_release(sweep *s);

#endif
