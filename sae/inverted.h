/* inverted.h — sparse latents the other way round: for every latent the rows it fires on, ascending, and its values there.
 * Plain data; zero-initialise, inverted_release frees, building again keeps the memory.
 */
#ifndef SAE_INVERTED_H
#define SAE_INVERTED_H

#include "math/sparse.h"
#include "sae/sparse.h"

typedef struct inverted_acts {
    int64_t n_latents;
    int64_t *starts; /* [n_latents + 1] */
    uint32_t *rows;  /* [nnz] */
    float *values;   /* [nnz] */
    size_t cap_starts, cap_rows, cap_values;
} inverted_acts;

err_code inverted_build(inverted_acts *t, const sparse_acts *f, int64_t n_latents, err *e);
void inverted_release(inverted_acts *t);

static inline latent_rows inverted_latent(const inverted_acts *t, int64_t i) {
    return (latent_rows){t->rows + t->starts[i], t->values + t->starts[i], t->starts[i + 1] - t->starts[i]};
}

#endif
