/* postings.h — sparse codes turned around: for every latent the rows on which it fires, ascending, with its values.
 * Memory: 8 bytes a non-zero. Threads: const postings may be shared. Errors: ERR_FORMAT (indices out of range), ERR_NOMEM.
 */
#ifndef ANALYSIS_POSTINGS_H
#define ANALYSIS_POSTINGS_H

#include "core/err.h"

#include <stdint.h>

typedef struct postings {
    int64_t n_features, n_rows;
    int64_t *start; /* [n_features + 1] */
    uint32_t *rows; /* [nnz] those of feature i at start[i] .. start[i + 1] */
    float *values;  /* [nnz] > 0 */
} postings;         /* zero-initialise */

/* From CSR codes; values that are not positive and finite are refused. */
err_code postings_build(int64_t n_features, int64_t n_rows, const int64_t *indptr, const uint32_t *indices,
                        const float *values, postings *out, err *e);
void postings_release(postings *p);

static inline int64_t postings_fires(const postings *p, int64_t feature) { return p->start[feature + 1] - p->start[feature]; }
float postings_value(const postings *p, int64_t feature, int64_t row); /* 0 where it does not fire */
float postings_max(const postings *p, int64_t feature);                /* 0 for a feature that never fires */

#endif
