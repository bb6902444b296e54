/* definition.h — a tokenizer as its file describes it, whatever the file: readers fill one in (from_gguf.c, from_json.c,
 * from_sentencepiece.c), tokenizer.c builds from it. Internal to text/.
 *
 * Strings are borrowed from the file's reader, whose memory `owner` keeps alive; the arrays, normalizer and pretok are the
 * definition's own until tokenizer.c takes the last two. A reader that fails releases nothing: its caller does.
 */
#ifndef TEXT_DEFINITION_H
#define TEXT_DEFINITION_H

#include "formats/weights.h"
#include "text/normalize.h"
#include "text/pretok.h"

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

/* How a marked piece (control or user-defined) is looked for in text. */
enum {
    MARK_LEFT_STRIP = 1,  /* takes the white space before it along */
    MARK_RIGHT_STRIP = 2, /* and behind it */
    MARK_WORD = 4,        /* only where no letter, digit or underscore touches it */
    MARK_NORMALIZED = 8,  /* in the normalized text */
};

typedef struct piece_def {
    const char *bytes; /* as the file spells it */
    size_t n;
    double score;
    uint8_t type, marks;
    bool listed; /* the model's own: found when text is made into tokens, marked or not */
} piece_def;

typedef struct merge_def {
    const char *left, *right;
    size_t n_left, n_right;
} merge_def;

typedef enum piece_spelling {
    SPELLED_PLAIN,
    SPELLED_BYTE_LEVEL,    /* GPT-2's byte alphabet */
    SPELLED_SENTENCEPIECE, /* U+2581 for a space, <0x0A> for a byte */
} piece_spelling;

/* Where encoding puts a space in front of the text, which decoding takes away again. */
typedef enum space_prefix {
    PREFIX_NEVER,
    PREFIX_FIRST,  /* at the beginning of the text */
    PREFIX_ALWAYS, /* and behind every marked piece */
} space_prefix;

struct tokenizer_kind_row;

typedef struct tokenizer_def {
    const struct tokenizer_kind_row *kind;
    const char *source; /* "GGUF", "tokenizer.json", "tokenizer.model" */
    piece_spelling spelling;
    piece_def *pieces; /* [n_pieces] by id */
    int64_t n_pieces;
    merge_def *merges; /* [n_merges] by rank */
    int64_t n_merges;
    normalizer *normalizer; /* NULL: text is taken as it is */
    pretok *pretok;         /* NULL: text is one piece */
    const char *pretok_name;
    int64_t bos, eos, eot, unknown; /* -1: none */
    bool adds_bos;
    bool marks_as_shown; /* marked pieces are looked for in raw text as decoding shows them, in normalized text as the file
                          * spells them; else as the file spells them, normalized if it says so */
    bool whole_pieces;   /* a piece of the pre-tokenizer that is in the vocabulary is one token, whatever the merges say */
    bool byte_fallback, fuses_unknown;
    space_prefix prefix;
    void *owner;
    void (*release_owner)(void *owner);
} tokenizer_def;

#define TOKENIZER_DEF_EMPTY ((tokenizer_def){.bos = -1, .eos = -1, .eot = -1, .unknown = -1})

enum { PIECES_MAX = 1 << 24, PIECE_BYTES_MAX = 1 << 20 };

/* Whatever the file: metadata first; a folder, or a file in one, may have the tokenizer beside it. */
err_code definition_read(const weights *w, tokenizer_def *out, err *e);
/* tokenizer.json or tokenizer.model; w: NULL, or the weights in that folder. */
err_code definition_read_folder(const weights *w, const char *folder, tokenizer_def *out, err *e);

err_code definition_from_gguf(const weights *w, tokenizer_def *out, err *e);
err_code definition_from_json(const weights *w, const char *folder, tokenizer_def *out, err *e);
err_code definition_from_sentencepiece(const weights *w, const char *folder, tokenizer_def *out, err *e);

/* The same from the bytes of tokenizer.json (not needed afterwards) and tokenizer.model (borrowed). */
err_code definition_parse_json(const char *text, size_t n, tokenizer_def *out, err *e);
err_code definition_parse_sentencepiece(const char *bytes, size_t n, tokenizer_def *out, err *e);

/* Special ids and the size of the vocabulary from tokenizer_config.json and the weights' metadata. */
err_code definition_from_config(const weights *w, const char *folder, tokenizer_def *d, err *e);

void definition_release(tokenizer_def *d);

/* The normalizer of SentencePiece without a character map: a space in front if asked, then U+2581 for every space. */
err_code definition_spaces(tokenizer_def *d, bool prefix, err *e);

/* Id of the first piece spelled so, or -1; a linear search, for the few names a file mentions. */
int64_t definition_find(const tokenizer_def *d, const char *bytes, size_t n);

#endif
