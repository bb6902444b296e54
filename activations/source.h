/* source.h — where training rows come from: the only thing a trainer knows of activations.
 *
 * A source holds n_rows rows of d_in floats (and n_held_out more that are never served for training, whole documents).
 * Training rows are an endless shuffled stream: row number r of the stream is a pure function of (seed, r), so a trainer
 * that knows its position resumes exactly. Every epoch is a fresh permutation of all training rows. A file of up to 1 GiB is
 * shuffled as a whole. A larger one is shuffled in two levels: blocks of 256 rows into pools of 1 GiB, rows within a pool; the
 * order depends on the file and the seed only, never on the machine's memory.
 * Implementations: source_file.c (HDF5 store, or any [n, d] float dataset), live.c (a model that reads a corpus), synth.c
 * (planted dictionary). How to add one: fill a source_ops; one that keeps rows in blocks fills a shuffled (shuffle.h).
 * Threads: one call at a time. Errors: ERR_IO, ERR_FORMAT (NaN or infinite rows, with the row's number).
 */
#ifndef ACTIVATIONS_SOURCE_H
#define ACTIVATIONS_SOURCE_H

#include "core/ctx.h"

#include <stddef.h>

typedef struct source source;

typedef struct source_ops {
    /* rows first .. first+n-1 of the shuffled stream; y: their targets, where the source has a d_out; NULL:
     * not wanted */
    err_code (*read)(source *s, const ctx *c, int64_t first, int64_t n, float *x /* [n, d_in] */, float *y /* [n, d_out] */,
                     err *e);
    /* rows first .. first+n-1 of the held-out part, in order */
    err_code (*read_held_out)(source *s, const ctx *c, int64_t first, int64_t n, float *x, float *y, err *e);
    void (*close)(source *s);
} source_ops;

struct source { /* first member of every implementation */
    const source_ops *ops;
    int64_t n_rows, n_held_out, d_in;
    int64_t d_out;      /* of the rows that belong to those of another hook, a transcoder's targets; 0: there are none */
    char hook_name[64]; /* "" when unknown */
    char hook_out[64];
    char model_name[128];
    char model_sha256[65];
    int64_t context, skip_first; /* of the capture (capture.h); 0 when unknown */
    double max_norm;             /* longer rows are not served; 0: none were left out */
    char id[65];                 /* hash over content and order: a checkpoint continues only on the same source */
};

static inline err_code source_read_pairs(source *s, const ctx *c, int64_t first, int64_t n, float *x, float *y, err *e) {
    return s->ops->read(s, c, first, n, x, y, e);
}
static inline err_code source_read_held_out_pairs(source *s, const ctx *c, int64_t first, int64_t n, float *x, float *y,
                                                  err *e) {
    return s->ops->read_held_out(s, c, first, n, x, y, e);
}
static inline err_code source_read(source *s, const ctx *c, int64_t first, int64_t n, float *x, err *e) {
    return s->ops->read(s, c, first, n, x, NULL, e);
}
static inline err_code source_read_held_out(source *s, const ctx *c, int64_t first, int64_t n, float *x, err *e) {
    return s->ops->read_held_out(s, c, first, n, x, NULL, e);
}
static inline void source_close(source *s) {
    if (s) s->ops->close(s);
}

typedef struct source_opts {
    const char *dataset; /* NULL: the file's only hook; else a hook name or the path of an [n, d] dataset */
    const char *target;  /* another one, of as many rows: those a transcoder reconstructs; NULL: none */
    uint64_t seed;       /* of the order; the split does not depend on it, so that runs are judged on the same rows */
    double held_out;     /* share of documents kept for evaluation: whole ones, all windows cut from one text together; of
                            blocks of 256 rows where a file has no documents */
} source_opts;
#define SOURCE_DEFAULTS ((source_opts){.held_out = 0.02})

err_code source_open_hdf5(const ctx *c, const char *path, const source_opts *o, source **out, err *e);

/* Sparse sums of n_features random unit directions, each active with probability p_active and a coefficient uniform in
 * [0.5, 1.5), plus normal noise of this deviation: ground truth for tests of a trainer. */
typedef struct synth_opts {
    int64_t d_in, n_features, n_rows, n_held_out;
    double p_active, noise;
    uint64_t seed;
} synth_opts;
err_code source_open_synthetic(const synth_opts *o, source **out, const float **directions /* [n_features, d_in], borrowed */,
                               err *e);

#endif
