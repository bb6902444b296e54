/* pretok.h — cuts text into the pieces inside which tokens are made. Internal to text/.
 *
 * A pre-tokenizer is a list of steps applied one after the other, each to the pieces the ones before it left. Most are PCRE2
 * patterns that say where to cut. Table by GGUF name: pretok.c.
 * Threads: const pretok may be shared. Errors: ERR_UNSUPPORTED (names what is known), ERR_FORMAT, ERR_NOMEM, ERR_FAILED.
 */
#ifndef TEXT_PRETOK_H
#define TEXT_PRETOK_H

#include "core/err.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct pretok pretok;

extern const char pretok_gpt2[]; /* GPT-2's pattern, which ByteLevel of tokenizer.json uses too */

typedef err_code (*pretok_piece)(void *user, const char *piece, size_t n, err *e);

/* What becomes of a match; what lies between matches is always a piece. */
typedef enum pretok_cut {
    CUT_ISOLATED,      /* a piece of its own */
    CUT_REMOVED,       /* nothing */
    CUT_WITH_PREVIOUS, /* joined to the piece before it, unless that is a match too */
    CUT_WITH_NEXT,     /* joined to the piece behind it, unless that is a match too */
    CUT_CONTIGUOUS,    /* a piece together with the matches that touch it */
} pretok_cut;

/* The pre-tokenizer of a GGUF file; `spaces`: of a SentencePiece vocabulary, in which spaces are letters and nothing is cut. */
err_code pretok_open(const char *name, bool spaces, pretok **out, err *e);

/* One without steps, to be filled: in the order they are applied. */
err_code pretok_new(pretok **out, err *e);
err_code pretok_add_cut(pretok *p, const char *pattern, pretok_cut cut, bool invert, err *e);
/* `prefix` in front of a piece that does not begin with it; of the text's first piece only, if so. */
err_code pretok_add_prefix(pretok *p, const char *prefix, bool first_only, err *e);
err_code pretok_add_replace_spaces(pretok *p, const char *with, err *e);

void pretok_close(pretok *p); /* accepts NULL */

/* The name of a row of the table that cuts as p does (NULL: one piece): all of a text made to tell them apart. NULL: none. */
err_code pretok_recognize(const pretok *p, bool whole_pieces, const char **out, err *e);

/* Of the table's rows: */
const char *pretok_pattern(const pretok *p, int i); /* in the order they are applied; NULL behind the last */
const char *pretok_name(const pretok *p);
bool pretok_whole_pieces(const pretok *p); /* a piece that is in the vocabulary is one token, whatever the merges say */
bool pretok_adds_bos(const pretok *p);     /* where the file does not say */
bool pretok_marks_strip(const pretok *p);  /* control tokens take the white space behind them along */

/* Calls piece for every piece of text in order; text must be UTF-8. `first`: it begins the whole text. p may be NULL: one
 * piece. Stops at the first error piece returns. */
err_code pretok_split(const pretok *p, const char *text, size_t n, bool first, pretok_piece piece, void *user, err *e);

#endif
