#include "math/gemm.h"
#include "core/mem.h"
#include "math/kernels/bf16.h"
#include "math/kernels/gemm.h"
#include "math/kernels/int8.h"

#include <string.h>

extern const gemm_kernels gemm_kernels_portable;
#if defined(__x86_64__)
extern const gemm_kernels gemm_kernels_avx2, gemm_kernels_avx512;
#endif
extern const int8_kernels int8_kernels_portable;
extern const bf16_kernels bf16_kernels_portable;
#if defined(__x86_64__)
extern const int8_kernels int8_kernels_avx2, int8_kernels_avx512, int8_kernels_vnni;
extern const bf16_kernels bf16_kernels_avx2, bf16_kernels_avx512, bf16_kernels_bf16;
#endif

static const gemm_kernels *kernels_for(cpu_level level) {
#if defined(__x86_64__)
    if (level >= CPU_AVX512) return &gemm_kernels_avx512;
    if (level >= CPU_AVX2) return &gemm_kernels_avx2;
#endif
    (void)level;
    return &gemm_kernels_portable;
}

static const int8_kernels *int8_kernels_for(cpu_level level) {
#if defined(__x86_64__)
    if (level >= CPU_VNNI) return &int8_kernels_vnni;
    if (level >= CPU_AVX512) return &int8_kernels_avx512;
    if (level >= CPU_AVX2) return &int8_kernels_avx2;
#endif
    (void)level;
    return &int8_kernels_portable;
}

static const bf16_kernels *bf16_kernels_for(cpu_level level) {
#if defined(__x86_64__)
    if (level >= CPU_BF16) return &bf16_kernels_bf16;
    if (level >= CPU_AVX512) return &bf16_kernels_avx512;
    if (level >= CPU_AVX2) return &bf16_kernels_avx2;
#endif
    (void)level;
    return &bf16_kernels_portable;
}

/* ---- forms ---- */

enum { GROUP = GEMM_GROUP };

/* Bytes of 32 values of one row. */
static const size_t group_row_bytes[] = {[GEMM_F32] = GROUP * sizeof(float),
                                         [GEMM_Q4] = 4 + GROUP / 2,
                                         [GEMM_Q8] = 2 + GROUP,
                                         [GEMM_Q4F] = 8 + GROUP / 2,
                                         [GEMM_Q8F] = 16 + GROUP,
                                         [GEMM_INT8] = 4 + 4 + GROUP,
                                         [GEMM_INT4] = 4 + GROUP / 2,
                                         [GEMM_BF16] = GROUP * sizeof(uint16_t)};

/* How to add one: a row here, its packing in gemm_pack_blocks or as whole numbers, and in kernels/forms.h what its layout is. */
static const struct {
    const char *type;
    gemm_form form;
} forms[] = {{"Q4_0", GEMM_Q4},  {"Q4_1", GEMM_Q4},  {"Q8_0", GEMM_Q8},  {"Q5_0", GEMM_Q8F}, {"Q5_1", GEMM_Q8F},
             {"Q2_K", GEMM_Q8F}, {"Q3_K", GEMM_Q8F}, {"Q4_K", GEMM_Q4F}, {"Q5_K", GEMM_Q8F}, {"Q6_K", GEMM_Q8F}};

gemm_form gemm_form_of(const char *type, int64_t k) {
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (!strcmp(type, forms[i].type) && k % GROUP == 0) return forms[i].form;
    return GEMM_F32;
}

bool gemm_is_compact(gemm_form form) { return form >= GEMM_Q4 && form <= GEMM_Q8F; }

int64_t gemm_panel(cpu_level level) { return kernels_for(level)->panel; }

bool gemm_panel_size(cpu_level level, gemm_form form, int64_t k, size_t *bytes) {
    size_t rows = (size_t)gemm_panel(level);
    if (k < 0) return false;
    if (form == GEMM_F32) return mem_mul((size_t)k, rows * sizeof(float), bytes);
    return mem_mul((size_t)k / GROUP + (k % GROUP != 0), rows * group_row_bytes[form], bytes);
}

bool gemm_packed_size(cpu_level level, gemm_form form, int64_t n, int64_t k, size_t *bytes) {
    size_t rows, panel = (size_t)gemm_panel(level), panel_bytes;
    if (n < 0 || !mem_add((size_t)n, panel - 1, &rows) || !gemm_panel_size(level, form, k, &panel_bytes)) return false;
    return mem_mul(rows / panel, panel_bytes, bytes);
}

void gemm_pack_floats(cpu_level level, const float *rows, int64_t n_rows, int64_t k, float *panel) {
    kernels_for(level)->pack_floats(rows, n_rows, k, panel);
}

bool gemm_pack_blocks(cpu_level level, const char *type, const void *const *rows, int64_t n_rows, int64_t k, void *panel) {
    const gemm_kernels *kernels = kernels_for(level);
    const uint8_t *const *blocks = (const uint8_t *const *)rows;
    if (gemm_form_of(type, k) == GEMM_Q4) return kernels->pack_q4(blocks, n_rows, k, !strcmp(type, "Q4_1"), panel);
    kernels->pack_q8(blocks, n_rows, k, panel);
    return true;
}

void gemm_pack_whole(cpu_level level, gemm_form form, int64_t row, int64_t k, int64_t n, const float *scale,
                     const float *offset, const int8_t *q, void *panel) {
    int64_t rows = gemm_panel(level), bytes = rows * (int64_t)group_row_bytes[form];
    char *group = (char *)panel + k / GROUP * bytes;
    for (int64_t i = 0; i < n; i += GROUP, q += GROUP, scale += 2, offset += 2, group += bytes) {
        float *scales = (float *)(void *)group;
        int halves = form == GEMM_Q4F ? 1 : 2;
        char *numbers = (char *)(scales + 2 * halves * rows);
        for (int h = 0; h < halves; h++) scales[2 * h * rows + row] = scale[h], scales[(2 * h + 1) * rows + row] = offset[h];
        for (int j = 0; j < GROUP && form == GEMM_Q8F; j++) numbers[j * rows + row] = (char)q[j];
        for (int j = 0; j < GROUP / 2 && form == GEMM_Q4F; j++) /* words of eight k, two of them a byte */
            numbers[4 * (j / 4 * rows + row) + j % 4] = (char)(q[2 * j] | q[2 * j + 1] << 4);
    }
}

void gemm_pack_int8(cpu_level level, gemm_form form, const void *panel, int64_t k, void *out) {
    int8_kernels_for(level)->pack(form, panel, k, out);
}

void gemm_pack_bf16(cpu_level level, const float *panel, int64_t k, void *out) {
    bf16_kernels_for(level)->pack(panel, k, out);
}

gemm_weights gemm_rows(cpu_level level, const gemm_weights *w, int64_t first, int64_t n) {
    size_t bytes = 0;
    gemm_panel_size(level, w->form, w->k, &bytes); /* of weights that exist: cannot overflow */
    return (gemm_weights){
        .form = w->form, .n = n, .k = w->k, .panels = (char *)w->panels + (size_t)(first / gemm_panel(level)) * bytes};
}

static int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

void gemm_unpack(const ctx *c, const gemm_weights *w, float *panels) {
    const gemm_kernels *kernels = kernels_for(c->cpu);
    int64_t panel = kernels->panel;
#pragma omp parallel for num_threads(c->threads) schedule(static)
    for (int64_t p = 0; p < divide_up(w->n, panel); p++)
        kernels->unpack(w->form, gemm_rows(c->cpu, w, p * panel, panel).panels, w->k, panels + p * panel * w->k);
}

/* ---- products ---- */

/* A block is a stretch of rows by a stretch of columns of one product; which ones stand together changes no sum. */
static void run_block(const ctx *c, const gemm_kernels *kernels, int64_t m, const float *x, int64_t ldx,
                      const gemm_product *p, int64_t row, int64_t column, int64_t columns) {
    void (*block)(const gemm_block *) = p->w.form == GEMM_INT8 || p->w.form == GEMM_INT4 ? int8_kernels_for(c->cpu)->block
                                        : p->w.form == GEMM_BF16                         ? bf16_kernels_for(c->cpu)->block
                                                                                         : kernels->block;
    block(&(gemm_block){.rows = m - row < GEMM_BLOCK_ROWS ? m - row : GEMM_BLOCK_ROWS,
                        .x = x + row * ldx,
                        .ldx = ldx,
                        .w = gemm_rows(c->cpu, &p->w, column, p->w.n - column < columns ? p->w.n - column : columns),
                        .bias = p->bias ? p->bias + column : NULL,
                        .y = p->y + row * p->ldy + column,
                        .ldy = p->ldy});
}

/* Columns first .. end of all products side by side, each counted up to a whole number of `step` columns. */
static void run_share(const ctx *c, const gemm_kernels *kernels, int64_t m, const float *x, int64_t ldx,
                      const gemm_product *p, int64_t step, int64_t row, int64_t first, int64_t end) {
    for (; first < end; p++) {
        int64_t width = divide_up(p->w.n, step) * step, here = (end < width ? end : width) - first;
        if (here > 0) run_block(c, kernels, m, x, ldx, p, row, first, here), first += here;
        first -= width, end -= width;
    }
}

/* Columns of a share when there are many rows: so many that copying x is little beside multiplying it. With few rows every
 * thread takes one share of each block of rows, as the weights come from memory fastest when they are read in order. */
enum { SHARE_COLUMNS = 12 * 64, FEW_ROW_BLOCKS = 8 };

void gemm(const ctx *c, int64_t m, const float *x, int64_t ldx, const gemm_product *products, int n_products) {
    const gemm_kernels *kernels = kernels_for(c->cpu);
    int64_t step = 2 * kernels->panel, row_blocks = divide_up(m, GEMM_BLOCK_ROWS), total = 0;
    for (int p = 0; p < n_products; p++) total += divide_up(products[p].w.n, step) * step;
    int64_t share = row_blocks < FEW_ROW_BLOCKS ? divide_up(divide_up(total, c->threads), step) * step : SHARE_COLUMNS;
    int64_t shares = share ? divide_up(total, share) : 0;
#pragma omp parallel for num_threads(c->threads) schedule(dynamic)
    for (int64_t i = 0; i < row_blocks * shares; i++) {
        int64_t first = i % shares * share, end = first + share < total ? first + share : total;
        run_share(c, kernels, m, x, ldx, products, step, i / shares * GEMM_BLOCK_ROWS, first, end);
    }
}
