/* vocab.h — the pieces of a vocabulary: by id, by bytes, and the marked ones that are looked for in text. Internal to text/.
 *
 * A piece is kept as the bytes it stands for in text; how the file spells it is the tokenizer kind's business (vocab_spelling).
 * Marked pieces (control and user-defined tokens) are matched in text as they are written, before anything else.
 * Threads: const vocab may be shared. Errors: ERR_FORMAT, ERR_NOMEM.
 */
#ifndef TEXT_VOCAB_H
#define TEXT_VOCAB_H

#include "core/strbuf.h"
#include "formats/weights.h"

/* tokenizer.ggml.token_type, as the GGUF specification numbers it. */
typedef enum token_type {
    TOKEN_UNDEFINED,
    TOKEN_NORMAL,
    TOKEN_UNKNOWN,
    TOKEN_CONTROL,
    TOKEN_USER_DEFINED,
    TOKEN_UNUSED,
    TOKEN_BYTE,
} token_type;

enum { NO_TOKEN = UINT32_MAX };

typedef struct vocab {
    int64_t n;
    char *bytes;       /* all pieces, one behind the other */
    uint32_t *offsets; /* [n + 1] */
    uint8_t *types;    /* [n] token_type */
    uint32_t *slots;   /* [mask + 1] open addressing by piece: id or NO_TOKEN */
    size_t mask;
    uint32_t *marked;        /* ids of marked pieces, by first byte, then longest first */
    uint32_t marked_by[257]; /* marked pieces beginning with byte b: marked[marked_by[b] .. marked_by[b + 1]) */
} vocab;

/* Appends the bytes that a piece spelled `text` stands for; false when it spells none: it is then taken literally, and is not
 * found by vocab_find. */
typedef bool (*vocab_spelling)(const char *text, size_t n, strbuf *out);

err_code vocab_open(const weights *w, vocab_spelling spelling, vocab *v, err *e);
void vocab_release(vocab *v);

static inline const char *vocab_piece(const vocab *v, uint32_t id, size_t *n) {
    *n = v->offsets[id + 1] - v->offsets[id];
    return v->bytes + v->offsets[id];
}

/* The id of the piece with exactly these bytes, or NO_TOKEN. Control tokens are not found. */
uint32_t vocab_find(const vocab *v, const char *piece, size_t n);

/* The longest marked piece that text begins with, or NO_TOKEN; control tokens only when asked for. */
uint32_t vocab_marked_at(const vocab *v, const char *text, size_t n, bool control);

/* The array `key` of strings, or a sentence. */
err_code vocab_meta_strings(const weights *w, const char *key, const meta_value **out, err *e);

#endif
