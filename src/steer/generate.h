/* generate.h — text from a model: batched sequences, KV cache, seeded sampling, hooks.
 *
 * Sampling order: repetition penalty (Keskar et al. 2019, over prompt and output), temperature, top-k, top-p, min-p, then one
 * draw from stream (seed, RNG_SAMPLING, stream index). temperature 0 takes the most likely token. A sequence's text depends
 * on its prompt, options and stream index, not on the rest of the batch (beyond float32 rounding).
 */
#ifndef STEER_GENERATE_H
#define STEER_GENERATE_H

#include "model/model.h"

typedef struct sample_opts {
    double temperature, top_p, min_p, repeat_penalty;
    int64_t top_k; /* 0: all */
    uint64_t seed;
} sample_opts;
#define SAMPLE_DEFAULTS ((sample_opts){.temperature = 0.7, .top_p = 1.0, .repeat_penalty = 1.0})

/* One draw. recent: the ids a repetition penalty applies to. logits is changed. */
uint32_t sample_token(float *logits, int64_t n_vocab, const sample_opts *o, const uint32_t *recent, size_t n_recent,
                      double uniform /* [0, 1) */, float *scratch /* [2 * n_vocab] */);

typedef struct generate_opts {
    sample_opts sample;
    int64_t n_tokens;    /* longest output */
    bool ignore_eos;     /* go on behind end-of-text */
    int64_t max_batch;   /* sequences run together */
    const model_hook *hooks;
    int n_hooks;         /* hook rows' seq is the prompt's index in the call */
    /* called as each sequence ends, may be NULL */
    void (*done)(void *user, int64_t index);
    void *user;
} generate_opts;
#define GENERATE_DEFAULTS ((generate_opts){.sample = SAMPLE_DEFAULTS, .n_tokens = 64, .max_batch = 64})

typedef struct generate_seq {
    token_ids prompt;      /* in */
    uint64_t stream_index; /* in: which random stream */
    token_ids output;      /* out: without the prompt, without end-of-text */
    bool ended;            /* out: the model wrote end-of-text */
} generate_seq;

err_code generate_run(const ctx *c, model *m, generate_seq *seqs, int64_t n, const generate_opts *o, err *e);

#endif
