#include "math/gemm.h"
#include "core/mem.h"
#include "math/kernels/gemm.h"

extern const gemm_kernels gemm_kernels_portable;
#if defined(__x86_64__)
extern const gemm_kernels gemm_kernels_avx2, gemm_kernels_avx512;
#endif

static const gemm_kernels *kernels_for(cpu_level level) {
#if defined(__x86_64__)
    if (level >= CPU_AVX512) return &gemm_kernels_avx512;
    if (level >= CPU_AVX2) return &gemm_kernels_avx2;
#endif
    (void)level;
    return &gemm_kernels_portable;
}

int64_t gemm_panel(cpu_level level) { return kernels_for(level)->panel; }

bool gemm_packed_size(cpu_level level, int64_t n, int64_t k, size_t *floats) {
    size_t panel = (size_t)gemm_panel(level), rows;
    if (n < 0 || k < 0 || !mem_add((size_t)n, panel - 1, &rows)) return false;
    return mem_mul(rows / panel * panel, (size_t)k, floats);
}

void gemm_pack_panel(cpu_level level, const float *rows, int64_t n_rows, int64_t k, float *panel) {
    kernels_for(level)->pack(rows, n_rows, k, panel);
}

/* Columns of a block: a few hundred when there are many rows, so that copying x is little beside multiplying it; when there
 * are few rows, as few as give both threads enough to do. Never dependent on the number of threads. */
static int64_t block_columns(int64_t m, int64_t panel) { return m > GEMM_BLOCK_ROWS / 2 ? 12 * 64 : panel * 4; }

static int64_t blocks(int64_t n, int64_t size) { return (n + size - 1) / size; }

void gemm(const ctx *c, int64_t m, int64_t k, const float *x, int64_t ldx, const gemm_product *products, int n_products) {
    const gemm_kernels *kernels = kernels_for(c->cpu);
    int64_t columns = block_columns(m, kernels->panel), row_blocks = blocks(m, GEMM_BLOCK_ROWS), column_blocks = 0;
    for (int p = 0; p < n_products; p++) column_blocks += blocks(products[p].n, columns);
#pragma omp parallel for num_threads(c->threads) schedule(dynamic)
    for (int64_t i = 0; i < row_blocks * column_blocks; i++) {
        int64_t row = i / column_blocks * GEMM_BLOCK_ROWS, block = i % column_blocks;
        const gemm_product *p = products;
        while (block >= blocks(p->n, columns)) block -= blocks(p++->n, columns);
        int64_t column = block * columns;
        kernels->block(&(gemm_block){.rows = m - row < GEMM_BLOCK_ROWS ? m - row : GEMM_BLOCK_ROWS,
                                     .cols = p->n - column < columns ? p->n - column : columns,
                                     .k = k,
                                     .x = x + row * ldx,
                                     .ldx = ldx,
                                     .w = p->w + column * k,
                                     .bias = p->bias ? p->bias + column : NULL,
                                     .y = p->y + row * p->ldy + column,
                                     .ldy = p->ldy});
    }
}
