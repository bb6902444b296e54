/* gguf.h — the GGUF container: read through weights.h, written here. */
#ifndef FORMATS_GGUF_H
#define FORMATS_GGUF_H

#include "formats/tensor_sink.h"

/* Kinds of values, by their number in the file. */
typedef enum gguf_kind {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
} gguf_kind;

/* Writes what w describes, keys and tensors in its order, as one file; tensors need a type that GGUF has, w no data. A value
 * that does not say how it is stored is an unsigned or signed 32-bit number, a 64-bit one if it must, or a float32; in arrays,
 * int32 or float32. Keys split.* are left out. */
err_code gguf_write(const char *path, const weights *w, tensor_producer produce, void *user, err *e);

#endif
