/* tensor_sink.h — a file of tensors while it is written: tensor by tensor, so that no model has to fit into memory.
 *
 * Bytes go to <path>.tmp; commit syncs and renames it. Before a byte is written the file system is asked for the whole size.
 * Errors: ERR_IO, ERR_NOSPACE, ERR_NOMEM, and the producer's. Closing without commit leaves nothing behind.
 */
#ifndef FORMATS_TENSOR_SINK_H
#define FORMATS_TENSOR_SINK_H

#include "formats/weights.h"

typedef struct tensor_sink tensor_sink;

/* Adds the bytes of tensor t, number i of those described, in as many calls of tensor_sink_add as it likes: t->size in all. */
typedef err_code (*tensor_producer)(void *user, int64_t i, const tensor_view *t, tensor_sink *to, err *e);

err_code tensor_sink_open(const char *path, uint64_t size, tensor_sink **out, err *e);
err_code tensor_sink_add(tensor_sink *s, const void *bytes, size_t n, err *e);
err_code tensor_sink_produce(tensor_sink *s, tensor_producer produce, void *user, const tensor_view *t, int64_t i, err *e);
err_code tensor_sink_commit(tensor_sink *s, err *e);
void tensor_sink_close(tensor_sink *s); /* accepts NULL */

#endif
