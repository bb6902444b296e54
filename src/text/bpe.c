/* bpe.c — byte-level byte-pair encoding. Sennrich, Haddow and Birch 2016, "Neural machine translation of rare words with
 * subword units"; over bytes as in Radford et al. 2019.
 *
 * A piece of the pre-tokenizer begins as one symbol per byte; of all neighbouring pairs that the merge table lists, the one
 * listed first is joined (the leftmost of equals), until none is left. Candidates wait in a heap, so a piece of n bytes takes
 * O(n log n); those whose symbols have changed meanwhile are dropped when they come up.
 */
#include "core/mem.h"
#include "text/kinds.h"
#include "text/pretok.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

typedef struct merge {
    uint32_t left, right, joined; /* token ids */
} merge;

typedef struct bpe {
    const vocab *v;
    pretok *pretok;
    merge *merges; /* [n_merges] by rank */
    int64_t n_merges;
    uint32_t *slots; /* [mask + 1] open addressing by (left, right): rank or NO_TOKEN */
    size_t mask;
    uint32_t byte_ids[256]; /* NO_TOKEN where the vocabulary has none */
} bpe;

/* ---- GPT-2's byte alphabet ----
 * A byte that prints in Latin-1 is spelled as that character, the others as U+0100, U+0101, .. in order. */

static bool prints(int byte) { return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae; }

static int byte_of_letter(utf8proc_int32_t letter) {
    if (letter < 256) return prints(letter) ? letter : -1;
    int nth = letter - 256;
    for (int byte = 0; byte < 256; byte++)
        if (!prints(byte) && nth-- == 0) return byte;
    return -1;
}

static bool bpe_spelling(const char *text, size_t n, strbuf *out) {
    for (size_t i = 0; i < n;) {
        utf8proc_int32_t letter;
        utf8proc_ssize_t len = utf8proc_iterate((const utf8proc_uint8_t *)text + i, (utf8proc_ssize_t)(n - i), &letter);
        int byte = len > 0 ? byte_of_letter(letter) : -1;
        if (byte < 0) return false;
        strbuf_add_char(out, (char)byte);
        i += (size_t)len;
    }
    return true;
}

/* ---- the merge table ---- */

static size_t find_slot(const bpe *b, uint32_t left, uint32_t right) {
    uint64_t h = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u; /* Knuth's multiplicative hash */
    size_t i = (size_t)(h >> 32) & b->mask;
    for (; b->slots[i] != NO_TOKEN; i = (i + 1) & b->mask) {
        const merge *m = &b->merges[b->slots[i]];
        if (m->left == left && m->right == right) break;
    }
    return i;
}

static err_code find_piece(const vocab *v, const char *text, size_t n, strbuf *scratch, uint32_t *out, err *e) {
    strbuf_reset(scratch);
    *out = bpe_spelling(text, n, scratch) ? vocab_find(v, scratch->data, scratch->len) : NO_TOKEN;
    return strbuf_check(scratch, e);
}

/* "Ġt he": the halves and the whole must be in the vocabulary. */
static err_code read_merge(const vocab *v, int64_t rank, const meta_value *line, strbuf *scratch, merge *out, err *e) {
    const char *text = line->string.bytes;
    size_t n = line->string.len;
    const char *space = n > 2 ? memchr(text + 1, ' ', n - 2) : NULL;
    if (!space)
        return err_set(e, ERR_FORMAT, "metadata tokenizer.ggml.merges: merge %lld is not two pieces with a space between",
                       (long long)rank);
    size_t half = (size_t)(space - text);
    err_code rc = find_piece(v, text, half, scratch, &out->left, e);
    if (rc == ERR_OK) rc = find_piece(v, space + 1, n - half - 1, scratch, &out->right, e);
    if (rc != ERR_OK) return rc;
    strbuf_reset(scratch);
    bool spelled = bpe_spelling(text, half, scratch) && bpe_spelling(space + 1, n - half - 1, scratch);
    out->joined = spelled ? vocab_find(v, scratch->data, scratch->len) : NO_TOKEN;
    if (scratch->failed) return strbuf_check(scratch, e);
    if (out->left == NO_TOKEN || out->right == NO_TOKEN || out->joined == NO_TOKEN)
        return err_set(e, ERR_FORMAT, "metadata tokenizer.ggml.merges: merge %lld names a piece the vocabulary lacks",
                       (long long)rank);
    return ERR_OK;
}

static err_code read_merges(const weights *w, bpe *b, err *e) {
    const meta_value *lines = NULL;
    strbuf scratch = STRBUF_INIT;
    err_code rc = ERR_OK;
    TRY(vocab_meta_strings(w, "tokenizer.ggml.merges", &lines, e));
    b->n_merges = lines->array.count;
    if (b->n_merges > INT32_MAX) {
        rc = err_set(e, ERR_FORMAT, "metadata tokenizer.ggml.merges: %lld merges", (long long)b->n_merges);
        goto done;
    }
    size_t size = 16;
    while (size < 2 * (size_t)b->n_merges) size *= 2;
    TRY(mem_new(&b->merges, (size_t)b->n_merges, sizeof *b->merges, "merges", e));
    TRY(mem_new(&b->slots, size, sizeof *b->slots, "merges", e));
    memset(b->slots, 0xff, size * sizeof *b->slots); /* NO_TOKEN */
    b->mask = size - 1;
    for (int64_t rank = 0; rank < b->n_merges; rank++) {
        merge *m = &b->merges[rank];
        TRY(read_merge(b->v, rank, &lines->array.items[rank], &scratch, m, e));
        size_t slot = find_slot(b, m->left, m->right);
        if (b->slots[slot] == NO_TOKEN) b->slots[slot] = (uint32_t)rank; /* of two alike the first counts */
    }
done:
    strbuf_release(&scratch);
    return rc;
}

/* A byte without a token is left out of the ids, as other programs do: SmolLM2 lacks six control characters and the bytes
 * that UTF-8 hardly ever uses. But a vocabulary without plain letters is not one of byte-level BPE. */
static err_code find_bytes(bpe *b, err *e) {
    for (int byte = 0; byte < 256; byte++) {
        char c = (char)byte;
        b->byte_ids[byte] = vocab_find(b->v, &c, 1);
        if (b->byte_ids[byte] == NO_TOKEN && ((byte >= ' ' && byte <= '~') || byte == '\n'))
            return err_set(e, ERR_FORMAT,
                           "metadata tokenizer.ggml.tokens: no token for the byte 0x%02X: not the vocabulary of "
                           "a byte-level BPE",
                           (unsigned)byte);
    }
    return ERR_OK;
}

/* ---- one piece ---- */

typedef struct symbol {
    uint32_t id;
    uint32_t prev, next; /* indices; NO_TOKEN at the ends */
} symbol;

typedef struct candidate {
    uint32_t rank, at; /* merge `rank` for symbol `at` and the one behind it */
} candidate;

typedef struct merging {
    const bpe *b;
    symbol *symbols; /* NO_TOKEN as id: joined to the one before it */
    size_t symbols_cap;
    candidate *heap; /* smallest rank, then smallest position, on top */
    size_t heap_len, heap_cap;
    token_ids *out;
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
    uint32_t rank = m->b->slots[find_slot(m->b, m->symbols[at].id, m->symbols[m->symbols[at].next].id)];
    if (rank != NO_TOKEN) heap_push(m, (candidate){rank, at});
}

static void join(merging *m, candidate c) {
    const merge *pair = &m->b->merges[c.rank];
    symbol *left = &m->symbols[c.at];
    if (left->id != pair->left || left->next == NO_TOKEN || m->symbols[left->next].id != pair->right) return; /* outdated */
    symbol *right = &m->symbols[left->next];
    left->id = pair->joined;
    right->id = NO_TOKEN;
    left->next = right->next;
    if (left->next != NO_TOKEN) m->symbols[left->next].prev = c.at;
    propose(m, left->prev);
    propose(m, c.at);
}

static err_code encode_piece(void *user, const char *piece, size_t n, err *e) {
    merging *m = user;
    const bpe *b = m->b;
    err_code rc;
    if (n == 1 || pretok_whole_pieces(b->pretok)) {
        uint32_t whole = vocab_find(b->v, piece, n);
        if (whole != NO_TOKEN) return token_ids_add(m->out, whole, e);
    }
    if (n > INT32_MAX) return err_set(e, ERR_FORMAT, "a word of %zu bytes", n);
    /* n - 1 first proposals, and two for each of at most n - 1 joins. */
    if ((rc = mem_grow(&m->symbols, &m->symbols_cap, n, sizeof *m->symbols, "symbols", e))) return rc;
    if ((rc = mem_grow(&m->heap, &m->heap_cap, 3 * n, sizeof *m->heap, "merges to come", e))) return rc;
    uint32_t count = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t id = b->byte_ids[(unsigned char)piece[i]];
        if (id == NO_TOKEN) continue;
        m->symbols[count] = (symbol){.id = id, .prev = count - 1, .next = count + 1};
        count++;
    }
    if (!count) return ERR_OK;
    m->symbols[count - 1].next = NO_TOKEN;
    m->heap_len = 0;
    for (uint32_t i = 0; i < count; i++) propose(m, i);
    while (m->heap_len) join(m, heap_pop(m));
    for (uint32_t i = 0; i != NO_TOKEN; i = m->symbols[i].next)
        if ((rc = token_ids_add(m->out, m->symbols[i].id, e))) return rc;
    return ERR_OK;
}

/* ---- a text ---- */

/* Number of leading bytes that are UTF-8. */
static size_t utf8_prefix(const char *text, size_t n) {
    size_t i = 0;
    while (i < n) {
        utf8proc_int32_t letter;
        utf8proc_ssize_t len = utf8proc_iterate((const utf8proc_uint8_t *)text + i, (utf8proc_ssize_t)(n - i), &letter);
        if (len <= 0) break;
        i += (size_t)len;
    }
    return i;
}

static err_code bpe_encode(const void *state, const char *text, size_t n, token_ids *out, err *e) {
    const bpe *b = state;
    merging m = {.b = b, .out = out};
    err_code rc = ERR_OK;
    for (size_t at = 0; at < n;) {
        size_t whole = utf8_prefix(text + at, n - at);
        if (whole) TRY(pretok_split(b->pretok, text + at, whole, encode_piece, &m, e));
        at += whole;
        if (at < n) TRY(encode_piece(&m, text + at++, 1, e));
    }
done:
    free(m.symbols);
    free(m.heap);
    return rc;
}

/* ---- life ---- */

static void bpe_close(void *state) {
    bpe *b = state;
    if (!b) return;
    pretok_close(b->pretok);
    free(b->merges);
    free(b->slots);
    free(b);
}

static err_code bpe_open(const weights *w, const vocab *v, void **state, err *e) {
    bpe *b;
    char *name = NULL;
    err_code rc = mem_new0(&b, 1, sizeof *b, "the tokenizer", e);
    if (rc) return rc;
    b->v = v;
    TRY(weights_meta_string_or(w, "tokenizer.ggml.pre", "default", &name, e));
    TRY(pretok_open(name, &b->pretok, e));
    TRY(find_bytes(b, e));
    TRY(read_merges(w, b, e));
done:
    free(name);
    if (rc)
        bpe_close(b);
    else
        *state = b;
    return rc;
}

static const char *bpe_pretok(const void *state) { return pretok_name(((const bpe *)state)->pretok); }
static bool bpe_adds_bos(const void *state) { return pretok_adds_bos(((const bpe *)state)->pretok); }

const tokenizer_kind_row tokenizer_bpe = {"byte-level BPE", bpe_spelling, bpe_open,    bpe_close,
                                          bpe_encode,       bpe_pretok,   bpe_adds_bos};
