/* curves.h — a run's metrics.csv as a picture: FVU, L0, dead latents and the learning rate over rows, by gnuplot, a program of its
 * own that need not be there. */
#ifndef SAE_TRAIN_CURVES_H
#define SAE_TRAIN_CURVES_H

#include "core/err.h"

#include <stdbool.h>

bool curves_exist(const char *folder);

/* Writes OUT/metrics.png from OUT/metrics.csv. *drawn false, and no error: there is no gnuplot, or it could not. */
err_code curves_draw(const char *folder, bool *drawn, err *e);

#endif
