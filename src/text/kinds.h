/* kinds.h — what a kind of tokenizer provides; the table is in tokenizer.c. Internal to text/. */
#ifndef TEXT_KINDS_H
#define TEXT_KINDS_H

#include "text/tokenizer.h"
#include "text/vocab.h"

typedef struct tokenizer_kind_row {
    const char *label; /* for people */
    vocab_spelling spelling;
    /* The kind's own state, made from the file and the vocabulary, which outlives it. close accepts NULL. */
    err_code (*open)(const weights *w, const vocab *v, void **state, err *e);
    void (*close)(void *state);
    /* Appends the ids of a text without marked pieces; any bytes. */
    err_code (*encode)(const void *state, const char *text, size_t n, token_ids *out, err *e);
    const char *(*pretok)(const void *state); /* its pre-tokenizer's name */
    bool (*adds_bos)(const void *state);      /* where the file does not say */
} tokenizer_kind_row;

extern const tokenizer_kind_row tokenizer_bpe; /* bpe.c */

err_code token_ids_add(token_ids *out, uint32_t id, err *e);

#endif
