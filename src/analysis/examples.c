#include "analysis/examples.h"

#include "core/mem.h"
#include "math/stats.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    char kind[FEATURE_KIND_MAX];
    double quantile;
} quantiles[] = {{"q95", 0.95}, {"q75", 0.75}, {"q50", 0.5}, {"q25", 0.25}, {"q05", 0.05}};

enum {
    N_QUANTILES = sizeof quantiles / sizeof *quantiles,
    EXAMPLES_MAX = EXAMPLES_TOP + N_QUANTILES * EXAMPLES_PER_QUANTILE,
    LOOKED_AT = 1024, /* strongest positions searched for different documents: text that repeats itself has an end */
    SAME_BEFORE = 8,  /* windows are nearly the same when of these tokens before ... */
    SAME_AFTER = 3,   /* ... and after ... */
    SAME_TOKENS = 9,  /* ... and the token itself so many agree ... */
    SAME_SHIFT = 2    /* ... when laid over each other, or so far apart */
};

static int by_value(const void *a, const void *b) {
    const ranked_row *x = a, *y = b;
    if (x->value != y->value) return x->value < y->value ? -1 : 1;
    return (x->row < y->row) - (x->row > y->row); /* read from the strong end, equal values come in row order */
}

static err_code rank_firings(const postings *p, int64_t feature, example_scratch *s, err *e) {
    int64_t n = postings_fires(p, feature), from = p->start[feature];
    err_code rc = mem_grow(&s->ranked, &s->cap, (size_t)n, sizeof *s->ranked, "firings of a feature", e);
    if (rc) return rc;
    for (int64_t i = 0; i < n; i++) s->ranked[i] = (ranked_row){p->rows[from + i], p->values[from + i]};
    if (n) qsort(s->ranked, (size_t)n, sizeof *s->ranked, by_value);
    return ERR_OK;
}

/* ---- choosing ---- */

typedef struct selection {
    ranked_row rows[EXAMPLES_MAX];
    const char *kinds[EXAMPLES_MAX];
    int n;
} selection;

static int64_t token_of(const corpus_index *x, ranked_row r) { return (int64_t)x->row_token[r.row]; }
static int32_t group_of(const corpus_index *x, ranked_row r) { return x->doc_group[x->token_doc[token_of(x, r)]]; }

/* Tokens around a and b that agree, b's shifted by a few. */
static int tokens_alike(const corpus_index *x, int64_t a, int64_t b, int64_t shift) {
    int same = 0;
    for (int64_t i = -SAME_BEFORE; i <= SAME_AFTER; i++) {
        int64_t s = a + i, t = b + i + shift;
        if (s < 0 || t < 0 || s >= x->corpus->n_tokens || t >= x->corpus->n_tokens) continue;
        if (x->token_doc[s] != x->token_doc[a] || x->token_doc[t] != x->token_doc[b]) continue;
        same += x->corpus->tokens[s] == x->corpus->tokens[t];
    }
    return same;
}

static bool nearly_same(const corpus_index *x, int64_t a, int64_t b) {
    for (int64_t shift = -SAME_SHIFT; shift <= SAME_SHIFT; shift++)
        if (tokens_alike(x, a, b, shift) >= SAME_TOKENS) return true;
    return false;
}

/* Whether r may stand beside those chosen from `first` on: another document, other words. */
static bool is_new(const corpus_index *x, const selection *chosen, int first, ranked_row r) {
    for (int i = first; i < chosen->n; i++)
        if (group_of(x, chosen->rows[i]) == group_of(x, r) || nearly_same(x, token_of(x, chosen->rows[i]), token_of(x, r)))
            return false;
    return true;
}

static void choose(selection *s, const char *kind, ranked_row r) {
    s->kinds[s->n] = kind;
    s->rows[s->n++] = r;
}

/* A document speaks once, by its strongest position, and not at all when that says what another already said. */
static void choose_top(const corpus_index *x, const ranked_row *ranked, int64_t n, uint8_t *group_seen, selection *s) {
    int64_t lowest = n > LOOKED_AT ? n - LOOKED_AT : 0;
    for (int64_t i = n; i-- > lowest && s->n < EXAMPLES_TOP;) {
        if (group_seen[group_of(x, ranked[i])]) continue;
        group_seen[group_of(x, ranked[i])] = 1;
        if (is_new(x, s, 0, ranked[i])) choose(s, "top", ranked[i]);
    }
    for (int64_t i = n; i-- > lowest;) group_seen[group_of(x, ranked[i])] = 0;
}

/* Outwards from the quantile's own place: 0, +1, -1, +2, ... */
static void choose_quantile(const corpus_index *x, const ranked_row *ranked, int64_t n, int which, selection *s) {
    int first = s->n;
    int64_t centre = stats_quantile_index(n, quantiles[which].quantile);
    for (int64_t step = 0; step < 2 * LOOKED_AT && s->n < first + EXAMPLES_PER_QUANTILE; step++) {
        int64_t i = centre + (step % 2 ? (step + 1) / 2 : -step / 2);
        if (i >= 0 && i < n && is_new(x, s, first, ranked[i])) choose(s, quantiles[which].kind, ranked[i]);
        if (centre - step / 2 < 0 && centre + step / 2 >= n) break;
    }
}

/* ---- showing ---- */

static err_code copy_text(const char *text, int64_t from, int64_t to, char **out, err *e) {
    *out = strndup(text + from, (size_t)(to - from));
    return *out ? ERR_OK : err_nomem(e, "an example", (unsigned long long)(to - from));
}

static err_code show(const corpus_index *x, const postings *p, int64_t feature, ranked_row r, text_window *w,
                     feature_example *out, err *e) {
    int64_t token = token_of(x, r), doc = x->token_doc[token];
    int64_t start = (int64_t)x->corpus->doc_offsets[doc], end = (int64_t)x->corpus->doc_offsets[doc + 1];
    int64_t from = token - EXAMPLE_BEFORE < start ? start : token - EXAMPLE_BEFORE;
    int64_t to = token + EXAMPLE_AFTER + 1 > end ? end : token + EXAMPLE_AFTER + 1;
    err_code rc;
    out->doc = doc;
    out->token = token;
    out->value = r.value;
    TRY(text_window_set(w, x, from, to, token, e));
    int64_t focus = w->start[token - from], behind = w->end[token - from];
    TRY(copy_text(w->text.data, 0, focus, &out->before, e));
    TRY(copy_text(w->text.data, focus, behind, &out->focus, e));
    TRY(copy_text(w->text.data, behind, (int64_t)w->text.len, &out->after, e));
    TRY(mem_new(&out->spans, (size_t)w->n, sizeof *out->spans, "an example", e));
    for (int64_t i = 0; i < w->n; i++) {
        int64_t row = x->token_row[from + i];
        float value = row < 0 ? 0 : postings_value(p, feature, row);
        if (value > 0 && w->end[i] > w->start[i]) out->spans[out->n_spans++] = (feature_span){w->start[i], w->end[i], value};
    }
done:
    return rc;
}

static err_code fill_histogram(const ranked_row *ranked, int64_t n, feature_card *card, err *e) {
    err_code rc = mem_new(&card->histogram, STATS_BIN_MAX - STATS_BIN_MIN + 1, sizeof *card->histogram, "a histogram", e);
    if (rc) return rc;
    for (int64_t i = 0; i < n; i++) { /* values ascend, so do bins */
        int bin = stats_log_bin(ranked[i].value);
        if (!card->n_bins || card->histogram[card->n_bins - 1].bin != bin)
            card->histogram[card->n_bins++] = (feature_bin){bin, 0};
        card->histogram[card->n_bins - 1].count++;
    }
    return ERR_OK;
}

err_code examples_fill(const corpus_index *x, const postings *p, int64_t feature, example_scratch *s, feature_card *card,
                       err *e) {
    int64_t n = postings_fires(p, feature);
    selection chosen = {.n = 0};
    err_code rc;
    if (!s->group_seen) TRY(mem_new0(&s->group_seen, (size_t)x->n_groups, 1, "documents", e));
    TRY(rank_firings(p, feature, s, e));
    if (n == 0) goto done;
    TRY(fill_histogram(s->ranked, n, card, e));
    choose_top(x, s->ranked, n, s->group_seen, &chosen);
    for (int q = 0; q < N_QUANTILES; q++) choose_quantile(x, s->ranked, n, q, &chosen);
    TRY(mem_new0(&card->examples, (size_t)chosen.n, sizeof *card->examples, "examples of a feature", e));
    for (int i = 0; i < chosen.n; i++) {
        feature_example *out = &card->examples[card->n_examples++];
        out->rank = i && chosen.kinds[i] == chosen.kinds[i - 1] ? out[-1].rank + 1 : 1;
        memcpy(out->kind, chosen.kinds[i], strlen(chosen.kinds[i]) + 1);
        TRY(show(x, p, feature, chosen.rows[i], &s->window, out, e));
    }
done:
    return rc;
}

void example_scratch_release(example_scratch *s) {
    free(s->ranked);
    free(s->group_seen);
    text_window_release(&s->window);
    *s = EXAMPLE_SCRATCH_INIT;
}
