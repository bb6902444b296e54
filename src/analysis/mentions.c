#include "analysis/mentions.h"

#include "analysis/toplist.h"
#include "core/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    RUN_MAX = 3, /* longer runs of capitals are titles */
    SHARING = 10,
    INSIDE = 6,
    BESIDE = 12,
    ELSEWHERE = 8, /* rivals of each sort */
    INSIDE_LETTERS = 3,
    RIVAL_MENTIONS = 3, /* fewer say nothing */
    RELATED_LETTERS = 3,
    RELATED_DOCS = 4
};
#define RELATED_LIFT 4.0 /* "was" and "his" of a poet's life are at 1 to 2, "dynasty" at 20 */

/* ---- the concept ---- */

err_code name_parse(const corpus_index *x, const char *text, name_words *out, err *e) {
    size_t n = strlen(text), used;
    int found = 0;
    bool unknown = false;
    *out = (name_words){0};
    for (size_t at = 0; (used = text_next_word(text, n, &at)); at += used) {
        if (found == NAME_WORDS_MAX)
            return err_set(e, ERR_USAGE, "%.80s...: a concept has at most %d words", text, NAME_WORDS_MAX);
        strbuf lower = STRBUF_INIT;
        text_add_lower(&lower, text + at, used);
        err_code rc = strbuf_check(&lower, e);
        if (!rc) out->words[found] = corpus_find_word(x, lower.data);
        strbuf_release(&lower);
        if (rc) return rc;
        unknown |= out->words[found++] < 0;
    }
    if (!found) return err_set(e, ERR_USAGE, "'%.80s' is no concept: it has no word in it", text);
    out->n = unknown ? 0 : found;
    return ERR_OK;
}

/* Whether nothing but blanks stands between occurrence i and the one before it; a blank may be a token of its own. */
static bool follows(const corpus_index *x, int64_t i) {
    const vocab_view *v = &x->vocab;
    for (int64_t t = x->occurrences[i - 1].last + 1; t < x->occurrences[i].first; t++) {
        uint32_t token = x->corpus->tokens[t];
        for (uint64_t b = v->offsets[token]; b < v->offsets[token + 1]; b++)
            if (v->bytes[b] != ' ' && v->bytes[b] != '\n') return false;
    }
    return true;
}

/* Whether the name stands at occurrence i, its words side by side in one document. */
static bool stands_at(const corpus_index *x, const name_words *name, int64_t i, int64_t doc_end) {
    if (i + name->n > doc_end) return false;
    for (int k = 0; k < name->n; k++) {
        if (x->occurrences[i + k].word != name->words[k]) return false;
        if (k && !follows(x, i + k)) return false;
    }
    return true;
}

err_code mentions_find(const corpus_index *x, const name_words *name, mention_list *out, err *e) {
    err_code rc = ERR_OK;
    if (!name->n) return rc;
    for (int64_t j = x->of_word_start[name->words[0]]; j < x->of_word_start[name->words[0] + 1]; j++) {
        int64_t i = x->of_word[j], doc = x->token_doc[x->occurrences[i].first];
        if (!stands_at(x, name, i, x->doc_first_word[doc + 1])) continue;
        TRY(mem_grow(&out->items, &out->cap, (size_t)out->n + 1, sizeof *out->items, "mentions", e));
        out->items[out->n++] = (mention){x->occurrences[i].first, x->occurrences[i + name->n - 1].last};
    }
done:
    return rc;
}

static err_code mark_documents(const corpus_index *x, const mention_list *mentions, uint8_t **marked, int64_t *n, err *e) {
    err_code rc = mem_new0(marked, (size_t)x->corpus->n_docs, 1, "documents", e);
    if (rc) return rc;
    *n = 0;
    for (int64_t i = 0; i < mentions->n; i++) {
        int32_t doc = x->token_doc[mentions->items[i].first];
        *n += !(*marked)[doc];
        (*marked)[doc] = 1;
    }
    return ERR_OK;
}

static bool has_word(const name_words *name, int32_t word) {
    for (int i = 0; i < name->n; i++)
        if (name->words[i] == word) return true;
    return false;
}

/* ---- names ---- */

typedef struct run { /* one run of capitalised words, words beyond n are -1 */
    int32_t words[RUN_MAX];
    int n;
    int64_t at; /* its first occurrence in the text */
} run;

typedef struct run_list {
    run *items;
    int64_t n;
    size_t cap;
} run_list;

/* capitals[w]: how many of the word's occurrences are capitalised. */
static err_code count_capitals(const corpus_index *x, int64_t **capitals, err *e) {
    err_code rc = mem_new0(capitals, (size_t)x->n_words, sizeof **capitals, "words", e);
    for (int64_t i = 0; !rc && i < x->n_occurrences; i++) (*capitals)[x->occurrences[i].word] += x->occurrences[i].capital;
    return rc;
}

static bool mostly_small(const corpus_index *x, const int64_t *capitals, int32_t word) {
    return 2 * capitals[word] < x->of_word_start[word + 1] - x->of_word_start[word];
}

static err_code add_run(const corpus_index *x, const int64_t *capitals, int64_t from, int64_t to, run_list *out, err *e) {
    while (from < to && mostly_small(x, capitals, x->occurrences[from].word)) from++;
    if (from == to || to - from > RUN_MAX) return ERR_OK;
    err_code rc = mem_grow(&out->items, &out->cap, (size_t)out->n + 1, sizeof *out->items, "names", e);
    if (rc) return rc;
    run r = {.words = {-1, -1, -1}, .n = (int)(to - from), .at = from};
    for (int64_t i = from; i < to; i++) r.words[i - from] = x->occurrences[i].word;
    out->items[out->n++] = r;
    return ERR_OK;
}

static err_code collect_runs(const corpus_index *x, run_list *out, err *e) {
    int64_t *capitals = NULL;
    err_code rc;
    TRY(count_capitals(x, &capitals, e));
    for (int64_t d = 0; d < x->corpus->n_docs; d++)
        for (int64_t i = x->doc_first_word[d], end; i < x->doc_first_word[d + 1]; i = end) {
            for (end = i; end < x->doc_first_word[d + 1] && x->occurrences[end].capital; end++)
                if (end > i && !follows(x, end)) break;
            if (end > i)
                TRY(add_run(x, capitals, i, end, out, e));
            else
                end++;
        }
done:
    free(capitals);
    return rc;
}

static int by_words(const void *a, const void *b) {
    const run *x = a, *y = b;
    for (int i = 0; i < RUN_MAX; i++)
        if (x->words[i] != y->words[i]) return x->words[i] < y->words[i] ? -1 : 1;
    return (x->at > y->at) - (x->at < y->at);
}

static bool same_words(const run *a, const run *b) { return !memcmp(a->words, b->words, sizeof a->words); }

/* What a name is to the concept. */
typedef enum relation { IS_CONCEPT, SHARES_WORD, HOLDS_WORD, IS_BESIDE, IS_ELSEWHERE, N_RELATIONS } relation;

static const int wanted[N_RELATIONS] = {
    [SHARES_WORD] = SHARING, [HOLDS_WORD] = INSIDE, [IS_BESIDE] = BESIDE, [IS_ELSEWHERE] = ELSEWHERE};

static bool holds_word(const corpus_index *x, const name_words *concept, int32_t word) {
    for (int i = 0; i < concept->n; i++) {
        const char *inner = corpus_word(x, concept->words[i]);
        if (strlen(inner) >= INSIDE_LETTERS && word != concept->words[i] && strstr(corpus_word(x, word), inner)) return true;
    }
    return false;
}

static relation relation_of(const corpus_index *x, const name_words *concept, const run *r, bool beside) {
    int shared = 0, held = 0;
    for (int i = 0; i < r->n; i++) {
        shared += has_word(concept, r->words[i]);
        held += holds_word(x, concept, r->words[i]);
    }
    if (shared == r->n || shared >= concept->n) return concept->n ? IS_CONCEPT : beside ? IS_BESIDE : IS_ELSEWHERE;
    return shared ? SHARES_WORD : held ? HOLDS_WORD : beside ? IS_BESIDE : IS_ELSEWHERE;
}

/* The text of occurrences from .. from + n - 1 as the corpus has it. */
static err_code text_of(const corpus_index *x, int64_t from, int n, char **out, err *e) {
    const vocab_view *v = &x->vocab;
    strbuf s = STRBUF_INIT;
    size_t used, at = 0;
    *out = NULL;
    for (int64_t t = x->occurrences[from].first; t <= x->occurrences[from + n - 1].last; t++) {
        uint32_t id = x->corpus->tokens[t];
        strbuf_add(&s, v->bytes + v->offsets[id], v->offsets[id + 1] - v->offsets[id]);
    }
    /* The tokens may hold more than the words: find the words again by their lower-case form. */
    for (; (used = text_next_word(s.data, s.len, &at)); at += used) {
        strbuf lower = STRBUF_INIT;
        text_add_lower(&lower, s.data + at, used);
        bool found = !lower.failed && !strcmp(lower.data, corpus_word(x, x->occurrences[from].word));
        strbuf_release(&lower);
        if (!found) continue;
        size_t end = at + used;
        for (int i = 1; i < n; i++) {
            size_t next = end;
            used = text_next_word(s.data, s.len, &next);
            if (used) end = next + used;
        }
        *out = s.failed ? NULL : strndup(s.data + at, end - at);
        break;
    }
    strbuf_release(&s);
    return *out ? ERR_OK : err_nomem(e, "a name", 0);
}

/* Sorted runs: each name once, the best of each relation by how often it occurs (beside: in the concept's documents). */
static void choose_names(const corpus_index *x, const name_words *concept, const uint8_t *in_doc, const run_list *runs,
                         top_entry best[N_RELATIONS][BESIDE], int n_best[N_RELATIONS]) {
    for (int64_t i = 0, end; i < runs->n; i = end) {
        int64_t beside = 0;
        for (end = i; end < runs->n && same_words(&runs->items[end], &runs->items[i]); end++)
            beside += in_doc[x->token_doc[x->occurrences[runs->items[end].at].first]];
        relation what = relation_of(x, concept, &runs->items[i], beside > 0);
        int64_t score = what == IS_BESIDE ? beside : end - i;
        if (what == IS_CONCEPT || end - i < (what == HOLDS_WORD ? 1 : RIVAL_MENTIONS)) continue;
        top_keep(best[what], &n_best[what], wanted[what], (top_entry){(int32_t)i, (double)score});
    }
}

err_code rivals_propose(const corpus_index *x, const name_words *concept, const mention_list *mentions, rival_list *out,
                        err *e) {
    run_list runs = {0};
    uint8_t *in_doc = NULL;
    int64_t n_docs;
    top_entry best[N_RELATIONS][BESIDE];
    int n_best[N_RELATIONS] = {0};
    *out = (rival_list){0};
    err_code rc;
    TRY(mark_documents(x, mentions, &in_doc, &n_docs, e));
    TRY(collect_runs(x, &runs, e));
    if (runs.n) qsort(runs.items, (size_t)runs.n, sizeof *runs.items, by_words);
    choose_names(x, concept, in_doc, &runs, best, n_best);
    TRY(mem_new0(&out->items, SHARING + INSIDE + BESIDE + ELSEWHERE, sizeof *out->items, "names", e));
    for (relation what = SHARES_WORD; what < N_RELATIONS; what++)
        for (int i = 0; i < n_best[what]; i++) {
            const run *r = &runs.items[best[what][i].key];
            rival *to = &out->items[out->n];
            *to = (rival){.name = {.n = r->n}, .count = (int64_t)best[what][i].score};
            memcpy(to->name.words, r->words, (size_t)r->n * sizeof *r->words);
            TRY(text_of(x, r->at, r->n, &to->text, e));
            out->n++;
        }
done:
    free(runs.items);
    free(in_doc);
    if (rc) rivals_release(out);
    return rc;
}

void rivals_release(rival_list *l) {
    for (int i = 0; i < l->n; i++) free(l->items[i].text);
    free(l->items);
    *l = (rival_list){0};
}

/* ---- related words ---- */

static double entropy_term(double observed, double expected) {
    return observed > 0 ? observed * log(observed / expected) : 0;
}

/* Dunning's G2 of "document has the word" against "document mentions the concept", 0 when the word is rarer there. */
static double association(double both, double word, double concept, double all) {
    double expected = word * concept / all;
    if (both <= expected) return 0;
    return 2 * (entropy_term(both, expected) + entropy_term(word - both, word * (all - concept) / all) +
                entropy_term(concept - both, concept * (all - word) / all) +
                entropy_term(all - word - concept + both, (all - word) * (all - concept) / all));
}

/* How many times more often the word stands in the concept's documents than in others. */
static double lift(double both, double word, double concept, double all) {
    return word > both ? both / concept / ((word - both) / (all - concept)) : INFINITY;
}

/* The first occurrence written the way most are. */
static int64_t usual_occurrence(const corpus_index *x, int32_t word) {
    int64_t from = x->of_word_start[word], to = x->of_word_start[word + 1], capital = 0;
    for (int64_t i = from; i < to; i++) capital += x->occurrences[x->of_word[i]].capital;
    bool wants = 2 * capital > to - from;
    for (int64_t i = from; i < to; i++)
        if (x->occurrences[x->of_word[i]].capital == wants) return x->of_word[i];
    return x->of_word[from];
}

err_code related_words(const corpus_index *x, const name_words *concept, const mention_list *mentions, int max, char **out,
                       int *n, err *e) {
    uint8_t *in_doc = NULL;
    int64_t concept_docs;
    top_entry *best = NULL;
    int found = 0;
    *n = 0;
    err_code rc;
    TRY(mark_documents(x, mentions, &in_doc, &concept_docs, e));
    TRY(mem_new(&best, (size_t)max, sizeof *best, "words", e));
    for (int32_t w = 0; w < x->n_words; w++) {
        int64_t docs = 0, both = 0;
        int32_t last = -1;
        if (strlen(corpus_word(x, w)) < RELATED_LETTERS || has_word(concept, w)) continue;
        for (int64_t i = x->of_word_start[w]; i < x->of_word_start[w + 1]; i++) {
            int32_t doc = x->token_doc[x->occurrences[x->of_word[i]].first];
            if (doc == last) continue;
            last = doc;
            docs++;
            both += in_doc[doc];
        }
        double g2 = association((double)both, (double)docs, (double)concept_docs, (double)x->corpus->n_docs);
        if (both >= RELATED_DOCS && g2 > 0 &&
            lift((double)both, (double)docs, (double)concept_docs, (double)x->corpus->n_docs) >= RELATED_LIFT)
            top_keep(best, &found, max, (top_entry){w, g2});
    }
    for (int i = 0; i < found; i++) {
        TRY(text_of(x, usual_occurrence(x, best[i].key), 1, &out[i], e));
        ++*n;
    }
done:
    free(in_doc);
    free(best);
    return rc;
}
