/* sequences.h — token sequences gathered to be run through a model together: the arrays a model_batch borrows. */
#ifndef MODEL_SEQUENCES_H
#define MODEL_SEQUENCES_H

#include "core/err.h"

#include <stddef.h>
#include <stdint.h>

typedef struct sequences {
    uint32_t *tokens; /* [n_tokens] */
    int32_t *seq, *pos;
    int64_t *start; /* [n + 1] first token of each sequence */
    int64_t n, n_tokens;
    size_t cap_tokens, cap_seq, cap_pos, cap_start;
} sequences; /* zero-initialise */

err_code sequences_add(sequences *s, const uint32_t *tokens, int64_t n, err *e);
void sequences_clear(sequences *s); /* keeps the memory */
void sequences_release(sequences *s);

#endif
