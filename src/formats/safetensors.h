/* safetensors.h — the safetensors container, reading through weights.h and writing here.
 *
 * Layout: uint64 little-endian n, n bytes of JSON {"name": {"dtype", "shape", "data_offsets"}, "__metadata__": {..}}, data.
 * Written files have their header padded with spaces to 8 bytes, tensors in the order given, no metadata unless given: the
 * same tensors always give the same bytes. Format: README of the safetensors project.
 */
#ifndef FORMATS_SAFETENSORS_H
#define FORMATS_SAFETENSORS_H

#include "formats/tensor_sink.h"

typedef struct safetensors_entry {
    const char *name;
    const char *dtype; /* "F32", "U64", ... */
    int n_dims;
    int64_t shape[WEIGHTS_DIMS_MAX];
    const void *data; /* row-major, little endian */
    size_t size;
} safetensors_entry;

/* Writes path atomically (tensor_sink.h). */
err_code safetensors_write(const char *path, const safetensors_entry *entries, int n, err *e);

/* The same of tensors that w describes (weights_build.h) and `produce` makes; w's metadata are strings. */
err_code safetensors_write_described(const char *path, const weights *w, tensor_producer produce, void *user, err *e);

#endif
