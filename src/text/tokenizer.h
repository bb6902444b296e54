/* tokenizer.h — text to token ids and back.
 *
 * Texts are byte strings; ids index the model's vocabulary. encode(text) then decode gives the text back byte for byte.
 * Byte-level BPE: Sennrich et al. 2016 over GPT-2's byte alphabet; pre-tokenizer patterns are PCRE2 (pretok.c, a table by
 * the GGUF name in tokenizer.ggml.pre).
 * Threads: const tokenizer may be shared. Errors: ERR_FORMAT, ERR_UNSUPPORTED (names the unknown kind), ERR_NOMEM.
 */
#ifndef TEXT_TOKENIZER_H
#define TEXT_TOKENIZER_H

#include "core/err.h"
#include "core/file.h"
#include "core/strbuf.h"
#include "formats/weights.h"

typedef struct tokenizer tokenizer;

err_code tokenizer_open(const weights *w, tokenizer **out, err *e);
void tokenizer_close(tokenizer *t); /* accepts NULL */

const char *tokenizer_kind(const tokenizer *t); /* "byte-level BPE, pre-tokenizer smollm" */
int64_t tokenizer_size(const tokenizer *t);
const char *tokenizer_sha256(const tokenizer *t); /* hex, over the pieces and merges in order */

/* Special ids, -1 when the model has none. */
int64_t tokenizer_bos(const tokenizer *t);
int64_t tokenizer_eos(const tokenizer *t);
bool tokenizer_adds_bos(const tokenizer *t);
bool tokenizer_is_special(const tokenizer *t, uint32_t id); /* control tokens: never shown as text */

/* Tokens that end a generated text: EOS, end of turn, and control tokens named as such (SmolLM2's EOS is <|im_end|>, but its
 * raw continuations end with <|endoftext|>). */
bool tokenizer_ends_text(const tokenizer *t, uint32_t id);

typedef struct token_ids {
    uint32_t *ids;
    size_t len, cap;
} token_ids; /* zero-initialise; free(ids) */

typedef struct tokenize_opts {
    bool parse_special; /* special tokens written in the text become their ids */
    bool add_bos;       /* put BOS in front, if the model wants one */
} tokenize_opts;
#define TOKENIZE_DEFAULTS ((tokenize_opts){.parse_special = true, .add_bos = true})

/* Appends the ids of text[0..len) to out. Bytes that are not UTF-8 are encoded byte by byte. */
err_code tokenizer_encode(const tokenizer *t, const char *text, size_t len, const tokenize_opts *o, token_ids *out, err *e);

/* The bytes of one token as they stand in text (special tokens: their name). Borrowed from the tokenizer. */
const char *tokenizer_piece(const tokenizer *t, uint32_t id, size_t *len);

/* Appends the bytes of ids; special tokens are left out unless keep_special. */
void tokenizer_decode(const tokenizer *t, const uint32_t *ids, size_t n, bool keep_special, strbuf *out);

/* Appends bytes to out as valid UTF-8: what is no UTF-8 becomes <0xE6>. For showing pieces and windows. */
void text_add_printable(strbuf *out, const char *bytes, size_t n);

/* Number of leading bytes of s that form whole UTF-8 characters: a stream holds the rest back. */
size_t text_whole_chars(const char *s, size_t n);

#endif
