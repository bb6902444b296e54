/* steering_internal.h — how arms are made; for steering*.c only. */
#ifndef ANALYSIS_STEERING_INTERNAL_H
#define ANALYSIS_STEERING_INTERNAL_H

#include "analysis/steering.h"

/* Adds an arm with zero interventions [n_lists, n] for the caller to fill in. */
err_code steering_new_arm(steering_arms *a, steering_arm arm, const char *name, err *e);

/* A direction [d] that lives as long as the arms. */
err_code steering_new_direction(steering_arms *a, int64_t d, float **out, err *e);

double steering_norm(const float *x, int64_t d);

#endif
