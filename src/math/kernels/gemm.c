/* The kernels of math/gemm.h. A block of x is copied, a stretch of k at a time, into rows TILE_STRIDE apart; each panel of w
 * then meets all of its tiles while it is in the first cache (Goto and van de Geijn 2008, "Anatomy of high-performance matrix
 * multiplication", with the panels of w in the place of their packed A). Small numbers become floats a stretch of a panel at
 * a time, or, for a single row of x, in the registers. */
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
            for (int g = 0; g < GROUP / 8; g++) {
                uint32_t eight = 0;
                for (int j = 0; j < 8; j++) {
                    int i = g * 8 + j;
                    eight |= (uint32_t)(i < 16 ? q[i] & 15 : q[i - 16] >> 4) << 4 * j;
                }
                memcpy(panel + 4 * ((1 + g) * TILE_COLS + r), &eight, 4);
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

static int64_t group_bytes(gemm_form form) { return form == GEMM_Q4 ? Q4_GROUP_BYTES : Q8_GROUP_BYTES; }

TILE_INLINE void begin(gemm_form form, group_reader *g, const uint8_t *group) {
    if (form == GEMM_Q4)
        q4_begin(g, group);
    else
        q8_begin(g, group);
}

TILE_INLINE void column_at(gemm_form form, group_reader *g, int k, vec column[TILE_VECS]) {
    if (form == GEMM_Q4)
        q4_column(g, k, column);
    else
        q8_column(g, k, column);
}

/* form is a constant wherever this is inlined. */
TILE_INLINE void unpack_groups(gemm_form form, const uint8_t *group, int64_t k_size, float *restrict out) {
    for (int64_t k = 0; k < k_size; k += GROUP, group += group_bytes(form)) {
        group_reader g;
        begin(form, &g, group);
#pragma GCC unroll 32
        for (int j = 0; j < GROUP; j++, out += TILE_COLS) {
            vec column[TILE_VECS];
            column_at(form, &g, j, column);
            for (int v = 0; v < TILE_VECS; v++) vec_store(out + v * LANES, LANES, column[v]);
        }
    }
}

static void KERNEL(unpack)(gemm_form form, const void *restrict panel, int64_t k_first, int64_t k_size, float *restrict out) {
    const uint8_t *bytes = panel;
    if (form == GEMM_Q4)
        unpack_groups(GEMM_Q4, bytes + k_first / GROUP * Q4_GROUP_BYTES, k_size, out);
    else if (form == GEMM_Q8)
        unpack_groups(GEMM_Q8, bytes + k_first / GROUP * Q8_GROUP_BYTES, k_size, out);
    else
        memcpy(out, (const float *)panel + k_first * TILE_COLS, (size_t)(k_size * TILE_COLS) * sizeof *out);
}

/* ---- products ---- */

/* k in equal stretches of at most TILE_K, whole groups each. */
static int64_t stretch_of(int64_t k) {
    int64_t stretches = (k + TILE_K - 1) / TILE_K;
    return stretches ? ((k + stretches - 1) / stretches + GROUP - 1) / GROUP * GROUP : 0;
}

static int64_t panel_bytes(const gemm_weights *w) {
    return w->form == GEMM_F32 ? w->k * TILE_COLS * (int64_t)sizeof(float) : w->k / GROUP * group_bytes(w->form);
}

static tile_result result_at(const gemm_block *b, int64_t column, int64_t k, int64_t k_size) {
    int64_t left = b->w.n - column;
    return (tile_result){.y = b->y + column,
                         .ldy = b->ldy,
                         .cols = left < TILE_COLS ? left : TILE_COLS,
                         .add = k > 0,
                         .bias = b->bias && k + k_size == b->w.k ? b->bias + column : NULL};
}

/* One row of x against `panels` panels side by side: more sums at a time than one panel has hide the latency of each. */
enum { ROW_PANELS = 2 };

TILE_INLINE void row_product(gemm_form form, int panels, const float *x, const uint8_t *w, int64_t stride, int64_t k_size,
                             vec sum[][TILE_VECS]) {
    for (int p = 0; p < panels; p++)
        for (int v = 0; v < TILE_VECS; v++) sum[p][v] = vec_set(0);
    for (int64_t k = 0; k < k_size; k += GROUP, w += group_bytes(form)) {
        group_reader g[ROW_PANELS];
        for (int p = 0; p < panels; p++) begin(form, g + p, w + p * stride);
#pragma GCC unroll 32
        for (int j = 0; j < GROUP; j++) {
            vec value = vec_set(x[k + j]);
            for (int p = 0; p < panels; p++) {
                vec column[TILE_VECS];
                column_at(form, g + p, j, column);
                for (int v = 0; v < TILE_VECS; v++) sum[p][v] = vec_madd(value, column[v], sum[p][v]);
            }
        }
    }
}

TILE_INLINE void row_block(gemm_form form, const gemm_block *b) {
    int64_t stretch = stretch_of(b->w.k), stride = panel_bytes(&b->w);
    for (int64_t j = 0; j < b->w.n; j += ROW_PANELS * TILE_COLS) {
        int panels = b->w.n - j > TILE_COLS ? ROW_PANELS : 1;
        for (int64_t k = 0; k < b->w.k; k += stretch) {
            int64_t k_size = b->w.k - k < stretch ? b->w.k - k : stretch;
            const uint8_t *w = (const uint8_t *)b->w.panels + j / TILE_COLS * stride + k / GROUP * group_bytes(form);
            vec sum[ROW_PANELS][TILE_VECS];
            if (panels == ROW_PANELS)
                row_product(form, ROW_PANELS, b->x + k, w, stride, k_size, sum);
            else
                row_product(form, 1, b->x + k, w, stride, k_size, sum);
            for (int p = 0; p < panels; p++) {
                const tile_result to = result_at(b, j + p * TILE_COLS, k, k_size);
                for (int v = 0; v < TILE_VECS; v++) tile_put(&to, 0, v, sum[p][v]);
            }
        }
    }
}

static void tiles_block(const gemm_block *b) {
    float x[BLOCK_ROWS * TILE_STRIDE] __attribute__((aligned(64)));
    float unpacked[TILE_K * TILE_COLS] __attribute__((aligned(64)));
    int64_t stretch = stretch_of(b->w.k), stride = panel_bytes(&b->w);
    for (int64_t k = 0; k == 0 || k < b->w.k; k += stretch) {
        int64_t k_size = b->w.k - k < stretch ? b->w.k - k : stretch;
        for (int64_t r = 0; r < b->rows; r++) memcpy(x + r * TILE_STRIDE, b->x + r * b->ldx + k, (size_t)k_size * sizeof *x);
        for (int64_t j = 0; j < b->w.n; j += TILE_COLS) {
            const uint8_t *panel = (const uint8_t *)b->w.panels + j / TILE_COLS * stride;
            const float *w = (const float *)(const void *)panel + k * TILE_COLS;
            if (b->w.form != GEMM_F32) KERNEL(unpack)(b->w.form, panel, k, k_size, unpacked), w = unpacked;
            tile_strips(b->rows, k_size, x, w, TILE_COLS, result_at(b, j, k, k_size));
        }
        if (!stretch) break;
    }
}

static void KERNEL(block)(const gemm_block *b) {
    if (b->rows == 1 && b->w.form == GEMM_Q4)
        row_block(GEMM_Q4, b);
    else if (b->rows == 1 && b->w.form == GEMM_Q8)
        row_block(GEMM_Q8, b);
    else
        tiles_block(b);
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
