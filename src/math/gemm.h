/* gemm.h — y = x w^T for weights that are used again and again: w is packed once into panels, the order in which the register
 * tile reads it.
 *
 * A panel holds gemm_panel(level) rows of w, side by side at every k: panel[k][row]; missing rows of the last panel are zeros.
 * Every element of y is one sum over k in a fixed order: its bits depend on its row of x and its row of w alone, not on the
 * thread count, nor on how many rows or columns there are. (They do differ between machine levels.)
 * All matrices row-major float32; y overlaps nothing. The reference is ref_gemm in math/ref.h.
 */
#ifndef MATH_GEMM_H
#define MATH_GEMM_H

#include "core/ctx.h"

#include <stddef.h>

/* Rows of w in a panel at this level: 8, 16 or 32. */
int64_t gemm_panel(cpu_level level);

/* Floats that n rows of k values take when packed; false on overflow. */
bool gemm_packed_size(cpu_level level, int64_t n, int64_t k, size_t *floats);

/* Packs one panel: rows [n_rows, k], 1 <= n_rows <= gemm_panel; panel [k, gemm_panel]. */
void gemm_pack_panel(cpu_level level, const float *rows, int64_t n_rows, int64_t k, float *panel);

/* One product of a call: y [m, n] = x w^T (+ bias). */
typedef struct gemm_product {
    const float *w; /* packed: n rows of k values */
    int64_t n;
    const float *bias; /* [n], or NULL */
    float *y;          /* [m, n], row stride ldy */
    int64_t ldy;
} gemm_product;

/* Several products of the same x [m, k] (row stride ldx): threads share all their blocks. */
void gemm(const ctx *c, int64_t m, int64_t k, const float *x, int64_t ldx, const gemm_product *products, int n_products);

#endif
