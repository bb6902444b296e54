/* unigram.c — of all ways to write a piece as tokens, the one with the largest sum of log-probabilities, by Viterbi's algorithm.
 * Kudo 2018, "Subword regularization: improving neural network translation models with multiple subword candidates".
 *
 * best[j] = max over i < j of best[i] + score(text[i..j)); a character that no token covers costs the smallest score - 10.
 * Tokens at a position are found by narrowing a range of the sorted keys byte by byte. Of equal sums the earliest start counts.
 */
#include "core/mem.h"
#include "text/kinds.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double unknown_penalty = 10; /* SentencePiece's kUnkPenalty */

typedef struct unigram {
    const vocab *v;
    double *scores;   /* [v->n] */
    uint32_t *sorted; /* [n_sorted] ids by key */
    size_t n_sorted;
    double unknown_score;
    unknown_rule unknown;
} unigram;

/* ---- tokens at a position ---- */

/* Byte `depth` of the key of sorted[i], -1 when it has none. */
static int key_byte(const unigram *u, size_t i, size_t depth) {
    size_t n;
    const char *key = string_at(&u->v->keys, u->sorted[i], &n);
    return depth < n ? (unsigned char)key[depth] : -1;
}

/* First index in [low, high) whose byte is at least `byte`; the keys agree before `depth`. */
static size_t lower_bound(const unigram *u, size_t low, size_t high, size_t depth, int byte) {
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (key_byte(u, middle, depth) < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* ---- one piece ---- */

enum { SCRATCH_BEST, SCRATCH_FROM, SCRATCH_IDS, SCRATCH_PATH };

typedef struct lattice {
    double *best;   /* [n + 1] */
    uint32_t *from; /* [n + 1]; NO_TOKEN: not reached */
    uint32_t *ids;  /* [n + 1] the token that ends here; NO_TOKEN: an unknown character */
    uint32_t *path; /* [n + 1] ends, last first */
} lattice;

static err_code lattice_init(lattice *l, kind_scratch *scratch, size_t n, err *e) {
    static const size_t sizes[] = {sizeof *l->best, sizeof *l->from, sizeof *l->ids, sizeof *l->path};
    for (int i = 0; i < 4; i++) {
        err_code rc = mem_grow(&scratch->data[i], &scratch->cap[i], n + 1, sizes[i], "the paths of a word", e);
        if (rc) return rc;
    }
    *l = (lattice){scratch->data[SCRATCH_BEST], scratch->data[SCRATCH_FROM], scratch->data[SCRATCH_IDS],
                   scratch->data[SCRATCH_PATH]};
    for (size_t i = 0; i <= n; i++) l->from[i] = NO_TOKEN;
    l->best[0] = 0;
    l->from[0] = 0;
    return ERR_OK;
}

static void offer(lattice *l, size_t from, size_t to, uint32_t id, double score) {
    double sum = l->best[from] + score;
    if (l->from[to] != NO_TOKEN && sum <= l->best[to]) return;
    l->best[to] = sum;
    l->from[to] = (uint32_t)from;
    l->ids[to] = id;
}

/* Offers every token that text + at begins with, and an unknown character unless a token covers exactly it. */
static void extend(const unigram *u, lattice *l, const char *text, size_t n, size_t at, size_t char_len) {
    size_t low = 0, high = u->n_sorted;
    bool has_char = false;
    for (size_t depth = 0; at + depth < n; depth++) {
        int byte = (unsigned char)text[at + depth];
        low = lower_bound(u, low, high, depth, byte);
        high = lower_bound(u, low, high, depth, byte + 1);
        if (low == high) break;
        if (key_byte(u, low, depth + 1) >= 0) continue; /* longer keys only */
        uint32_t id = u->sorted[low];
        offer(l, at, at + depth + 1, id, u->scores[id]);
        has_char = has_char || depth + 1 == char_len;
    }
    if (!has_char) offer(l, at, at + char_len, NO_TOKEN, u->unknown_score);
}

static err_code unigram_encode(const void *state, kind_scratch *scratch, const char *piece, size_t n, token_ids *out,
                               err *e) {
    const unigram *u = state;
    lattice l;
    if (n > INT32_MAX) return err_set(e, ERR_FORMAT, "a word of %zu bytes", n);
    err_code rc = lattice_init(&l, scratch, n, e);
    if (rc) return rc;
    for (size_t at = 0, len; at < n; at += len) {
        unsigned char lead = (unsigned char)piece[at];
        len = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
        if (len > n - at || utf8_prefix(piece + at, len) != len) len = 1;
        if (l.from[at] != NO_TOKEN) extend(u, &l, piece, n, at, len);
    }
    size_t n_path = 0;
    for (size_t at = n; at; at = l.from[at]) l.path[n_path++] = (uint32_t)at;
    size_t begin = out->len;
    for (size_t i = n_path; i-- && !rc;) {
        size_t to = l.path[i], from = l.from[to];
        if (l.ids[to] != NO_TOKEN)
            rc = token_ids_add(out, l.ids[to], e);
        else
            rc = unknown_rule_add(&u->unknown, piece + from, to - from, out, begin, e);
    }
    return rc;
}

/* ---- life ---- */

static void unigram_close(void *state) {
    unigram *u = state;
    if (!u) return;
    free(u->scores);
    free(u->sorted);
    free(u);
}

typedef struct keyed {
    const char *key;
    size_t n;
    uint32_t id;
} keyed;

static int by_key(const void *a, const void *b) {
    const keyed *x = a, *y = b;
    int order = memcmp(x->key, y->key, x->n < y->n ? x->n : y->n);
    if (order) return order;
    if (x->n != y->n) return x->n < y->n ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

/* The pieces that vocab_find finds, so of two alike only the first. */
static err_code sort_keys(unigram *u, err *e) {
    keyed *all = NULL;
    size_t n = 0;
    err_code rc = mem_new(&u->sorted, (size_t)u->v->n, sizeof *u->sorted, "the vocabulary's index", e);
    if (rc) return rc;
    TRY(mem_new(&all, (size_t)u->v->n, sizeof *all, "the vocabulary's index", e));
    for (int64_t i = 0; i < u->v->n; i++) {
        keyed k = {.id = (uint32_t)i};
        k.key = string_at(&u->v->keys, k.id, &k.n);
        if (k.n && u->v->types[i] != TOKEN_UNUSED && vocab_find(u->v, k.key, k.n) == k.id) all[n++] = k;
    }
    qsort(all, n, sizeof *all, by_key);
    for (size_t i = 0; i < n; i++) u->sorted[i] = all[i].id;
    u->n_sorted = n;
done:
    free(all);
    return rc;
}

static err_code unigram_open(const tokenizer_def *d, const vocab *v, void **state, err *e) {
    unigram *u;
    err_code rc = mem_new0(&u, 1, sizeof *u, "the tokenizer", e);
    if (rc) return rc;
    u->v = v;
    unknown_rule_init(d, v, &u->unknown);
    TRY(mem_new(&u->scores, (size_t)v->n, sizeof *u->scores, "scores", e));
    double smallest = INFINITY;
    for (int64_t i = 0; i < v->n; i++) {
        u->scores[i] = d->pieces[i].score;
        if (v->types[i] == TOKEN_NORMAL && u->scores[i] < smallest) smallest = u->scores[i];
    }
    u->unknown_score = (isinf(smallest) ? 0 : smallest) - unknown_penalty;
    rc = sort_keys(u, e);
done:
    if (rc)
        unigram_close(u);
    else
        *state = u;
    return rc;
}

const tokenizer_kind_row tokenizer_unigram = {"unigram", unigram_open, unigram_close, unigram_encode};
