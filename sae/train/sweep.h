/* sweep.h — what several runs came to: which of them no other beats, a table and a picture.
 *
 *   FOLDER/sweep.csv   name,l0,fvu,dead,delta_ce,front,rows, then what was varied; a line each run, the fewest latents first
 *   FOLDER/sweep.png   FVU against L0, and ΔCE against L0 where it was measured, the front named, in colour (plot.h)
 *
 * On the front: no other run has at most as many latents a row and at most as much unexplained variance, and less of one of them.
 */
#ifndef SAE_TRAIN_SWEEP_H
#define SAE_TRAIN_SWEEP_H

#include "core/err.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct sweep_point {
    const char *name;
    const char *const *values; /* [n_axes] as they were given */
    int64_t rows;
    double l0, fvu, dead;
    double delta_ce; /* NAN: not measured */
    bool on_front;
} sweep_point;

void sweep_sort(sweep_point *points, int n); /* by L0, then FVU */
void sweep_mark_front(sweep_point *points, int n);

err_code sweep_write(const char *folder, const char *const *axes, int n_axes, const sweep_point *points, int n, err *e);
err_code sweep_draw(const char *folder, bool with_delta_ce, bool *drawn, err *e); /* from sweep.csv */

#endif
