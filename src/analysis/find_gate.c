/* Does the model know the concept? In corpus documents that mention it, the text up to the first mention's first token is
 * given, and the model must complete the name: for " Li| B|ai" after "... Li", how likely is " B" among all tokens, and so on.
 * Only the first mention of a document counts, for a later one could be copied. Without mentions, the templates serve. */
#include "analysis/find_internal.h"

#include "core/mem.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PROMPTS_MAX = 40,
    CONTEXT_TOKENS = 64, /* of text before the name */
    ENOUGH_CONTEXT = 5,  /* tokens; a document that opens with the name tells nothing */
    SHOWN_TOKENS = 16
};
#define KNOWN_SHARE 0.3 /* of places at which the name's next token must be among the model's first choices ... */
enum { AMONG_WHOLE = 10, AMONG_SINGLE = 100 }; /* ... a name of one token competes with all that could stand there */

/* A prompt and the places where the model must continue the name: the logits at token i are asked for token i + 1. */
typedef struct cloze {
    sequences batch;
    int64_t *asked; /* [n] tokens of the batch whose successor is asked for */
    int64_t n;
    size_t cap;
} cloze;

static err_code add_prompt(cloze *k, const uint32_t *tokens, int64_t n, int64_t first_asked, err *e) {
    err_code rc;
    int64_t base = k->batch.n_tokens;
    TRY(sequences_add(&k->batch, tokens, n, e));
    for (int64_t i = first_asked; i + 1 < n; i++) {
        TRY(mem_grow(&k->asked, &k->cap, (size_t)k->n + 1, sizeof *k->asked, "cloze prompts", e));
        k->asked[k->n++] = base + i;
    }
done:
    return rc;
}

/* A name of several tokens is asked for behind its first one, a name of one token where it stands. */
static int64_t asked_from(mention m) { return m.last > m.first ? m.first : m.first - 1; }

static err_code prompts_from_corpus(const finder *f, cloze *k, err *e) {
    const corpus_index *x = &f->rows.index;
    err_code rc = ERR_OK;
    int32_t last_group = -1;
    for (int64_t i = 0; i < f->mentions.n && k->batch.n < PROMPTS_MAX; i++) {
        mention m = f->mentions.items[i];
        int32_t doc = x->token_doc[m.first];
        int64_t start = (int64_t)x->corpus->doc_offsets[doc];
        if (x->doc_group[doc] == last_group) continue;
        last_group = x->doc_group[doc];
        if (m.first - start < ENOUGH_CONTEXT) continue;
        int64_t from = m.first - start > CONTEXT_TOKENS ? m.first - CONTEXT_TOKENS : start;
        TRY(add_prompt(k, x->corpus->tokens + from, m.last + 1 - from, asked_from(m) - from, e));
    }
done:
    return rc;
}

static err_code prompts_from_templates(const finder *f, cloze *k, err *e) {
    token_ids before = {0}, whole = {0};
    strbuf text = STRBUF_INIT;
    err_code rc = ERR_OK;
    for (int i = 0; i < FIND_TEMPLATES; i++) {
        size_t from, to;
        strbuf_reset(&text);
        find_fill_template(&text, find_templates[i], f->concept, &from, &to);
        TRY(strbuf_check(&text, e));
        text.data[to] = '\0';
        TRY(find_tokenize(f, text.data, true, &whole, e));
        text.data[from ? from - 1 : 0] = '\0'; /* without the space before the name, which is its first token's */
        TRY(find_tokenize(f, text.data, true, &before, e));
        if (whole.len > before.len + 1) TRY(add_prompt(k, whole.ids, (int64_t)whole.len, (int64_t)before.len, e));
    }
done:
    free(before.ids);
    free(whole.ids);
    strbuf_release(&text);
    return rc;
}

static int by_double(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void show_prompt(const finder *f, const cloze *k, int64_t asked, find_gate *out) {
    int64_t start = k->batch.start[k->batch.seq[asked]],
            from = asked + 1 - start > SHOWN_TOKENS ? asked + 1 - SHOWN_TOKENS : start;
    strbuf raw = STRBUF_INIT, text = STRBUF_INIT;
    tokenizer_decode_part(model_tokenizer(f->model), k->batch.tokens + from, (size_t)(asked + 1 - from), false, &raw);
    text_add_printable(&text, raw.data, raw.len);
    size_t n = text.len < sizeof out->best_prompt ? text.len : text_whole_chars(text.data, sizeof out->best_prompt - 1);
    memcpy(out->best_prompt, text.data, n);
    out->best_prompt[n] = '\0';
    strbuf_release(&raw);
    strbuf_release(&text);
}

/* Rank (1 = first choice) and log-probability of a token among all. */
static void judge(const float *logits, int64_t n_vocab, uint32_t token, int64_t *rank, double *logprob) {
    double max = logits[0], sum = 0;
    *rank = 1;
    for (int64_t v = 0; v < n_vocab; v++) {
        if (logits[v] > max) max = logits[v];
        *rank += logits[v] > logits[token];
    }
    for (int64_t v = 0; v < n_vocab; v++) sum += exp(logits[v] - max);
    *logprob = logits[token] - max - log(sum);
}

/* *near: places where the rank is good enough to count as known. */
static err_code ask(const ctx *c, const finder *f, const cloze *k, find_gate *out, int64_t *near, err *e) {
    const model_config *cfg = model_config_of(f->model);
    float *hidden = NULL, *logits = NULL;
    double *ranks = NULL;
    model_batch batch = {k->batch.n_tokens, k->batch.tokens, k->batch.seq, k->batch.pos};
    err_code rc;
    TRY(mem_new(&hidden, (size_t)batch.n_tokens, (size_t)cfg->d_model * sizeof *hidden, "cloze prompts", e));
    TRY(mem_new(&logits, (size_t)cfg->n_vocab, sizeof *logits, "logits", e));
    TRY(mem_new(&ranks, (size_t)k->n, sizeof *ranks, "cloze prompts", e));
    TRY(model_forward(c, f->model, &batch, NULL, NULL, 0, hidden, e));
    for (int64_t i = 0; i < k->n; i++) {
        int64_t rank;
        double logprob;
        TRY(ctx_check_cancel(c, e));
        TRY(model_logits(c, f->model, hidden + k->asked[i] * cfg->d_model, 1, logits, e));
        judge(logits, cfg->n_vocab, batch.tokens[k->asked[i] + 1], &rank, &logprob);
        ranks[i] = (double)rank;
        out->top1 += rank == 1;
        out->top10 += rank <= 10;
        *near += rank <= (k->n > k->batch.n || !f->mentions.n ? AMONG_WHOLE : AMONG_SINGLE);
        out->mean_logprob += logprob / (double)k->n;
        if (i == 0 || rank < out->best_rank) {
            out->best_rank = rank;
            show_prompt(f, k, k->asked[i], out);
        }
    }
    out->prompts = k->n;
    qsort(ranks, (size_t)k->n, sizeof *ranks, by_double);
    out->median_rank = ranks[(k->n - 1) / 2];
done:
    free(hidden);
    free(logits);
    free(ranks);
    return rc;
}

static void conclude(const finder *f, int64_t near, find_gate *g) {
    g->known = (double)near >= KNOWN_SHARE * (double)g->prompts;
    const char *where = f->mentions.n ? "in corpus sentences" : "in templates, for the corpus never mentions it";
    if (!g->prompts)
        snprintf(
            g->sentence, sizeof g->sentence,
            "%.80s is a single token of the model's vocabulary, and the corpus never mentions it: there is nothing to ask.",
            f->concept);
    else
        snprintf(g->sentence, sizeof g->sentence,
                 "The model %s %.80s: %s, the next token of the name is its first choice in %" PRId64 " of %" PRId64
                 " places and among its first ten in %" PRId64 " (median rank %.0f).",
                 g->known ? "knows" : "does not know", f->concept, where, g->top1, g->prompts, g->top10, g->median_rank);
}

err_code find_gate_run(const ctx *c, const finder *f, find_gate *out, err *e) {
    cloze k = {0};
    int64_t near = 0;
    *out = (find_gate){.median_rank = NAN};
    err_code rc;
    TRY(prompts_from_corpus(f, &k, e));
    if (!k.n) TRY(prompts_from_templates(f, &k, e));
    if (k.n) TRY(ask(c, f, &k, out, &near, e));
    conclude(f, near, out);
done:
    sequences_release(&k.batch);
    free(k.asked);
    return rc;
}
