/* generate.h — text from a model: batched sequences, KV cache, seeded sampling, hooks.
 *
 * Sampling order: repetition penalty (over prompt and output), temperature, top-k, top-p, min-p, then one draw from stream
 * (seed, RNG_SAMPLING, stream index). temperature 0 takes the most likely token. Among equals the lower id comes first.
 * A sequence's text depends on its prompt, options and stream index, not on the rest of the batch (beyond float32 rounding),
 * and never on the thread count.
 * Sources: repetition penalty, Keskar et al. 2019 (CTRL, section 4.1), which divides every logit; here, as in most programs
 * since, negative ones are multiplied, so that a penalty never makes a token more likely. top-p: Holtzman et al. 2020. min-p:
 * Nguyen et al. 2024.
 */
#ifndef STEER_GENERATE_H
#define STEER_GENERATE_H

#include "model/model.h"
#include "text/chat.h"

typedef struct sample_opts {
    double temperature, top_p, min_p, repeat_penalty;
    int64_t top_k; /* 0: all */
    uint64_t seed;
} sample_opts;
#define SAMPLE_DEFAULTS ((sample_opts){.temperature = 0.7, .top_p = 1.0, .repeat_penalty = 1.0})

/* What a draw works in, one per thread; borrowed. */
typedef struct sample_space {
    float *weights; /* [n_vocab] */
    uint32_t *ids;  /* [n_vocab] */
} sample_space;

/* One draw. recent: the ids a repetition penalty applies to, once each however often they stand there. logits is changed.
 * NaN counts as -infinity; -1 when the largest logit is not finite: the model is broken. */
int64_t sample_token(const ctx *c, float *logits /* [n_vocab] */, int64_t n_vocab, const sample_opts *o,
                     const uint32_t *recent, size_t n_recent, double uniform /* [0, 1) */, sample_space *space);

typedef struct generate_opts {
    sample_opts sample;
    int64_t n_tokens;  /* longest output; a text also ends where the model's context does */
    bool ignore_eos;   /* go on behind end-of-text */
    int64_t max_batch; /* sequences run together, fewer when their cache would not fit 2 GB */
    const model_hook *hooks;
    int n_hooks;       /* hook rows' seq is the prompt's index in the call */
    const char *stage; /* progress is reported under this name, in tokens; NULL: not at all */
    /* called as each sequence gains a token, its last element; and as it ends. May be NULL; a failure ends the run */
    err_code (*token)(void *user, int64_t index, err *e);
    err_code (*done)(void *user, int64_t index, err *e);
    void *user;
} generate_opts;
#define GENERATE_DEFAULTS ((generate_opts){.sample = SAMPLE_DEFAULTS, .n_tokens = 64, .max_batch = 64})

typedef struct generate_seq {
    token_ids prompt;      /* in: at least one token */
    uint64_t stream_index; /* in: which random stream */
    token_ids output;      /* out: without the prompt, without end-of-text; the caller's to free, also after a failure */
    bool ended;            /* out: the model wrote end-of-text */
} generate_seq;

/* Appends the ids of a prompt: raw text to continue, or a user's message in a template. ERR_USAGE when it has no tokens, else what
 * chat_render fails with. */
err_code generate_encode_prompt(const model *m, const char *text, const chat *template, token_ids *out, err *e);

/* Runs all n sequences, at most max_batch at a time; when one ends, the next takes its place. After ERR_CANCELLED and other
 * failures, outputs reported through `done` are whole. Errors: ERR_USAGE (a prompt that is empty or as long as the context),
 * ERR_FAILED (logits that are no numbers), what the model and the hooks fail with, ERR_CANCELLED, ERR_NOMEM. */
err_code generate_run(const ctx *c, model *m, generate_seq *seqs, int64_t n, const generate_opts *o, err *e);

#endif
