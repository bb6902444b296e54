/* capture.h — corpus through a model into activations.h5. Resumable: a second call continues with the missing chunks. */
#ifndef ACTIVATIONS_CAPTURE_H
#define ACTIVATIONS_CAPTURE_H

#include "activations/store.h"
#include "model/model.h"

typedef struct capture_opts {
    const hook_point *hooks;
    int n_hooks;
    int64_t skip_first;   /* leave out this many positions at the head of every document (attention sink); 0 keeps all rows */
    int64_t batch_tokens; /* tokens in one forward pass */
    store_dtype dtype;
    const char *command;  /* provenance, may be NULL */
} capture_opts;
#define CAPTURE_DEFAULTS ((capture_opts){.skip_first = 1, .batch_tokens = 4096, .dtype = STORE_F16})

typedef struct capture_result {
    int64_t tokens, rows;        /* in the file */
    int64_t tokens_run;          /* by this call: fewer when it continued */
    double seconds;              /* of forward passes and writing */
} capture_result;

err_code capture_run(const ctx *c, model *m, const token_corpus *k, const char *out_path, const capture_opts *o,
                     capture_result *result, err *e);

#endif
