/* tokenizer.h — text to token ids and back.
 *
 * Texts are byte strings; ids index the model's vocabulary. What a vocabulary can hold, encode and decode give back byte for
 * byte (README.md says what some cannot). Tokenizers come from GGUF metadata, or from tokenizer.json (Hugging Face) or
 * tokenizer.model (SentencePiece) in the model's folder: BPE over bytes or characters, SentencePiece's BPE, unigram.
 * Threads: const tokenizer may be shared. Errors: ERR_FORMAT, ERR_UNSUPPORTED (names what is not known), ERR_NOMEM.
 */
#ifndef TEXT_TOKENIZER_H
#define TEXT_TOKENIZER_H

#include "core/err.h"
#include "core/file.h"
#include "core/strbuf.h"
#include "formats/weights.h"

typedef struct tokenizer tokenizer;

err_code tokenizer_open(const weights *w, tokenizer **out, err *e);
/* The tokenizer of a folder alone: tokenizer.json or tokenizer.model in it. */
err_code tokenizer_open_folder(const char *folder, tokenizer **out, err *e);

void tokenizer_close(tokenizer *t); /* accepts NULL */

const char *tokenizer_kind(const tokenizer *t); /* "byte-level BPE, pre-tokenizer smollm", "unigram, from tokenizer.json" */
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

/* Appends the text that ids encode; special tokens are left out unless keep_special. A space that encoding puts in front is
 * taken away: ids begin a text. For ids that continue one (generated tokens, windows) use the second form, which appends
 * their pieces and nothing else. */
void tokenizer_decode(const tokenizer *t, const uint32_t *ids, size_t n, bool keep_special, strbuf *out);
void tokenizer_decode_part(const tokenizer *t, const uint32_t *ids, size_t n, bool keep_special, strbuf *out);

/* Appends bytes to out as valid UTF-8: what is no UTF-8 becomes <0xE6>. For showing pieces and windows. */
void text_add_printable(strbuf *out, const char *bytes, size_t n);

/* Number of leading bytes of s that form whole UTF-8 characters: a stream holds the rest back. */
size_t text_whole_chars(const char *s, size_t n);

#endif
