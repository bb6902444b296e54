#include "steer/judge.h"

#include "core/mem.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* ---- words ---- */

enum {
    FIRST_WITHOUT_SPACES = 0x2E80, /* CJK radicals and everything behind them */
    NO_CHARACTER = 0xFFFD
};

/* Text as code points, a byte that is no UTF-8 as one of its own. chars, and offsets unless NULL, have room for n. */
static int64_t decode(const char *text, size_t n, int32_t *chars, size_t *offsets) {
    int64_t k = 0;
    for (size_t at = 0; at < n;) {
        if (offsets) offsets[k] = at;
        utf8proc_ssize_t used = utf8proc_iterate((const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)(n - at), &chars[k]);
        if (used <= 0) {
            chars[k] = NO_CHARACTER;
            used = 1;
        }
        at += (size_t)used;
        k++;
    }
    return k;
}

static bool is_of_word(int32_t ch) {
    utf8proc_category_t k = utf8proc_category(ch);
    return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_ME) || k == UTF8PROC_CATEGORY_ND;
}

static err_code add_word(word_list *l, size_t *cap, const char *text, size_t n, err *e) {
    judge_word w = {0};
    while (n && text[0] == ' ') text++, n--;
    while (n && text[n - 1] == ' ') n--;
    if (!n) return ERR_OK;
    err_code rc = mem_grow(&l->items, cap, (size_t)l->n + 1, sizeof *l->items, "words", e);
    if (!rc) rc = mem_new(&w.chars, n, sizeof *w.chars, "words", e);
    if (!rc && !(w.text = strndup(text, n))) rc = err_nomem(e, "words", n);
    if (rc) {
        free(w.chars);
        return rc;
    }
    w.n = decode(text, n, w.chars, NULL);
    for (int64_t i = 0; i < w.n; i++) w.name |= utf8proc_tolower(w.chars[i]) != w.chars[i];
    w.anywhere = w.chars[0] >= FIRST_WITHOUT_SPACES;
    l->items[l->n++] = w;
    return ERR_OK;
}

err_code word_list_parse(const char *spec, word_list *out, err *e) {
    size_t cap = (size_t)out->n;
    int before = out->n;
    err_code rc = ERR_OK;
    for (const char *p = spec; !rc && *p;) {
        size_t n = strcspn(p, "|,");
        rc = add_word(out, &cap, p, n, e);
        p += n + (p[n] != '\0');
    }
    if (!rc && out->n == before) rc = err_set(e, ERR_USAGE, "no word in '%s', expected some like China|Chinese|poet", spec);
    return rc;
}

void word_list_release(word_list *l) {
    for (int i = 0; i < l->n; i++) {
        free(l->items[i].text);
        free(l->items[i].chars);
    }
    free(l->items);
    *l = (word_list){0};
}

static bool stands_at(const judge_word *w, const int32_t *text, int64_t n, int64_t at) {
    if (at + w->n > n) return false;
    if (!w->anywhere && at > 0 && is_of_word(text[at - 1])) return false;
    if (!w->anywhere && w->name && at + w->n < n && is_of_word(text[at + w->n])) return false;
    for (int64_t i = 0; i < w->n; i++)
        if (w->chars[i] != (w->name ? text[at + i] : utf8proc_tolower(text[at + i]))) return false;
    return true;
}

err_code judge_find_words(const word_list *l, const char *text, size_t n, size_t **places, int64_t *n_places, err *e) {
    int32_t *chars = NULL;
    *places = NULL;
    *n_places = 0;
    err_code rc;
    TRY(mem_new(&chars, n, sizeof *chars, "a text", e));
    TRY(mem_new(places, n, sizeof **places, "a text", e));
    int64_t n_chars = decode(text, n, chars, *places);
    for (int64_t at = 0; at < n_chars; at++) {
        bool found = false;
        for (int i = 0; i < l->n && !found; i++) found = stands_at(&l->items[i], chars, n_chars, at);
        if (found) (*places)[(*n_places)++] = (*places)[at]; /* never ahead of the offsets still to be read */
    }
done:
    free(chars);
    return rc;
}

err_code judge_mentions(const word_list *l, const char *text, size_t n, bool *mentioned, err *e) {
    size_t *places;
    int64_t n_places;
    err_code rc = judge_find_words(l, text, n, &places, &n_places, e);
    *mentioned = n_places > 0;
    free(places);
    return rc;
}

/* ---- repetition ---- */

typedef struct trigram {
    uint32_t ids[3];
} trigram;

static int by_ids(const void *a, const void *b) {
    const trigram *x = a, *y = b;
    for (int i = 0; i < 3; i++)
        if (x->ids[i] != y->ids[i]) return x->ids[i] < y->ids[i] ? -1 : 1;
    return 0;
}

err_code judge_repetition(const uint32_t *ids, size_t n, double *share, err *e) {
    trigram *all = NULL;
    *share = 0;
    if (n < 3) return ERR_OK;
    size_t n_all = n - 2, distinct = 1;
    err_code rc = mem_new(&all, n_all, sizeof *all, "3-grams", e);
    if (rc) return rc;
    for (size_t i = 0; i < n_all; i++) memcpy(all[i].ids, ids + i, sizeof all[i].ids);
    qsort(all, n_all, sizeof *all, by_ids);
    for (size_t i = 1; i < n_all; i++) distinct += by_ids(&all[i], &all[i - 1]) != 0;
    *share = 1 - (double)distinct / (double)n_all;
    free(all);
    return ERR_OK;
}

/* ---- likelihood ---- */

enum { BATCH_TOKENS = 2048 };

/* One batch of whole texts and, of its rows, those behind which an output token comes. */
typedef struct text_batch {
    uint32_t *tokens, *targets;
    int32_t *seq, *pos;
    int64_t *asked;       /* [n_asked] rows, in the order of targets */
    int64_t *asked_start; /* [n_seqs + 1] */
    int64_t n_tokens, n_asked, n_seqs;
    int32_t n_present; /* of n_seqs, those that have something to ask */
    float *hidden;
    double *logp;
    size_t cap_tokens, cap_targets, cap_seq, cap_pos, cap_asked, cap_start, cap_hidden, cap_logp;
} text_batch;

static void text_batch_release(text_batch *b) {
    free(b->tokens);
    free(b->targets);
    free(b->seq);
    free(b->pos);
    free(b->asked);
    free(b->asked_start);
    free(b->hidden);
    free(b->logp);
}

static void add_token(text_batch *b, uint32_t id, int64_t pos) {
    b->tokens[b->n_tokens] = id;
    b->seq[b->n_tokens] = b->n_present;
    b->pos[b->n_tokens++] = (int32_t)pos;
}

/* The prompt and all of the output but its last token, behind which nothing is asked. */
static err_code add_text(text_batch *b, const generate_seq *s, err *e) {
    size_t n = (size_t)b->n_tokens + s->prompt.len + s->output.len, n_asked = (size_t)b->n_asked + s->output.len;
    err_code rc;
    TRY(mem_grow(&b->tokens, &b->cap_tokens, n, sizeof *b->tokens, "texts", e));
    TRY(mem_grow(&b->seq, &b->cap_seq, n, sizeof *b->seq, "texts", e));
    TRY(mem_grow(&b->pos, &b->cap_pos, n, sizeof *b->pos, "texts", e));
    TRY(mem_grow(&b->asked, &b->cap_asked, n_asked, sizeof *b->asked, "texts", e));
    TRY(mem_grow(&b->targets, &b->cap_targets, n_asked, sizeof *b->targets, "texts", e));
    TRY(mem_grow(&b->asked_start, &b->cap_start, (size_t)b->n_seqs + 2, sizeof *b->asked_start, "texts", e));
    b->asked_start[b->n_seqs] = b->n_asked;
    if (s->output.len && s->prompt.len) {
        int64_t pos = 0;
        for (size_t i = 0; i < s->prompt.len; i++) add_token(b, s->prompt.ids[i], pos++);
        for (size_t i = 0; i < s->output.len; i++) {
            b->asked[b->n_asked] = b->n_tokens - 1;
            b->targets[b->n_asked++] = s->output.ids[i];
            if (i + 1 < s->output.len) add_token(b, s->output.ids[i], pos++);
        }
        b->n_present++;
    }
    b->asked_start[++b->n_seqs] = b->n_asked;
done:
    return rc;
}

static err_code run_texts(const ctx *c, model *m, text_batch *b, double *nll /* [n_seqs] */, err *e) {
    int64_t d = model_config_of(m)->d_model;
    model_batch batch = {b->n_tokens, b->tokens, b->seq, b->pos};
    err_code rc = ERR_OK;
    if (b->n_asked) {
        TRY(mem_grow(&b->hidden, &b->cap_hidden, (size_t)(b->n_tokens * d), sizeof *b->hidden, "texts", e));
        TRY(mem_grow(&b->logp, &b->cap_logp, (size_t)b->n_asked, sizeof *b->logp, "texts", e));
        TRY(model_forward(c, m, &batch, NULL, NULL, 0, b->hidden, e));
        for (int64_t i = 0; i < b->n_asked; i++) /* ascending, and asked[i] >= i: nothing is overwritten before it moved */
            memmove(b->hidden + i * d, b->hidden + b->asked[i] * d, (size_t)d * sizeof *b->hidden);
        TRY(model_logprobs(c, m, b->hidden, b->targets, b->n_asked, b->logp, e));
    }
    for (int64_t s = 0; s < b->n_seqs; s++) {
        nll[s] = 0;
        for (int64_t i = b->asked_start[s]; i < b->asked_start[s + 1]; i++) nll[s] -= b->logp[i];
    }
done:
    b->n_tokens = b->n_asked = b->n_seqs = b->n_present = 0;
    return rc;
}

err_code judge_nll(const ctx *c, model *m, const generate_seq *seqs, int64_t n, double *nll, err *e) {
    text_batch b = {0};
    err_code rc = ERR_OK;
    for (int64_t i = 0, first = 0; i < n; i++) {
        TRY(add_text(&b, &seqs[i], e));
        if (i + 1 < n && b.n_tokens < BATCH_TOKENS) continue;
        TRY(ctx_check_cancel(c, e));
        TRY(run_texts(c, m, &b, nll + first, e));
        first = i + 1;
        ctx_report(c, &(progress){.stage = "perplexity", .unit = "texts", .done = first, .total = n});
    }
done:
    text_batch_release(&b);
    return rc;
}
