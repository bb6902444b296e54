/* live.h — a model reading a corpus as a source of rows: training without an activation file.
 *
 * Rows are those that a capture of the same corpus would write as float32: the positions skip_first and later of every document. The
 * same texts are held out. Documents are the blocks of shuffle.h: an epoch is another order of all documents, whose rows go
 * through a pool of pool_rows, and the model is run again in every epoch unless one pool holds all of them.
 * A trainer resumes exactly: the pool that a position falls into is made again from its documents, which takes a pool's forward
 * passes and nothing from the disk. A document that lies across two pools is run for both.
 * Rows longer than max_norm (store.h), here STORE_LONG times the median of rows sampled over the corpus, cannot be left out
 * without running the model first: each gives its place to the row before it, so about 1 row in 10,000 comes twice.
 * A small pool shuffles less: SmolLM2-135M layer 16, 59,888 rows read twice, width 2048, k 32: FVU 0.3030 with all rows in the
 * pool, 0.3046 with half of them, 0.3064 with a quarter (681 rows held out).
 * Memory: the pool, and a pass of batch_tokens. The model and the corpus are borrowed until source_close.
 * Errors: those of the model and of source.h.
 */
#ifndef ACTIVATIONS_LIVE_H
#define ACTIVATIONS_LIVE_H

#include "activations/source.h"
#include "activations/tokens.h"
#include "model/model.h"

typedef struct live_opts {
    hook_point hook;
    const hook_point *target; /* another one, whose rows a transcoder reconstructs; NULL: none */
    int64_t context;          /* the corpus was cut to this, for the autoencoder to say */
    int64_t skip_first;
    int64_t batch_tokens; /* tokens in one forward pass */
    int64_t pool_rows;
    uint64_t seed;   /* of the order */
    double held_out; /* share of texts */
} live_opts;
#define LIVE_DEFAULTS ((live_opts){.skip_first = 1, .batch_tokens = 4096, .pool_rows = 1 << 17, .held_out = 0.02})

/* ERR_USAGE: also when the pool is larger than the memory that is free. */
err_code source_open_live(const ctx *c, model *m, const token_corpus *k, const live_opts *o, source **out, err *e);

#endif
