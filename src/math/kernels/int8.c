/* Products of GEMM_INT8 and GEMM_INT4 (math/gemm.h), whose panels become those of GEMM_INT8 in the first cache. Sums of 32 products are whole numbers, and what follows is done in one order and never
 * fused: the bits are the same at every machine level. */
#include "math/kernels/int8.h"
#include "math/kernels/forms.h"
#include "math/kernels/level.h"

#include <math.h>

/* Rows whose sums, whole and as floats, fit the registers; how much of k is quantised at a time: a panel of it stays in the
 * first cache. */
enum { ROWS = LANES == 16 ? 6 : 2, STRETCH = 1024, STRIDE = STRETCH + 64, INT8_GROUP_BYTES = TILE_COLS * (4 + 4 + GROUP) };

/* ---- four products a lane ---- */

#if defined(__AVX512F__)
typedef __m512i ints;
static inline ints ints_zero(void) { return _mm512_setzero_si512(); }
static inline ints ints_load(const uint8_t *p) { return _mm512_loadu_si512(p); }
static inline ints ints_set(int32_t x) { return _mm512_set1_epi32(x); }
static inline vec vec_from_ints(ints a) { return _mm512_cvtepi32_ps(a); }
#define INTS(name)            _mm512_##name
#define ints_mask_bytes(a, b) _mm512_and_si512(a, b)
#elif defined(__AVX2__)
typedef __m256i ints;
static inline ints ints_zero(void) { return _mm256_setzero_si256(); }
static inline ints ints_load(const uint8_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
static inline ints ints_set(int32_t x) { return _mm256_set1_epi32(x); }
static inline vec vec_from_ints(ints a) { return _mm256_cvtepi32_ps(a); }
#define INTS(name)            _mm256_##name
#define ints_mask_bytes(a, b) _mm256_and_si256(a, b)
#else
typedef struct ints {
    int32_t lane[LANES];
} ints;
static inline ints ints_zero(void) { return (ints){{0}}; }
static inline ints ints_load(const uint8_t *p) {
    ints a;
    memcpy(&a, p, sizeof a);
    return a;
}
static inline vec vec_from_ints(ints a) {
    float x[LANES];
    for (int l = 0; l < LANES; l++) x[l] = (float)a.lane[l];
    return vec_load(x, LANES);
}
#endif

/* Four signed numbers of a row of x, for every lane; dot4 adds their products with a lane's four unsigned ones. */
#if defined(__AVX512VNNI__)
typedef ints fours;
static inline fours fours_load(const int8_t *q) {
    int32_t four;
    memcpy(&four, q, sizeof four);
    return ints_set(four);
}
static inline ints dot4(ints sum, ints u, fours q) { return _mm512_dpbusd_epi32(sum, u, q); }
#elif defined(__AVX2__)
typedef struct fours {
    ints even, odd; /* of 16 bits: a product of an unsigned and a signed byte does not fit the 16 that maddubs sums two in */
} fours;
static inline fours fours_load(const int8_t *q) {
    int32_t four;
    memcpy(&four, q, sizeof four);
    ints all = ints_set(four);
    return (fours){INTS(srai_epi16)(INTS(slli_epi16)(all, 8), 8), INTS(srai_epi16)(all, 8)};
}
static inline ints dot4(ints sum, ints u, fours q) {
    ints even = INTS(madd_epi16)(ints_mask_bytes(u, ints_set(0x00ff00ff)), q.even);
    return INTS(add_epi32)(sum, INTS(add_epi32)(even, INTS(madd_epi16)(INTS(srli_epi16)(u, 8), q.odd)));
}
#else
typedef struct fours {
    int8_t q[4];
} fours;
static inline fours fours_load(const int8_t *q) {
    fours f;
    memcpy(&f, q, sizeof f);
    return f;
}
static inline ints dot4(ints sum, ints u, fours f) {
    uint8_t bytes[4 * LANES];
    memcpy(bytes, &u, sizeof bytes);
    for (int l = 0; l < LANES; l++)
        for (int j = 0; j < 4; j++) sum.lane[l] += bytes[4 * l + j] * f.q[j];
    return sum;
}
#endif

/* ---- rounding ---- */

/* Where number j of a group stands: of every eight the even ones, then the odd ones, as masking words of GEMM_Q4 gives them. */
static inline int place(int j) { return j / WORD * WORD + j % 2 * (WORD / 2) + j % WORD / 2; }

/* The bytes of eight at a time in that order; a shift moves every second one beside the one before the last. */
static void put_in_place(const uint8_t from[GROUP], int8_t to[GROUP]) {
    uint64_t eights[GROUP / WORD];
    memcpy(eights, from, sizeof eights);
    for (int i = 0; i < GROUP / WORD; i++) {
        uint64_t even = eights[i] & 0x00ff00ff00ff00ff, odd = eights[i] >> 8 & 0x00ff00ff00ff00ff;
        even = (even | even >> 8) & 0x0000ffff0000ffff, odd = (odd | odd >> 8) & 0x0000ffff0000ffff;
        eights[i] = ((even | even >> 16) & 0xffffffff) | (odd | odd >> 16) << 32;
    }
    memcpy(to, eights, sizeof eights);
}

/* x[j] = scale q[place(j)] to within half a scale, ties to the even q. The scale is NaN when a number is not finite; below 1e-30 all are 0.
 * Adding 1.5 * 2^23 rounds, and leaves q in the lowest bits. */
static float quantise(const float x[GROUP], int8_t q[GROUP]) {
    uint32_t bits[GROUP], largest = 0;
    uint8_t bytes[GROUP];
    float most, inverse;
    memcpy(bits, x, sizeof bits);
    for (int j = 0; j < GROUP; j++) largest = (bits[j] & 0x7fffffff) > largest ? bits[j] & 0x7fffffff : largest;
    memcpy(&most, &largest, sizeof most);
    inverse = most > 1e-30f ? 127 / most : 0;
    for (int j = 0; j < GROUP; j++) {
        float product = x[j] * inverse, shifted = product + 12582912.0f;
        memcpy(bits + j, &shifted, sizeof shifted);
    }
    for (int j = 0; j < GROUP; j++) bytes[j] = (uint8_t)bits[j];
    put_in_place(bytes, q);
    return most <= 3.4028235e38f ? most / 127 : NAN;
}

/* ---- packing ---- */

static float float_at(const uint8_t *p) {
    float x;
    memcpy(&x, p, sizeof x);
    return x;
}

static float q8f_value(const uint8_t *group, int k, int r) {
    const uint8_t *scale = group + 4 * (k / 16 * 2 * TILE_COLS + r);
    return float_at(scale) * (float)(int8_t)group[(16 + k) * TILE_COLS + r] + float_at(scale + 4 * TILE_COLS);
}

/* n of k of one row of a panel of another form, as scale u[place(j)] + offset; the rest of the group is 0. */
static void read_group(gemm_form form, const uint8_t *group, int r, int n, uint8_t u[GROUP], float *scale, float *offset) {
    float x[GROUP] = {0};
    int8_t q[GROUP];
    uint16_t half[2];
    if (form == GEMM_Q4 || form == GEMM_Q4F) {
        const uint8_t *numbers = group + (form == GEMM_Q4 ? 4 : 8) * TILE_COLS + 4 * r;
        if (form == GEMM_Q4) {
            memcpy(half, group + 2 * r, 2);
            memcpy(half + 1, group + 2 * (TILE_COLS + r), 2);
            *scale = half_to_f32(half[0]), *offset = half_to_f32(half[1]);
        } else {
            *scale = float_at(group + 4 * r), *offset = float_at(group + 4 * (TILE_COLS + r));
        }
        for (int j = 0; j < GROUP / 2; j++) {
            uint8_t two = numbers[j / 4 * 4 * TILE_COLS + j % 4];
            u[place(2 * j)] = two & 15, u[place(2 * j + 1)] = two >> 4;
        }
        return;
    }
    if (form == GEMM_Q8) {
        memcpy(half, group + 2 * r, 2);
        *scale = half_to_f32(half[0]);
        for (int j = 0; j < GROUP; j++) q[place(j)] = (int8_t)group[(2 + j) * TILE_COLS + r];
    } else {
        for (int j = 0; j < n; j++)
            x[j] = form == GEMM_Q8F ? q8f_value(group, j, r) : float_at(group + 4 * (j * TILE_COLS + r));
        *scale = quantise(x, q);
    }
    *offset = -128 * *scale;
    for (int j = 0; j < GROUP; j++) u[j] = (uint8_t)(q[j] + 128);
}

static int64_t bytes_of_group(gemm_form form) {
    return form == GEMM_Q4    ? Q4_GROUP_BYTES
           : form == GEMM_Q8  ? Q8_GROUP_BYTES
           : form == GEMM_Q4F ? Q4F_GROUP_BYTES
           : form == GEMM_Q8F ? Q8F_GROUP_BYTES
                              : GROUP * TILE_COLS * (int64_t)sizeof(float);
}

static void KERNEL(pack)(gemm_form form, const void *restrict panel, int64_t k, uint8_t *restrict out) {
    const uint8_t *group = panel;
    for (; k > 0; k -= GROUP, group += bytes_of_group(form), out += INT8_GROUP_BYTES)
        for (int r = 0; r < TILE_COLS; r++) {
            uint8_t u[GROUP];
            float scale, offset;
            read_group(form, group, r, k < GROUP ? (int)k : GROUP, u, &scale, &offset);
            memcpy(out + 4 * r, &scale, sizeof scale);
            memcpy(out + 4 * (TILE_COLS + r), &offset, sizeof offset);
            for (int j = 0; j < GROUP; j += 4) memcpy(out + (8 + j) * TILE_COLS + 4 * r, u + j, 4);
        }
}

/* k of a panel of GEMM_Q4 as GEMM_INT8. */
static void widen(const uint8_t *restrict q4, int64_t k, uint8_t *restrict out) {
    enum { ROW = 4 * TILE_COLS };
    for (; k > 0; k -= GROUP, q4 += Q4_GROUP_BYTES, out += INT8_GROUP_BYTES) {
        const uint8_t *two = q4 + ROW;
        uint8_t *u = out + 2 * ROW;
        for (int v = 0; v < 2 * TILE_VECS; v++)
            vec_store((float *)(void *)out + v * LANES, LANES, vec_from_halves(q4 + 2 * v * LANES));
        for (int j = 0; j < GROUP / WORD; j++, two += ROW, u += 2 * ROW)
            for (int i = 0; i < ROW; i++) u[i] = two[i] & 15, u[ROW + i] = two[i] >> 4;
    }
}

/* ---- products ---- */

/* A stretch of a block's rows. */
typedef struct quantised {
    int8_t q[GEMM_BLOCK_ROWS * STRIDE] __attribute__((aligned(64)));
    float scale[GEMM_BLOCK_ROWS][STRETCH / GROUP], total[GEMM_BLOCK_ROWS][STRETCH / GROUP]; /* total: sum of the q */
} quantised;

static void quantise_rows(quantised *x, const gemm_block *b, int64_t first, int64_t n) {
    for (int64_t r = 0; r < b->rows; r++)
        for (int64_t g = 0; g * GROUP < n; g++) {
            const float *from = b->x + r * b->ldx + first + g * GROUP;
            int8_t *q = x->q + r * STRIDE + g * GROUP;
            int32_t total = 0;
            float padded[GROUP] = {0};
            if (n - g * GROUP < GROUP) from = memcpy(padded, from, (size_t)(n - g * GROUP) * sizeof *from);
            x->scale[r][g] = quantise(from, q);
            for (int j = 0; j < GROUP; j++) total += q[j];
            x->total[r][g] = (float)total;
        }
}

typedef struct sums_at {
    float *y;
    int64_t ldy, cols;
    bool goes_on; /* y holds the sums so far */
    const float *bias;
} sums_at;

static inline int64_t lanes_at(const sums_at *to, int v) {
    int64_t n = to->cols - v * LANES;
    return n < 0 ? 0 : n > LANES ? LANES : n;
}

/* rows is a constant wherever this is inlined. */
TILE_INLINE void add_rows(int rows, const quantised *x, int64_t row, int64_t k_size, const uint8_t *w, const sums_at *to) {
    vec sum[ROWS][TILE_VECS];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < TILE_VECS; v++)
            sum[r][v] = to->goes_on ? vec_load(to->y + r * to->ldy + v * LANES, lanes_at(to, v)) : vec_set(0);
    for (int64_t g = 0; g * GROUP < k_size; g++, w += INT8_GROUP_BYTES) {
        const int8_t *q = x->q + row * STRIDE + g * GROUP;
        ints dot[ROWS][TILE_VECS];
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < TILE_VECS; v++) dot[r][v] = ints_zero();
        for (int j = 0; j < GROUP; j += 4) {
            ints u[TILE_VECS];
            for (int v = 0; v < TILE_VECS; v++) u[v] = ints_load(w + (8 + j) * TILE_COLS + 4 * v * LANES);
            for (int r = 0; r < rows; r++) {
                fours four = fours_load(q + r * STRIDE + j);
                for (int v = 0; v < TILE_VECS; v++) dot[r][v] = dot4(dot[r][v], u[v], four);
            }
        }
        for (int v = 0; v < TILE_VECS; v++) {
            vec scale = vec_load((const float *)w + v * LANES, LANES);
            vec offset = vec_load((const float *)w + TILE_COLS + v * LANES, LANES);
            for (int r = 0; r < rows; r++) {
                vec whole = vec_mul(vec_from_ints(dot[r][v]), scale);
                vec rest = vec_mul(vec_set(x->total[row + r][g]), offset);
                sum[r][v] = vec_add(sum[r][v], vec_mul(vec_set(x->scale[row + r][g]), vec_add(whole, rest)));
            }
        }
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < TILE_VECS; v++) {
            int64_t n = lanes_at(to, v);
            if (n && to->bias) sum[r][v] = vec_add(sum[r][v], vec_load(to->bias + v * LANES, n));
            if (n) vec_store(to->y + r * to->ldy + v * LANES, n, sum[r][v]);
        }
}

static void add_panel(int64_t rows, const quantised *x, int64_t k_size, const uint8_t *w, sums_at to) {
    int64_t row = 0;
    for (; row + ROWS <= rows; row += ROWS, to.y += ROWS * to.ldy) add_rows(ROWS, x, row, k_size, w, &to);
    for (; row + 2 <= rows; row += 2, to.y += 2 * to.ldy) add_rows(2, x, row, k_size, w, &to);
    if (row < rows) add_rows(1, x, row, k_size, w, &to);
}

static void KERNEL(block)(const gemm_block *b) {
    quantised x;
    uint8_t wide[STRETCH / GROUP * INT8_GROUP_BYTES] __attribute__((aligned(64)));
    bool narrow = b->w.form == GEMM_INT4;
    int64_t group = narrow ? Q4_GROUP_BYTES : INT8_GROUP_BYTES, panel = (b->w.k + GROUP - 1) / GROUP * group;
    for (int64_t k = 0; k < b->w.k; k += STRETCH) {
        int64_t k_size = b->w.k - k < STRETCH ? b->w.k - k : STRETCH;
        bool last = k + k_size == b->w.k;
        quantise_rows(&x, b, k, k_size);
        for (int64_t j = 0; j < b->w.n; j += TILE_COLS) {
            const uint8_t *w = (const uint8_t *)b->w.panels + j / TILE_COLS * panel + k / GROUP * group;
            if (narrow) widen(w, k_size, wide);
            add_panel(b->rows, &x, k_size, narrow ? wide : w,
                      (sums_at){.y = b->y + j,
                                .ldy = b->ldy,
                                .cols = b->w.n - j < TILE_COLS ? b->w.n - j : TILE_COLS,
                                .goes_on = k > 0,
                                .bias = last && b->bias ? b->bias + j : NULL});
        }
    }
}

extern const int8_kernels KERNEL(int8_kernels);
const int8_kernels KERNEL(int8_kernels) = {.pack = KERNEL(pack), .block = KERNEL(block)};
