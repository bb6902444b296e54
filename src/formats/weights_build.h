/* weights_build.h — weights made piece by piece: by a reader from its file, or by a program that describes a file it is about
 * to write (tensors have a type and a shape then, and no data).
 *
 * Errors: ERR_FORMAT (a name that is empty, too long or there twice), ERR_UNSUPPORTED (too many items), ERR_NOMEM.
 */
#ifndef FORMATS_WEIGHTS_BUILD_H
#define FORMATS_WEIGHTS_BUILD_H

#include "formats/weights.h"

/* path is for messages and to find other parts. The weights are the caller's to close. */
err_code weights_new(const char *path, weights **out, err *e);

/* Adds a tensor whose type, shape and data are checked; its name, of len bytes, is checked here and copied. */
err_code weights_add_tensor(weights *w, const tensor_view *t, const char *name, size_t len, err *e);

/* Adds a value whose strings and items outlive the weights or come from its memory; the key is checked here and copied. */
err_code weights_add_meta(weights *w, const meta_value *v, const char *key, size_t len, err *e);

/* count items for an array, from the weights' memory. */
err_code weights_items(weights *w, int64_t count, meta_value **items, err *e);

/* A copy with a NUL behind it, from the weights' memory. */
err_code weights_copy_text(weights *w, const char *bytes, size_t len, const char **out, err *e);

/* Makes names findable; afterwards nothing is added, and calling it again does nothing. */
err_code weights_index(weights *w, err *e);

/* Values in a shape, slowest first; false when the product overflows or a dimension is negative. */
bool shape_count(int n_dims, const int64_t *shape, int64_t *count);

/* ---- single values, for describing a file; strings are copied ---- */

err_code weights_set_bool(weights *w, const char *key, bool value, err *e);
err_code weights_set_int(weights *w, const char *key, int64_t value, err *e);
err_code weights_set_real(weights *w, const char *key, double value, err *e);
err_code weights_set_text(weights *w, const char *key, const char *bytes, size_t len, err *e);

#endif
