#include "math/attention.h"
#include "core/mem.h"
#include "math/gemm.h"
#include "math/kernels/attention.h"

#include <string.h>

extern const attention_kernels attention_kernels_portable;
#if defined(__x86_64__)
extern const attention_kernels attention_kernels_avx2, attention_kernels_avx512;
#endif

static const attention_kernels *kernels_for(cpu_level level) {
#if defined(__x86_64__)
    if (level >= CPU_AVX512) return &attention_kernels_avx512;
    if (level >= CPU_AVX2) return &attention_kernels_avx2;
#endif
    (void)level;
    return &attention_kernels_portable;
}

static int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

int64_t attention_value_width(cpu_level level, int64_t d_head) {
    return divide_up(d_head, gemm_panel(level)) * gemm_panel(level);
}

bool attention_key_size(cpu_level level, int64_t n_positions, int64_t d_head, size_t *floats) {
    size_t bytes;
    if (!gemm_packed_size(level, GEMM_F32, n_positions, d_head, &bytes)) return false;
    *floats = bytes / sizeof(float);
    return true;
}

bool attention_value_size(cpu_level level, int64_t n_positions, int64_t d_head, size_t *floats) {
    return mem_mul((size_t)n_positions, (size_t)attention_value_width(level, d_head), floats);
}

void attention_put(cpu_level level, int64_t d_head, int64_t position, const float *k, const float *v, float *keys,
                   float *values) {
    int64_t panel = gemm_panel(level), width = attention_value_width(level, d_head);
    float *key = keys + position / panel * panel * d_head + position % panel, *value = values + position * width;
    for (int64_t j = 0; j < d_head; j++) key[j * panel] = k[j];
    memcpy(value, v, (size_t)d_head * sizeof *v);
    memset(value + d_head, 0, (size_t)(width - d_head) * sizeof *v);
}

/* Blocks of one call: tokens [token ..] of a run under kv head `kv`, its query heads in parts of at most ATTENTION_ROWS. */
typedef struct block_plan {
    int64_t group, heads, tokens; /* query heads per kv head; of these, and of the tokens, in a block */
    int64_t head_parts, n_kv_heads;
} block_plan;

static block_plan plan_for(const attention_shape *s) {
    block_plan p = {.group = s->n_heads / s->n_kv_heads, .n_kv_heads = s->n_kv_heads};
    p.heads = p.group < ATTENTION_ROWS ? p.group : ATTENTION_ROWS;
    p.tokens = ATTENTION_ROWS / p.heads;
    p.head_parts = divide_up(p.group, p.heads);
    return p;
}

static int64_t blocks_of(const block_plan *p, const attention_run *r) {
    return divide_up(r->n_tokens, p->tokens) * p->head_parts * p->n_kv_heads;
}

static void run_block(const attention_kernels *kernels, const attention_shape *s, const block_plan *p, const attention_run *r,
                      int64_t i) {
    int64_t kv = i % p->n_kv_heads, part = i / p->n_kv_heads % p->head_parts;
    int64_t token = i / p->n_kv_heads / p->head_parts * p->tokens, head = part * p->heads;
    int64_t at = token * s->n_heads * s->d_head + (kv * p->group + head) * s->d_head;
    kernels->block(&(attention_block){.n_tokens = r->n_tokens - token < p->tokens ? r->n_tokens - token : p->tokens,
                                      .n_heads = p->group - head < p->heads ? p->group - head : p->heads,
                                      .first_position = r->first_position + token,
                                      .d_head = s->d_head,
                                      .window = s->window,
                                      .cap = s->cap,
                                      .q = r->q + at,
                                      .y = r->y + at,
                                      .ld = s->n_heads * s->d_head,
                                      .keys = r->keys + (size_t)kv * r->key_stride,
                                      .values = r->values + (size_t)kv * r->value_stride});
}

void attention(const ctx *c, const attention_shape *s, const attention_run *runs, int64_t n_runs) {
    const attention_kernels *kernels = kernels_for(c->cpu);
    const block_plan plan = plan_for(s);
#pragma omp parallel num_threads(c->threads)
    for (int64_t r = 0; r < n_runs; r++) {
        int64_t n = blocks_of(&plan, runs + r);
#pragma omp for schedule(dynamic) nowait
        for (int64_t i = 0; i < n; i++) run_block(kernels, s, &plan, runs + r, i);
    }
}
