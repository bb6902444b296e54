#include "math/blas.h"

#include <cblas.h>

enum { BLOCK_ROWS = 256, BLOCK_COLS = 768 }; /* measured: within 3 % of one large call from k = 576 on */

void blas_init(void) { openblas_set_num_threads(1); }

static void gemm_blocks(const ctx *c, CBLAS_TRANSPOSE trans_x, CBLAS_TRANSPOSE trans_w, int64_t m, int64_t n, int64_t k,
                        const float *x, int64_t ldx, const float *w, int64_t ldw, float beta, float *y, int64_t ldy) {
    int64_t row_blocks = (m + BLOCK_ROWS - 1) / BLOCK_ROWS, col_blocks = (n + BLOCK_COLS - 1) / BLOCK_COLS;
#pragma omp parallel for num_threads(c->threads) schedule(dynamic)
    for (int64_t block = 0; block < row_blocks * col_blocks; block++) {
        int64_t i = block / col_blocks * BLOCK_ROWS, j = block % col_blocks * BLOCK_COLS;
        int64_t rows = m - i < BLOCK_ROWS ? m - i : BLOCK_ROWS, cols = n - j < BLOCK_COLS ? n - j : BLOCK_COLS;
        cblas_sgemm(CblasRowMajor, trans_x, trans_w, (int)rows, (int)cols, (int)k, 1.0f,
                    x + (trans_x == CblasTrans ? i : i * ldx), (int)ldx, w + (trans_w == CblasTrans ? j * ldw : j), (int)ldw,
                    beta, y + i * ldy + j, (int)ldy);
    }
}

void blas_gemm_nt(const ctx *c, int64_t m, int64_t n, int64_t k, const float *x, int64_t ldx, const float *w, int64_t ldw,
                  float beta, float *y, int64_t ldy) {
    gemm_blocks(c, CblasNoTrans, CblasTrans, m, n, k, x, ldx, w, ldw, beta, y, ldy);
}

void blas_gemm_nn(const ctx *c, int64_t m, int64_t n, int64_t k, const float *x, int64_t ldx, const float *w, int64_t ldw,
                  float beta, float *y, int64_t ldy) {
    gemm_blocks(c, CblasNoTrans, CblasNoTrans, m, n, k, x, ldx, w, ldw, beta, y, ldy);
}

void blas_gemm_tn(const ctx *c, int64_t m, int64_t n, int64_t k, const float *x, int64_t ldx, const float *w, int64_t ldw,
                  float beta, float *y, int64_t ldy) {
    gemm_blocks(c, CblasTrans, CblasNoTrans, m, n, k, x, ldx, w, ldw, beta, y, ldy);
}

void blas_gemm_nt_serial(int64_t m, int64_t n, int64_t k, const float *x, int64_t ldx, const float *w, int64_t ldw,
                         float beta, float *y, int64_t ldy) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)m, (int)n, (int)k, 1.0f, x, (int)ldx, w, (int)ldw, beta, y,
                (int)ldy);
}

void blas_gemm_nn_serial(int64_t m, int64_t n, int64_t k, const float *x, int64_t ldx, const float *w, int64_t ldw,
                         float beta, float *y, int64_t ldy) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)m, (int)n, (int)k, 1.0f, x, (int)ldx, w, (int)ldw, beta, y,
                (int)ldy);
}
