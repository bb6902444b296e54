/* head.c — from rows behind the final norm to logits and log-probabilities. */
#include "model/model_internal.h"

#include <math.h>

/* Rows and columns of logits held at once: their block stays in the third cache. */
enum { HEAD_ROWS = 192, HEAD_COLUMNS = 4096 };

static ctx with_level_of(const ctx *c, const model *m) {
    ctx same_level = *c;
    same_level.cpu = m->cpu;
    return same_level;
}

/* Logits of one row as the architecture has them; y may be a part of the row. */
static void shape_logits(const model *m, float *y, int64_t n) {
    if (m->spec.logit_scale != 1) m->kernels->scale(y, (float)m->spec.logit_scale, n);
    if (m->spec.logit_cap > 0) m->kernels->soft_cap(y, (float)m->spec.logit_cap, n);
}

err_code model_logits(const ctx *c, model *m, const float *hidden, int64_t n, float *logits, err *e) {
    const ctx same_level = with_level_of(c, m);
    const linear *h = &m->head;
    err_code rc = linear_pack(&same_level, m->w, &m->head, e);
    if (rc != ERR_OK) return rc;
    gemm(&same_level, n, hidden, h->w.k, &(gemm_product){.w = h->w, .bias = h->bias, .y = logits, .ldy = h->w.n}, 1);
    if (m->spec.logit_scale == 1 && m->spec.logit_cap == 0) return ERR_OK;
#pragma omp parallel for num_threads(c->threads)
    for (int64_t i = 0; i < n; i++) shape_logits(m, logits + i * h->w.n, h->w.n);
    return ERR_OK;
}

/* log sum e^logit of one row, over the columns seen so far. */
typedef struct log_sum {
    float largest;
    double sum; /* of e^(logit - largest) */
} log_sum;

static void add_columns(const dense_kernels *k, log_sum *s, float *logits, int64_t n) {
    float largest = k->largest(logits, n);
    if (largest > s->largest) {
        s->sum *= exp((double)s->largest - (double)largest);
        s->largest = largest;
    }
    for (int64_t j = 0; j < n; j += 256) /* a short sum is exact enough in float32 */
        s->sum += (double)k->exp_sum(logits + j, n - j < 256 ? n - j : 256, s->largest);
}

typedef struct head_block {
    float *logits; /* [HEAD_ROWS, HEAD_COLUMNS] */
    log_sum sums[HEAD_ROWS];
} head_block;

static void row_block(const ctx *c, model *m, const float *hidden, const uint32_t *targets, int64_t n, head_block *b,
                      double *logprobs) {
    const linear *h = &m->head;
    int64_t columns = HEAD_COLUMNS < h->w.n ? HEAD_COLUMNS : h->w.n;
    for (int64_t i = 0; i < n; i++) b->sums[i] = (log_sum){.largest = -INFINITY};
    for (int64_t first = 0; first < h->w.n; first += columns) {
        int64_t width = h->w.n - first < columns ? h->w.n - first : columns;
        gemm(c, n, hidden, h->w.k,
             &(gemm_product){.w = gemm_rows(c->cpu, &h->w, first, width), /* HEAD_COLUMNS is a multiple of every panel */
                             .bias = h->bias ? h->bias + first : NULL,
                             .y = b->logits,
                             .ldy = columns},
             1);
#pragma omp parallel for num_threads(c->threads)
        for (int64_t i = 0; i < n; i++) {
            int64_t target = (int64_t)targets[i] - first;
            shape_logits(m, b->logits + i * columns, width);
            if (target >= 0 && target < width) logprobs[i] = (double)b->logits[i * columns + target];
            add_columns(m->kernels, b->sums + i, b->logits + i * columns, width);
        }
    }
    for (int64_t i = 0; i < n; i++) logprobs[i] -= (double)b->sums[i].largest + log(b->sums[i].sum);
}

err_code model_logprobs(const ctx *c, model *m, const float *hidden, const uint32_t *targets, int64_t n, double *logprobs,
                        err *e) {
    const ctx same_level = with_level_of(c, m);
    head_block *b = NULL;
    err_code rc = ERR_OK;
    for (int64_t i = 0; i < n; i++)
        if (targets[i] >= m->head.w.n)
            return err_set(e, ERR_MISMATCH, "token %u is asked for, but the model has %lld", targets[i],
                           (long long)m->head.w.n);
    arena_reset(&m->scratch);
    TRY(linear_pack(&same_level, m->w, &m->head, e));
    TRY(arena_take(&m->scratch, &b, 1, sizeof *b, e));
    TRY(arena_take(&m->scratch, &b->logits, (size_t)(n < HEAD_ROWS ? n : HEAD_ROWS), HEAD_COLUMNS * sizeof(float), e));
    for (int64_t i = 0; i < n; i += HEAD_ROWS) {
        TRY(ctx_check_cancel(c, e));
        row_block(&same_level, m, hidden + i * m->head.w.k, targets + i, n - i < HEAD_ROWS ? n - i : HEAD_ROWS, b,
                  logprobs + i);
    }
done:
    return rc;
}
