/* The kernels of math/gemm.h. A block of x is copied, a stretch of k at a time, into rows TILE_STRIDE apart; each panel of w
 * then meets all of its tiles while it is in the first cache (Goto and van de Geijn 2008, "Anatomy of high-performance matrix
 * multiplication", with the panels of w in the place of their packed A). Small numbers become floats in the registers, on
 * their way to the first rows of x. */
#include "math/kernels/gemm.h"
#include "math/kernels/forms.h"
#include "math/kernels/level.h"
#include "math/kernels/tile.h"

#include <string.h>

enum { BLOCK_ROWS = GEMM_BLOCK_ROWS };

/* ---- packing ---- */

static void KERNEL(pack_floats)(const float *restrict rows, int64_t n_rows, int64_t k, float *restrict panel) {
    for (int64_t j = 0; j < k; j++)
        for (int64_t r = 0; r < TILE_COLS; r++) panel[j * TILE_COLS + r] = r < n_rows ? rows[r * k + j] : 0;
}

/* ggml's Q4_1 is half scale, half offset, 16 bytes: q_j in the low half of byte j, q_(j+16) in the high one. Q4_0 has no offset
 * and means q - 8; false if 8 times a scale is too large for a half. */
static bool KERNEL(pack_q4)(const uint8_t *const *rows, int64_t n_rows, int64_t k, bool offsets, uint8_t *restrict panel) {
    int64_t block_bytes = offsets ? 20 : 18;
    for (int64_t b = 0; b < k / GROUP; b++, panel += Q4_GROUP_BYTES) {
        memset(panel, 0, Q4_GROUP_BYTES);
        for (int64_t r = 0; r < n_rows; r++) {
            const uint8_t *block = rows[r] + b * block_bytes, *q = block + (offsets ? 4 : 2);
            uint16_t half[2];
            memcpy(half, block, sizeof half);
            if (!offsets && (half[0] & 0x7fff) > 0x6fff) return false; /* 8192 and more */
            if (!offsets) half[1] = half_from_f32(-8 * half_to_f32(half[0]));
            memcpy(panel + 2 * r, half, 2);
            memcpy(panel + 2 * (TILE_COLS + r), half + 1, 2);
            uint8_t *word = panel + 4 * (TILE_COLS + r);
            for (int j = 0; j < 8; j++) {
                int64_t two = j / 4 * TILE_COLS * 4 + j % 4;
                word[two] = (uint8_t)((q[2 * j] & 15) | q[2 * j + 1] << 4);
                word[2 * TILE_COLS * 4 + two] = (uint8_t)(q[2 * j] >> 4 | (q[2 * j + 1] & 0xf0));
            }
        }
    }
    return true;
}

/* ggml's Q8_0: half scale, 32 signed bytes. */
static void KERNEL(pack_q8)(const uint8_t *const *rows, int64_t n_rows, int64_t k, uint8_t *restrict panel) {
    for (int64_t b = 0; b < k / GROUP; b++, panel += Q8_GROUP_BYTES) {
        memset(panel, 0, Q8_GROUP_BYTES);
        for (int64_t r = 0; r < n_rows; r++) {
            const uint8_t *block = rows[r] + b * (2 + GROUP);
            memcpy(panel + 2 * r, block, 2);
            for (int j = 0; j < GROUP; j++) panel[(2 + j) * TILE_COLS + r] = block[2 + j];
        }
    }
}

/* ---- unpacking ---- */

static int64_t group_bytes(gemm_form form) {
    return form == GEMM_Q4    ? Q4_GROUP_BYTES
           : form == GEMM_Q8  ? Q8_GROUP_BYTES
           : form == GEMM_Q4F ? Q4F_GROUP_BYTES
                              : Q8F_GROUP_BYTES;
}

static int64_t panel_bytes(const gemm_weights *w) {
    return w->form == GEMM_F32 ? w->k * TILE_COLS * (int64_t)sizeof(float) : w->k / GROUP * group_bytes(w->form);
}

TILE_INLINE void begin(gemm_form form, group_reader *g, const uint8_t *group) {
    if (form == GEMM_Q4) q4_begin(g, group);
    if (form == GEMM_Q8) q8_begin(g, group);
    if (form == GEMM_Q4F) q4f_begin(g, group);
    if (form == GEMM_Q8F) g->q = group;
}

/* form is a constant wherever these are inlined; k: in order, from 0. */
TILE_INLINE void word_at(gemm_form form, group_reader *g, int k) {
    if (form == GEMM_Q4 || form == GEMM_Q4F) q4_word(g, k);
    if (form == GEMM_Q8F) q8f_word(g, k);
}

TILE_INLINE void column_at(gemm_form form, group_reader *g, int k, vec column[TILE_VECS]) {
    if (form == GEMM_Q4 || form == GEMM_Q4F) q4_column(g, k, column);
    if (form == GEMM_Q8) q8_column(g, k, column);
    if (form == GEMM_Q8F) q8f_column(g, k, column);
}

TILE_INLINE void unpack_groups(gemm_form form, const uint8_t *group, int64_t k_size, float *restrict out) {
    for (int64_t k = 0; k < k_size; k += GROUP, group += group_bytes(form)) {
        group_reader g;
        begin(form, &g, group);
        for (int j = 0; j < GROUP; j += WORD) {
            word_at(form, &g, j);
            WORD_UNROLL
            for (int i = j; i < j + WORD; i++, out += TILE_COLS) {
                vec column[TILE_VECS];
                column_at(form, &g, i, column);
                for (int v = 0; v < TILE_VECS; v++) vec_store(out + v * LANES, LANES, column[v]);
            }
        }
    }
}

static void KERNEL(unpack)(gemm_form form, const void *restrict panel, int64_t k, float *restrict out) {
    if (form == GEMM_Q4) unpack_groups(GEMM_Q4, panel, k, out);
    if (form == GEMM_Q8) unpack_groups(GEMM_Q8, panel, k, out);
    if (form == GEMM_Q4F) unpack_groups(GEMM_Q4F, panel, k, out);
    if (form == GEMM_Q8F) unpack_groups(GEMM_Q8F, panel, k, out);
    if (form == GEMM_F32) memcpy(out, panel, (size_t)(k * TILE_COLS) * sizeof *out);
}

/* ---- products ---- */

/* k in equal stretches of at most TILE_K, whole groups each. */
static int64_t stretch_of(int64_t k) {
    int64_t stretches = (k + TILE_K - 1) / TILE_K;
    return stretches ? ((k + stretches - 1) / stretches + GROUP - 1) / GROUP * GROUP : 0;
}

static tile_result result_at(const gemm_block *b, int64_t column, int64_t k, int64_t k_size) {
    int64_t left = b->w.n - column;
    return (tile_result){.y = b->y + column,
                         .ldy = b->ldy,
                         .cols = left < TILE_COLS ? left : TILE_COLS,
                         .add = k > 0,
                         .bias = b->bias && k + k_size == b->w.k ? b->bias + column : NULL};
}

/* Where k of the panel at a column begins, of a compact form. */
static const uint8_t *panel_at(const gemm_block *b, int64_t column, int64_t k) {
    return (const uint8_t *)b->w.panels + column / TILE_COLS * panel_bytes(&b->w) + k / GROUP * group_bytes(b->w.form);
}

/* Bytes that are needed in a while: panels are too short for the machine to notice that they are read in order. */
TILE_INLINE void ask_for(const uint8_t *p, int64_t n) {
    for (int64_t i = 0; i < n; i += 64) __builtin_prefetch(p + i);
}

/* A few rows of x against one panel, or one row against two side by side, the numbers unpacked in the registers. One row
 * against one panel would wait for each sum before adding the next product. The panels that come next are asked for now. */
enum { FEW_ROWS = 4, FEW_PANELS = 2 };

typedef struct few_sums {
    vec at[FEW_ROWS][FEW_PANELS][TILE_VECS];
} few_sums;

/* unpacked: where the columns of one panel are left for other rows, or NULL. */
TILE_INLINE void few_steps(gemm_form form, int rows, int panels, const float *x, int64_t ldx, group_reader g[FEW_PANELS],
                           few_sums *sum, float *unpacked) {
    for (int j = 0; j < GROUP; j += WORD) {
        for (int p = 0; p < panels; p++) word_at(form, g + p, j);
        WORD_UNROLL
        for (int i = j; i < j + WORD; i++)
            for (int p = 0; p < panels; p++) {
                vec column[TILE_VECS];
                column_at(form, g + p, i, column);
                for (int v = 0; v < TILE_VECS && unpacked; v++)
                    vec_store(unpacked + i * TILE_COLS + v * LANES, LANES, column[v]);
                for (int r = 0; r < rows; r++) {
                    vec value = vec_set(x[r * ldx + i]);
                    for (int v = 0; v < TILE_VECS; v++) sum->at[r][p][v] = vec_madd(value, column[v], sum->at[r][p][v]);
                }
            }
    }
}

TILE_INLINE void few_product(gemm_form form, int rows, int panels, const gemm_block *b, int64_t column, int64_t k_first,
                             int64_t k_size, float *unpacked) {
    int64_t stride = panel_bytes(&b->w);
    const uint8_t *w = panel_at(b, column, k_first);
    few_sums sum;
    for (int r = 0; r < rows; r++)
        for (int p = 0; p < panels; p++)
            for (int v = 0; v < TILE_VECS; v++) sum.at[r][p][v] = vec_set(0);
    for (int64_t k = 0; k < k_size; k += GROUP, w += group_bytes(form)) {
        group_reader g[FEW_PANELS];
        for (int p = 0; p < panels; p++) {
            begin(form, g + p, w + p * stride);
            ask_for(w + (p + panels) * stride, group_bytes(form));
        }
        few_steps(form, rows, panels, b->x + k_first + k, b->ldx, g, &sum, unpacked ? unpacked + k * TILE_COLS : NULL);
    }
    for (int p = 0; p < panels; p++) {
        const tile_result to = result_at(b, column + p * TILE_COLS, k_first, k_size);
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < TILE_VECS; v++) tile_put(&to, r, v, sum.at[r][p][v]);
    }
}

TILE_INLINE void few_block(gemm_form form, int rows, const gemm_block *b) {
    int64_t stretch = stretch_of(b->w.k), step = (rows == 1 ? FEW_PANELS : 1) * TILE_COLS;
    for (int64_t j = 0; j < b->w.n; j += step)
        for (int64_t k = 0; k < b->w.k; k += stretch) {
            int64_t k_size = b->w.k - k < stretch ? b->w.k - k : stretch;
            if (rows == 1 && b->w.n - j > TILE_COLS)
                few_product(form, 1, FEW_PANELS, b, j, k, k_size, NULL);
            else
                few_product(form, rows, 1, b, j, k, k_size, NULL);
        }
}

TILE_INLINE void few_rows_of(gemm_form form, const gemm_block *b) {
    if (b->rows == 1) few_block(form, 1, b);
    if (b->rows == 2) few_block(form, 2, b);
    if (b->rows == 3) few_block(form, 3, b);
    if (b->rows == 4) few_block(form, 4, b);
}

static void few_rows(const gemm_block *b) {
    if (b->w.form == GEMM_Q4)
        few_rows_of(GEMM_Q4, b);
    else
        few_rows_of(GEMM_Q8, b);
}

/* Forms whose numbers stay in the registers on their way to a few rows; others become floats in the first cache before. */
static bool meets_rows(gemm_form form) { return form == GEMM_Q4 || form == GEMM_Q8; }

/* Small numbers become floats while they meet the first rows, for the others to find them in the first cache. */
static void tiles_block(const gemm_block *b) {
    float x[BLOCK_ROWS * TILE_STRIDE] __attribute__((aligned(64)));
    float unpacked[TILE_K * TILE_COLS] __attribute__((aligned(64)));
    int64_t stretch = stretch_of(b->w.k), first = meets_rows(b->w.form) ? FEW_ROWS : 0;
    for (int64_t k = 0; k == 0 || k < b->w.k; k += stretch) {
        int64_t k_size = b->w.k - k < stretch ? b->w.k - k : stretch;
        for (int64_t r = first; r < b->rows; r++)
            memcpy(x + r * TILE_STRIDE, b->x + r * b->ldx + k, (size_t)k_size * sizeof *x);
        for (int64_t j = 0; j < b->w.n; j += TILE_COLS) {
            const float *w = unpacked;
            tile_result to = result_at(b, j, k, k_size);
            if (b->w.form == GEMM_Q4)
                few_product(GEMM_Q4, FEW_ROWS, 1, b, j, k, k_size, unpacked);
            else if (b->w.form == GEMM_Q8)
                few_product(GEMM_Q8, FEW_ROWS, 1, b, j, k, k_size, unpacked);
            else if (b->w.form == GEMM_F32)
                w = (const float *)b->w.panels + j * b->w.k + k * TILE_COLS;
            else
                KERNEL(unpack)(b->w.form, panel_at(b, j, k), k_size, unpacked);
            to.y += first * to.ldy;
            tile_strips(b->rows - first, k_size, x + first * TILE_STRIDE, w, TILE_COLS, to);
        }
        if (!stretch) break;
    }
}

static void KERNEL(block)(const gemm_block *b) {
    gemm_block part = *b;
    if (!meets_rows(b->w.form) || b->rows > 2 * FEW_ROWS) {
        tiles_block(b);
        return;
    }
    part.rows = b->rows > FEW_ROWS ? b->rows / 2 : b->rows;
    few_rows(&part);
    part.x += part.rows * b->ldx, part.y += part.rows * b->ldy, part.rows = b->rows - part.rows;
    few_rows(&part);
}

extern const gemm_kernels KERNEL(gemm_kernels);
const gemm_kernels KERNEL(gemm_kernels) = {
    .panel = TILE_COLS,
    .pack_floats = KERNEL(pack_floats),
    .pack_q4 = KERNEL(pack_q4),
    .pack_q8 = KERNEL(pack_q8),
    .unpack = KERNEL(unpack),
    .block = KERNEL(block),
};
