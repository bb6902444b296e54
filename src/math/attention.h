/* attention.h — causal attention of queries over the keys and values of their own sequence.
 *
 *   y_i = sum_j softmax_j(s_ij) v_j   over j <= i, and i - j < window if there is one
 *   s_ij = <q_i, k_j>, or cap tanh(<q_i, k_j> / cap) if there is a cap           (the scale is in q)
 *
 * The scores never exist as a whole: keys come in blocks of 256 and each row keeps its largest score, its sum and its output
 * so far (Dao et al. 2022, "FlashAttention", the forward pass). Blocks are counted from position 0, so a row has the same bits
 * whether its sequence comes whole or token by token behind a cache, alone or beside others, on any number of threads.
 *
 * Keys and values of one head of a sequence lie in the order the register tile reads them (kernels/tile.h):
 *   keys   [ceil(n_positions / panel), d_head, panel]      panel = gemm_panel(level)
 *   values [n_positions, attention_value_width]            d_head and zeros up to a multiple of panel
 */
#ifndef MATH_ATTENTION_H
#define MATH_ATTENTION_H

#include "core/ctx.h"

#include <stddef.h>

enum { ATTENTION_HEAD_MAX = 256 }; /* largest d_head */

int64_t attention_value_width(cpu_level level, int64_t d_head);

/* Floats that the keys, or the values, of n_positions take in one head; false on overflow. */
bool attention_key_size(cpu_level level, int64_t n_positions, int64_t d_head, size_t *floats);
bool attention_value_size(cpu_level level, int64_t n_positions, int64_t d_head, size_t *floats);

/* Puts k, v [d_head] at a position of a head's keys and values. */
void attention_put(cpu_level level, int64_t d_head, int64_t position, const float *k, const float *v, float *keys,
                   float *values);

typedef struct attention_shape {
    int64_t n_heads, n_kv_heads, d_head; /* n_kv_heads divides n_heads; d_head <= ATTENTION_HEAD_MAX */
    int64_t window;                      /* keys a query sees, its own included; 0: all up to its own */
    float cap;                           /* 0: none */
} attention_shape;

/* Consecutive tokens of one sequence; the keys and values of all positions up to theirs are in place. */
typedef struct attention_run {
    int64_t n_tokens, first_position;
    const float *q; /* [n_tokens, n_heads, d_head], scaled */
    float *y;       /* [n_tokens, n_heads, d_head] */
    const float *keys, *values;
    size_t key_stride, value_stride; /* from one of the n_kv_heads to the next */
} attention_run;

void attention(const ctx *c, const attention_shape *s, const attention_run *runs, int64_t n_runs);

#endif
