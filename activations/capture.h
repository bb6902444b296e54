/* capture.h — corpus through a model into activations.h5. Resumable: a second call continues with the missing chunks.
 *
 * Whole documents go through the model in batches; the pass stops after the last hook. Rows are the positions skip_first and
 * later of every document, in the order of the corpus; what makes a chunk complete is written at once (store.h).
 * A hook asked for as float16 becomes bfloat16, with a note, when its first chunk holds numbers beyond half of what float16
 * reaches, or a later one beyond all of it; then its earlier chunks are made again.
 * Where the model is not MODEL_F32, the file says so, and how far from float32 the first batch of documents was (deviation.h).
 * Errors: those of the model and of store.h; ERR_CANCELLED leaves a file that continues.
 */
#ifndef ACTIVATIONS_CAPTURE_H
#define ACTIVATIONS_CAPTURE_H

#include "activations/store.h"
#include "model/model.h"

typedef struct capture_opts {
    const hook_point *hooks; /* in the order of the forward pass, each once */
    int n_hooks;
    int64_t skip_first;   /* leave out this many positions at the head of every document (attention sink); 0 keeps all rows */
    int64_t batch_tokens; /* tokens in one forward pass */
    int64_t context;      /* the corpus was cut to this, for the file to say; 0: its longest document */
    store_dtype dtype;
    const char *command; /* provenance, may be NULL */
} capture_opts;
#define CAPTURE_DEFAULTS ((capture_opts){.skip_first = 1, .batch_tokens = 4096, .dtype = STORE_F16})

typedef struct capture_result {
    int64_t tokens, rows;   /* in the file */
    int64_t tokens_run;     /* by this call: fewer when it continued */
    double seconds;         /* of forward passes and writing */
    double writing_seconds; /* of them */
} capture_result;

err_code capture_run(const ctx *c, model *m, const token_corpus *k, const char *out_path, const capture_opts *o,
                     capture_result *result, err *e);

#endif
