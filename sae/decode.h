/* decode.h — sums of decoder rows, as the trainer makes them: f W_dec added to what stands there already.
 *
 * A block of rows on which more than DENSE_SHARE of the latents fire is one matrix product. What is chosen depends on the block
 * alone, so bits do not depend on threads.
 */
#ifndef SAE_DECODE_H
#define SAE_DECODE_H

#include "math/sparse.h"
#include "sae/sae.h"

/* Share of latents that fire from which matrix products are faster than going from latent to latent. Measured on one AVX2 core at
 * 576 x 2304, 2048 rows: products take 350 ms whatever fires, the sparse way 200 ms at 0.16, 285 at 0.31, 440 at 0.5. */
#define DENSE_SHARE 0.4

enum { DECODE_ROWS = 64 }; /* a block */

/* r [rows, d_out] += f W_dec for rows first .. first + rows - 1 of f, at most DECODE_ROWS. */
void decode_add_block(const ctx *c, const sae *s, const sparse_acts *f, int64_t first, int64_t rows, float *r);

/* All rows of f; squares gets sum ||r||^2 afterwards. ERR_NOMEM. */
err_code decode_add(const ctx *c, const sae *s, const sparse_acts *f, float *r /* [f->n_rows, d_out] */, double *squares,
                    err *e);

#endif
