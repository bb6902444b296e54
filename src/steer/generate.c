/* generate.c — sequences sit in slots that share a batch and a cache. A step is one forward pass over what each slot has not
 * read yet (a new prompt, or the token drawn last), then one draw for every slot that has read all. */
#include "steer/generate.h"

#include "core/mem.h"
#include "core/rng.h"

#include <assert.h>
#include <inttypes.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    STEP_TOKENS = 4096, /* in one forward pass: enough that unpacking the weights costs little beside using them */
    LOGIT_ROWS = 64     /* logits held at once */
};
static const size_t CACHE_BYTES_MAX = (size_t)2 << 30;

typedef struct slot {
    int64_t index;  /* of its sequence in the call; -1: free */
    token_ids text; /* prompt and output */
    int64_t n_read; /* tokens of text that the model has seen */
    int64_t row;    /* of this step's batch, behind which a token is drawn; -1: none */
    rng stream;
} slot;

/* A caller's hook, and whose rows the slots hold. */
typedef struct hook_wrap {
    const model_hook *inner;
    const slot *slots;
    int32_t *seq; /* [step_tokens] scratch */
} hook_wrap;

typedef struct generator {
    const ctx *c;
    model *m;
    const generate_opts *o;
    generate_seq *seqs;
    int64_t n, n_started, n_ended, n_drawn, n_saved; /* saved: tokens that ended texts did not need */
    int64_t n_ctx, d_model, n_vocab;

    slot *slots;
    int64_t n_slots;
    kvcache *kv;

    int64_t step_tokens; /* room of a batch */
    uint32_t *tokens;
    int32_t *seq, *pos, *hook_seq;
    model_hook *hooks;
    hook_wrap *wraps;

    float *hidden;        /* [step_tokens, d_model] */
    float *logits;        /* [LOGIT_ROWS, n_vocab] */
    int64_t *due;         /* [n_slots] slots that draw in this step */
    int64_t *drawn;       /* [n_slots] what they drew */
    sample_space *spaces; /* [threads] */
} generator;

/* ---- hooks see prompts, not slots ---- */

static err_code call_with_index(void *user, const ctx *c, const hook_rows *rows, err *e) {
    hook_wrap *w = user;
    hook_rows mapped = *rows;
    for (int64_t t = 0; t < rows->n_tokens; t++) w->seq[t] = (int32_t)w->slots[rows->seq[t]].index;
    mapped.seq = w->seq;
    return w->inner->fn(w->inner->user, c, &mapped, e);
}

/* ---- setting up ---- */

static err_code check_prompts(const generator *g, int64_t *longest, err *e) {
    *longest = 0;
    for (int64_t i = 0; i < g->n; i++) {
        int64_t len = (int64_t)g->seqs[i].prompt.len;
        if (!len) return err_set(e, ERR_USAGE, "prompt %" PRId64 " has no tokens, expected at least one to go on from", i);
        if (len >= g->n_ctx)
            return err_set(e, ERR_USAGE,
                           "prompt %" PRId64 " has %" PRId64 " tokens, expected fewer than the model's context of %" PRId64,
                           i, len, g->n_ctx);
        if (len > *longest) *longest = len;
    }
    return ERR_OK;
}

/* Positions a text can reach: the last token drawn is never read. */
static int64_t most_positions(const generator *g, int64_t longest) {
    int64_t room = g->n_ctx - longest;
    return longest + (g->o->n_tokens < room ? g->o->n_tokens : room);
}

static int64_t count_slots(const generator *g, int64_t n_positions) {
    const model_config *cfg = model_config_of(g->m);
    size_t bytes;
    int64_t n = g->o->max_batch < g->n ? g->o->max_batch : g->n, fit = 1;
    if (mem_mul((size_t)(2 * cfg->n_layers * cfg->n_kv_heads * cfg->d_head) * sizeof(float), (size_t)n_positions, &bytes) &&
        bytes)
        fit = (int64_t)(CACHE_BYTES_MAX / bytes);
    return n < fit ? n : fit > 1 ? fit : 1;
}

static err_code wrap_hooks(generator *g, err *e) {
    err_code rc;
    size_t n = (size_t)g->o->n_hooks;
    TRY(mem_new(&g->hooks, n, sizeof *g->hooks, "hooks", e));
    TRY(mem_new(&g->wraps, n, sizeof *g->wraps, "hooks", e));
    for (size_t h = 0; h < n; h++) {
        g->wraps[h] = (hook_wrap){&g->o->hooks[h], g->slots, g->hook_seq};
        g->hooks[h] = (model_hook){g->o->hooks[h].at, call_with_index, &g->wraps[h]};
    }
done:
    return rc;
}

static err_code new_spaces(generator *g, err *e) {
    err_code rc;
    TRY(mem_new0(&g->spaces, (size_t)g->c->threads, sizeof *g->spaces, "samplers", e));
    for (int t = 0; t < g->c->threads; t++) {
        TRY(mem_new(&g->spaces[t].weights, (size_t)g->n_vocab, sizeof *g->spaces[t].weights, "samplers", e));
        TRY(mem_new0(&g->spaces[t].ids, (size_t)g->n_vocab, sizeof *g->spaces[t].ids, "samplers", e));
    }
done:
    return rc;
}

static err_code set_up(generator *g, err *e) {
    int64_t longest, n_positions;
    err_code rc;
    TRY(check_prompts(g, &longest, e));
    n_positions = most_positions(g, longest);
    g->n_slots = count_slots(g, n_positions);
    g->step_tokens = STEP_TOKENS;
    if (g->n_slots * n_positions < g->step_tokens) g->step_tokens = g->n_slots * n_positions;
    if (g->n_slots > g->step_tokens) g->step_tokens = g->n_slots;
    size_t room = (size_t)g->step_tokens, rows = (size_t)(g->n_slots < LOGIT_ROWS ? g->n_slots : LOGIT_ROWS);

    TRY(mem_new0(&g->slots, (size_t)g->n_slots, sizeof *g->slots, "sequences", e));
    for (int64_t s = 0; s < g->n_slots; s++) g->slots[s].index = -1;
    TRY(mem_new(&g->due, (size_t)g->n_slots, sizeof *g->due, "sequences", e));
    TRY(mem_new(&g->drawn, (size_t)g->n_slots, sizeof *g->drawn, "sequences", e));
    TRY(mem_new(&g->tokens, room, sizeof *g->tokens, "a batch", e));
    TRY(mem_new(&g->seq, room, sizeof *g->seq, "a batch", e));
    TRY(mem_new(&g->pos, room, sizeof *g->pos, "a batch", e));
    TRY(mem_new(&g->hook_seq, room, sizeof *g->hook_seq, "a batch", e));
    TRY(mem_new(&g->hidden, room, (size_t)g->d_model * sizeof *g->hidden, "a batch", e));
    TRY(mem_new(&g->logits, rows, (size_t)g->n_vocab * sizeof *g->logits, "logits", e));
    TRY(new_spaces(g, e));
    TRY(wrap_hooks(g, e));
    TRY(kvcache_new(g->m, g->n_slots, n_positions, &g->kv, e));
done:
    return rc;
}

static void release(generator *g) {
    for (int64_t s = 0; g->slots && s < g->n_slots; s++) free(g->slots[s].text.ids);
    for (int t = 0; g->spaces && t < g->c->threads; t++) {
        free(g->spaces[t].weights);
        free(g->spaces[t].ids);
    }
    kvcache_free(g->kv);
    free(g->slots);
    free(g->due);
    free(g->drawn);
    free(g->tokens);
    free(g->seq);
    free(g->pos);
    free(g->hook_seq);
    free(g->hidden);
    free(g->logits);
    free(g->spaces);
    free(g->wraps);
    free(g->hooks);
}

/* ---- slots ---- */

static err_code append(token_ids *to, const uint32_t *ids, size_t n, err *e) {
    err_code rc = mem_grow(&to->ids, &to->cap, to->len + n, sizeof *to->ids, "a text", e);
    if (rc || !n) return rc;
    memcpy(to->ids + to->len, ids, n * sizeof *ids);
    to->len += n;
    return ERR_OK;
}

static err_code start(generator *g, int64_t s, err *e) {
    slot *to = &g->slots[s];
    const generate_seq *q = &g->seqs[g->n_started];
    to->text.len = 0;
    err_code rc = append(&to->text, q->prompt.ids, q->prompt.len, e);
    if (rc) return rc;
    to->index = g->n_started++;
    to->n_read = 0;
    to->stream = rng_stream(g->o->sample.seed, RNG_SAMPLING, q->stream_index);
    kvcache_truncate(g->kv, (int32_t)s, 0);
    return ERR_OK;
}

static err_code end(generator *g, slot *s, err *e) {
    int64_t index = s->index;
    s->index = -1;
    g->n_ended++;
    g->n_saved += g->o->n_tokens - (int64_t)g->seqs[index].output.len;
    return g->o->done ? g->o->done(g->o->user, index, e) : ERR_OK;
}

/* ---- a step ---- */

/* What the slots have to read, as far as a batch has room: the rest of a long prompt comes in the next one. */
static model_batch gather(generator *g, int64_t *n_due) {
    int64_t n = 0;
    *n_due = 0;
    for (int64_t s = 0; s < g->n_slots; s++) {
        slot *from = &g->slots[s];
        int64_t len = (int64_t)from->text.len;
        from->row = -1;
        if (from->index < 0) continue;
        for (; n < g->step_tokens && from->n_read < len; n++, from->n_read++) {
            g->tokens[n] = from->text.ids[from->n_read];
            g->seq[n] = (int32_t)s;
            g->pos[n] = (int32_t)from->n_read;
        }
        if (from->n_read < len) continue;
        from->row = n - 1;
        g->due[(*n_due)++] = s;
    }
    return (model_batch){n, g->tokens, g->seq, g->pos};
}

/* Draws behind the rows of due[first .. first+n), whose hidden rows stand together from `hidden` on. */
static err_code draw_rows(generator *g, const float *hidden, int64_t first, int64_t n, err *e) {
    err_code rc = model_logits(g->c, g->m, hidden, n, g->logits, e);
    if (rc) return rc;
#pragma omp parallel num_threads(g->c->threads)
    {
        sample_space *space = &g->spaces[omp_get_thread_num()];
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < n; i++) {
            slot *s = &g->slots[g->due[first + i]];
            g->drawn[first + i] = sample_token(g->c, g->logits + i * g->n_vocab, g->n_vocab, &g->o->sample, s->text.ids,
                                               s->text.len, rng_uniform(&s->stream), space);
        }
    }
    return ERR_OK;
}

static err_code draw(generator *g, int64_t n_due, err *e) {
    err_code rc = ERR_OK;
    for (int64_t i = 0; i < n_due; i++) /* rows ascend and row i is at least i: none is overwritten before it moved */
        memmove(g->hidden + i * g->d_model, g->hidden + g->slots[g->due[i]].row * g->d_model,
                (size_t)g->d_model * sizeof *g->hidden);
    for (int64_t i = 0; i < n_due && !rc; i += LOGIT_ROWS)
        rc = draw_rows(g, g->hidden + i * g->d_model, i, n_due - i < LOGIT_ROWS ? n_due - i : LOGIT_ROWS, e);
    return rc;
}

/* The slot's sequence gains the token, or ends. */
static err_code take(generator *g, slot *s, int64_t drawn, err *e) {
    generate_seq *q = &g->seqs[s->index];
    uint32_t id = (uint32_t)drawn;
    err_code rc;
    if (drawn < 0)
        return err_set(e, ERR_FAILED,
                       "prompt %" PRId64 ": the model's logits behind position %" PRId64 " are no finite numbers", s->index,
                       s->n_read - 1);
    if (!g->o->ignore_eos && tokenizer_ends_text(model_tokenizer(g->m), id)) {
        q->ended = true;
        return end(g, s, e);
    }
    TRY(append(&q->output, &id, 1, e));
    TRY(append(&s->text, &id, 1, e));
    g->n_drawn++;
    if (g->o->token) TRY(g->o->token(g->o->user, s->index, e));
    if ((int64_t)q->output.len == g->o->n_tokens || (int64_t)s->text.len == g->n_ctx) rc = end(g, s, e);
done:
    return rc;
}

static void report(const generator *g) {
    char note[64];
    if (!g->o->stage) return;
    snprintf(note, sizeof note, "%" PRId64 " of %" PRId64 " texts", g->n_ended, g->n);
    ctx_report(g->c, &(progress){.stage = g->o->stage,
                                 .unit = "tokens",
                                 .done = g->n_drawn + g->n_saved,
                                 .total = g->n * g->o->n_tokens,
                                 .note = note});
}

static err_code step(generator *g, err *e) {
    int64_t n_due;
    err_code rc;
    for (int64_t s = 0; s < g->n_slots && g->n_started < g->n; s++)
        if (g->slots[s].index < 0) TRY(start(g, s, e));
    model_batch batch = gather(g, &n_due);
    TRY(model_forward(g->c, g->m, &batch, g->kv, g->hooks, g->o->n_hooks, g->hidden, e));
    TRY(draw(g, n_due, e));
    for (int64_t i = 0; i < n_due; i++) TRY(take(g, &g->slots[g->due[i]], g->drawn[i], e));
    report(g);
done:
    return rc;
}

err_code generate_run(const ctx *c, model *m, generate_seq *seqs, int64_t n, const generate_opts *o, err *e) {
    assert(n < INT32_MAX && o->n_tokens > 0 && o->max_batch > 0);
    const model_config *cfg = model_config_of(m);
    generator g = {
        .c = c, .m = m, .o = o, .seqs = seqs, .n = n, .n_ctx = cfg->n_ctx, .d_model = cfg->d_model, .n_vocab = cfg->n_vocab};
    err_code rc = ERR_OK;
    if (!n) return rc;
    for (int64_t i = 0; i < n; i++) {
        seqs[i].output.len = 0;
        seqs[i].ended = false;
    }
    TRY(set_up(&g, e));
    report(&g);
    while (g.n_ended < n) {
        TRY(ctx_check_cancel(c, e));
        TRY(step(&g, e));
    }
done:
    release(&g);
    return rc;
}
