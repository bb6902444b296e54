/* weights_internal.h — what a file format's reader needs beyond weights_build.h; for this folder and its tests.
 *
 * A reader adds tensors and metadata in file order, having checked every size and offset; whoever called it then indexes the
 * names. What readers allocate comes from `memory` and lives as long as the weights.
 */
#ifndef FORMATS_WEIGHTS_INTERNAL_H
#define FORMATS_WEIGHTS_INTERNAL_H

#include "core/file.h"
#include "core/mem.h"
#include "formats/weights_build.h"
#include "formats/zip.h"

enum {
    WEIGHTS_NAME_MAX = 1024,       /* bytes of a tensor's name or a key */
    WEIGHTS_ITEMS_MAX = 1 << 23,   /* array items in the metadata: each takes 40 bytes, and perhaps one in the file */
    WEIGHTS_PARTS_MAX = 1000,      /* files of one model */
    WEIGHTS_HEADER_MAX = 32 << 20, /* bytes of JSON that describe tensors */
    WEIGHTS_COPY_MIN = 64 << 20,   /* bytes of tensors that may be inflated or put in order, beyond */
    WEIGHTS_COPY_RATIO = 16,       /* this many times the file's size */
};

typedef struct named {
    const char *name;
    const void *item; /* a tensor_view or a meta_value */
} named;

struct weights {
    char *path;
    char format[32];
    size_t file_size; /* of all parts */
    arena memory;
    file_map *maps;
    size_t n_maps, cap_maps;
    tensor_view *tensors;
    size_t n_tensors, cap_tensors;
    meta_value *meta;
    size_t n_meta, cap_meta;
    int64_t n_items;
    size_t n_copied;                      /* bytes of tensors that could not be borrowed */
    named *tensors_by_name, *meta_by_key; /* sorted; NULL until weights_index */
};

/* Forgets all that was read and closes the files. */
void weights_clear(weights *w);

/* Maps one more file for as long as the weights live. */
err_code weights_map(weights *w, const char *path, const uint8_t **data, size_t *size, err *e);

/* Memory for tensors that cannot be borrowed, bounded by the size of the file. */
err_code weights_take_bytes(weights *w, size_t size, uint8_t **out, err *e);

/* Makes a copy of t's values in row-major order and points t to it; strides, in values, say where they lie from t->data on.
 * The caller has checked that they lie in the file. Plain numbers only. */
err_code weights_gather(weights *w, tensor_view *t, const int64_t *strides, err *e);

/* "[768, 2304]" */
enum { SHAPE_TEXT = 96 };
const char *shape_text(int n_dims, const int64_t *shape, char out[SHAPE_TEXT]);

/* The readers behind the tables of formats.c and folder.c. data lives as long as the weights. */
err_code gguf_read(weights *w, const uint8_t *data, size_t size, err *e);
err_code safetensors_read(weights *w, const uint8_t *data, size_t size, err *e);
err_code safetensors_read_part(weights *w, const uint8_t *data, size_t size, err *e); /* tensors only */
err_code archive_read(weights *w, const uint8_t *data, size_t size, err *e);
err_code npy_read(weights *w, const uint8_t *data, size_t size, err *e); /* one tensor, arr_0 */

/* Adds a .npy file's array as the tensor `name`; offset is that of data in the file. */
err_code npy_add(weights *w, const char *name, const uint8_t *data, size_t size, uint64_t offset, err *e);

/* Adds what a pickle of PyTorch describes; storages are the members <prefix>data/<key> of the archive at `data`. */
err_code torch_add_pickle(weights *w, const uint8_t *data, const zip_archive *zip, const char *prefix, int prefix_len,
                          const uint8_t *pickle, size_t size, err *e);

/* Reads the model in the folder w->path. Its messages name the files. */
err_code folder_read(weights *w, err *e);

/* What weights_open does with the file's content. name stands for the path. */
err_code weights_open_bytes(const char *name, const uint8_t *data, size_t size, weights **out, err *e);

#endif
