#include "text/vocab.h"

#include "core/mem.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum { VOCAB_BYTES_MAX = INT32_MAX };

static bool is_marked(uint8_t type) { return type == TOKEN_CONTROL || type == TOKEN_USER_DEFINED || type == TOKEN_UNKNOWN; }

/* ---- spellings ---- */

/* GPT-2's byte alphabet: a byte that prints in Latin-1 is spelled as that character, the others as U+0100, U+0101, .. */
static bool prints(int byte) { return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae; }

static int byte_of_letter(utf8proc_int32_t letter) {
    if (letter < 256) return prints(letter) ? letter : -1;
    int nth = letter - 256;
    for (int byte = 0; byte < 256; byte++)
        if (!prints(byte) && nth-- == 0) return byte;
    return -1;
}

bool byte_level_spelling(const char *text, size_t n, strbuf *out) {
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

static void add_with_spaces(const char *text, size_t n, strbuf *out) {
    for (size_t i = 0; i < n;) {
        bool space = n - i >= 3 && !memcmp(text + i, "\xe2\x96\x81", 3);
        strbuf_add_char(out, space ? ' ' : text[i]);
        i += space ? 3 : 1;
    }
}

/* "<0x0A>" */
static int byte_of_name(const char *text, size_t n) {
    static const char digits[] = "0123456789ABCDEF";
    if (n != 6 || memcmp(text, "<0x", 3) || text[5] != '>') return -1;
    const char *high = memchr(digits, text[3], 16), *low = memchr(digits, text[4], 16);
    return high && low ? (int)((high - digits) * 16 + (low - digits)) : -1;
}

/* Appends the piece's key and text; false when byte-level spelling spells none: it is then taken literally. */
static bool add_piece(const tokenizer_def *d, const piece_def *p, strbuf *keys, strbuf *texts) {
    size_t at = keys->len;
    bool spelled = d->spelling != SPELLED_BYTE_LEVEL || byte_level_spelling(p->bytes, p->n, keys);
    if (!spelled && !keys->failed) keys->len = at;
    if (!spelled || d->spelling != SPELLED_BYTE_LEVEL) strbuf_add(keys, p->bytes, p->n);
    if (spelled && d->spelling == SPELLED_BYTE_LEVEL && !is_marked(p->type))
        strbuf_add(texts, keys->data + at, keys->len - at);
    else if (d->spelling == SPELLED_SENTENCEPIECE && p->type == TOKEN_BYTE && byte_of_name(p->bytes, p->n) >= 0)
        strbuf_add_char(texts, (char)byte_of_name(p->bytes, p->n));
    else if (d->spelling == SPELLED_SENTENCEPIECE)
        add_with_spaces(p->bytes, p->n, texts);
    else
        strbuf_add(texts, p->bytes, p->n);
    return spelled;
}

static err_code read_pieces(const tokenizer_def *d, vocab *v, bool *findable, err *e) {
    strbuf keys = STRBUF_INIT, texts = STRBUF_INIT;
    err_code rc = ERR_OK;
    for (int64_t i = 0; i < v->n; i++) {
        const piece_def *p = &d->pieces[i];
        if (p->n > PIECE_BYTES_MAX || keys.len > VOCAB_BYTES_MAX - PIECE_BYTES_MAX) {
            rc = err_set(e, ERR_FORMAT, "token %lld makes the vocabulary too long", (long long)i);
            goto done;
        }
        v->types[i] = p->type;
        v->marks[i] = p->marks;
        v->keys.offsets[i] = (uint32_t)keys.len;
        v->texts.offsets[i] = (uint32_t)texts.len;
        findable[i] = add_piece(d, p, &keys, &texts) && p->listed;
    }
    v->keys.offsets[v->n] = (uint32_t)keys.len;
    v->texts.offsets[v->n] = (uint32_t)texts.len;
    TRY(strbuf_check(&keys, e));
    TRY(strbuf_check(&texts, e));
    v->keys.bytes = strbuf_detach(&keys);
    v->texts.bytes = strbuf_detach(&texts);
    if (!v->keys.bytes || !v->texts.bytes) rc = err_nomem(e, "pieces", v->keys.offsets[v->n]);
done:
    strbuf_release(&keys);
    strbuf_release(&texts);
    return rc;
}

/* ---- pieces by their keys ---- */

static size_t hash_bytes(const char *s, size_t n) { /* FNV-1a, Fowler, Noll and Vo */
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)s[i]) * 1099511628211u;
    return (size_t)(h ^ h >> 32);
}

/* The slot where this piece is, or would be. */
static size_t find_slot(const vocab *v, const char *key, size_t n) {
    for (size_t i = hash_bytes(key, n) & v->mask;; i = (i + 1) & v->mask) {
        if (v->slots[i] == NO_TOKEN) return i;
        size_t len;
        const char *k = string_at(&v->keys, v->slots[i], &len);
        if (len == n && !memcmp(k, key, n)) return i;
    }
}

uint32_t vocab_find(const vocab *v, const char *key, size_t n) { return v->slots[find_slot(v, key, n)]; }

static err_code index_pieces(vocab *v, const bool *findable, err *e) {
    size_t size = 16;
    while (size < 2 * (size_t)v->n) size *= 2;
    err_code rc = mem_new(&v->slots, size, sizeof *v->slots, "the vocabulary's index", e);
    if (rc) return rc;
    memset(v->slots, 0xff, size * sizeof *v->slots); /* NO_TOKEN */
    v->mask = size - 1;
    for (int64_t i = 0; i < v->n; i++) {
        size_t n;
        const char *key = string_at(&v->keys, (uint32_t)i, &n);
        if (!n || !findable[i]) continue;
        size_t slot = find_slot(v, key, n);
        if (v->slots[slot] == NO_TOKEN) v->slots[slot] = (uint32_t)i; /* of two alike the first counts */
    }
    return ERR_OK;
}

/* ---- marked pieces ---- */

typedef struct marked_piece {
    const char *bytes;
    size_t n;
    uint32_t id;
    char *own; /* bytes, when they are not the vocabulary's */
} marked_piece;

static int by_first_byte_longest_first(const void *a, const void *b) {
    const marked_piece *x = a, *y = b;
    if (x->bytes[0] != y->bytes[0]) return (unsigned char)x->bytes[0] < (unsigned char)y->bytes[0] ? -1 : 1;
    if (x->n != y->n) return x->n > y->n ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

/* The text that piece id is looked for in. */
static err_code marked_text(const tokenizer_def *d, const vocab *v, uint32_t id, marked_piece *out, err *e) {
    strbuf normal = STRBUF_INIT;
    *out = (marked_piece){.id = id, .bytes = d->pieces[id].bytes, .n = d->pieces[id].n};
    bool normalized = v->marks[id] & MARK_NORMALIZED;
    if (d->marks_as_shown && !normalized) out->bytes = string_at(&v->texts, id, &out->n);
    if (d->marks_as_shown || !normalized) return ERR_OK;
    err_code rc = normalizer_apply(d->normalizer, out->bytes, out->n, &normal, e);
    out->n = normal.len;
    if (!rc && !(out->own = strbuf_detach(&normal))) rc = err_nomem(e, "special tokens", out->n);
    strbuf_release(&normal);
    out->bytes = out->own;
    return rc;
}

static err_code fill_index(marked_piece *found, size_t n, mark_index *out, err *e) {
    strbuf texts = STRBUF_INIT;
    if (n) qsort(found, n, sizeof *found, by_first_byte_longest_first);
    err_code rc = mem_new(&out->ids, n, sizeof *out->ids, "special tokens", e);
    if (rc || (rc = mem_new(&out->texts.offsets, n + 1, sizeof *out->texts.offsets, "special tokens", e))) return rc;
    for (size_t i = 0; i < n; i++) {
        out->ids[i] = found[i].id;
        out->texts.offsets[i] = (uint32_t)texts.len;
        strbuf_add(&texts, found[i].bytes, found[i].n);
        out->by[(unsigned char)found[i].bytes[0] + 1]++;
    }
    out->texts.offsets[n] = (uint32_t)texts.len;
    for (int b = 0; b < 256; b++) out->by[b + 1] += out->by[b];
    if (!(out->texts.bytes = strbuf_detach(&texts))) rc = err_nomem(e, "special tokens", texts.len);
    strbuf_release(&texts);
    return rc;
}

static err_code index_marked(const tokenizer_def *d, const vocab *v, bool normalized, mark_index *out, err *e) {
    marked_piece *found = NULL;
    size_t n_found = 0, cap = 0;
    err_code rc = ERR_OK;
    for (int64_t i = 0; i < v->n; i++) {
        if (!is_marked(v->types[i]) || !!(v->marks[i] & MARK_NORMALIZED) != normalized) continue;
        TRY(mem_grow(&found, &cap, n_found + 1, sizeof *found, "special tokens", e));
        TRY(marked_text(d, v, (uint32_t)i, &found[n_found], e));
        if (found[n_found].n)
            n_found++;
        else
            free(found[n_found].own);
    }
    rc = fill_index(found, n_found, out, e);
done:
    for (size_t i = 0; i < n_found; i++) free(found[i].own);
    free(found);
    return rc;
}

static bool joins_word(utf8proc_int32_t c) {
    utf8proc_category_t kind = utf8proc_category(c);
    return kind == UTF8PROC_CATEGORY_LU || kind == UTF8PROC_CATEGORY_LL || kind == UTF8PROC_CATEGORY_LT ||
           kind == UTF8PROC_CATEGORY_LM || kind == UTF8PROC_CATEGORY_LO || kind == UTF8PROC_CATEGORY_ND ||
           kind == UTF8PROC_CATEGORY_NL || kind == UTF8PROC_CATEGORY_MN || kind == UTF8PROC_CATEGORY_MC ||
           kind == UTF8PROC_CATEGORY_ME || kind == UTF8PROC_CATEGORY_PC;
}

static bool is_white(utf8proc_int32_t c) {
    utf8proc_category_t kind = utf8proc_category(c);
    return (c >= '\t' && c <= '\r') || c == 0x85 || kind == UTF8PROC_CATEGORY_ZS || kind == UTF8PROC_CATEGORY_ZL ||
           kind == UTF8PROC_CATEGORY_ZP;
}

/* The character that begins at text + at, or the one that ends there; -1 when there is none. *n: its bytes. */
static utf8proc_int32_t letter_at(const char *text, size_t size, size_t at, size_t *n) {
    utf8proc_int32_t c = -1;
    utf8proc_ssize_t len = utf8proc_iterate((const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)(size - at), &c);
    *n = len > 0 ? (size_t)len : 0;
    return len > 0 ? c : -1;
}

static utf8proc_int32_t letter_before(const char *text, size_t at, size_t *n) {
    size_t start = at;
    *n = 0;
    while (start && at - start < 4 && ((unsigned char)text[start - 1] & 0xc0) == 0x80) start--;
    if (!start) return -1;
    utf8proc_int32_t c = letter_at(text, at, start - 1, n);
    return c >= 0 && start - 1 + *n == at ? c : -1;
}

static bool is_alone(const char *text, size_t n, size_t from, size_t to) {
    size_t len;
    utf8proc_int32_t before = letter_before(text, from, &len), behind = to < n ? letter_at(text, n, to, &len) : -1;
    return !(before >= 0 && joins_word(before)) && !(behind >= 0 && joins_word(behind));
}

/* Index into marks of the longest one at text + at, or -1. */
static int64_t mark_at(const vocab *v, const mark_index *index, const char *text, size_t n, size_t at, bool control) {
    unsigned char first = (unsigned char)text[at];
    for (uint32_t i = index->by[first]; i < index->by[first + 1]; i++) {
        size_t len;
        const char *piece = string_at(&index->texts, i, &len);
        if (!control && v->types[index->ids[i]] != TOKEN_USER_DEFINED) continue;
        if (len > n - at || memcmp(piece, text + at, len)) continue;
        if (v->marks[index->ids[i]] & MARK_WORD && !is_alone(text, n, at, at + len)) return -1;
        return i;
    }
    return -1;
}

mark vocab_next_mark(const vocab *v, const mark_index *index, const char *text, size_t n, size_t from, bool control) {
    for (size_t at = from; at < n; at++) {
        int64_t i = mark_at(v, index, text, n, at, control);
        if (i < 0) continue;
        size_t len;
        mark m = {.id = index->ids[i], .from = at};
        string_at(&index->texts, (uint32_t)i, &len);
        m.to = at + len;
        uint8_t marks = v->marks[m.id];
        while (marks & MARK_LEFT_STRIP && m.from > from && is_white(letter_before(text, m.from, &len)) &&
               m.from - len >= from)
            m.from -= len;
        while (marks & MARK_RIGHT_STRIP && m.to < n && is_white(letter_at(text, n, m.to, &len))) m.to += len;
        return m;
    }
    return (mark){.id = NO_TOKEN, .from = n, .to = n};
}

/* ---- life ---- */

err_code vocab_open(const tokenizer_def *d, vocab *v, err *e) {
    bool *findable = NULL;
    err_code rc = ERR_OK;
    *v = (vocab){.n = d->n_pieces};
    if (v->n < 1 || v->n > PIECES_MAX)
        return err_set(e, ERR_FORMAT, "a vocabulary of %lld tokens, expected 1 to %d", (long long)v->n, PIECES_MAX);
    TRY(mem_new(&v->keys.offsets, (size_t)v->n + 1, sizeof *v->keys.offsets, "the vocabulary", e));
    TRY(mem_new(&v->texts.offsets, (size_t)v->n + 1, sizeof *v->texts.offsets, "the vocabulary", e));
    TRY(mem_new(&v->types, (size_t)v->n, 1, "the vocabulary", e));
    TRY(mem_new(&v->marks, (size_t)v->n, 1, "the vocabulary", e));
    TRY(mem_new(&findable, (size_t)v->n, sizeof *findable, "the vocabulary", e));
    TRY(read_pieces(d, v, findable, e));
    TRY(index_pieces(v, findable, e));
    TRY(index_marked(d, v, false, &v->raw, e));
    TRY(index_marked(d, v, true, &v->normalized, e));
done:
    free(findable);
    if (rc) vocab_release(v);
    return rc;
}

static void string_list_release(string_list *l) {
    free(l->bytes);
    free(l->offsets);
}

void vocab_release(vocab *v) {
    string_list_release(&v->keys);
    string_list_release(&v->texts);
    string_list_release(&v->raw.texts);
    string_list_release(&v->normalized.texts);
    free(v->raw.ids);
    free(v->normalized.ids);
    free(v->types);
    free(v->marks);
    free(v->slots);
    *v = (vocab){0};
}
