/* sparse.h — sparse latents of a batch of rows, CSR: row r has indices[indptr[r] .. indptr[r+1]), ascending, and their values.
 * Plain data; zero-initialise, sparse_release frees, sparse_reset keeps the memory.
 */
#ifndef SAE_SPARSE_H
#define SAE_SPARSE_H

#include "core/err.h"

#include <stddef.h>
#include <stdint.h>

typedef struct sparse_acts {
    int64_t n_rows;
    int64_t *indptr;   /* [n_rows + 1] */
    uint32_t *indices; /* [nnz] */
    float *values;     /* [nnz], none 0 */
    size_t cap_rows, cap_nnz, cap_values;
} sparse_acts;

/* Neither array is NULL afterwards, not even where no latent fires. */
err_code sparse_reserve(sparse_acts *s, int64_t n_rows, int64_t nnz, err *e);
void sparse_reset(sparse_acts *s);
void sparse_release(sparse_acts *s);

/* Value of latent i in row r, 0 when absent. */
float sparse_get(const sparse_acts *s, int64_t r, uint32_t i);

#endif
