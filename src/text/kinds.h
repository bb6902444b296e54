/* kinds.h — what a kind of tokenizer provides: the ids of one piece of text. Internal to text/. */
#ifndef TEXT_KINDS_H
#define TEXT_KINDS_H

#include "text/definition.h"
#include "text/tokenizer.h"
#include "text/vocab.h"

/* Memory a kind may use while it encodes, kept from piece to piece: four growing arrays. Zero-initialise. */
typedef struct kind_scratch {
    void *data[4];
    size_t cap[4];
} kind_scratch;

typedef struct tokenizer_kind_row {
    const char *label; /* for people */
    /* The kind's own state, made from the definition and the vocabulary, which outlives it. close accepts NULL. */
    err_code (*open)(const tokenizer_def *d, const vocab *v, void **state, err *e);
    void (*close)(void *state);
    /* Appends the ids of a piece of the pre-tokenizer; any bytes. */
    err_code (*encode)(const void *state, kind_scratch *scratch, const char *piece, size_t n, token_ids *out, err *e);
} tokenizer_kind_row;

extern const tokenizer_kind_row tokenizer_byte_bpe;  /* bpe.c: merges, over bytes */
extern const tokenizer_kind_row tokenizer_char_bpe;  /* bpe.c: merges, over characters */
extern const tokenizer_kind_row tokenizer_score_bpe; /* bpe.c: any two that make a piece, best score first */
extern const tokenizer_kind_row tokenizer_unigram;   /* unigram.c */

/* Takes the definition's normalizer and pre-tokenizer over; the caller releases the rest. */
err_code tokenizer_build(tokenizer_def *d, tokenizer **out, err *e);

err_code token_ids_add(token_ids *out, uint32_t id, err *e);

/* Appends the ids of an unknown character or run of them: its bytes if the vocabulary has them all, else the unknown token
 * (behind another one only when they are not fused), else nothing. */
typedef struct unknown_rule {
    uint32_t byte_ids[256]; /* NO_TOKEN where the vocabulary has none, or bytes are not to be used */
    uint32_t unknown;       /* or NO_TOKEN */
    bool fuses;
} unknown_rule;

void unknown_rule_init(const tokenizer_def *d, const vocab *v, unknown_rule *out);
err_code unknown_rule_add(const unknown_rule *r, const char *text, size_t n, token_ids *out, size_t begin, err *e);

#endif
