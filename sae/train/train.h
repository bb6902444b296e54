/* train.h — rows from a source -> an autoencoder in a folder that sae_load and SAELens open.
 *
 * Rows are centred and scaled (normal.h: geometric median and median length of the first rows, b_dec begins there); both are
 * folded back on save. Loss: FVU of the batch, sum ||x - x_hat||^2 / sum ||x - mean||^2, plus the variant's own terms
 * (variants/training.h) and AuxK (Gao et al. 2024, A.2). Adam; where the paper holds decoder rows at length 1, with the
 * gradient's part along them removed.
 *
 *   OUT/cfg.json, OUT/sae_weights.safetensors   the result: there once training is complete, as sae.h describes it
 *   OUT/train.json                              every option and constant, and once complete the result
 *   OUT/metrics.csv                             step,rows,fvu,l0,dead,lr,fallback,rows_per_second: a line each log_every rows, held-out rows
 *   OUT/metrics.png                             its curves, where curves.h drew them
 *   OUT/checkpoint/                             state to go on from; removed once training is complete
 *
 * Exact: the same source, options and machine level give the same weights on any number of threads, however often the run
 * was killed and called again. A call continues from OUT's checkpoint when OUT belongs to the same run, and returns what
 * train.json says when that run is complete already. ERR_MISMATCH names the first option in which OUT differs.
 * Memory: parameters, two Adam moments, two batches of rows, and scratch that does not grow with batch x width.
 * A refused run leaves nothing behind.
 * Errors: ERR_FAILED (another process is training in the folder), ERR_MISMATCH, ERR_USAGE (options out of range, fewer rows than a batch), ERR_UNSUPPORTED (unknown variant), ERR_FORMAT (rows that are not finite; a damaged checkpoint), ERR_NOSPACE, ERR_IO, ERR_NOMEM;
 * ERR_CANCELLED after a checkpoint was written, with a sentence on how to go on.
 */
#ifndef SAE_TRAIN_TRAIN_H
#define SAE_TRAIN_TRAIN_H

#include "activations/source.h"
#include "sae/encode.h"

typedef struct train_opts {
    const char *variant;  /* a row of variants/training.h; an option it does not have is ERR_USAGE */
    int64_t width;        /* latents */
    int64_t k;            /* latents of a row; 0: 32 */
    double l0;            /* latents of a row, on average, that the penalty's weight is moved to; batchtopk: the same as k.
                                 0: as sparsity says, or 32 without one */
    double sparsity;      /* weight of the penalty on latents that fire, fixed; 0: by l0 */
    double bandwidth;     /* jumprelu: of the step function's estimator; 0: BANDWIDTH */
    int n_prefixes;       /* matryoshka; 0: a sixteenth, eighth, quarter, half and all of the width */
    int64_t prefixes[16]; /* ascending, the last one the width */
    int64_t rows;         /* to train on, rounded up to whole batches; more than the source has: several epochs */
    int64_t batch;        /* rows in a step */
    uint64_t seed;        /* of the initial parameters; the order of rows is the source's */
    double lr;            /* at its highest; 0: the rule of schedule.h */
    int64_t warmup;       /* steps over which lr rises from 0; -1: the rule of schedule.h */
    double decay;         /* share of the steps, at the end, over which lr falls to 0 */
    double auxk;          /* coefficient of AuxK; 0: none; -1: 1/32 where the variant has it */
    int64_t k_aux;        /* dead latents it may use in a row; 0: half the columns */
    int64_t dead_rows;    /* a latent that did not fire in this many rows is dead; 0: the rule of dead.h */
    int64_t log_every;    /* rows between two lines of metrics; 0: so that there are at most fifty */
    int64_t checkpoint_every; /* rows between two checkpoints; 0: about every two minutes */
    preselect preselect;      /* how the largest scores are looked for; changes no result */
    const char *out;          /* folder */
    const char *metrics;      /* path of metrics.csv; NULL: in the folder */
    const char *command;      /* provenance, may be NULL */
} train_opts;
#define TRAIN_DEFAULTS                                                                                                       \
    ((train_opts){.variant = "topk", .width = 4608, .rows = 3000000, .batch = 4096, .warmup = -1, .decay = 0.2, .auxk = -1})

typedef struct train_result {
    int64_t rows;           /* trained on in all */
    int64_t resumed_from;   /* rows that were done before this call; 0 when it began anew */
    double rows_per_second; /* of this call's steps; of the last call that made steps when the run was complete already */
    double fvu, l0;         /* on the held-out rows */
    double dead;            /* share of latents that did not fire in the last dead_rows training rows, 0 .. 1 */
} train_result;

/* Reports progress as stage "train" in rows, with "fvu 0.251 l0 32.0 dead 1.2%" as the note. */
err_code train_run(const ctx *c, source *rows, const train_opts *o, train_result *out, err *e);

/* Several autoencoders, each in a folder of its own, from one reading of the rows: what a folder holds is to the byte what train_run
 * writes for its options, rates and dates apart. Batch, rows and log_every must be the same (ERR_USAGE); checkpoint_every is the first
 * one's. All keep their state at the same steps; folders that are complete already are left alone. Memory: that of all runs, of
 * which only what a batch is read into is shared. ERR_NOMEM before anything begins when it is more than is free. */
err_code train_runs(const ctx *c, source *rows, const train_opts *o, int n, train_result *out /* [n] */, err *e);

#endif
