/* encode_file.h — the rows of a file through an SAE into codes.h5 (activations/codes.h): latents and reconstructions, in the
 * order of the rows. Behind `sae encode`.
 *
 * Rows are any float dataset [n, ..] of an HDF5 or a .npy file; trailing dimensions count as one. OUT appears only when complete.
 * Errors: ERR_MISMATCH (rows of another width, or an activation file of another hook or model), and those of sae_load_given,
 * matrix.h and codes.h.
 */
#ifndef ANALYSIS_ENCODE_FILE_H
#define ANALYSIS_ENCODE_FILE_H

#include "sae/sae.h"

typedef struct encode_opts {
    const char *dataset; /* hook name or path of a dataset; NULL: the SAE's hook, else the file's only one */
    sae_given given;     /* what the SAE's files leave out */
} encode_opts;

typedef struct encode_result {
    int64_t rows, latents, nonzeros;
    double fvu; /* of the reconstruction; NAN for a transcoder */
    double seconds;
} encode_result;

err_code encode_file(const ctx *c, const char *sae_path, const char *rows, const char *out, const encode_opts *o,
                     encode_result *result, err *e);

#endif
