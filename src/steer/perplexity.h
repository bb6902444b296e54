/* perplexity.h — how likely a model finds a text, token by token, with or without hooks in it.
 *
 *   logprobs[i] = log p(ids[i + 1] | the tokens before it in its window), nats
 *
 * The text is cut into windows of `context` tokens that overlap by one: the last token of a window is the first of the next,
 * so that every token but the text's first is predicted exactly once, each from at most context - 1 tokens.
 * Hook rows' seq counts windows within a batch. Results do not depend on the thread count.
 * Errors: what the model and the hooks fail with, ERR_CANCELLED, ERR_NOMEM.
 */
#ifndef STEER_PERPLEXITY_H
#define STEER_PERPLEXITY_H

#include "model/model.h"

typedef struct perplexity_opts {
    int64_t context; /* tokens in a window, at least 2 */
    const model_hook *hooks;
    int n_hooks;
    const char *stage; /* progress is reported under this name; NULL: not at all */
} perplexity_opts;

int64_t perplexity_windows(int64_t n, int64_t context); /* how many there are */

err_code perplexity_run(const ctx *c, model *m, const uint32_t *ids /* [n] */, int64_t n, const perplexity_opts *o,
                        double *logprobs /* [n - 1] */, err *e);

#endif
