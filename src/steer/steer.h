/* steer.h — the same prompts continued under several interventions, side by side, and what became of them.
 *
 * An arm is one way of intervening; the arm without lists leaves the model alone. Output o (= prompt * n_samples + sample) of
 * every arm draws from random stream first_stream + o, so that arms differ in the intervention only. All arms run in shared batches.
 * Shapes: texts [n_arms, n_prompts, n_samples]. Ownership: results belong to the caller, steer_result_release.
 * Errors: ERR_USAGE (a feature the SAE lacks, a prompt without tokens), ERR_MISMATCH (SAE and model do not belong together),
 * ERR_CANCELLED, ERR_NOMEM.
 */
#ifndef STEER_STEER_H
#define STEER_STEER_H

#include "steer/intervene.h"
#include "steer/judge.h"
#include "text/chat.h"

typedef struct steer_arm {
    const char *name;
    const intervention_list *lists; /* [n_lists] output o uses lists[o % n_lists]; borrowed */
    int n_lists;                    /* 0: left alone */
} steer_arm;

typedef struct steer_opts {
    sample_opts sample;
    int64_t n_tokens, n_samples;
    int64_t first_stream;
    int64_t max_batch;
    const chat *chat;       /* prompts are a user's messages, put into this template; NULL: raw text */
    const word_list *words; /* what counts as mentioning the concept; NULL: nothing does */
    bool perplexity;        /* measure it: costs about as much as generating */
} steer_opts;
#define STEER_DEFAULTS                                                                                                       \
    ((steer_opts){.sample = {.temperature = 0.7, .top_p = 1.0, .repeat_penalty = 1.1},                                       \
                  .n_tokens = 40,                                                                                            \
                  .n_samples = 1,                                                                                            \
                  .max_batch = 64})

typedef struct steer_text {
    char *text; /* without the prompt; valid UTF-8, NUL-terminated */
    size_t len;
    int64_t n_tokens, positions_changed;
    bool mentions;
    double repetition;
    double nll; /* nats of the whole text under the unsteered model; NAN unless measured */
} steer_text;

typedef struct steer_score {
    int64_t n, mentions, n_tokens, positions_changed;
    double repetition; /* mean over texts */
    double perplexity; /* over all tokens; NAN unless measured */
} steer_score;

typedef struct steer_result {
    int n_arms, n_prompts, n_samples;
    steer_text *texts;   /* [n_arms, n_prompts, n_samples] */
    steer_score *scores; /* [n_arms] */
    double seconds;
} steer_result; /* zero-initialise */

/* s may be NULL when only directions are used; its hook is `at`. */
err_code steer_run(const ctx *c, model *m, const sae *s, hook_point at, const steer_arm *arms, int n_arms,
                   const char *const *prompts, int n_prompts, const steer_opts *o, steer_result *out, err *e);
void steer_result_release(steer_result *r);

static inline const steer_text *steer_text_of(const steer_result *r, int arm, int prompt, int sample) {
    return &r->texts[((int64_t)arm * r->n_prompts + prompt) * r->n_samples + sample];
}

/* Where the SAE sits in this model; ERR_MISMATCH when it was made for another one, hook or width. */
err_code steer_hook_point(model *m, const sae *s, hook_point *at, err *e);

/* Beginnings that lead nowhere in particular, none of them used by `find`: strengths are chosen on the first half and
 * reported on the second. */
enum { STEER_PROMPTS = 32 };
extern const char *const steer_prompts[STEER_PROMPTS];

#endif
