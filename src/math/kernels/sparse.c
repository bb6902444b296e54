/* The kernels of math/sparse.h. Rows of W and of the batch are visited in fours: a sum that stays in cache is read and
 * written once for four rows, and while four are worked on the next four are fetched. */
#include "math/sparse.h"
#include "math/kernels/found.h"
#include "math/kernels/level.h"

#include <limits.h>
#include <math.h>
#include <string.h>

/* ---- which latents fire ---- */

static int64_t KERNEL(scan_above)(const float *restrict scores, const float *restrict bias, int64_t n_scores, float floor,
                                  uint32_t first, float *restrict values, uint32_t *restrict indices) {
    vec low = vec_set(floor);
    found to = {values, indices, 0};
    VEC_LOOP(n_scores,
             append_above(vec_add(vec_load(scores + j, n), vec_load(bias + j, n)), low, n, first + (uint32_t)j, &to));
    return to.n;
}

static int64_t KERNEL(scan_above_each)(const float *restrict scores, const float *restrict bias, const float *restrict floors,
                                       int64_t n_scores, uint32_t first, float *restrict values, uint32_t *restrict indices) {
    vec zero = vec_set(0);
    found to = {values, indices, 0};
    VEC_LOOP(n_scores, append_above(vec_add(vec_load(scores + j, n), vec_load(bias + j, n)),
                                    vec_max(vec_load(floors + j, n), zero), n, first + (uint32_t)j, &to));
    return to.n;
}

/* Floats as integers in the same order: the bits of negative ones below the sign are flipped. Its own inverse. */
static void reorder_bits(float *values, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        int32_t u;
        memcpy(&u, values + i, sizeof u);
        u ^= (u >> 31) & INT32_MAX;
        memcpy(values + i, &u, sizeof u);
    }
}

static inline int32_t key_at(const float *keys, int64_t i) {
    int32_t key;
    memcpy(&key, keys + i, sizeof key);
    return key;
}

/* The k-th largest of n keys, found bit by bit from the top: the largest t that at least k keys reach. Stops early at a t
 * that exactly k reach. */
static int32_t kth_largest(const float *keys, int64_t n, int64_t k) {
    uint32_t t = (uint32_t)INT32_MIN;
    for (int bit = 31; bit >= 0; bit--) {
        int32_t higher = (int32_t)(t + (1u << bit));
        int32_t reached = 0;
        for (int64_t i = 0; i < n; i++) reached += key_at(keys, i) >= higher;
        if (reached >= k) t = (uint32_t)higher;
        if (reached == k) break;
    }
    return (int32_t)t;
}

static float KERNEL(keep_largest)(float *restrict values, uint32_t *restrict indices, int64_t n, int64_t k) {
    reorder_bits(values, n);
    int32_t t = kth_largest(values, n, k), above = 0, smallest = INT32_MAX;
    for (int64_t i = 0; i < n; i++) above += key_at(values, i) > t;
    int64_t kept = 0, equal = k - above; /* of those equal to t, this many stay */
    for (int64_t i = 0; i < n; i++) {
        int32_t key = key_at(values, i);
        int stays = key > t || (key == t && equal > 0);
        equal -= key == t;
        values[kept] = values[i];
        indices[kept] = indices[i];
        kept += stays;
        smallest = stays && key < smallest ? key : smallest;
    }
    reorder_bits(values, kept);
    float floor;
    memcpy(&floor, &smallest, sizeof floor);
    reorder_bits(&floor, 1);
    return floor;
}

/* ---- rows ---- */

/* Four rows from index e on; behind the end the last one again, which then gets weight 0. */
static inline void four_rows(const float *rows, int64_t d, const uint32_t *indices, int64_t n, int64_t e, const float *r[4]) {
    for (int l = 0; l < 4; l++) r[l] = rows + (int64_t)indices[e + l < n ? e + l : n - 1] * d;
}

static inline void four_values(const float *values, int64_t n, int64_t e, float v[4]) {
    for (int l = 0; l < 4; l++) v[l] = e + l < n ? values[e + l] : 0;
}

/* y += v[0] r[0] + .. + v[3] r[3] */
static inline void add_four_at(float *restrict y, const float *const r[4], const vec v[4], int64_t j, int64_t n) {
    vec s = vec_madd(v[0], vec_load(r[0] + j, n), vec_load(y + j, n));
    s = vec_madd(v[1], vec_load(r[1] + j, n), s);
    s = vec_madd(v[2], vec_load(r[2] + j, n), s);
    vec_store(y + j, n, vec_madd(v[3], vec_load(r[3] + j, n), s));
}

/* s[l] += <r[l], w> */
static inline void dot_four_at(vec s[4], const float *restrict w, const float *const r[4], int64_t j, int64_t n) {
    vec x = vec_load(w + j, n);
    for (int l = 0; l < 4; l++) s[l] = vec_madd(x, vec_load(r[l] + j, n), s[l]);
}

static inline void prefetch_four(const float *const r[4], int64_t j) {
    for (int l = 0; l < 4; l++) __builtin_prefetch(r[l] + j);
}

static inline void add_four(float *restrict y, int64_t d, const float *const r[4], const float v[4],
                            const float *const next[4]) {
    const vec weight[4] = {vec_set(v[0]), vec_set(v[1]), vec_set(v[2]), vec_set(v[3])};
    VEC_LOOP(d, (prefetch_four(next, j), add_four_at(y, r, weight, j, n)));
}

static inline void dot_four(float p[4], const float *restrict w, int64_t d, const float *const r[4],
                            const float *const next[4]) {
    vec s[4] = {vec_set(0), vec_set(0), vec_set(0), vec_set(0)};
    VEC_LOOP(d, (prefetch_four(next, j), dot_four_at(s, w, r, j, n)));
    for (int l = 0; l < 4; l++) p[l] = vec_sum(s[l]);
}

static void KERNEL(add_rows)(float *restrict y, int64_t d, const float *restrict rows, const uint32_t *restrict indices,
                             const float *restrict values, int64_t n_rows) {
    const float *r[4], *next[4];
    float v[4];
    if (n_rows) four_rows(rows, d, indices, n_rows, 0, next);
    for (int64_t e = 0; e < n_rows; e += 4) {
        memcpy(r, next, sizeof r);
        four_values(values, n_rows, e, v);
        four_rows(rows, d, indices, n_rows, e + 4, next);
        add_four(y, d, r, v, next);
    }
}

static float KERNEL(latent_gradient)(const latent_rows *l, const latent_weights *w, const float *restrict x, int64_t d_in,
                                     const float *restrict e, int64_t d_out, const float *restrict w_dec,
                                     float *restrict g_enc, float *restrict g_dec) {
    const float *er[4], *e_next[4], *xr[4];
    float f[4], p[4], g_bias = 0;
    if (l->n) four_rows(e, d_out, l->rows, l->n, 0, e_next);
    for (int64_t i = 0; i < l->n; i += 4) {
        memcpy(er, e_next, sizeof er);
        four_rows(x, d_in, l->rows, l->n, i, xr);
        four_rows(e, d_out, l->rows, l->n, i + 4, e_next);
        four_values(l->values, l->n, i, f);
        dot_four(p, w_dec, d_out, er, xr); /* the rows of x come in while those of e are worked on */
        for (int q = 0; q < 4; q++) {
            p[q] = i + q < l->n ? p[q] * w->scale + w->offset : 0;
            f[q] *= w->scale;
            g_bias += p[q];
            p[q] *= w->gain;
        }
        if (g_dec) add_four(g_dec, d_out, er, f, xr);
        add_four(g_enc, d_in, xr, p, e_next);
    }
    return g_bias;
}

static inline void dot_at(vec *s, const float *a, const float *b, int64_t j, int64_t n) {
    *s = vec_madd(vec_load(a + j, n), vec_load(b + j, n), *s);
}

static float KERNEL(dot)(const float *a, const float *b, int64_t d) {
    vec s = vec_set(0);
    VEC_LOOP(d, dot_at(&s, a, b, j, n));
    return vec_sum(s);
}

static void KERNEL(dots)(const float *restrict x, int64_t d, const float *restrict rows, const uint32_t *restrict indices,
                         int64_t n_rows, float *restrict out) {
    const float *r[4], *next[4];
    float p[4];
    if (n_rows) four_rows(rows, d, indices, n_rows, 0, next);
    for (int64_t e = 0; e < n_rows; e += 4) {
        memcpy(r, next, sizeof r);
        four_rows(rows, d, indices, n_rows, e + 4, next);
        dot_four(p, x, d, r, next);
        for (int l = 0; l < 4 && e + l < n_rows; l++) out[e + l] = p[l];
    }
}

static void KERNEL(project_out)(float *restrict g, const float *restrict w, int64_t d) {
    float square = KERNEL(dot)(w, w, d);
    if (square == 0) return;
    vec share = vec_set(-KERNEL(dot)(g, w, d) / square);
    VEC_LOOP(d, vec_store(g + j, n, vec_madd(share, vec_load(w + j, n), vec_load(g + j, n))));
}

static void KERNEL(normalize)(float *w, int64_t d) {
    float square = KERNEL(dot)(w, w, d);
    if (square == 0) return;
    vec factor = vec_set(1 / sqrtf(square));
    VEC_LOOP(d, vec_store(w + j, n, vec_mul(factor, vec_load(w + j, n))));
}

typedef struct adam_lanes {
    vec scale, beta1, beta2, share1, share2, rate, inverse_v, eps;
} adam_lanes;

static inline void adam_at(const adam_lanes *a, const float *restrict g, float *restrict w, float *restrict m,
                           float *restrict v, int64_t j, int64_t n) {
    vec x = vec_mul(a->scale, vec_load(g + j, n));
    vec mean = vec_madd(a->beta1, vec_load(m + j, n), vec_mul(a->share1, x));
    vec square = vec_madd(a->beta2, vec_load(v + j, n), vec_mul(a->share2, vec_mul(x, x)));
    vec step = vec_div(vec_mul(a->rate, mean), vec_madd(vec_sqrt(square), a->inverse_v, a->eps));
    vec_store(m + j, n, mean);
    vec_store(v + j, n, square);
    vec_store(w + j, n, vec_sub(vec_load(w + j, n), step));
}

static void KERNEL(adam)(const adam_step *a, float scale, const float *restrict g, float *restrict w, float *restrict m,
                         float *restrict v, int64_t d) {
    const adam_lanes lanes = {.scale = vec_set(scale),
                              .beta1 = vec_set(a->beta1),
                              .beta2 = vec_set(a->beta2),
                              .share1 = vec_set(a->share1),
                              .share2 = vec_set(a->share2),
                              .rate = vec_set(a->rate),
                              .inverse_v = vec_set(a->inverse_v),
                              .eps = vec_set(a->eps)};
    VEC_LOOP(d, adam_at(&lanes, g, w, m, v, j, n));
}

extern const sparse_kernels KERNEL(sparse_kernels);
const sparse_kernels KERNEL(sparse_kernels) = {
    .scan_above = KERNEL(scan_above),
    .scan_above_each = KERNEL(scan_above_each),
    .keep_largest = KERNEL(keep_largest),
    .add_rows = KERNEL(add_rows),
    .latent_gradient = KERNEL(latent_gradient),
    .project_out = KERNEL(project_out),
    .normalize = KERNEL(normalize),
    .adam = KERNEL(adam),
    .dot = KERNEL(dot),
    .dots = KERNEL(dots),
};
