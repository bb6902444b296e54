/* vocab.h — the pieces of a vocabulary: by id, by spelling, and the marked ones that are looked for in text. Internal to text/.
 *
 * A piece has two forms: its key, in which encoding looks it up (bytes for a byte-level vocabulary, else as the file spells
 * it), and the bytes it stands for in text. Marked pieces (control and user-defined tokens) are matched before anything else.
 * Threads: const vocab may be shared. Errors: ERR_FORMAT, ERR_NOMEM.
 */
#ifndef TEXT_VOCAB_H
#define TEXT_VOCAB_H

#include "text/definition.h"

enum { NO_TOKEN = UINT32_MAX };

typedef struct string_list {
    char *bytes;       /* one behind the other */
    uint32_t *offsets; /* [n + 1] */
} string_list;

/* Marked pieces of one kind of text, raw or normalized. */
typedef struct mark_index {
    string_list texts; /* [n] by first byte, then longest first */
    uint32_t *ids;     /* [n] */
    uint32_t by[257];  /* those beginning with byte b: by[b] .. by[b + 1] */
} mark_index;

typedef struct vocab {
    int64_t n;
    string_list keys, texts; /* [n] by id */
    uint8_t *types, *marks;  /* [n] token_type and MARK_ flags */
    uint32_t *slots;         /* [mask + 1] open addressing by key: id or NO_TOKEN */
    size_t mask;
    mark_index raw, normalized;
} vocab;

err_code vocab_open(const tokenizer_def *d, vocab *v, err *e);
void vocab_release(vocab *v);

static inline const char *string_at(const string_list *l, uint32_t i, size_t *n) {
    *n = l->offsets[i + 1] - l->offsets[i];
    return l->bytes + l->offsets[i];
}

/* The id of the piece with exactly this key, or NO_TOKEN. Control tokens are not found. */
uint32_t vocab_find(const vocab *v, const char *key, size_t n);

/* Which of the n letters of GPT-2's alphabet are bytes; false when one is not. */
bool byte_level_spelling(const char *text, size_t n, strbuf *out);

typedef struct mark {
    uint32_t id; /* NO_TOKEN: none */
    size_t from, to;
} mark;

/* The first and longest marked piece in text, at or behind `from`, with the white space that belongs to it; control tokens
 * only when asked for. */
mark vocab_next_mark(const vocab *v, const mark_index *index, const char *text, size_t n, size_t from, bool control);

#endif
