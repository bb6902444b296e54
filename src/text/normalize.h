/* normalize.h — what happens to a text before it is cut: a list of steps, each rewriting the whole text. Internal to text/.
 *
 * Unicode forms are utf8proc's. A character map is SentencePiece's precompiled one: a double-array trie from UTF-8 prefixes to
 * offsets of replacements.
 * Threads: const normalizer may be shared. Errors: ERR_FORMAT (a broken character map or pattern), ERR_NOMEM.
 */
#ifndef TEXT_NORMALIZE_H
#define TEXT_NORMALIZE_H

#include "core/strbuf.h"

#include <stdint.h>

typedef enum normal_kind {
    NORMAL_NFC,
    NORMAL_NFD,
    NORMAL_NFKC,
    NORMAL_NFKD,
    NORMAL_LOWERCASE,
    NORMAL_STRIP_ACCENTS,
    NORMAL_PREPEND,  /* `to` in front of what is not empty, at the beginning of a section of text */
    NORMAL_REPLACE,  /* every `from` by `to` */
    NORMAL_STRIP,    /* white space at the ends */
    NORMAL_COLLAPSE, /* spaces at the ends, and all but one of a run: SentencePiece's remove_extra_whitespaces */
} normal_kind;

typedef struct normalizer normalizer;

err_code normalizer_new(normalizer **out, err *e);
void normalizer_free(normalizer *n); /* accepts NULL */

/* Appends a step; from and to are copied, "" where the kind needs none. */
err_code normalizer_add(normalizer *n, normal_kind kind, const char *from, const char *to, err *e);
err_code normalizer_add_strip(normalizer *n, bool left, bool right, err *e);
err_code normalizer_add_regex(normalizer *n, const char *pattern, const char *to, err *e); /* every match by `to` */

/* by_grapheme: as Hugging Face applies the map, to whole short graphemes and then to characters; else SentencePiece's longest
 * prefix. The bytes are copied. */
err_code normalizer_add_charsmap(normalizer *n, const char *bytes, size_t size, bool by_grapheme, err *e);

/* Appends the character map that n applies, as the file had it; nothing where there is none. n may be NULL. */
void normalizer_charsmap(const normalizer *n, strbuf *out);

/* Appends the normal form of a section of text to out; bytes that are not UTF-8 are taken over as they are. n may be NULL. */
err_code normalizer_apply(const normalizer *n, const char *text, size_t size, strbuf *out, err *e);

/* Number of leading bytes that are UTF-8. */
size_t utf8_prefix(const char *text, size_t n);

#endif
