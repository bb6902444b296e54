/* encode_file.h — the rows of a file through an SAE into codes.h5 (activations/codes.h): latents and reconstructions, in the
 * order of the rows. Behind `sae encode`.
 *
 * Rows are any float dataset [n, ..] of an HDF5 file; trailing dimensions count as one. With a scaling factor s the SAE sees s x,
 * and reconstructions are divided by it. OUT appears only when complete.
 * Errors: ERR_MISMATCH (rows of another width, or an activation file of another hook or model), ERR_USAGE (k for a variant
 * without one), and those of matrix.h and codes.h.
 */
#ifndef ANALYSIS_ENCODE_FILE_H
#define ANALYSIS_ENCODE_FILE_H

#include "core/ctx.h"

typedef struct encode_opts {
    const char *dataset; /* hook name or path of a dataset; NULL: the SAE's hook, else the file's only one */
    int64_t k;           /* latents of a row in place of the SAE's own k; 0: that */
    double scaling;
} encode_opts;
#define ENCODE_DEFAULTS ((encode_opts){.scaling = 1})

typedef struct encode_result {
    int64_t rows, latents, nonzeros;
    double fvu, seconds; /* of the reconstruction */
} encode_result;

err_code encode_file(const ctx *c, const char *sae_folder, const char *rows, const char *out, const encode_opts *o,
                     encode_result *result, err *e);

#endif
