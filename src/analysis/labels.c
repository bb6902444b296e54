#include "analysis/labels.h"

#include "analysis/toplist.h"
#include "core/mem.h"
#include "core/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    HALVES = 2,
    SAMPLED = 256,         /* firings whose contexts are searched for top_entry words; the shortlist is then scored on all */
    SHORTLIST = 6,         /* candidates of each kind scored exactly */
    POOL = 12,             /* candidates a union is put together from */
    PAIR_ROWS_MAX = 20000, /* a pair's rows are counted one by one: not for "the" */
    POSITIONS_MAX = 16
};

/* ---- the index ---- */

struct label_index {
    const corpus_index *corpus;
    uint8_t *doc_half;                              /* [n_docs] */
    int64_t rows[HALVES];                           /* rows of each half */
    int64_t *of_token[HALVES];                      /* [n_vocab] rows on this token */
    int64_t *of_previous[HALVES];                   /* [n_vocab] rows behind this token */
    int64_t *of_word[HALVES];                       /* [n_words] rows on a token of this word */
    int64_t *of_near[HALVES];                       /* [n_words] rows with this word in their last LABEL_NEAR tokens */
    int64_t *of_document[HALVES];                   /* [n_words] rows in documents with this word */
    int64_t of_position[HALVES][POSITIONS_MAX + 1]; /* rows among the first so many tokens */
};

static int64_t doc_start(const corpus_index *c, int64_t token) {
    return (int64_t)c->corpus->doc_offsets[c->token_doc[token]];
}

static int32_t word_of(const corpus_index *c, int64_t token) {
    return c->token_word[token] < 0 ? -1 : c->occurrences[c->token_word[token]].word;
}

int label_half(const label_index *x, int64_t token) { return x->doc_half[x->corpus->token_doc[token]]; }

static void split_documents(label_index *x, uint64_t seed) {
    const corpus_index *c = x->corpus;
    for (int64_t d = 0; d < c->corpus->n_docs; d++) {
        rng r = rng_stream(seed, RNG_SPLIT, (uint64_t)c->doc_group[d]);
        x->doc_half[d] = rng_u64(&r) >> 63;
    }
}

static void count_rows(label_index *x) {
    const corpus_index *c = x->corpus;
    for (int64_t r = 0; r < c->n_rows; r++) {
        int64_t t = (int64_t)c->row_token[r], start = doc_start(c, t);
        int half = label_half(x, t);
        x->rows[half]++;
        x->of_token[half][c->corpus->tokens[t]]++;
        if (t > start) x->of_previous[half][c->corpus->tokens[t - 1]]++;
        if (word_of(c, t) >= 0) x->of_word[half][word_of(c, t)]++;
        for (int64_t p = t - start + 1; p <= POSITIONS_MAX; p++) x->of_position[half][p]++;
    }
}

/* Each occurrence names the tokens from its end to LABEL_NEAR behind, but no further than the word's next occurrence or the
 * document's end; rows_before[t] turns that into rows. */
static void count_contexts(label_index *x, const int64_t *rows_before) {
    const corpus_index *c = x->corpus;
    for (int32_t w = 0; w < c->n_words; w++)
        for (int64_t i = c->of_word_start[w], last_doc = -1; i < c->of_word_start[w + 1]; i++) {
            int64_t from = c->occurrences[c->of_word[i]].last, to = from + LABEL_NEAR + 1;
            int32_t doc = c->token_doc[from];
            int64_t start = (int64_t)c->corpus->doc_offsets[doc], end = (int64_t)c->corpus->doc_offsets[doc + 1];
            int64_t next = i + 1 < c->of_word_start[w + 1] ? c->occurrences[c->of_word[i + 1]].last : end;
            if (to > end) to = end;
            if (to > next) to = next;
            x->of_near[x->doc_half[doc]][w] += rows_before[to] - rows_before[from];
            if (doc != last_doc) x->of_document[x->doc_half[doc]][w] += rows_before[end] - rows_before[start];
            last_doc = doc;
        }
}

err_code label_index_new(const corpus_index *c, uint64_t seed, label_index **out, err *e) {
    label_index *x = NULL;
    int64_t *rows_before = NULL;
    *out = NULL;
    err_code rc;
    TRY(mem_new0(&x, 1, sizeof *x, "label index", e));
    x->corpus = c;
    TRY(mem_new(&x->doc_half, (size_t)c->corpus->n_docs, 1, "label index", e));
    for (int half = 0; half < HALVES; half++) {
        TRY(mem_new0(&x->of_token[half], (size_t)c->vocab.n, sizeof(int64_t), "label index", e));
        TRY(mem_new0(&x->of_previous[half], (size_t)c->vocab.n, sizeof(int64_t), "label index", e));
        TRY(mem_new0(&x->of_word[half], (size_t)c->n_words, sizeof(int64_t), "label index", e));
        TRY(mem_new0(&x->of_near[half], (size_t)c->n_words, sizeof(int64_t), "label index", e));
        TRY(mem_new0(&x->of_document[half], (size_t)c->n_words, sizeof(int64_t), "label index", e));
    }
    TRY(mem_new0(&rows_before, (size_t)c->corpus->n_tokens + 1, sizeof *rows_before, "label index", e));
    for (int64_t t = 0; t < c->corpus->n_tokens; t++) rows_before[t + 1] = rows_before[t] + (c->token_row[t] >= 0);
    split_documents(x, seed);
    count_rows(x);
    count_contexts(x, rows_before);
    *out = x;
    x = NULL;
done:
    free(rows_before);
    label_index_free(x);
    return rc;
}

void label_index_free(label_index *x) {
    if (!x) return;
    free(x->doc_half);
    for (int half = 0; half < HALVES; half++) {
        free(x->of_token[half]);
        free(x->of_previous[half]);
        free(x->of_word[half]);
        free(x->of_near[half]);
        free(x->of_document[half]);
    }
    free(x);
}

/* ---- rules ---- */

static bool near_word(const corpus_index *c, int32_t word, int64_t token) {
    int64_t found = corpus_word_before(c, word, token);
    return found >= 0 && c->occurrences[found].last >= token - LABEL_NEAR;
}

static bool is_after(const corpus_index *c, int32_t previous, int64_t token) {
    return token > doc_start(c, token) && c->corpus->tokens[token - 1] == (uint32_t)previous;
}

static bool term_holds(const corpus_index *c, const label_rule *r, int32_t term, int64_t token) {
    int32_t here = (int32_t)c->corpus->tokens[token];
    switch (r->kind) {
    case RULE_TOKEN: return here == term;
    case RULE_WORD: return word_of(c, token) == term;
    case RULE_AFTER: return is_after(c, term, token);
    case RULE_TOKEN_AFTER: return here == term && is_after(c, r->with, token);
    case RULE_TOKEN_NEAR: return here == term && near_word(c, r->with, token);
    case RULE_NEAR: return near_word(c, term, token);
    case RULE_DOCUMENT: return corpus_doc_has_word(c, term, c->token_doc[token]);
    case RULE_POSITION: return token - doc_start(c, token) < term;
    }
    return false;
}

bool label_rule_holds(const label_index *x, const label_rule *rule, int64_t token) {
    for (int i = 0; i < rule->n_terms; i++)
        if (term_holds(x->corpus, rule, rule->terms[i], token)) return true;
    return false;
}

/* Rows of a half a rule names. Alternatives exclude each other: a row has one token and one word. */
static int64_t rows_named(const label_index *x, const label_rule *r, int half) {
    const corpus_index *c = x->corpus;
    int64_t rows = 0;
    for (int i = 0; i < r->n_terms; i++) {
        int32_t term = r->terms[i];
        switch (r->kind) {
        case RULE_TOKEN: rows += x->of_token[half][term]; break;
        case RULE_WORD: rows += x->of_word[half][term]; break;
        case RULE_AFTER: rows += x->of_previous[half][term]; break;
        case RULE_NEAR: rows += x->of_near[half][term]; break;
        case RULE_DOCUMENT: rows += x->of_document[half][term]; break;
        case RULE_POSITION: rows += x->of_position[half][term]; break;
        case RULE_TOKEN_AFTER:
        case RULE_TOKEN_NEAR:
            for (int64_t j = c->of_token_start[term]; j < c->of_token_start[term + 1]; j++) {
                int64_t t = c->of_token[j];
                rows += c->token_row[t] >= 0 && label_half(x, t) == half && term_holds(c, r, term, t);
            }
            break;
        }
    }
    return rows;
}

static int rule_length(const label_rule *r) {
    return r->n_terms + (r->kind == RULE_TOKEN_AFTER || r->kind == RULE_TOKEN_NEAR);
}

/* ---- scores ---- */

typedef struct firing {
    int64_t token;
    float value;
} firing;

typedef struct firings {
    firing *items;
    int64_t n;
    double mass;
    size_t cap;
} firings;

/* covered: share of the mass on rows the rule names; hits: how many of those rows fire. */
static label_score score_from(double covered, double hits, int64_t fires, int64_t named, int64_t rows) {
    label_score s = {.recall = covered, .precision = named ? hits / (double)named : 0, .fires = fires};
    if (s.precision > 1) s.precision = 1; /* hits may be an estimate from a sample */
    s.f1 = s.recall + s.precision > 0 ? 2 * s.recall * s.precision / (s.recall + s.precision) : 0;
    double tpr = hits / (double)fires, fpr = rows > fires ? ((double)named - hits) / (double)(rows - fires) : 0;
    s.auroc = 0.5 * (1 + tpr - fpr);
    return s;
}

static label_score score_rule(const label_index *x, const label_rule *r, const firings *f, int half) {
    double covered = 0;
    int64_t hits = 0;
    for (int64_t i = 0; i < f->n; i++)
        if (label_rule_holds(x, r, f->items[i].token)) {
            covered += f->items[i].value;
            hits++;
        }
    return score_from(covered / f->mass, (double)hits, f->n, rows_named(x, r, half), x->rows[half]);
}

/* ---- tallies: mass and count by token or word ---- */

typedef struct tally {
    double *mass;   /* [n_keys] */
    int32_t *count; /* [n_keys] */
    int32_t *keys;  /* those seen, in order of first sight */
    int64_t n;
} tally;

struct label_scratch {
    tally token, previous, word, near, document;
    firings halves[HALVES];
    int32_t *seen; /* [n_words] the last context, by its stamp, in which the word was met */
    int32_t stamp;
};

static err_code tally_new(tally *t, int64_t n_keys, err *e) {
    err_code rc;
    TRY(mem_new0(&t->mass, (size_t)n_keys, sizeof *t->mass, "label scratch", e));
    TRY(mem_new0(&t->count, (size_t)n_keys, sizeof *t->count, "label scratch", e));
    TRY(mem_new0(&t->keys, (size_t)n_keys, sizeof *t->keys, "label scratch", e));
done:
    return rc;
}

static void tally_free(tally *t) {
    free(t->mass);
    free(t->count);
    free(t->keys);
}

static void tally_add(tally *t, int32_t key, double mass) {
    if (!t->count[key]++) t->keys[t->n++] = key;
    t->mass[key] += mass;
}

static void tally_clear(tally *t) {
    for (int64_t i = 0; i < t->n; i++) {
        t->mass[t->keys[i]] = 0;
        t->count[t->keys[i]] = 0;
    }
    t->n = 0;
}

err_code label_scratch_new(const label_index *x, label_scratch **out, err *e) {
    label_scratch *s = NULL;
    *out = NULL;
    err_code rc;
    TRY(mem_new0(&s, 1, sizeof *s, "label scratch", e));
    TRY(tally_new(&s->token, x->corpus->vocab.n, e));
    TRY(tally_new(&s->previous, x->corpus->vocab.n, e));
    TRY(tally_new(&s->word, x->corpus->n_words, e));
    TRY(tally_new(&s->near, x->corpus->n_words, e));
    TRY(tally_new(&s->document, x->corpus->n_words, e));
    TRY(mem_new0(&s->seen, (size_t)x->corpus->n_words, sizeof *s->seen, "label scratch", e));
    *out = s;
    s = NULL;
done:
    label_scratch_free(s);
    return rc;
}

void label_scratch_free(label_scratch *s) {
    if (!s) return;
    tally_free(&s->token);
    tally_free(&s->previous);
    tally_free(&s->word);
    tally_free(&s->near);
    tally_free(&s->document);
    for (int half = 0; half < HALVES; half++) free(s->halves[half].items);
    free(s->seen);
    free(s);
}

/* ---- candidates ---- */

/* The keys of a tally with the best F1, were each a rule of its own. share: which part of all firings was tallied. */
static int best_keys(const label_index *x, const tally *t, rule_kind kind, const firings *f, double share, double mass,
                     top_entry *best, int max) {
    int n = 0;
    for (int64_t i = 0; i < t->n; i++) {
        label_rule r = {.kind = kind, .n_terms = 1, .terms = {t->keys[i]}};
        double hits = t->count[t->keys[i]] / share;
        label_score s = score_from(t->mass[t->keys[i]] / mass, hits < (double)f->n ? hits : (double)f->n, f->n,
                                   rows_named(x, &r, 0), x->rows[0]);
        top_keep(best, &n, max, (top_entry){t->keys[i], s.f1});
    }
    return n;
}

static int heaviest_keys(const tally *t, top_entry *best, int max) {
    int n = 0;
    for (int64_t i = 0; i < t->n; i++) top_keep(best, &n, max, (top_entry){t->keys[i], t->mass[t->keys[i]]});
    return n;
}

typedef struct choice {
    label_rule rule;
    double value; /* F1 on the choosing half less the cost of its length */
} choice;

static void consider(choice *best, const label_rule *r, double f1) {
    double value = f1 - LABEL_TERM_COST * (rule_length(r) - 1);
    if (value > best->value) *best = (choice){*r, value};
}

/* One key, then the best of two and three put together from the heaviest ones: exact, as alternatives add up. */
static void consider_unions(const label_index *x, const tally *t, rule_kind kind, const firings *f, choice *best) {
    top_entry pool[POOL + 1];
    int n = heaviest_keys(t, pool, POOL);
    top_entry single[1];
    if (best_keys(x, t, kind, f, 1, f->mass, single, 1)) pool[n++] = single[0];
    label_rule r = {.kind = kind};
    double covered = 0, hits = 0;
    while (r.n_terms < LABEL_TERMS) {
        int chosen = -1;
        double chosen_f1 = -1;
        for (int i = 0; i < n; i++) {
            bool used = false;
            for (int j = 0; j < r.n_terms; j++) used |= r.terms[j] == pool[i].key;
            if (used) continue;
            label_rule longer = r;
            longer.terms[longer.n_terms++] = pool[i].key;
            double f1 = score_from((covered + t->mass[pool[i].key]) / f->mass, hits + t->count[pool[i].key], f->n,
                                   rows_named(x, &longer, 0), x->rows[0])
                            .f1;
            if (f1 > chosen_f1) chosen = i, chosen_f1 = f1;
        }
        if (chosen < 0) break;
        r.terms[r.n_terms++] = pool[chosen].key;
        covered += t->mass[pool[chosen].key];
        hits += t->count[pool[chosen].key];
        consider(best, &r, chosen_f1);
    }
}

static void consider_singles(const label_index *x, rule_kind kind, const top_entry *keys, int n, const firings *f,
                             choice *best) {
    for (int i = 0; i < n; i++) {
        label_rule r = {.kind = kind, .n_terms = 1, .terms = {keys[i].key}};
        consider(best, &r, score_rule(x, &r, f, 0).f1);
    }
}

/* Words that ended within the last LABEL_NEAR tokens, each once. */
static void tally_context(const label_index *x, label_scratch *s, int64_t token, double value) {
    const corpus_index *c = x->corpus;
    int64_t first = c->doc_first_word[c->token_doc[token]];
    int64_t at = c->doc_first_word[c->token_doc[token] + 1];
    for (int64_t low = first; low < at;) { /* at: the first occurrence that ends behind token */
        int64_t middle = low + (at - low) / 2;
        if (c->occurrences[middle].last <= token)
            low = middle + 1;
        else
            at = middle;
    }
    for (int64_t i = at; i-- > first && c->occurrences[i].last >= token - LABEL_NEAR;) {
        int32_t word = c->occurrences[i].word;
        if (s->seen[word] == s->stamp) continue;
        s->seen[word] = s->stamp;
        tally_add(&s->near, word, value);
    }
}

static void tally_document(const label_index *x, label_scratch *s, int64_t token, double value) {
    const corpus_index *c = x->corpus;
    int32_t doc = c->token_doc[token];
    for (int64_t i = c->doc_first_word[doc]; i < c->doc_first_word[doc + 1]; i++) {
        int32_t word = c->occurrences[i].word;
        if (s->seen[word] == s->stamp) continue;
        s->seen[word] = s->stamp;
        tally_add(&s->document, word, value);
    }
}

/* Contexts of an even sample of the firings for which `only` (a token, -1: any) holds. Returns the sample's mass and size. */
static double tally_contexts(const label_index *x, label_scratch *s, const firings *f, int32_t only, bool documents,
                             int64_t *n_sampled) {
    int64_t eligible = 0, taken = 0, index = 0;
    double mass = 0;
    for (int64_t i = 0; i < f->n; i++) eligible += only < 0 || x->corpus->corpus->tokens[f->items[i].token] == (uint32_t)only;
    int64_t wanted = eligible < SAMPLED ? eligible : SAMPLED;
    for (int64_t i = 0; i < f->n && taken < wanted; i++) {
        if (only >= 0 && x->corpus->corpus->tokens[f->items[i].token] != (uint32_t)only) continue;
        if (index++ * wanted / eligible < taken) continue;
        taken++;
        mass += f->items[i].value;
        s->stamp++;
        tally_context(x, s, f->items[i].token, f->items[i].value);
        s->stamp++;
        if (documents) tally_document(x, s, f->items[i].token, f->items[i].value);
    }
    *n_sampled = taken;
    return mass;
}

static void consider_contexts(const label_index *x, label_scratch *s, const firings *f, choice *best) {
    top_entry keys[SHORTLIST];
    int64_t sampled;
    double mass = tally_contexts(x, s, f, -1, true, &sampled), share = (double)sampled / (double)f->n;
    int n = best_keys(x, &s->near, RULE_NEAR, f, share, mass, keys, SHORTLIST);
    consider_singles(x, RULE_NEAR, keys, n, f, best);
    n = best_keys(x, &s->document, RULE_DOCUMENT, f, share, mass, keys, SHORTLIST);
    consider_singles(x, RULE_DOCUMENT, keys, n, f, best);
    tally_clear(&s->near);
    tally_clear(&s->document);
}

/* A token narrowed down by the one before it, or by a word in its context: worth trying when the token alone says too much. */
static void consider_pairs(const label_index *x, label_scratch *s, const firings *f, choice *best) {
    top_entry tokens[2], keys[SHORTLIST];
    int n_tokens = heaviest_keys(&s->token, tokens, 2);
    for (int i = 0; i < n_tokens; i++) {
        int32_t token = tokens[i].key;
        int64_t rows = x->of_token[0][token] + x->of_token[1][token], sampled;
        if (rows > PAIR_ROWS_MAX || s->token.count[token] > 0.9 * (double)x->of_token[0][token]) continue;
        label_rule r = {.kind = RULE_TOKEN_AFTER, .n_terms = 1, .terms = {token}};
        tally_clear(&s->previous);
        for (int64_t j = 0; j < f->n; j++) {
            int64_t t = f->items[j].token;
            if (x->corpus->corpus->tokens[t] == (uint32_t)token && t > doc_start(x->corpus, t))
                tally_add(&s->previous, (int32_t)x->corpus->corpus->tokens[t - 1], f->items[j].value);
        }
        int n = heaviest_keys(&s->previous, keys, 2);
        for (int j = 0; j < n; j++) {
            r.with = keys[j].key;
            consider(best, &r, score_rule(x, &r, f, 0).f1);
        }
        r.kind = RULE_TOKEN_NEAR;
        double mass = tally_contexts(x, s, f, token, false, &sampled);
        n = 0;
        for (int64_t j = 0; j < s->near.n; j++) { /* often in these contexts, seldom elsewhere */
            int32_t word = s->near.keys[j];
            double elsewhere = (double)x->of_near[0][word] / (double)x->rows[0];
            if (word != word_of(x->corpus, x->corpus->of_token[x->corpus->of_token_start[token]]))
                top_keep(keys, &n, 3, (top_entry){word, s->near.mass[word] / mass - elsewhere});
        }
        tally_clear(&s->near);
        for (int j = 0; j < n; j++) {
            r.with = keys[j].key;
            consider(best, &r, score_rule(x, &r, f, 0).f1);
        }
    }
}

static void consider_positions(const label_index *x, const firings *f, choice *best) {
    for (int32_t n = 1; n <= POSITIONS_MAX; n += n < 4 ? 1 : n) { /* 1, 2, 3, 4, 8, 16 */
        label_rule r = {.kind = RULE_POSITION, .n_terms = 1, .terms = {n}};
        consider(best, &r, score_rule(x, &r, f, 0).f1);
    }
}

/* ---- a feature ---- */

static err_code gather_firings(const label_index *x, const postings *p, int64_t feature, label_scratch *s, err *e) {
    err_code rc;
    for (int half = 0; half < HALVES; half++) {
        firings *f = &s->halves[half];
        f->n = 0;
        f->mass = 0;
        TRY(mem_grow(&f->items, &f->cap, (size_t)postings_fires(p, feature) + 1, sizeof *f->items, "label scratch", e));
    }
    for (int64_t i = p->start[feature]; i < p->start[feature + 1]; i++) {
        int64_t token = (int64_t)x->corpus->row_token[p->rows[i]];
        firings *f = &s->halves[label_half(x, token)];
        f->items[f->n++] = (firing){token, p->values[i]};
        f->mass += p->values[i];
    }
    rc = ERR_OK;
done:
    return rc;
}

static void tally_tokens(const label_index *x, label_scratch *s, const firings *f) {
    const corpus_index *c = x->corpus;
    for (int64_t i = 0; i < f->n; i++) {
        int64_t t = f->items[i].token;
        double v = f->items[i].value;
        tally_add(&s->token, (int32_t)c->corpus->tokens[t], v);
        if (t > doc_start(c, t)) tally_add(&s->previous, (int32_t)c->corpus->tokens[t - 1], v);
        if (word_of(c, t) >= 0) tally_add(&s->word, word_of(c, t), v);
    }
}

static void clear_tallies(label_scratch *s) {
    tally_clear(&s->token);
    tally_clear(&s->previous);
    tally_clear(&s->word);
}

static void label_by_token(const label_index *x, label_scratch *s, label_rule *rule) {
    top_entry heaviest;
    for (int half = 0; half < HALVES; half++) tally_tokens(x, s, &s->halves[half]);
    if (heaviest_keys(&s->token, &heaviest, 1))
        *rule = (label_rule){.kind = RULE_TOKEN, .n_terms = 1, .terms = {heaviest.key}};
    clear_tallies(s);
}

err_code label_feature(const label_index *x, const postings *p, int64_t feature, label_scratch *s, label_rule *rule,
                       label_score *score, err *e) {
    *rule = (label_rule){0};
    *score = (label_score){NAN, NAN, NAN, NAN, 0};
    err_code rc = gather_firings(x, p, feature, s, e);
    if (rc) return rc;
    const firings *choosing = &s->halves[0], *scoring = &s->halves[1];
    score->fires = scoring->n;
    if (choosing->n < LABEL_MIN_TRAIN || scoring->n < LABEL_MIN_TEST) {
        label_by_token(x, s, rule);
        return ERR_OK;
    }
    choice best = {.value = -INFINITY};
    top_entry keys[SHORTLIST];
    if (s->stamp > INT32_MAX / 2) {
        memset(s->seen, 0, (size_t)x->corpus->n_words * sizeof *s->seen);
        s->stamp = 0;
    }
    tally_tokens(x, s, choosing);
    consider_unions(x, &s->token, RULE_TOKEN, choosing, &best);
    consider_unions(x, &s->word, RULE_WORD, choosing, &best);
    int n = best_keys(x, &s->previous, RULE_AFTER, choosing, 1, choosing->mass, keys, SHORTLIST);
    consider_singles(x, RULE_AFTER, keys, n, choosing, &best);
    consider_contexts(x, s, choosing, &best);
    consider_pairs(x, s, choosing, &best);
    consider_positions(x, choosing, &best);
    clear_tallies(s);
    *rule = best.rule;
    *score = score_rule(x, rule, scoring, 1);
    return ERR_OK;
}

/* ---- in words ---- */

void text_add_quoted_piece(strbuf *out, const vocab_view *vocab, uint32_t token) {
    const char *piece = vocab->bytes + vocab->offsets[token];
    size_t n = vocab->offsets[token + 1] - vocab->offsets[token];
    strbuf_add_char(out, '"');
    for (size_t i = 0, end; i < n; i = end) {
        switch (piece[i]) {
        case '\n': strbuf_add_str(out, "\\n"); break;
        case '\t': strbuf_add_str(out, "\\t"); break;
        case '\r': strbuf_add_str(out, "\\r"); break;
        case '"': strbuf_add_str(out, "\\\""); break;
        default:
            for (end = i + 1; end < n && !strchr("\n\t\r\"", piece[end]);) end++;
            text_add_printable(out, piece + i, end - i);
            continue;
        }
        end = i + 1;
    }
    strbuf_add_char(out, '"');
}

static void add_word(strbuf *out, const label_index *x, int32_t word) {
    strbuf_addf(out, "\"%s\"", corpus_word(x->corpus, word));
}

static void add_token(strbuf *out, const label_index *x, int32_t token) {
    text_add_quoted_piece(out, &x->corpus->vocab, (uint32_t)token);
}

/* How each kind reads: what stands before its terms, what they are, and what joins the other half of a pair. */
static const struct {
    const char *before;
    void (*add_term)(strbuf *out, const label_index *x, int32_t term);
    const char *between;
    void (*add_with)(strbuf *out, const label_index *x, int32_t with);
} wordings[] = {
    [RULE_TOKEN] = {"token ", add_token, NULL, NULL},
    [RULE_WORD] = {"word ", add_word, NULL, NULL},
    [RULE_AFTER] = {"after token ", add_token, NULL, NULL},
    [RULE_TOKEN_AFTER] = {"token ", add_token, " after ", add_token},
    [RULE_TOKEN_NEAR] = {"token ", add_token, " near word ", add_word},
    [RULE_NEAR] = {"context word ", add_word, NULL, NULL},
    [RULE_DOCUMENT] = {"document with ", add_word, NULL, NULL},
};

void label_rule_text(const label_index *x, const label_rule *rule, char out[FEATURE_LABEL_MAX]) {
    strbuf s = STRBUF_INIT;
    if (rule->kind == RULE_POSITION) {
        strbuf_addf(&s, rule->terms[0] == 1 ? "first token" : "first %d tokens", (int)rule->terms[0]);
    } else {
        for (int i = 0; i < rule->n_terms; i++) {
            strbuf_add_str(&s, i ? " or " : wordings[rule->kind].before);
            wordings[rule->kind].add_term(&s, x, rule->terms[i]);
        }
        if (wordings[rule->kind].between) {
            strbuf_add_str(&s, wordings[rule->kind].between);
            wordings[rule->kind].add_with(&s, x, rule->with);
        }
    }
    size_t n = s.len < FEATURE_LABEL_MAX - 1 ? s.len : text_whole_chars(s.data, FEATURE_LABEL_MAX - 1);
    memcpy(out, s.data, n);
    out[n] = '\0';
    strbuf_release(&s);
}
