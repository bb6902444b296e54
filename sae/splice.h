/* splice.h — an SAE as a model hook: rows replaced by their reconstruction, or left with only some latents changed.
 *
 *   replace:    x <- x_hat                     (loss recovered)
 *   zero, mean: x <- 0, x <- mean              (the ablations CE recovered is measured against)
 * Positions below skip_first, and rows longer than the SAE's max_norm, keep x. Counts rows it changed.
 */
#ifndef SAE_SPLICE_H
#define SAE_SPLICE_H

#include "model/hooks.h"
#include "sae/sae.h"

typedef enum splice_mode { SPLICE_RECONSTRUCT, SPLICE_ZERO, SPLICE_MEAN } splice_mode;

typedef struct splice {
    const sae *sae;
    splice_mode mode;
    const float *mean; /* [d_in], SPLICE_MEAN only, borrowed */
    int64_t skip_first;
    int64_t rows_changed; /* out */
    sparse_acts acts;     /* scratch; splice_release frees */
    float *x_hat;
    size_t cap;
} splice;

/* The hook to pass to model_forward; borrows s. at comes from the SAE's hook_name. */
err_code splice_hook(splice *s, int64_t n_layers, model_hook *out, err *e);
void splice_release(splice *s);

#endif
