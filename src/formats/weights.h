/* weights.h — one view over every model file: named tensors and typed metadata. Files are mapped and tensors borrowed.
 *
 * Files: .gguf, .safetensors, PyTorch's zip archives (pytorch_model.bin, .pt), .npz, .npy (one tensor, "arr_0"); model folders
 * with config.json. Nested metadata has dots in its keys: rope_scaling.factor. src/formats/README.md lists the readers.
 * Shapes are row-major, slowest dimension first, as PyTorch writes them: a GGUF matrix of ggml shape [in, out] is
 * [out, in] here. Every size and offset has been checked against the file before a tensor is handed out, so
 * data .. data + size can be read without further checks; it may begin at any address.
 * Threads: const weights may be shared. Errors: ERR_IO, ERR_FORMAT (with the byte offset), ERR_UNSUPPORTED, ERR_NOMEM.
 */
#ifndef FORMATS_WEIGHTS_H
#define FORMATS_WEIGHTS_H

#include "core/err.h"
#include "core/file.h"
#include "formats/quant.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WEIGHTS_DIMS_MAX = 4 };

typedef struct tensor_view {
    const char *name; /* as the file spells it */
    const quant_type *type;
    int n_dims;
    int64_t shape[WEIGHTS_DIMS_MAX]; /* slowest first */
    const void *data;                /* borrowed from the weights */
    size_t size;                     /* bytes */
    uint64_t offset;                 /* of data in its file; 0 or the source's where data is a copy */
} tensor_view;

int64_t tensor_count(const tensor_view *t); /* number of values */

typedef enum meta_kind { META_BOOL, META_INT, META_FLOAT, META_STRING, META_ARRAY } meta_kind;

/* A metadata value. Arrays hold values of one kind; strings are borrowed, not NUL-terminated by promise, may hold any byte. */
typedef struct meta_value {
    const char *key; /* NULL inside an array */
    meta_kind kind;
    uint8_t stored; /* 1 + the gguf_kind (gguf.h) that it, or an array's item, has in its file; 0: it comes from elsewhere */
    union {
        bool boolean;
        int64_t integer; /* unsigned 64-bit values above INT64_MAX are refused at open */
        double real;
        struct {
            const char *bytes;
            size_t len;
        } string;
        struct {
            meta_kind kind;
            int64_t count;
            const struct meta_value *items;
        } array;
    };
} meta_value;

typedef struct weights weights;

/* Opens any supported file or folder: formats.c sniffs the content, then the extension. A part of a split GGUF file opens all. */
err_code weights_open(const char *path, weights **out, err *e);
void weights_close(weights *w); /* accepts NULL */

const char *weights_path(const weights *w);
const char *weights_format(const weights *w); /* "GGUF v3", "safetensors" */
size_t weights_file_size(const weights *w);   /* of all its files */
int64_t weights_file_count(const weights *w); /* of tensors: parts of a GGUF file, shards of a folder */

/* SHA-256 of the file as 64 hex digits. Of a folder or a split file: of its parts' digests, one behind the other, that of
 * config.json first where there is one. */
err_code weights_sha256(const weights *w, char out[SHA256_HEX], err *e);

int64_t weights_tensor_count(const weights *w);
const tensor_view *weights_tensor_at(const weights *w, int64_t i);   /* in file order */
const tensor_view *weights_find(const weights *w, const char *name); /* NULL when absent */

/* The tensor `name` if it has exactly this shape, else a sentence saying what was expected and found. */
err_code weights_require(const weights *w, const char *name, int n_dims, const int64_t *shape, const tensor_view **out,
                         err *e);

/* For a tensor that has been read: its part of the file need not stay in memory. It can be read again. */
void weights_forget(const weights *w, const tensor_view *t);

int64_t weights_meta_count(const weights *w);
const meta_value *weights_meta_at(const weights *w, int64_t i);
const meta_value *weights_meta(const weights *w, const char *key); /* NULL when absent */

/* Typed look-ups. A missing key is ERR_FORMAT unless a default is given with the _or form; a wrong kind always is. */
err_code weights_meta_int(const weights *w, const char *key, int64_t *out, err *e);
err_code weights_meta_int_or(const weights *w, const char *key, int64_t fallback, int64_t *out, err *e);
err_code weights_meta_float(const weights *w, const char *key, double *out, err *e); /* accepts an integer too */
err_code weights_meta_float_or(const weights *w, const char *key, double fallback, double *out, err *e);
err_code weights_meta_bool_or(const weights *w, const char *key, bool fallback, bool *out, err *e);
err_code weights_meta_string(const weights *w, const char *key, char **out /* NUL-terminated copy, free() */, err *e);
err_code weights_meta_string_or(const weights *w, const char *key, const char *fallback, char **out, err *e);

#endif
