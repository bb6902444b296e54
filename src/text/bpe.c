/* bpe.c — byte-pair encoding. Sennrich, Haddow and Birch 2016, "Neural machine translation of rare words with subword units".
 *
 * A piece of the pre-tokenizer begins as one symbol per byte or character; of all neighbouring pairs that may be joined, the
 * one that ranks first is (the leftmost of equals), until none is left. Three kinds differ in what is joined:
 *   byte-level  symbols are bytes (Radford et al. 2019), pairs those of the merge table in its order;
 *   merges      symbols are characters, pairs those of the merge table;
 *   scores      symbols are characters, pairs any two that together are a piece, in the order of the pieces' scores
 *               (Kudo and Richardson 2018, "SentencePiece").
 * Candidates wait in a heap, so a piece of n symbols takes O(n log n); those whose symbols have changed meanwhile are dropped
 * when they come up.
 */
#include "core/mem.h"
#include "text/kinds.h"

#include <stdlib.h>
#include <string.h>

typedef struct merge {
    uint32_t left, right, joined; /* token ids */
} merge;

typedef struct bpe {
    const vocab *v;
    merge *merges; /* [n_merges] by rank; NULL with scores */
    int64_t n_merges;
    uint32_t *slots; /* [mask + 1] open addressing by (left, right): rank or NO_TOKEN */
    size_t mask;
    uint32_t *ranks; /* [v->n] of every piece by its score; NULL with merges */
    bool bytes;      /* symbols are bytes */
    bool whole_pieces;
    unknown_rule unknown;
} bpe;

/* ---- which pairs ---- */

static size_t find_slot(const bpe *b, uint32_t left, uint32_t right) {
    uint64_t h = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u; /* Knuth's multiplicative hash */
    size_t i = (size_t)(h >> 32) & b->mask;
    for (; b->slots[i] != NO_TOKEN; i = (i + 1) & b->mask) {
        const merge *m = &b->merges[b->slots[i]];
        if (m->left == left && m->right == right) break;
    }
    return i;
}

/* The halves of a merge and the whole must be in the vocabulary; scratch comes back as the whole's key. */
static err_code read_merge(const bpe *b, int64_t rank, const merge_def *d, strbuf *scratch, merge *out, err *e) {
    strbuf_reset(scratch);
    bool spelled = true;
    if (b->bytes)
        spelled = byte_level_spelling(d->left, d->n_left, scratch);
    else
        strbuf_add(scratch, d->left, d->n_left);
    size_t half = scratch->len;
    if (b->bytes)
        spelled = spelled && byte_level_spelling(d->right, d->n_right, scratch);
    else
        strbuf_add(scratch, d->right, d->n_right);
    if (scratch->failed) return strbuf_check(scratch, e);
    *out = (merge){NO_TOKEN, NO_TOKEN, NO_TOKEN};
    if (spelled)
        *out = (merge){.left = vocab_find(b->v, scratch->data, half),
                       .right = vocab_find(b->v, scratch->data + half, scratch->len - half),
                       .joined = vocab_find(b->v, scratch->data, scratch->len)};
    if (out->left == NO_TOKEN || out->right == NO_TOKEN || out->joined == NO_TOKEN)
        return err_set(e, ERR_FORMAT, "merge %lld of the tokenizer names a piece the vocabulary lacks", (long long)rank);
    return ERR_OK;
}

static err_code read_merges(const tokenizer_def *d, bpe *b, err *e) {
    strbuf scratch = STRBUF_INIT;
    err_code rc = ERR_OK;
    size_t size = 16;
    b->n_merges = d->n_merges;
    while (size < 2 * (size_t)b->n_merges) size *= 2;
    TRY(mem_new(&b->merges, (size_t)b->n_merges, sizeof *b->merges, "merges", e));
    TRY(mem_new(&b->slots, size, sizeof *b->slots, "merges", e));
    memset(b->slots, 0xff, size * sizeof *b->slots); /* NO_TOKEN */
    b->mask = size - 1;
    for (int64_t rank = 0; rank < b->n_merges; rank++) {
        merge *m = &b->merges[rank];
        TRY(read_merge(b, rank, &d->merges[rank], &scratch, m, e));
        size_t slot = find_slot(b, m->left, m->right);
        if (b->slots[slot] == NO_TOKEN) b->slots[slot] = (uint32_t)rank; /* of two alike the first counts */
    }
done:
    strbuf_release(&scratch);
    return rc;
}

typedef struct scored {
    double score;
    uint32_t id;
} scored;

static int best_first(const void *a, const void *b) {
    const scored *x = a, *y = b;
    return (x->score < y->score) - (x->score > y->score);
}

/* Equal scores rank equal. */
static err_code rank_scores(const tokenizer_def *d, bpe *b, err *e) {
    scored *all = NULL;
    err_code rc = mem_new(&b->ranks, (size_t)d->n_pieces, sizeof *b->ranks, "scores", e);
    if (rc) return rc;
    TRY(mem_new(&all, (size_t)d->n_pieces, sizeof *all, "scores", e));
    for (int64_t i = 0; i < d->n_pieces; i++) all[i] = (scored){d->pieces[i].score, (uint32_t)i};
    qsort(all, (size_t)d->n_pieces, sizeof *all, best_first);
    for (int64_t i = 0; i < d->n_pieces; i++)
        b->ranks[all[i].id] = i && all[i].score == all[i - 1].score ? b->ranks[all[i - 1].id] : (uint32_t)i;
done:
    free(all);
    return rc;
}

/* ---- one piece ---- */

typedef struct symbol {
    uint32_t id;         /* NO_TOKEN: a character the vocabulary lacks */
    uint32_t start, len; /* bytes of the piece; len 0: joined to the one before it */
    uint32_t prev, next; /* indices; NO_TOKEN at the ends */
} symbol;

typedef struct candidate {
    uint32_t rank, at; /* the symbol at `at` and the one behind it.. */
    uint32_t len;      /* ..as long as they have so many bytes together.. */
    uint32_t joined;   /* ..become this token */
} candidate;

enum { SCRATCH_SYMBOLS, SCRATCH_HEAP };

typedef struct merging {
    const bpe *b;
    const char *piece;
    symbol *symbols;
    candidate *heap; /* smallest rank, then smallest position, on top */
    size_t heap_len;
} merging;

static bool comes_first(candidate a, candidate b) { return a.rank != b.rank ? a.rank < b.rank : a.at < b.at; }

static void heap_push(merging *m, candidate c) {
    size_t i = m->heap_len++;
    for (; i && comes_first(c, m->heap[(i - 1) / 2]); i = (i - 1) / 2) m->heap[i] = m->heap[(i - 1) / 2];
    m->heap[i] = c;
}

static candidate heap_pop(merging *m) {
    candidate top = m->heap[0], last = m->heap[--m->heap_len];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < m->heap_len; i = child) {
        if (child + 1 < m->heap_len && comes_first(m->heap[child + 1], m->heap[child])) child++;
        if (!comes_first(m->heap[child], last)) break;
        m->heap[i] = m->heap[child];
    }
    m->heap[i] = last;
    return top;
}

static void propose(merging *m, uint32_t at) {
    if (at == NO_TOKEN || m->symbols[at].next == NO_TOKEN) return;
    const symbol *left = &m->symbols[at], *right = &m->symbols[left->next];
    candidate c = {.at = at, .len = left->len + right->len, .joined = NO_TOKEN};
    if (m->b->ranks) {
        c.joined = vocab_find(m->b->v, m->piece + left->start, c.len);
        if (c.joined != NO_TOKEN) c.rank = m->b->ranks[c.joined];
    } else if (left->id != NO_TOKEN && right->id != NO_TOKEN) {
        c.rank = m->b->slots[find_slot(m->b, left->id, right->id)];
        if (c.rank != NO_TOKEN) c.joined = m->b->merges[c.rank].joined;
    }
    if (c.joined != NO_TOKEN) heap_push(m, c);
}

static void join(merging *m, candidate c) {
    symbol *left = &m->symbols[c.at];
    if (!left->len || left->next == NO_TOKEN) return;
    symbol *right = &m->symbols[left->next];
    if (left->len + right->len != c.len) return; /* outdated */
    left->id = c.joined;
    left->len = c.len;
    right->len = 0;
    left->next = right->next;
    if (left->next != NO_TOKEN) m->symbols[left->next].prev = c.at;
    propose(m, left->prev);
    propose(m, c.at);
}

static size_t symbol_length(const bpe *b, const char *text, size_t n) {
    if (b->bytes) return 1;
    size_t len = (unsigned char)text[0] < 0x80   ? 1
                 : (unsigned char)text[0] < 0xe0 ? 2
                 : (unsigned char)text[0] < 0xf0 ? 3
                                                 : 4;
    return len <= n && utf8_prefix(text, len) == len ? len : 1;
}

/* Symbols of a piece, linked; a byte of a byte-level vocabulary that has no token is left out, as other programs do: SmolLM2
 * lacks six control characters and the bytes that UTF-8 hardly ever uses. */
static uint32_t make_symbols(merging *m, size_t n) {
    uint32_t count = 0;
    for (size_t i = 0, len; i < n; i += len) {
        len = symbol_length(m->b, m->piece + i, n - i);
        uint32_t id = vocab_find(m->b->v, m->piece + i, len);
        if (id == NO_TOKEN && m->b->bytes) continue;
        m->symbols[count] = (symbol){id, (uint32_t)i, (uint32_t)len, count - 1, count + 1};
        count++;
    }
    if (count) m->symbols[count - 1].next = NO_TOKEN;
    return count;
}

static err_code bpe_encode(const void *state, kind_scratch *scratch, const char *piece, size_t n, token_ids *out, err *e) {
    const bpe *b = state;
    merging m = {.b = b, .piece = piece};
    err_code rc;
    if (b->whole_pieces) {
        uint32_t whole = vocab_find(b->v, piece, n);
        if (whole != NO_TOKEN) return token_ids_add(out, whole, e);
    }
    if (n > INT32_MAX) return err_set(e, ERR_FORMAT, "a word of %zu bytes", n);
    void **data = scratch->data;
    /* n - 1 first proposals, and two for each of at most n - 1 joins. */
    if ((rc = mem_grow(&data[SCRATCH_SYMBOLS], &scratch->cap[SCRATCH_SYMBOLS], n, sizeof *m.symbols, "symbols", e)))
        return rc;
    if ((rc = mem_grow(&data[SCRATCH_HEAP], &scratch->cap[SCRATCH_HEAP], 3 * n, sizeof *m.heap, "symbols", e))) return rc;
    m.symbols = data[SCRATCH_SYMBOLS];
    m.heap = data[SCRATCH_HEAP];
    uint32_t count = make_symbols(&m, n);
    for (uint32_t i = 0; i < count; i++) propose(&m, i);
    while (m.heap_len) join(&m, heap_pop(&m));
    size_t begin = out->len;
    for (uint32_t i = count ? 0 : NO_TOKEN; i != NO_TOKEN && !rc; i = m.symbols[i].next) {
        const symbol *s = &m.symbols[i];
        if (s->id != NO_TOKEN)
            rc = token_ids_add(out, s->id, e);
        else
            rc = unknown_rule_add(&b->unknown, piece + s->start, s->len, out, begin, e);
    }
    return rc;
}

/* ---- life ---- */

static void bpe_close(void *state) {
    bpe *b = state;
    if (!b) return;
    free(b->merges);
    free(b->slots);
    free(b->ranks);
    free(b);
}

/* A vocabulary without plain letters is not one of byte-level BPE. */
static err_code check_bytes(const vocab *v, err *e) {
    for (int byte = 0; byte < 256; byte++) {
        char c = (char)byte;
        if (((byte >= ' ' && byte <= '~') || byte == '\n') && vocab_find(v, &c, 1) == NO_TOKEN)
            return err_set(e, ERR_FORMAT,
                           "the tokenizer has no token for the byte 0x%02X: not the vocabulary of a byte-level BPE",
                           (unsigned)byte);
    }
    return ERR_OK;
}

static err_code bpe_open(const tokenizer_def *d, const vocab *v, void **state, err *e) {
    bpe *b;
    err_code rc = mem_new0(&b, 1, sizeof *b, "the tokenizer", e);
    if (rc) return rc;
    b->v = v;
    b->bytes = d->kind == &tokenizer_byte_bpe;
    b->whole_pieces = d->whole_pieces;
    unknown_rule_init(d, v, &b->unknown);
    if (b->bytes) TRY(check_bytes(v, e));
    if (d->kind == &tokenizer_score_bpe)
        TRY(rank_scores(d, b, e));
    else
        TRY(read_merges(d, b, e));
done:
    if (rc)
        bpe_close(b);
    else
        *state = b;
    return rc;
}

const tokenizer_kind_row tokenizer_byte_bpe = {"byte-level BPE", bpe_open, bpe_close, bpe_encode};
const tokenizer_kind_row tokenizer_char_bpe = {"BPE", bpe_open, bpe_close, bpe_encode};
const tokenizer_kind_row tokenizer_score_bpe = {"SentencePiece BPE", bpe_open, bpe_close, bpe_encode};
