/* names.h — what a registry answers to a name it does not know: the nearest one, and all there are.
 *
 * A table is an array of rows whose first member is `const char *name`, n rows of `stride` bytes (sizeof *table), or of n
 * pointers to such rows (NAMES_OF_POINTERS).
 * Distance is Damerau-Levenshtein's restricted edit distance (insert, delete, replace, swap neighbours), letter case ignored.
 */
#ifndef CORE_NAMES_H
#define CORE_NAMES_H

#include "core/err.h"

#include <stddef.h>

enum { NAMES_OF_POINTERS = 0 }; /* a stride */

/* The name that `word` most likely meant, or NULL when none is near enough to be a typing mistake. Borrowed from the table.
 */
const char *names_nearest(const char *word, const void *table, int n, size_t stride);

/* Index of exactly this name, or -1. */
int names_find(const char *word, const void *table, int n, size_t stride);

/* Sets e to:  unknown variant 'topkk', did you mean 'topk'? (known: relu, topk)  and returns code. */
err_code names_unknown(err *e, err_code code, const char *kind, const char *word, const void *table, int n, size_t stride);

#endif
