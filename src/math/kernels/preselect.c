/* The kernels of math/preselect.h. A few rows meet a panel of two vectors of latents in the registers; what is above a row's floor
 * is picked from there. Rows hold whole numbers q, in 8 bits q + 128, which the panel's offset takes back. */
#include "math/preselect.h"
#include "math/kernels/found.h"
#include "math/kernels/level.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

/* ---- whole numbers ---- */

#if defined(__AVX512VNNI__) || !defined(__AVX2__)
#define WHOLE_BITS 8
#else
#define WHOLE_BITS 16
#endif

#if WHOLE_BITS == 8
typedef int8_t latent_number;
typedef uint8_t row_number;
enum { BITS = 8, GROUP = 4, ROW_SHIFT = 128, MOST = 127, MAX_D = 1 << 16 };
#else
typedef int16_t latent_number;
typedef int16_t row_number;
enum { BITS = 16, GROUP = 2, ROW_SHIFT = 0, MOST = 32767, MAX_D = 1 << 19 };
#endif

/* Rows, such that their sums and what is added to these fit into the registers: 32 vectors at AVX-512, else 16. */
enum { ROWS = LANES == 16 ? 8 : 4, VECS = 2, PANEL = VECS * LANES };

#if defined(__AVX512F__)
typedef __m512i ints;
static inline ints ints_zero(void) { return _mm512_setzero_si512(); }
static inline ints ints_load(const void *p) { return _mm512_loadu_si512(p); }
static inline ints ints_set(int32_t x) { return _mm512_set1_epi32(x); }
static inline vec ints_less(ints a, ints b) { return _mm512_cvtepi32_ps(_mm512_sub_epi32(a, b)); } /* a - b */
#if WHOLE_BITS == 8
static inline ints ints_add_products(ints sum, ints x, ints w) { return _mm512_dpbusd_epi32(sum, x, w); }
#else
static inline ints ints_add_products(ints sum, ints x, ints w) { return _mm512_add_epi32(sum, _mm512_madd_epi16(x, w)); }
#endif
#elif defined(__AVX2__)
typedef __m256i ints;
static inline ints ints_zero(void) { return _mm256_setzero_si256(); }
static inline ints ints_load(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
static inline ints ints_set(int32_t x) { return _mm256_set1_epi32(x); }
static inline vec ints_less(ints a, ints b) { return _mm256_cvtepi32_ps(_mm256_sub_epi32(a, b)); }
static inline ints ints_add_products(ints sum, ints x, ints w) { return _mm256_add_epi32(sum, _mm256_madd_epi16(x, w)); }
#else
typedef struct ints {
    int32_t lane[LANES];
} ints;
static inline ints ints_zero(void) { return (ints){{0}}; }
static inline ints ints_load(const void *p) {
    ints a;
    memcpy(&a, p, sizeof a);
    return a;
}
static inline ints ints_set(int32_t x) {
    ints a;
    for (int l = 0; l < LANES; l++) a.lane[l] = x;
    return a;
}
static inline vec ints_less(ints a, ints b) {
    vec r;
    for (int l = 0; l < LANES; l++) r.lane[l] = (float)(a.lane[l] - b.lane[l]);
    return r;
}
static inline ints ints_add_products(ints sum, ints x, ints w) { /* as dpbusd: bytes without sign times bytes with sign */
    row_number a[4 * LANES];
    latent_number b[4 * LANES];
    memcpy(a, &x, sizeof a);
    memcpy(b, &w, sizeof b);
    for (int l = 0; l < LANES; l++)
        for (int g = 0; g < 4; g++) sum.lane[l] += a[4 * l + g] * b[4 * l + g];
    return sum;
}
#endif

static int64_t padded(int64_t d) { return (d + GROUP - 1) / GROUP * GROUP; }

/* ---- rounding ---- */

static inline vec size_of(vec a) { return vec_max(a, vec_sub(vec_set(0), a)); }

static inline void measure_at(const float *x, const float *scale, int64_t j, int64_t n, vec *largest, vec *square) {
    vec v = vec_mul(vec_load(x + j, n), vec_load(scale + j, n));
    *largest = vec_max(size_of(v), *largest);
    *square = vec_madd(v, v, *square);
}

/* The step of a vector v: sums of products must fit into 32 bits. d products of bytes do; in 16 bits they are at most the
 * product of the whole numbers' norms, which rounding makes larger by sqrt(d) / 2 at most. */
static float step_of(float most, float norm) {
    const float length = 45000; /* (length + sqrt(MAX_D) / 2)^2 < 2^31 */
    float step = most / MOST;
    return BITS == 8 ? step : fmaxf(step, norm / length);
}

/* v = x scale is step q + left. */
typedef struct rounding {
    const float *x, *scale;
    vec step, inverse;
    vec kept, lost; /* sums of (step q)^2, left^2 */
} rounding;

static inline void round_at(rounding *r, float *restrict q, int64_t j, int64_t n) {
    const vec magic = vec_set(12582912.0f); /* 1.5 * 2^23: adding it leaves whole numbers */
    vec v = vec_mul(vec_load(r->x + j, n), vec_load(r->scale + j, n));
    vec whole = vec_sub(vec_add(vec_mul(v, r->inverse), magic), magic), back = vec_mul(whole, r->step),
        left = vec_sub(v, back);
    vec_store(q + j, n, whole);
    r->kept = vec_madd(back, back, r->kept);
    r->lost = vec_madd(left, left, r->lost);
}

typedef struct rounded {
    float step, norm, kept, lost; /* step; |v|, |step q|, |v - step q|, each rounded up */
} rounded;

/* q [d] of x / s. A vector too small to have a step is all lost. Not finite where x is not. */
static rounded round_vector(const float *restrict x, const float *restrict scale, int64_t d, float *restrict q) {
    vec largest = vec_set(0), square = vec_set(0);
    VEC_LOOP(d, measure_at(x, scale, j, n, &largest, &square));
    float most = vec_largest(largest), grow = 1 + preselect_loss(d), norm = grow * sqrtf(vec_sum(square));
    bool tiny = !(most > 1e-30f);
    float step = tiny ? 0 : step_of(most, norm);
    rounding r = {x, scale, vec_set(step), vec_set(tiny ? 0 : 1 / step), vec_set(0), vec_set(0)};
    VEC_LOOP(d, round_at(&r, q, j, n));
    return (rounded){step, norm, grow * sqrtf(vec_sum(r.kept)), grow * sqrtf(vec_sum(r.lost))};
}

static preselect_row KERNEL(round_row)(const float *x, const float *inverse_s, int64_t d, void *numbers, float *scratch) {
    row_number *to = numbers;
    rounded r = round_vector(x, inverse_s, d, scratch);
    for (int64_t j = 0; j < d; j++) to[j] = (row_number)((int32_t)scratch[j] + ROW_SHIFT);
    for (int64_t j = d; j < padded(d); j++) to[j] = ROW_SHIFT;
    float error = r.lost + preselect_loss(d) * r.norm + 1e-30f;
    return (preselect_row){r.step, r.kept, isfinite(r.norm) ? error : NAN};
}

static void KERNEL(pack_latent)(preselect_latents *l, int64_t i, const float *w, float bias, const float *s, float *scratch) {
    int64_t d = l->d, size = padded(d), lane = i % PANEL;
    latent_number *panel = (latent_number *)l->q + i / PANEL * PANEL * size;
    int32_t sum = 0;
    if (i >= l->n) { /* never above any floor */
        l->step[i] = l->norm[i] = l->error[i] = l->slack[i] = 0;
        l->bias[i] = -INFINITY;
    } else {
        rounded r = round_vector(w, s, d, scratch);
        l->step[i] = r.step;
        l->norm[i] = r.norm;
        l->error[i] = 1.001f * (r.lost + preselect_loss(d) * r.norm) + 1e-30f;
        l->slack[i] = preselect_slack(bias);
        l->bias[i] = bias;
    }
    for (int64_t j = 0; j < size; j += GROUP)
        for (int64_t g = 0; g < GROUP; g++) {
            int32_t q = i < l->n && j + g < d ? (int32_t)scratch[j + g] : 0;
            panel[j * PANEL + lane * GROUP + g] = (latent_number)q;
            sum += q;
        }
    l->offset[i] = ROW_SHIFT * sum;
}

/* ---- scores ---- */

static inline int32_t group_at(const row_number *q, int64_t j) {
    int32_t group;
    memcpy(&group, q + j, sizeof group);
    return group;
}

/* sums = products of ROWS rows and the panel */
static inline void multiply(const row_number *const rows[ROWS], const latent_number *panel, int64_t size,
                            ints sums[ROWS][VECS]) {
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < VECS; v++) sums[r][v] = ints_zero();
#pragma GCC unroll 4
    for (int64_t j = 0; j < size; j += GROUP) {
        ints w[VECS];
        for (int v = 0; v < VECS; v++) w[v] = ints_load(panel + j * PANEL + (int64_t)v * LANES * GROUP);
        for (int r = 0; r < ROWS; r++) {
            ints x = ints_set(group_at(rows[r], j));
            for (int v = 0; v < VECS; v++) sums[r][v] = ints_add_products(sums[r][v], x, w[v]);
        }
    }
}

/* Appends what is above the floor of a row, whose products with the panel at latent i are sums. */
static inline void pick(const preselect_latents *l, int64_t i, const ints sums[VECS], const preselect_row *x,
                        preselect_picks *to) {
    vec step = vec_set(x->step), error = vec_set(x->error), norm = vec_set(x->norm), floor = vec_set(to->floor);
    found f = {to->values, to->indices, to->n};
    for (int64_t v = 0; v < VECS; v++, i += LANES) {
        vec score = vec_mul(step, vec_mul(vec_load(l->step + i, LANES), ints_less(sums[v], ints_load(l->offset + i))));
        vec wrong = vec_madd(norm, vec_load(l->error + i, LANES), vec_load(l->slack + i, LANES));
        wrong = vec_madd(error, vec_load(l->norm + i, LANES), wrong);
        append_above(vec_add(vec_add(score, vec_load(l->bias + i, LANES)), wrong), floor, LANES, (uint32_t)i, &f);
    }
    to->n = f.n;
}

static void KERNEL(scan)(const preselect_latents *l, int64_t first, int64_t n, const void *q, const preselect_row *x,
                         int64_t n_rows, preselect_picks *picks) {
    int64_t size = padded(l->d);
    for (int64_t i = first; i < first + n; i += PANEL) {
        const latent_number *panel = (const latent_number *)l->q + i * size;
        for (int64_t row = 0; row < n_rows; row += ROWS) {
            const row_number *rows[ROWS];
            ints sums[ROWS][VECS];
            for (int r = 0; r < ROWS; r++) rows[r] = (const row_number *)q + (row + r < n_rows ? row + r : n_rows - 1) * size;
            multiply(rows, panel, size, sums);
            for (int r = 0; r < ROWS && row + r < n_rows; r++) pick(l, i, sums[r], &x[row + r], &picks[row + r]);
        }
    }
}

extern const preselect_kernels KERNEL(preselect_kernels);
const preselect_kernels KERNEL(preselect_kernels) = {
    .bits = BITS,
    .panel = PANEL,
    .group = GROUP,
    .max_d = MAX_D,
    .round_row = KERNEL(round_row),
    .pack_latent = KERNEL(pack_latent),
    .scan = KERNEL(scan),
};
