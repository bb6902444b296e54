/* attention.h — a few tokens' queries against one head's keys and values, computed by one thread. */
#ifndef MATH_KERNELS_ATTENTION_H
#define MATH_KERNELS_ATTENTION_H

#include <stdint.h>

enum { ATTENTION_ROWS = 48 }; /* queries in a block: tokens times the heads that share these keys */

typedef struct attention_block {
    int64_t n_tokens, n_heads; /* n_tokens * n_heads <= ATTENTION_ROWS */
    int64_t first_position, d_head, window;
    float cap;
    const float *q; /* token t, head h at q + t * ld + h * d_head */
    float *y;       /* likewise */
    int64_t ld;
    const float *keys, *values;
} attention_block;

typedef struct attention_kernels {
    void (*block)(const attention_block *b);
} attention_kernels;

#endif
