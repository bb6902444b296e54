/* An HDF5 file that anybody may have written, through every reader of such files: activation stores, shuffled rows, codes. */
#define _GNU_SOURCE
#include "activations/codes.h"
#include "activations/matrix.h"
#include "activations/source.h"
#include "activations/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ROWS = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int64_t fewer(int64_t n) { return n < ROWS ? n : ROWS; }

static void read_store(const char *path, const ctx *c) {
    store *s;
    err e;
    const char *bytes;
    const uint64_t *offsets;
    token_corpus k;
    if (store_open(path, &s, &e)) return;
    const store_info *info = store_info_of(s);
    if (!store_read_corpus(s, &k, &e)) corpus_release(&k);
    uint64_t *row_token = malloc((size_t)info->n_rows * sizeof *row_token);
    if (row_token) store_read_row_token(s, row_token, &e);
    free(row_token);
    store_vocab(s, &bytes, &offsets, &e);
    for (int i = 0; i < info->n_hooks; i++) {
        float *x = malloc((size_t)(fewer(info->n_rows) * info->hooks[i].d_model) * sizeof *x);
        if (x) store_read_rows(s, c, i, info->n_rows - fewer(info->n_rows), fewer(info->n_rows), x, &e);
        free(x);
    }
    store_close(s);
}

static void read_source(const char *path, const ctx *c, const char *dataset) {
    source *s;
    err e;
    source_opts o = {.dataset = dataset, .held_out = 0.1};
    if (source_open_hdf5(c, path, &o, &s, &e)) return;
    float *x = malloc((size_t)(ROWS * s->d_in) * sizeof *x);
    if (x) source_read(s, c, 0, ROWS, x, &e);
    if (x) source_read_held_out(s, c, 0, fewer(s->n_held_out), x, &e);
    free(x);
    source_close(s);
}

static void read_codes(const char *path) {
    codes k;
    err e;
    if (!codes_read(path, &k, &e)) codes_release(&k);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ctx c = CTX_DEFAULTS;
    char path[64];
    int fd = memfd_create("fuzz.h5", MFD_CLOEXEC);
    if (fd < 0) return 0;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (write(fd, data, size) == (ssize_t)size) {
        read_store(path, &c);
        read_source(path, &c, NULL);
        read_source(path, &c, "x");
        read_source(path, &c, "blocks.1.hook_mlp_out");
        read_codes(path);
    }
    close(fd);
    return 0;
}
