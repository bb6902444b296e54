/* pretok.h — cuts text into the pieces inside which byte-pair merges happen. Internal to text/.
 *
 * A pre-tokenizer is one to four PCRE2 patterns applied one after the other: each cuts the pieces the ones before it left,
 * and both what it matches and what lies between matches become pieces. Table by GGUF name: pretok.c.
 * Threads: const pretok may be shared. Errors: ERR_UNSUPPORTED (names what is known), ERR_NOMEM, ERR_FAILED.
 */
#ifndef TEXT_PRETOK_H
#define TEXT_PRETOK_H

#include "core/err.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct pretok pretok;

typedef err_code (*pretok_piece)(void *user, const char *piece, size_t n, err *e);

err_code pretok_open(const char *name, pretok **out, err *e);
void pretok_close(pretok *p); /* accepts NULL */

const char *pretok_name(const pretok *p);
bool pretok_whole_pieces(const pretok *p); /* a piece that is in the vocabulary is one token, whatever the merges say */
bool pretok_adds_bos(const pretok *p);     /* where the file does not say */

/* Calls piece for every piece of text in order; text must be UTF-8. Stops at the first error piece returns. */
err_code pretok_split(const pretok *p, const char *text, size_t n, pretok_piece piece, void *user, err *e);

#endif
