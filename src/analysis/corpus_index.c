#include "analysis/corpus_index.h"

#include "core/mem.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* ---- characters ---- */

/* Decodes one character; bytes that are no UTF-8 come one at a time as code -1. */
static size_t next_char(const char *s, size_t n, int32_t *code) {
    utf8proc_ssize_t used = utf8proc_iterate((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)n, code);
    if (used > 0) return (size_t)used;
    *code = -1;
    return 1;
}

static bool is_word_char(int32_t code) {
    if (code < 0) return false;
    utf8proc_category_t kind = utf8proc_category(code);
    return (kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_ME) || kind == UTF8PROC_CATEGORY_ND;
}

static bool is_apostrophe(int32_t code) { return code == '\'' || code == 0x2019; }

/* Scripts written without spaces between words. */
static bool stands_alone(int32_t code) {
    return (code >= 0x3040 && code <= 0x30FF) || (code >= 0x3400 && code <= 0x9FFF) || (code >= 0xF900 && code <= 0xFAFF) ||
           (code >= 0x20000 && code <= 0x3FFFF);
}

void text_add_lower(strbuf *out, const char *text, size_t n) {
    for (size_t i = 0, used; i < n; i += used) {
        int32_t code;
        used = next_char(text + i, n - i, &code);
        utf8proc_uint8_t lower[4];
        if (code < 0)
            strbuf_add_char(out, text[i]);
        else
            strbuf_add(out, lower, (size_t)utf8proc_encode_char(utf8proc_tolower(code), lower));
    }
}

/* The "s" of "Bai's", which is no part of the word: what follows the apostrophe is a single s. */
static bool is_possessive(const char *s, size_t n) {
    int32_t code = -1;
    if (s[0] != 's' && s[0] != 'S') return false;
    if (n > 1) next_char(s + 1, n - 1, &code);
    return !is_word_char(code);
}

/* Length of the word that starts at s (whose first character is a word character). */
static size_t word_length(const char *s, size_t n) {
    int32_t code, behind;
    size_t i = next_char(s, n, &code);
    if (stands_alone(code)) return i;
    while (i < n) {
        size_t used = next_char(s + i, n - i, &code);
        if (is_apostrophe(code) && i + used < n) {
            next_char(s + i + used, n - i - used, &behind);
            if (!is_word_char(behind) || stands_alone(behind) || is_possessive(s + i + used, n - i - used)) break;
        } else if (!is_word_char(code) || stands_alone(code)) {
            break;
        }
        i += used;
    }
    return i;
}

size_t text_next_word(const char *text, size_t n, size_t *at) {
    for (size_t used; *at < n; *at += used) {
        int32_t code;
        used = next_char(text + *at, n - *at, &code);
        if (is_word_char(code)) return word_length(text + *at, n - *at);
    }
    return 0;
}

/* ---- interning ---- */

typedef struct interner {
    strbuf bytes; /* words, each with its NUL */
    int64_t *start;
    size_t cap_start;
    int32_t n;
    int32_t *slots; /* [1 << bits] word + 1, 0 = free; at most half full */
    int bits;
} interner;

static uint64_t hash_bytes(const char *s, size_t n) { /* FNV-1a */
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)s[i]) * 0x100000001b3u;
    return h ^ h >> 32;
}

static size_t find_slot(const interner *t, const char *s, size_t n) {
    size_t mask = ((size_t)1 << t->bits) - 1, slot = hash_bytes(s, n) & mask;
    for (; t->slots[slot]; slot = (slot + 1) & mask) {
        const char *word = t->bytes.data + t->start[t->slots[slot] - 1];
        if (!strncmp(word, s, n) && !word[n]) break;
    }
    return slot;
}

static err_code interner_grow(interner *t, err *e) {
    free(t->slots);
    t->bits = t->bits ? t->bits + 1 : 12;
    err_code rc = mem_new0(&t->slots, (size_t)1 << t->bits, sizeof *t->slots, "words", e);
    for (int32_t w = 0; !rc && w < t->n; w++) {
        const char *word = t->bytes.data + t->start[w];
        t->slots[find_slot(t, word, strlen(word))] = w + 1;
    }
    return rc;
}

static err_code intern(interner *t, const char *s, size_t n, int32_t *word, err *e) {
    err_code rc;
    if (!t->slots || (size_t)t->n * 2 >= (size_t)1 << t->bits) TRY(interner_grow(t, e));
    size_t slot = find_slot(t, s, n);
    if (!t->slots[slot]) {
        if (t->n == INT32_MAX - 1)
            return err_set(e, ERR_UNSUPPORTED, "the corpus has more than %d different words", INT32_MAX - 1);
        TRY(mem_grow(&t->start, &t->cap_start, (size_t)t->n + 1, sizeof *t->start, "words", e));
        t->start[t->n] = (int64_t)t->bytes.len;
        strbuf_add(&t->bytes, s, n);
        strbuf_add(&t->bytes, "", 1);
        TRY(strbuf_check(&t->bytes, e));
        t->slots[slot] = ++t->n;
    }
    *word = t->slots[slot] - 1;
    rc = ERR_OK;
done:
    return rc;
}

/* ---- words of a document ---- */

typedef struct reader {
    corpus_index *x;
    interner words;
    strbuf text, lower; /* of the document, of a word */
    size_t *ends;       /* where each token of the document ends in text */
    size_t cap_ends, cap_occurrences;
} reader;

static err_code join_tokens(reader *r, int64_t from, int64_t to, err *e) {
    const vocab_view *v = &r->x->vocab;
    err_code rc = mem_grow(&r->ends, &r->cap_ends, (size_t)(to - from), sizeof *r->ends, "a document", e);
    if (rc) return rc;
    strbuf_reset(&r->text);
    for (int64_t t = from; t < to; t++) {
        uint32_t id = r->x->corpus->tokens[t];
        strbuf_add(&r->text, v->bytes + v->offsets[id], v->offsets[id + 1] - v->offsets[id]);
        r->ends[t - from] = r->text.len;
    }
    return strbuf_check(&r->text, e);
}

static err_code add_word(reader *r, size_t at, size_t n, int64_t first, int64_t last, err *e) {
    corpus_index *x = r->x;
    int32_t code, word = 0;
    strbuf_reset(&r->lower);
    text_add_lower(&r->lower, r->text.data + at, n);
    err_code rc;
    TRY(strbuf_check(&r->lower, e));
    TRY(intern(&r->words, r->lower.data, r->lower.len, &word, e));
    TRY(mem_grow(&x->occurrences, &r->cap_occurrences, (size_t)x->n_occurrences + 1, sizeof *x->occurrences, "words", e));
    next_char(r->text.data + at, n, &code);
    for (int64_t t = first; t <= last; t++) x->token_word[t] = x->n_occurrences;
    x->occurrences[x->n_occurrences++] =
        (word_at){.word = word, .capital = utf8proc_category(code) == UTF8PROC_CATEGORY_LU, .first = first, .last = last};
done:
    return rc;
}

static err_code read_document(reader *r, int64_t from, int64_t to, err *e) {
    err_code rc;
    TRY(join_tokens(r, from, to, e));
    int64_t token = from;
    for (size_t at = 0, n; (n = text_next_word(r->text.data, r->text.len, &at)); at += n) {
        while (r->ends[token - from] <= at) token++;
        int64_t last = token;
        while (r->ends[last - from] < at + n) last++;
        TRY(add_word(r, at, n, token, last, e));
    }
done:
    return rc;
}

static err_code index_words(corpus_index *x, err *e) {
    reader r = {.x = x, .words = {.bytes = STRBUF_INIT}, .text = STRBUF_INIT, .lower = STRBUF_INIT};
    err_code rc;
    memset(x->token_word, 0xff, (size_t)x->corpus->n_tokens * sizeof *x->token_word); /* -1 */
    for (int64_t d = 0; d < x->corpus->n_docs; d++) {
        x->doc_first_word[d] = x->n_occurrences;
        TRY(read_document(&r, (int64_t)x->corpus->doc_offsets[d], (int64_t)x->corpus->doc_offsets[d + 1], e));
    }
    x->doc_first_word[x->corpus->n_docs] = x->n_occurrences;
    x->n_words = r.words.n;
    x->word_start = r.words.start;
    r.words.start = NULL;
    x->word_bytes = strbuf_detach(&r.words.bytes);
    if (!x->word_bytes) rc = err_nomem(e, "words", 0);
done:
    free(r.words.start);
    free(r.words.slots);
    strbuf_release(&r.words.bytes);
    strbuf_release(&r.text);
    strbuf_release(&r.lower);
    free(r.ends);
    return rc;
}

/* ---- the index ---- */

static err_code check_input(const token_corpus *k, vocab_view vocab, const uint64_t *row_token, int64_t n_rows, err *e) {
    for (int64_t i = 0; i < vocab.n; i++)
        if (vocab.offsets[i] > vocab.offsets[i + 1])
            return err_set(e, ERR_FORMAT, "piece %" PRId64 " of the vocabulary ends before it starts", i);
    for (int64_t d = 0; d < k->n_docs; d++)
        if (k->doc_offsets[d] > k->doc_offsets[d + 1] || k->doc_offsets[d + 1] > (uint64_t)k->n_tokens)
            return err_set(e, ERR_FORMAT, "document %" PRId64 " does not lie within the %" PRId64 " tokens", d, k->n_tokens);
    if (k->n_docs > INT32_MAX - 1 ||
        (k->n_docs && (k->doc_offsets[0] != 0 || k->doc_offsets[k->n_docs] != (uint64_t)k->n_tokens)) ||
        (!k->n_docs && k->n_tokens))
        return err_set(e, ERR_FORMAT, "documents do not cover the tokens");
    for (int64_t t = 0; t < k->n_tokens; t++)
        if (k->tokens[t] >= (uint64_t)vocab.n)
            return err_set(e, ERR_FORMAT, "token %" PRId64 " has id %" PRIu32 ", the vocabulary %" PRId64 " pieces", t,
                           k->tokens[t], vocab.n);
    for (int64_t r = 0; r < n_rows; r++)
        if (row_token[r] >= (uint64_t)k->n_tokens || (r && row_token[r] <= row_token[r - 1]))
            return err_set(e, ERR_FORMAT, "row %" PRId64 " belongs to token %" PRIu64 ", which is out of order", r,
                           row_token[r]);
    return ERR_OK;
}

/* Lists of positions by key, by counting: start [n_keys + 1], list [n]. key(i) < n_keys. */
#define COLLECT(n, n_keys, key, start, list)                                                                                 \
    do {                                                                                                                     \
        for (int64_t i = 0; i < (n); i++) (start)[(key) + 1]++;                                                              \
        for (int64_t k_ = 0; k_ < (n_keys); k_++) (start)[k_ + 1] += (start)[k_];                                            \
        for (int64_t i = (n); i-- > 0;) (list)[--(start)[(key) + 1]] = i;                                                    \
        for (int64_t k_ = 0; k_ < (n_keys); k_++) (start)[k_] = (start)[k_ + 1];                                             \
        (start)[n_keys] = (n);                                                                                               \
    } while (0)

err_code corpus_index_build(const token_corpus *k, vocab_view vocab, const uint64_t *row_token, int64_t n_rows,
                            corpus_index *out, err *e) {
    *out = (corpus_index){.corpus = k, .vocab = vocab, .row_token = row_token, .n_rows = n_rows};
    corpus_index *x = out;
    size_t n_tokens = (size_t)k->n_tokens, n_docs = (size_t)k->n_docs;
    err_code rc;
    TRY(check_input(k, vocab, row_token, n_rows, e));
    TRY(mem_new(&x->token_row, n_tokens, sizeof *x->token_row, "rows of tokens", e));
    TRY(mem_new(&x->token_doc, n_tokens, sizeof *x->token_doc, "documents of tokens", e));
    TRY(mem_new(&x->doc_group, n_docs, sizeof *x->doc_group, "documents", e));
    TRY(mem_new0(&x->of_token_start, (size_t)vocab.n + 1, sizeof *x->of_token_start, "positions of tokens", e));
    TRY(mem_new(&x->of_token, n_tokens, sizeof *x->of_token, "positions of tokens", e));
    TRY(mem_new(&x->doc_first_word, n_docs + 1, sizeof *x->doc_first_word, "documents", e));
    TRY(mem_new(&x->token_word, n_tokens, sizeof *x->token_word, "words of tokens", e));

    memset(x->token_row, 0xff, n_tokens * sizeof *x->token_row); /* -1 */
    for (int64_t r = 0; r < n_rows; r++) x->token_row[row_token[r]] = r;
    for (int64_t d = 0; d < k->n_docs; d++)
        for (uint64_t t = k->doc_offsets[d]; t < k->doc_offsets[d + 1]; t++) x->token_doc[t] = (int32_t)d;
    x->n_groups = corpus_texts(k, x->doc_group);
    COLLECT(k->n_tokens, vocab.n, k->tokens[i], x->of_token_start, x->of_token);

    TRY(index_words(x, e));
    TRY(mem_new0(&x->of_word_start, (size_t)x->n_words + 1, sizeof *x->of_word_start, "occurrences of words", e));
    TRY(mem_new(&x->of_word, (size_t)x->n_occurrences, sizeof *x->of_word, "occurrences of words", e));
    COLLECT(x->n_occurrences, x->n_words, x->occurrences[i].word, x->of_word_start, x->of_word);
done:
    if (rc) corpus_index_release(out);
    return rc;
}

void corpus_index_release(corpus_index *x) {
    free(x->token_row);
    free(x->token_doc);
    free(x->doc_group);
    free(x->of_token_start);
    free(x->of_token);
    free(x->word_bytes);
    free(x->word_start);
    free(x->occurrences);
    free(x->doc_first_word);
    free(x->token_word);
    free(x->of_word_start);
    free(x->of_word);
    *x = (corpus_index){0};
}

/* ---- looking up ---- */

const char *corpus_word(const corpus_index *x, int32_t word) { return x->word_bytes + x->word_start[word]; }

int32_t corpus_find_word(const corpus_index *x, const char *text) {
    for (int32_t w = 0; w < x->n_words; w++)
        if (!strcmp(corpus_word(x, w), text)) return w;
    return -1;
}

int64_t corpus_word_before(const corpus_index *x, int32_t word, int64_t token) {
    int64_t low = x->of_word_start[word], high = x->of_word_start[word + 1]; /* first occurrence that ends behind token */
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (x->occurrences[x->of_word[middle]].last <= token)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == x->of_word_start[word]) return -1;
    int64_t found = x->of_word[low - 1];
    return found >= x->doc_first_word[x->token_doc[token]] ? found : -1;
}

bool corpus_doc_has_word(const corpus_index *x, int32_t word, int32_t doc) {
    int64_t end = (int64_t)x->corpus->doc_offsets[doc + 1];
    return end > (int64_t)x->corpus->doc_offsets[doc] && corpus_word_before(x, word, end - 1) >= 0;
}
