/* h5.h — HDF5 as the rest of this folder uses it: silent, its error stack folded into one sentence of ours. Private to activations/.
 *
 * Files are opened with strong closing: h5_close closes every object opened through the file, so only data spaces, types and
 * property lists made by hand need closing. They are opened without HDF5's flock: a file on a network folder opens, and a
 * reader never stands in a writer's way; store.c locks for itself.
 * Every size a file claims is compared with the bytes it holds before it reaches malloc.
 * Messages begin with the path the file was opened with.
 */
#ifndef ACTIVATIONS_H5_H
#define ACTIVATIONS_H5_H

#include "activations/dtype.h"
#include "core/ctx.h"

#include <hdf5.h>

typedef struct h5_file {
    hid_t id; /* negative: not open */
    char *path;
    uint64_t size; /* bytes, when it was opened */
} h5_file;
#define H5_FILE_INIT ((h5_file){.id = H5I_INVALID_HID})

err_code h5_create(const char *path, h5_file *out, err *e); /* an empty file in the oldest format, replacing what is there */
err_code h5_open(const char *path, bool writable, h5_file *out, err *e);
err_code h5_close(h5_file *f, err *e); /* reports what could not be written; fine on a closed file */

/* What stands at this path; H5O_TYPE_UNKNOWN: nothing, or a link into another file, which no reader follows. */
H5O_type_t h5_type_at(const h5_file *f, const char *name);

/* Sets e to "<path>: <what>: <HDF5's own words>". Call before any other HDF5 function. The code is `code` unless the system
 * gave a reason. */
err_code h5_fail(const h5_file *f, err *e, err_code code, const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* ---- attributes: strings of any length in UTF-8, whole numbers, reals; each a scalar ---- */

err_code h5_put_string(const h5_file *f, hid_t object, const char *name, const char *value, err *e);
err_code h5_put_int(const h5_file *f, hid_t object, const char *name, int64_t value, err *e);
err_code h5_put_real(const h5_file *f, hid_t object, const char *name, double value,
                     err *e); /* replaces the value of one that is there */

bool h5_has(hid_t object, const char *name); /* an attribute of that name */

/* ERR_FORMAT when absent or of another kind; `where` names the object. */
err_code h5_get_string(const h5_file *f, hid_t object, const char *where, const char *name, char **out /* free() */, err *e);
err_code h5_get_int(const h5_file *f, hid_t object, const char *where, const char *name, int64_t *out, err *e);
err_code h5_get_real(const h5_file *f, hid_t object, const char *where, const char *name, double *out, err *e);

/* ---- one-dimensional arrays ---- */

/* Writes n numbers in one piece of the file, its space taken at once. memory_type is also the type in the file. */
err_code h5_put_array(const h5_file *f, const char *name, hid_t type, uint64_t n, const void *values, err *e);

/* An array of whole numbers without sign, reals or strings of fixed length (cls): its id and length. ERR_FORMAT when it is absent, of another shape or
 * kind, or longer than the file. */
err_code h5_open_array(const h5_file *f, const char *name, H5T_class_t cls, hid_t *dataset, uint64_t *n, err *e);

/* The whole of such an array, `size` bytes a value as memory_type says. Owned by the caller, free with free(). */
err_code h5_get_array(const h5_file *f, const char *name, H5T_class_t cls, hid_t memory_type, size_t size,
                      void *out /* T** */, uint64_t *n, err *e);

/* Names dimension i of a dataset after a list of its length, which becomes its scale. */
err_code h5_put_scale(const h5_file *f, const char *dataset, unsigned dimension, const char *scale, const char *name, err *e);

/* ---- rows of numbers ---- */

/* A dataset [n_rows, ..] of floats; trailing dimensions count as one. */
typedef struct h5_rows {
    hid_t dataset, memory_type;
    int64_t n_rows, d;
    const dtype *type; /* of rows in memory: as stored when that is one of ours, else float32 */
} h5_rows;

err_code h5_rows_open(const h5_file *f, const char *name, h5_rows *out, err *e);
void h5_rows_close(h5_rows *r); /* fine when zero */
err_code h5_rows_read(const h5_file *f, const h5_rows *r, int64_t first, int64_t n, void *x /* [n, d] of r->type */, err *e);
err_code h5_rows_write(const h5_file *f, const h5_rows *r, int64_t first, int64_t n, const void *x, err *e);

/* The type of a dtype in a file. Owned by the caller, H5Tclose. */
hid_t h5_type_of(const dtype *t);

bool h5_is_rows(hid_t dataset); /* a float dataset with at least two dimensions */

#endif
