/* store_internal.h — what store.c (reading), store_layout.c (a new file) and store_write.c share.
 *
 * HDF5 lays a file out once and reads it; rows are written into it with pwrite. Laying out happens under "<path>.tmp": the corpus
 * is written, the datasets of rows get their space (early allocation, no fill values), the file is closed, its holes are filled
 * by posix_fallocate, it is synced and renamed. From then on a writer knows the byte at which every chunk begins, and HDF5 never
 * opens the file for writing again until a hook is complete: there is no metadata in memory that a kill could lose, and no flag
 * that says "open". A chunk is on disk before its progress byte is written. What store_finish_hook changes has its place in the
 * file from the beginning, so that no object header grows.
 */
#ifndef ACTIVATIONS_STORE_INTERNAL_H
#define ACTIVATIONS_STORE_INTERNAL_H

#include "activations/h5.h"
#include "activations/store.h"

#include <stdio.h>

enum { STORE_VERSION = 1, STORE_PATH_MAX = HOOK_NAME_MAX + 32, STORE_TEXTS = 7 };
#define STORE_FORMAT "sae.activations"

typedef struct hook_file {
    uint8_t *progress;    /* [n_chunks] */
    h5_rows rows;         /* reading */
    uint64_t progress_at; /* writing: where the bytes are in the file */
    uint64_t *chunk_at;   /* [n_chunks] */
} hook_file;

struct store {
    char *path;
    store_info info; /* its strings are borrowed from texts */
    char *texts[STORE_TEXTS];
    hook_file hooks[STORE_HOOKS_MAX];
    h5_file file; /* reading; closed while writing */
    char *vocab_bytes;
    uint64_t *vocab_offsets;
    int fd;        /* writing, else -1 */
    void *scratch; /* writing: one chunk as stored */
};

/* The attributes of the whole file that are strings, and where store_info has them. */
typedef struct store_text {
    const char *name;
    size_t offset; /* of a const char * in store_info */
    bool compared; /* a capture continues only where it is the same */
} store_text;
extern const store_text store_texts[STORE_TEXTS];

static inline const char **text_of(const store_info *info, int i) {
    return (const char **)((char *)info + store_texts[i].offset);
}

static inline int64_t n_chunks_of(int64_t n_rows) { return (n_rows + STORE_CHUNK_ROWS - 1) / STORE_CHUNK_ROWS; }

static inline int64_t chunk_rows(int64_t n_rows, int64_t chunk) {
    int64_t left = n_rows - chunk * STORE_CHUNK_ROWS;
    return left < STORE_CHUNK_ROWS ? left : STORE_CHUNK_ROWS;
}

/* Rows a chunk has in the file, which stores the last one in full: a dataset of few rows has one smaller chunk. */
static inline int64_t stored_chunk_rows(int64_t n_rows) { return n_rows < STORE_CHUNK_ROWS ? n_rows : STORE_CHUNK_ROWS; }

static inline size_t chunk_bytes(const store_info *info, int hook) {
    const store_hook *h = &info->hooks[hook];
    return (size_t)stored_chunk_rows(info->n_rows) * (size_t)h->d_model * dtype_of(h->dtype)->bytes;
}

static inline void name_in_file(char out[STORE_PATH_MAX], const char *before, const char *hook, const char *behind) {
    snprintf(out, STORE_PATH_MAX, "%s%s%s", before, hook, behind);
}

/* ---- store.c ---- */

err_code store_new(const char *path, store **out, err *e); /* nothing open yet */
err_code store_read_contents(store *s, err *e);            /* all but rows, corpus and vocabulary */
void store_close_contents(store *s);                       /* what belongs to the open file; s can be opened again */

/* ---- store_layout.c ---- */

/* What stands in a new file beside the rows; info is complete. */
typedef struct store_contents {
    const store_info *info;
    const token_corpus *k;
    const uint64_t *row_token;
    const tokenizer *t;
} store_contents;

/* A whole file without rows at tmp, all of its space taken; nothing there when it fails. */
err_code store_lay_out(const char *tmp, const store_contents *n, err *e);

#endif
