#include "math/blas.h"
#include "math/kernels/product.h"

#include <cblas.h>
#include <string.h>

enum { BLOCK_ROWS = 256, BLOCK_COLS = 768 }; /* measured: within 3 % of one large call from k = 576 on */

void blas_init(void) { openblas_set_num_threads(1); }

/* ---- whose kernels ---- */

/* OpenBLAS chooses by the model number of the processor: one that it has never heard of, or that a virtual machine hides, gets
 * kernels of 2004, at a tenth of the speed. The levels of those that use more, by its names for them. */
static const struct {
    const char *core;
    cpu_level level;
} cores[] = {{"Haswell", CPU_AVX2},
             {"Zen", CPU_AVX2},
             {"SkylakeX", CPU_AVX512},
             {"Cooperlake", CPU_AVX512},
             {"SapphireRapids", CPU_AVX512}};

static cpu_level openblas_level(void) {
    const char *core = openblas_get_corename();
    for (size_t i = 0; i < sizeof cores / sizeof *cores; i++)
        if (!strcmp(core, cores[i].core)) return cores[i].level;
    return CPU_PORTABLE;
}

extern product_kernel product_portable;
#if defined(__x86_64__)
extern product_kernel product_avx2, product_avx512;
#endif

product_kernel *product_kernel_for(cpu_level level) {
#if defined(__x86_64__)
    if (level >= CPU_AVX512) return product_avx512;
    if (level >= CPU_AVX2) return product_avx2;
#endif
    (void)level;
    return product_portable;
}

/* Ours where they use more of the machine, else NULL. */
static product_kernel *own_kernel(const ctx *c) {
    cpu_level level = c->cpu < CPU_AVX512 ? c->cpu : CPU_AVX512;
    return level > openblas_level() ? product_kernel_for(level) : NULL;
}

static void multiply(product_kernel *own, const product *p) {
    if (own)
        own(p);
    else
        cblas_sgemm(CblasRowMajor, p->x_turned ? CblasTrans : CblasNoTrans, p->w_turned ? CblasTrans : CblasNoTrans,
                    (int)p->m, (int)p->n, (int)p->k, 1.0f, p->x, (int)p->ldx, p->w, (int)p->ldw, p->add ? 1.0f : 0.0f, p->y,
                    (int)p->ldy);
}

/* ---- products ---- */

static void multiply_blocks(const ctx *c, const product *p) {
    product_kernel *own = own_kernel(c);
    int64_t row_blocks = (p->m + BLOCK_ROWS - 1) / BLOCK_ROWS, col_blocks = (p->n + BLOCK_COLS - 1) / BLOCK_COLS;
#pragma omp parallel for num_threads(c->threads) schedule(dynamic)
    for (int64_t block = 0; block < row_blocks * col_blocks; block++) {
        int64_t i = block / col_blocks * BLOCK_ROWS, j = block % col_blocks * BLOCK_COLS;
        product part = *p;
        part.m = p->m - i < BLOCK_ROWS ? p->m - i : BLOCK_ROWS;
        part.n = p->n - j < BLOCK_COLS ? p->n - j : BLOCK_COLS;
        part.x += p->x_turned ? i : i * p->ldx;
        part.w += p->w_turned ? j * p->ldw : j;
        part.y += i * p->ldy + j;
        multiply(own, &part);
    }
}

void blas_gemm_nt(const ctx *c, int64_t m, int64_t n, int64_t k, const float *x, int64_t ldx, const float *w, int64_t ldw,
                  bool add, float *y, int64_t ldy) {
    multiply_blocks(c, &(product){m, n, k, x, ldx, false, w, ldw, true, add, y, ldy});
}

void blas_gemm_tn(const ctx *c, int64_t m, int64_t n, int64_t k, const float *x, int64_t ldx, const float *w, int64_t ldw,
                  bool add, float *y, int64_t ldy) {
    multiply_blocks(c, &(product){m, n, k, x, ldx, true, w, ldw, false, add, y, ldy});
}

void blas_gemm_nt_serial(const ctx *c, int64_t m, int64_t n, int64_t k, const float *x, int64_t ldx, const float *w,
                         int64_t ldw, bool add, float *y, int64_t ldy) {
    multiply(own_kernel(c), &(product){m, n, k, x, ldx, false, w, ldw, true, add, y, ldy});
}

void blas_gemm_nn_serial(const ctx *c, int64_t m, int64_t n, int64_t k, const float *x, int64_t ldx, const float *w,
                         int64_t ldw, bool add, float *y, int64_t ldy) {
    multiply(own_kernel(c), &(product){m, n, k, x, ldx, false, w, ldw, false, add, y, ldy});
}
