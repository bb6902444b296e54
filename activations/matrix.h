/* matrix.h — the rows of any float dataset [n, ..] in an HDF5 file, or of a .npy file, in order, as float32: ours or another
 * program's.
 *
 * Trailing dimensions count as one. Rows are checked: one that is infinite or not a number is ERR_FORMAT with its number.
 * Threads: one call at a time in the whole process (HDF5). Errors: ERR_IO, ERR_FORMAT.
 */
#ifndef ACTIVATIONS_MATRIX_H
#define ACTIVATIONS_MATRIX_H

#include "activations/dtype.h"

typedef struct matrix matrix;

typedef struct matrix_info {
    const char *path, *dataset; /* borrowed: "x.h5", "/hooks/blocks.16.hook_resid_post/activations" */
    int64_t n_rows, d;
    const dtype *type; /* of stored rows */
} matrix_info;

/* dataset: its path in the file or the name of a hook; NULL: the only one there is, as in a .npy. */
err_code matrix_open(const char *path, const char *dataset, matrix **out, err *e);
void matrix_close(matrix *m); /* accepts NULL */
const matrix_info *matrix_info_of(const matrix *m);

err_code matrix_read(const matrix *m, const ctx *c, int64_t first, int64_t n, float *x /* [n, d] */, err *e);

/* The same without converting. */
err_code matrix_read_stored(const matrix *m, const ctx *c, int64_t first, int64_t n, void *x /* [n, d] of info.type */,
                            err *e);

#endif
