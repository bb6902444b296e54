/* top.h — the k largest scores of rows, <x, W_enc_i> + b_enc_i as one float32 dot product in a fixed order gives them, found
 * without computing all of these. Private to sae/.
 *
 * Scores that are cheap and a little wrong come with a bound of their error (math/preselect.h): from a matrix product in float32,
 * or from whole numbers, which are faster. While they come in, those that look best are scored exactly; a latent whose upper
 * bound stays below the k-th best exact score so far cannot be among the largest, and all that are left at the end are scored
 * exactly. Both ways give the same latents with the same bits, among equals the lower index. TOP_PRODUCT takes the product's
 * scores for exact.
 */
#ifndef SAE_TOP_H
#define SAE_TOP_H

#include "math/preselect.h"
#include "math/sparse.h"
#include "sae/sae.h"

typedef enum top_method { TOP_FLOAT, TOP_WHOLE, TOP_PRODUCT } top_method;

typedef struct top {
    const ctx *c;
    const sae *s;
    top_method method;
    bool is_exact; /* cheap scores are the exact ones, and norms are 0: TOP_PRODUCT, and TOP_FLOAT of few rows */
    const sparse_kernels *k;
    const preselect_kernels *p;
    preselect_latents latents; /* but for TOP_WHOLE only norms and what adding a bias can lose */
    float *inverse_s;          /* [d_in]; TOP_WHOLE */
    float most_wrong[2];       /* largest norm and slack of a latent */
    float mean_norm, mean_error;
    int64_t block_rows, limit; /* rows worked on together; candidates a row may have */
} top;

typedef struct top_counts {
    int64_t rows, rescored; /* exact scores computed */
    int64_t fallbacks;      /* rows with more candidates than there is room for, all of which were scored exactly */
} top_counts;

void top_counts_add(top_counts *sum, const top_counts *more);

/* Packs s for rows like the n of x [n, d_in], which must be as the encoder sees them (centred). */
err_code top_init(top *t, const ctx *c, const sae *s, top_method method, const float *x, int64_t n, err *e);
void top_release(top *t); /* fine when zero */

/* A thread's work on up to block_rows rows. */
typedef struct top_space top_space;
err_code top_space_new(const top *t, top_space **out, err *e);
void top_space_free(top_space *w); /* accepts NULL */

/* Rows x [n, d_in], n <= block_rows: counts[r] largest scores of each in ascending order of latents, k or fewer when some are not
 * finite, at values and indices [n, k]. */
void top_find(const top *t, top_space *w, const float *x, int64_t n, float *values, uint32_t *indices, int64_t *counts,
              top_counts *sum);

#endif
