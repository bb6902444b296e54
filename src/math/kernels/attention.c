/* The kernel of math/attention.h. Both products are register tiles: queries times key panels, then weights times values. */
#include "math/kernels/attention.h"
#include "math/attention.h"
#include "math/kernels/level.h"
#include "math/kernels/softmax.h"
#include "math/kernels/tile.h"

#include <string.h>

enum { ROWS = ATTENTION_ROWS, KEYS = 256 /* in a block; a multiple of TILE_COLS, at most TILE_K */ };
_Static_assert((int)KEYS % (int)TILE_COLS == 0 && (int)KEYS <= (int)TILE_K && (int)ATTENTION_HEAD_MAX <= (int)TILE_K,
               "tiles must fit");

/* A block's rows on the way through the keys. */
typedef struct rows_state {
    float q[ROWS * TILE_STRIDE] __attribute__((aligned(64)));
    float p[ROWS * TILE_STRIDE] __attribute__((aligned(64))); /* scores, then their exponentials */
    float y[ROWS * ATTENTION_HEAD_MAX] __attribute__((aligned(64)));
    float largest[ROWS], sum[ROWS];
} rows_state;

static inline void scale_row_at(float *y, const float *x, vec factor, int64_t j, int64_t n) {
    vec_store(y + j, n, vec_mul(vec_load(x + j, n), factor));
}

static void scale_row(float *y, const float *x, float factor, int64_t d) {
    VEC_LOOP(d, scale_row_at(y, x, vec_set(factor), j, n));
}

/* Scores of one row, of which it sees those from `first` to `end`, become weights; what it had so far is rescaled. */
static void softmax_row(rows_state *s, int64_t r, int64_t first, int64_t end, int64_t n_keys, float cap, int64_t width) {
    float *p = s->p + r * TILE_STRIDE, *seen;
    if (first < 0) first = 0;
    if (end > n_keys) end = n_keys;
    if (end < first) first = end = 0;
    memset(p, 0, (size_t)first * sizeof *p);
    memset(p + end, 0, (size_t)(n_keys - end) * sizeof *p);
    if (first == end) return;
    seen = p + first;
    if (cap > 0) row_soft_cap(seen, cap, end - first);
    float largest = row_largest(seen, end - first);
    if (largest > s->largest[r]) {
        float shrink = expf(s->largest[r] - largest);
        if (s->sum[r] != 0) scale_row(s->y + r * width, s->y + r * width, shrink, width);
        s->sum[r] *= shrink;
        s->largest[r] = largest;
    }
    s->sum[r] += row_exp(seen, end - first, s->largest[r]);
}

static void add_keys(rows_state *s, const attention_block *b, int64_t first, int64_t n_keys, int64_t width) {
    int64_t n_rows = b->n_tokens * b->n_heads;
    for (int64_t j = 0; j < n_keys; j += TILE_COLS)
        tile_strips(n_rows, b->d_head, s->q, b->keys + (first + j) * b->d_head, TILE_COLS,
                    (tile_result){.y = s->p + j, .ldy = TILE_STRIDE, .cols = TILE_COLS});
    for (int64_t r = 0; r < n_rows; r++) {
        int64_t end = b->first_position + r / b->n_heads + 1 - first;
        softmax_row(s, r, b->window ? end - b->window : 0, end, n_keys, b->cap, width);
    }
    for (int64_t j = 0; j < width; j += TILE_COLS)
        tile_strips(n_rows, n_keys, s->p, b->values + first * width + j, width,
                    (tile_result){.y = s->y + j, .ldy = width, .cols = TILE_COLS, .add = true});
}

static void KERNEL(block)(const attention_block *b) {
    rows_state s;
    int64_t n_rows = b->n_tokens * b->n_heads, n_keys = b->first_position + b->n_tokens;
    int64_t width = (b->d_head + TILE_COLS - 1) / TILE_COLS * TILE_COLS;
    for (int64_t r = 0; r < n_rows; r++) {
        const float *q = b->q + r / b->n_heads * b->ld + r % b->n_heads * b->d_head;
        memcpy(s.q + r * TILE_STRIDE, q, (size_t)b->d_head * sizeof *q);
        s.largest[r] = -INFINITY;
        s.sum[r] = 0;
    }
    memset(s.y, 0, (size_t)(n_rows * width) * sizeof *s.y);
    int64_t unseen = b->window ? b->first_position + 1 - b->window : 0; /* keys that no row of the block sees */
    for (int64_t first = unseen > 0 ? unseen / KEYS * KEYS : 0; first < n_keys; first += KEYS)
        add_keys(&s, b, first, n_keys - first < KEYS ? n_keys - first : KEYS, width);
    for (int64_t r = 0; r < n_rows; r++)
        scale_row(b->y + r / b->n_heads * b->ld + r % b->n_heads * b->d_head, s.y + r * width, 1 / s.sum[r], b->d_head);
}

extern const attention_kernels KERNEL(attention_kernels);
const attention_kernels KERNEL(attention_kernels) = {.block = KERNEL(block)};
