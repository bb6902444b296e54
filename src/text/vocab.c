#include "text/vocab.h"

#include "core/mem.h"

#include <stdlib.h>
#include <string.h>

enum { PIECE_BYTES_MAX = 1 << 20, VOCAB_BYTES_MAX = INT32_MAX };

err_code vocab_meta_strings(const weights *w, const char *key, const meta_value **out, err *e) {
    const meta_value *v = weights_meta(w, key);
    if (!v) return err_set(e, ERR_FORMAT, "no metadata %s: the file has no tokenizer", key);
    if (v->kind != META_ARRAY || (v->array.count && v->array.kind != META_STRING))
        return err_set(e, ERR_FORMAT, "metadata %s: expected an array of strings", key);
    *out = v;
    return ERR_OK;
}

/* ---- pieces by id ---- */

static bool is_marked(uint8_t type) { return type == TOKEN_CONTROL || type == TOKEN_USER_DEFINED; }

static bool is_plain(uint8_t type) { return type == TOKEN_NORMAL || type == TOKEN_UNUSED || type == TOKEN_UNDEFINED; }

static err_code read_types(const weights *w, vocab *v, err *e) {
    static const char key[] = "tokenizer.ggml.token_type";
    const meta_value *types = weights_meta(w, key);
    err_code rc = mem_new0(&v->types, (size_t)v->n, 1, "token types", e);
    if (rc) return rc;
    if (!types) {
        memset(v->types, TOKEN_NORMAL, (size_t)v->n);
        return ERR_OK;
    }
    if (types->kind != META_ARRAY || types->array.kind != META_INT)
        return err_set(e, ERR_FORMAT, "metadata %s: expected an array of integers", key);
    if (types->array.count != v->n)
        return err_set(e, ERR_FORMAT, "metadata %s: expected %lld values, one per token, got %lld", key, (long long)v->n,
                       (long long)types->array.count);
    for (int64_t i = 0; i < v->n; i++) {
        int64_t type = types->array.items[i].integer;
        if (type < TOKEN_UNDEFINED || type > TOKEN_BYTE)
            return err_set(e, ERR_FORMAT, "metadata %s: token %lld has type %lld, expected 0 to 6", key, (long long)i,
                           (long long)type);
        v->types[i] = (uint8_t)type;
    }
    return ERR_OK;
}

/* What the file calls the beginning or end of text is a control token even where it lists no types. */
static void mark_named_controls(const weights *w, vocab *v) {
    static const char *const keys[] = {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id",
                                       "tokenizer.ggml.eot_token_id", "tokenizer.ggml.padding_token_id"};
    if (weights_meta(w, "tokenizer.ggml.token_type")) return;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const meta_value *id = weights_meta(w, keys[i]);
        if (id && id->kind == META_INT && id->integer >= 0 && id->integer < v->n) v->types[id->integer] = TOKEN_CONTROL;
    }
}

/* Pieces in order into v->bytes and v->offsets; spelled[i] says whether piece i stands for bytes. */
static err_code read_pieces(const meta_value *tokens, vocab_spelling spelling, vocab *v, bool *spelled, err *e) {
    strbuf all = STRBUF_INIT;
    err_code rc = ERR_OK;
    for (int64_t i = 0; i < v->n; i++) {
        const meta_value *t = &tokens->array.items[i];
        if (t->string.len > PIECE_BYTES_MAX || all.len > VOCAB_BYTES_MAX - PIECE_BYTES_MAX) {
            rc = err_set(e, ERR_FORMAT, "metadata tokenizer.ggml.tokens: token %lld makes the pieces too long", (long long)i);
            goto done;
        }
        v->offsets[i] = (uint32_t)all.len;
        spelled[i] = is_plain(v->types[i]) && spelling(t->string.bytes, t->string.len, &all);
        if (!spelled[i]) {
            all.len = v->offsets[i];
            strbuf_add(&all, t->string.bytes, t->string.len);
        }
    }
    v->offsets[v->n] = (uint32_t)all.len;
    TRY(strbuf_check(&all, e));
    if (!(v->bytes = strbuf_detach(&all))) rc = err_nomem(e, "pieces", all.len);
done:
    strbuf_release(&all);
    return rc;
}

/* ---- pieces by their bytes ---- */

static size_t hash_bytes(const char *s, size_t n) { /* FNV-1a, Fowler, Noll and Vo */
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)s[i]) * 1099511628211u;
    return (size_t)(h ^ h >> 32);
}

/* The slot where this piece is, or would be. */
static size_t find_slot(const vocab *v, const char *piece, size_t n) {
    for (size_t i = hash_bytes(piece, n) & v->mask;; i = (i + 1) & v->mask) {
        if (v->slots[i] == NO_TOKEN) return i;
        size_t len;
        const char *p = vocab_piece(v, v->slots[i], &len);
        if (len == n && !memcmp(p, piece, n)) return i;
    }
}

uint32_t vocab_find(const vocab *v, const char *piece, size_t n) { return v->slots[find_slot(v, piece, n)]; }

static err_code index_pieces(vocab *v, const bool *spelled, err *e) {
    size_t size = 16;
    while (size < 2 * (size_t)v->n) size *= 2;
    err_code rc = mem_new(&v->slots, size, sizeof *v->slots, "the vocabulary's index", e);
    if (rc) return rc;
    memset(v->slots, 0xff, size * sizeof *v->slots); /* NO_TOKEN */
    v->mask = size - 1;
    for (int64_t i = 0; i < v->n; i++) {
        size_t n;
        const char *piece = vocab_piece(v, (uint32_t)i, &n);
        if (!n || !(spelled[i] || v->types[i] == TOKEN_USER_DEFINED)) continue;
        size_t slot = find_slot(v, piece, n);
        if (v->slots[slot] == NO_TOKEN) v->slots[slot] = (uint32_t)i; /* of two alike the first counts */
    }
    return ERR_OK;
}

/* ---- marked pieces ---- */

typedef struct marked_piece {
    const char *bytes;
    size_t n;
    uint32_t id;
} marked_piece;

static int by_first_byte_longest_first(const void *a, const void *b) {
    const marked_piece *x = a, *y = b;
    if (x->bytes[0] != y->bytes[0]) return (unsigned char)x->bytes[0] < (unsigned char)y->bytes[0] ? -1 : 1;
    if (x->n != y->n) return x->n > y->n ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

static err_code index_marked(vocab *v, err *e) {
    marked_piece *found;
    size_t n_found = 0;
    err_code rc = mem_new(&found, (size_t)v->n, sizeof *found, "special tokens", e);
    if (rc) return rc;
    for (int64_t i = 0; i < v->n; i++) {
        marked_piece p = {.id = (uint32_t)i};
        p.bytes = vocab_piece(v, p.id, &p.n);
        if (is_marked(v->types[i]) && p.n) found[n_found++] = p;
    }
    qsort(found, n_found, sizeof *found, by_first_byte_longest_first);
    TRY(mem_new(&v->marked, n_found, sizeof *v->marked, "special tokens", e));
    for (size_t i = 0; i < n_found; i++) {
        v->marked[i] = found[i].id;
        v->marked_by[(unsigned char)found[i].bytes[0] + 1]++;
    }
    for (int b = 0; b < 256; b++) v->marked_by[b + 1] += v->marked_by[b];
done:
    free(found);
    return rc;
}

uint32_t vocab_marked_at(const vocab *v, const char *text, size_t n, bool control) {
    unsigned char first = (unsigned char)text[0];
    for (uint32_t i = v->marked_by[first]; i < v->marked_by[first + 1]; i++) {
        size_t len;
        const char *piece = vocab_piece(v, v->marked[i], &len);
        if (!control && v->types[v->marked[i]] == TOKEN_CONTROL) continue;
        if (len <= n && !memcmp(piece, text, len)) return v->marked[i];
    }
    return NO_TOKEN;
}

/* ---- life ---- */

err_code vocab_open(const weights *w, vocab_spelling spelling, vocab *v, err *e) {
    const meta_value *tokens = NULL;
    bool *spelled = NULL;
    err_code rc = vocab_meta_strings(w, "tokenizer.ggml.tokens", &tokens, e);
    if (rc) return rc;
    *v = (vocab){.n = tokens->array.count};
    if (v->n < 1 || v->n > INT32_MAX)
        return err_set(e, ERR_FORMAT, "metadata tokenizer.ggml.tokens: expected 1 to 2^31-1 tokens, got %lld",
                       (long long)v->n);
    TRY(mem_new(&v->offsets, (size_t)v->n + 1, sizeof *v->offsets, "the vocabulary", e));
    TRY(mem_new0(&spelled, (size_t)v->n, sizeof *spelled, "the vocabulary", e));
    TRY(read_types(w, v, e));
    mark_named_controls(w, v);
    TRY(read_pieces(tokens, spelling, v, spelled, e));
    TRY(index_pieces(v, spelled, e));
    TRY(index_marked(v, e));
done:
    free(spelled);
    if (rc) vocab_release(v);
    return rc;
}

void vocab_release(vocab *v) {
    free(v->bytes);
    free(v->offsets);
    free(v->types);
    free(v->slots);
    free(v->marked);
    *v = (vocab){0};
}
