/* oom.h — what happens when the n-th allocation fails, for every n.
 *
 * The linker puts these functions between our code (not the libraries' we use) and malloc, calloc, realloc, aligned_alloc,
 * strdup and strndup: tests/CMakeLists.txt.
 */
#ifndef TESTS_SUPPORT_OOM_H
#define TESTS_SUPPORT_OOM_H

#include "core/err.h"

/* Runs work(arg) with its 1st, 2nd, 3rd .. allocation failing until a run makes fewer, or `at_most` runs are done. Each run
 * must either return ERR_NOMEM with a sentence or do without that memory and succeed; under ASan it must not leak. work
 * releases what it made, also on success. Fails the test when nothing was allocated at all. */
void oom_sweep(err_code (*work)(void *arg, err *e), void *arg, int at_most);

#endif
