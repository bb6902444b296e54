#include "steer/perplexity.h"

#include "core/mem.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH_TOKENS = 4096 };

/* Whole windows that are run together. */
typedef struct window_batch {
    uint32_t *tokens; /* [room] */
    int32_t *seq, *pos;
    float *hidden; /* [room, d_model] */
    int64_t n, room, n_windows;
} window_batch;

int64_t perplexity_windows(int64_t n, int64_t context) { return n < 2 ? 0 : (n - 2) / (context - 1) + 1; }

static err_code batch_new(window_batch *b, int64_t room, int64_t d_model, err *e) {
    err_code rc;
    b->room = room;
    TRY(mem_new(&b->tokens, (size_t)room, sizeof *b->tokens, "a batch", e));
    TRY(mem_new(&b->seq, (size_t)room, sizeof *b->seq, "a batch", e));
    TRY(mem_new(&b->pos, (size_t)room, sizeof *b->pos, "a batch", e));
    TRY(mem_new(&b->hidden, (size_t)room, (size_t)d_model * sizeof *b->hidden, "a batch", e));
done:
    return rc;
}

static void batch_release(window_batch *b) {
    free(b->tokens);
    free(b->seq);
    free(b->pos);
    free(b->hidden);
}

static void add_window(window_batch *b, const uint32_t *ids, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        b->tokens[b->n] = ids[i];
        b->seq[b->n] = (int32_t)b->n_windows;
        b->pos[b->n++] = (int32_t)i;
    }
    b->n_windows++;
}

/* A window's last row predicts nothing: it goes, and so does the window's first token as a target. */
static int64_t drop_last_rows(window_batch *b, int64_t d) {
    int64_t kept = 0;
    for (int64_t t = 0; t + 1 < b->n; t++) {
        if (b->seq[t + 1] != b->seq[t]) continue;
        memmove(b->hidden + kept * d, b->hidden + t * d, (size_t)d * sizeof *b->hidden);
        b->tokens[kept++] = b->tokens[t + 1];
    }
    return kept;
}

static err_code run_batch(const ctx *c, model *m, window_batch *b, const perplexity_opts *o, double *logprobs, err *e) {
    model_batch batch = {b->n, b->tokens, b->seq, b->pos};
    err_code rc;
    TRY(model_forward(c, m, &batch, NULL, o->hooks, o->n_hooks, b->hidden, e));
    int64_t n = drop_last_rows(b, model_config_of(m)->d_model);
    TRY(model_logprobs(c, m, b->hidden, b->tokens, n, logprobs, e));
    b->n = b->n_windows = 0;
done:
    return rc;
}

static void report(const ctx *c, const perplexity_opts *o, int64_t done, int64_t total) {
    if (o->stage) ctx_report(c, &(progress){.stage = o->stage, .unit = "tokens", .done = done, .total = total});
}

err_code perplexity_run(const ctx *c, model *m, const uint32_t *ids, int64_t n, const perplexity_opts *o, double *logprobs,
                        err *e) {
    assert(o->context >= 2);
    window_batch b = {0};
    err_code rc = ERR_OK;
    if (n < 2) return rc;
    int64_t longest = o->context < n ? o->context : n, done = 0; /* predicted */
    TRY(batch_new(&b, longest > BATCH_TOKENS ? longest : BATCH_TOKENS, model_config_of(m)->d_model, e));
    for (int64_t first = 0; first + 1 < n; first += o->context - 1) {
        int64_t len = n - first < o->context ? n - first : o->context;
        add_window(&b, ids + first, len);
        if (first + len < n && b.n + longest <= b.room) continue;
        TRY(ctx_check_cancel(c, e));
        report(c, o, done, n - 1);
        TRY(run_batch(c, m, &b, o, logprobs + done, e));
        done = first + len - 1;
    }
    report(c, o, done, n - 1);
done:
    batch_release(&b);
    return rc;
}
