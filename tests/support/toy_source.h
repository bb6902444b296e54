/* toy_source.h — rows in memory for tests of the trainer: sums of planted unit directions, far from 0 and not of unit scale,
 *
 *   x = scale (offset + sum of directions, each with probability p and a weight in [1, 2), + noise)
 *
 * With d_out there are targets, the same weights times other unit directions. Row r of the stream is a function of (seed, r) alone. before_read, when set, is called with the number of rows asked for so
 * far: tests stop, cancel or break a run there.
 */
#ifndef TESTS_SUPPORT_TOY_SOURCE_H
#define TESTS_SUPPORT_TOY_SOURCE_H

#include "activations/source.h"

typedef struct toy_opts {
    int64_t d_in, d_out, n_features, n_rows, n_held_out;
    double p, noise, offset, scale;
    uint64_t seed;
    void (*before_read)(void *user, int64_t rows);
    void *user;
} toy_opts;
#define TOY_DEFAULTS                                                                                                         \
    ((toy_opts){.d_in = 24,                                                                                                  \
                .n_features = 40,                                                                                            \
                .n_rows = 100000,                                                                                            \
                .n_held_out = 500,                                                                                           \
                .p = 0.08,                                                                                                   \
                .noise = 0.02,                                                                                               \
                .offset = 3,                                                                                                 \
                .scale = 17})

/* directions [n_features, d_in] of length 1: borrowed from the source; may be NULL. Aborts the test when out of memory. */
source *toy_source_open(const toy_opts *o, const float **directions);

#endif
