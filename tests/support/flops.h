/* flops.h — float32 operations per token of one block with gated MLP, a multiply-add counted as two: what benchmarks divide
 * by the measured peak. Products with the head are not in it. */
#ifndef TESTS_SUPPORT_FLOPS_H
#define TESTS_SUPPORT_FLOPS_H

#include "model/model.h"

static inline double matrix_flops(const model_config *g) {
    double d_q = (double)(g->n_heads * g->d_head), d_kv = (double)(g->n_kv_heads * g->d_head);
    return 2 * (double)g->d_model * (2 * d_q + 2 * d_kv + 3 * (double)g->d_ff);
}

/* keys: how many a query sees. */
static inline double attention_flops(const model_config *g, double keys) {
    return 4 * (double)(g->n_heads * g->d_head) * keys;
}

/* Whole documents of so many tokens, each of which sees itself and those before. */
static inline double block_flops(const model_config *g, int64_t context) {
    return matrix_flops(g) + attention_flops(g, (double)(context + 1) / 2);
}

#endif
