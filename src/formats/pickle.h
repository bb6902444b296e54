/* pickle.h — Python's pickles as data: what describes tensors is read, everything else is refused, nothing is ever called.
 *
 * A pickle is a program for a stack machine. This one knows only the opcodes that build numbers, strings, tuples, lists and
 * dictionaries, and of the names a program may call only those in a list (pickle.c), each of which has a meaning of its own
 * here. Values come from the arena and borrow strings from the data; lists and dictionaries may contain themselves.
 * Opcodes: Lib/pickletools.py of CPython; what PyTorch puts in: torch/serialization.py and torch/_utils.py.
 */
#ifndef FORMATS_PICKLE_H
#define FORMATS_PICKLE_H

#include "core/err.h"
#include "core/mem.h"
#include "formats/quant.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum pickle_kind {
    PICKLE_NONE,
    PICKLE_BOOL,
    PICKLE_INT,
    PICKLE_FLOAT,
    PICKLE_STRING,
    PICKLE_TUPLE,
    PICKLE_LIST,
    PICKLE_DICT,   /* items: key, value, key, value .. */
    PICKLE_GLOBAL, /* a name from the list */
    PICKLE_STORAGE,
    PICKLE_TENSOR,
} pickle_kind;

typedef struct pickle_tensor {
    const quant_type *type;
    const char *key; /* of the storage; not NUL-terminated */
    size_t key_len;
    int64_t offset; /* of the first value in the storage, in values */
    int n_dims;
    int64_t shape[4], strides[4]; /* in values; none negative */
} pickle_tensor;

typedef struct pickle_value {
    pickle_kind kind;
    union {
        bool boolean;
        int64_t integer;
        double real;
        struct {
            const char *bytes;
            size_t len;
        } string;
        struct {
            struct pickle_value **items;
            size_t n, cap;
        } list;
        const struct pickle_global *global;
        struct {
            const quant_type *type;
            const char *key;
            size_t key_len;
        } storage;
        const pickle_tensor *tensor;
    };
} pickle_value;

/* The value the pickle leaves. Messages give the byte in the pickle. */
err_code pickle_read(const uint8_t *data, size_t size, arena *memory, const pickle_value **out, err *e);

/* "float32" for the PICKLE_GLOBAL torch.float32; NULL for names that are no types. */
const char *pickle_dtype_name(const pickle_value *v);

#endif
