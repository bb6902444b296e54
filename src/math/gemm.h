/* gemm.h — y = x w^T for weights that are used again and again: w is packed once into panels, the order in which the register
 * tile reads it.
 *
 * A panel holds gemm_panel(level) rows of w side by side. Its numbers stay as small as the file had them where they have a
 * form of their own here; a product makes float32 of them on the way, the same values that dequantising gives, bit for bit:
 *   GEMM_F32   float [k, panel]
 *   GEMM_Q4    per 32 of k: half scale [panel], half offset [panel], 4-bit q;  w = scale q + offset   (from Q4_0, Q4_1)
 *   GEMM_Q8    per 32 of k: half scale [panel], signed 8-bit q;                w = scale q            (from Q8_0)
 *   GEMM_Q4F   per 32 of k: float scale [panel], float offset [panel], 4-bit q;  w = scale q + offset  (from Q4_K)
 *   GEMM_Q8F   the same per 16 of k, with signed 8-bit q                                               (from Q5_0, Q5_1, other K)
 *   GEMM_INT8  per 32 of k: float scale [panel], float offset [panel], 8-bit u; w = scale u + offset   (made of any other form)
 *   GEMM_INT4  panels of GEMM_Q4, multiplied as those of GEMM_INT8
 *   GEMM_BF16  bfloat16 [ceil(k / 32) 16, panel, 2]                                                   (made of floats)
 * Missing rows of the last panel are zeros.
 *
 * Products with GEMM_INT8 and GEMM_INT4 are not exact: 32 numbers of x at a time are rounded to q scale_x, q whole and in
 * -127 .. 127, scale_x their largest magnitude / 127, and multiplied as whole numbers. The u are the file's where the other form is
 * GEMM_Q4 or GEMM_Q8; of GEMM_F32 32 numbers are rounded as x is, at the end of a row those that are left. The reference is
 * ref_round_int8. A row of x with a number that is not finite gives NaN.
 * Nor are those with GEMM_BF16: both operands are rounded to bfloat16, each to within 2^-8 of itself, and their exact products
 * summed in float32. Numbers below 2^-126 may count as zeros.
 *
 * Every element of y is one sum over k in a fixed order: its bits depend on its row of x and its row of w alone, not on the
 * thread count, nor on how many rows or columns there are, nor, but for those three, on
 * the form. (They do differ between machine levels, but for GEMM_INT8 and GEMM_INT4.)
 * All matrices row-major float32; y overlaps nothing. The reference is ref_gemm in math/ref.h.
 */
#ifndef MATH_GEMM_H
#define MATH_GEMM_H

#include "core/ctx.h"

#include <stddef.h>

typedef enum gemm_form { GEMM_F32, GEMM_Q4, GEMM_Q8, GEMM_Q4F, GEMM_Q8F, GEMM_INT8, GEMM_INT4, GEMM_BF16 } gemm_form;

enum { GEMM_GROUP = 32 }; /* of k, that share a scale */

/* The form for rows of k values of this ggml type ("Q4_1"): GEMM_F32 when it has none of its own. */
gemm_form gemm_form_of(const char *type, int64_t k);

/* Whether these are a file's small numbers, which gemm_unpack makes floats of: GEMM_Q4, Q8, Q4F or Q8F. */
bool gemm_is_compact(gemm_form form);

typedef struct gemm_weights {
    gemm_form form;
    int64_t n, k;
    void *panels; /* [ceil(n / panel)] panels, 64-byte aligned */
} gemm_weights;

/* Rows of w in a panel at this level: 8, 16 or 32. */
int64_t gemm_panel(cpu_level level);

/* Bytes of a panel of rows of k values, and of all panels of n rows; false on overflow. */
bool gemm_panel_size(cpu_level level, gemm_form form, int64_t k, size_t *bytes);
bool gemm_packed_size(cpu_level level, gemm_form form, int64_t n, int64_t k, size_t *bytes);

/* Packs one panel of float32 rows [n_rows, k], 1 <= n_rows <= gemm_panel. */
void gemm_pack_floats(cpu_level level, const float *rows, int64_t n_rows, int64_t k, float *panel);

/* Packs one panel of rows in blocks of a type that has the form GEMM_Q4 or GEMM_Q8; rows[i] is row i's first block.
 * False when a scale is so large that the form cannot hold it (8192 in Q4_0): such weights have to be packed as floats. */
bool gemm_pack_blocks(cpu_level level, const char *type, const void *const *rows, int64_t n_rows, int64_t k, void *panel);

/* Numbers k .. k + n of row `row` of a panel of GEMM_Q4F or GEMM_Q8F that was zeros; k and n multiples of 32. scale, offset:
 * [n / 16], of which GEMM_Q4F takes every second. scale q must not be rounded in float32. */
void gemm_pack_whole(cpu_level level, gemm_form form, int64_t row, int64_t k, int64_t n, const float *scale,
                     const float *offset, const int8_t *q, void *panel);

/* One panel of another form as GEMM_INT8. */
void gemm_pack_int8(cpu_level level, gemm_form form, const void *panel, int64_t k, void *out);

/* One panel of floats as GEMM_BF16. */
void gemm_pack_bf16(cpu_level level, const float *panel, int64_t k, void *out);

/* The same compact weights as GEMM_F32, into panels of that size: worth it before several products with many rows. */
void gemm_unpack(const ctx *c, const gemm_weights *w, float *panels);

/* Rows first .. first + n of w, first a multiple of gemm_panel(level): a view. */
gemm_weights gemm_rows(cpu_level level, const gemm_weights *w, int64_t first, int64_t n);

/* One product of a call: y [m, w.n] = x w^T (+ bias). */
typedef struct gemm_product {
    gemm_weights w;
    const float *bias; /* [n], or NULL */
    float *y;          /* row stride ldy */
    int64_t ldy;
} gemm_product;

/* Several products of the same x [m, w.k] (row stride ldx): threads share all their blocks. */
void gemm(const ctx *c, int64_t m, const float *x, int64_t ldx, const gemm_product *products, int n_products);

#endif
