/* normalize.h — what some autoencoders do to each row before the encoder, and the way back: a table with a row for each.
 *
 *   in:   z = (x - mean) / divisor                   back:   x_hat = z_hat scale + mean
 * Names are those of SAELens' normalize_activations. How to add one: a function and a row.
 */
#ifndef SAE_NORMALIZE_H
#define SAE_NORMALIZE_H

#include <stdint.h>

/* The units of one row. */
typedef struct row_units {
    float mean, divisor, scale;
} row_units;

typedef struct sae_norm {
    const char *name; /* first, as core/names.h wants it */
    row_units (*units)(const float *x, int64_t d);
} sae_norm;

extern const sae_norm sae_norms[];
extern const int n_sae_norms;

const sae_norm *sae_norm_find(const char *name); /* NULL when unknown */

#endif
