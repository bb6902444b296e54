/* progress.h — what a person sees on stderr while a command works: its notes, and one line per stage with percent, rate and
 * time left, redrawn in place on a terminal.
 *
 *   train  42%  1,260,000/3,000,000 rows  14,210 rows/s  2m 02s left  fvu 0.251 l0 32.0
 *
 * Without a terminal nothing is drawn unless `verbose`: then a line every 10 seconds and one at each stage's end.
 * `quiet` leaves warnings only. The rate is over the stage's own work: what was done before the first report (a resumed run)
 * does not count.
 */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include "core/ctx.h"

#include <stdio.h>

typedef struct progress_view {
    FILE *to;
    bool terminal, quiet, verbose;
    int columns; /* width to keep to */
    char stage[32];
    int64_t first_done, last_done, total;
    double started, drawn; /* seconds on the monotonic clock */
    bool line_open;        /* a line stands on the terminal without its newline */
} progress_view;

/* stderr, with what the options and the environment (TERM=dumb) say. */
progress_view progress_view_stderr(bool quiet, bool verbose);

/* Points c's callbacks at the view, which must outlive c. */
void progress_view_attach(progress_view *v, ctx *c);

/* Ends an open line; call before anything else is printed to the terminal. */
void progress_view_end(progress_view *v);

/* The line's text for progress p after `seconds` of work on `worked` units; for tests. buffer is always terminated. */
void progress_format(char *buffer, size_t size, const progress *p, int64_t worked, double seconds);

#endif
