/* sampler.c — one draw from a row of logits l, in O(n_vocab) and without sorting:
 *
 *   penalty    l_i <- l_i / r, or l_i r where l_i < 0, for every recent i
 *   weights    w_i = exp((l_i - max l) / T), of the top-k's members only
 *   top-p      the fewest largest weights that hold a share p of the whole
 *   min-p      of these, weights of at least min_p times the largest
 *   draw       the first i, by id, where the running sum passes u * sum
 */
#include "math/sparse.h"
#include "steer/generate.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <string.h>

/* Those still in the running: parallel arrays, ids ascending. */
typedef struct candidates {
    float *w;
    uint32_t *id;
    int64_t n;
} candidates;

/* ---- penalty ---- */

/* Every id once: the second loop starts from values that were saved before any changed. */
static void penalize(float *logits, const uint32_t *recent, size_t n, float r, float *saved /* [n_vocab] */) {
    for (size_t i = 0; i < n; i++) saved[recent[i]] = logits[recent[i]];
    for (size_t i = 0; i < n; i++) {
        float l = saved[recent[i]];
        logits[recent[i]] = l < 0 ? l * r : l / r;
    }
}

/* ---- the largest logits ---- */

enum { BLOCK = 64, LANES = 8 };

/* Several running maxima, which compilers keep in one vector. NaN counts as -infinity. */
static float max_of(const float *x, int64_t n) {
    float m[LANES], max = -INFINITY;
    int64_t i = 0;
    for (int l = 0; l < LANES; l++) m[l] = -INFINITY;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++) m[l] = x[i + l] > m[l] ? x[i + l] : m[l];
    for (; i < n; i++) m[0] = x[i] > m[0] ? x[i] : m[0];
    for (int l = 0; l < LANES; l++) max = m[l] > max ? m[l] : max;
    return max;
}

static int64_t index_of(const float *x, int64_t n, float value) {
    for (int64_t i = 0; i < n; i++)
        if (x[i] == value) return i;
    return -1;
}

static candidates all_of(const float *logits, int64_t n, sample_space *space) {
    memcpy(space->weights, logits, (size_t)n * sizeof *logits);
    for (int64_t i = 0; i < n; i++) space->ids[i] = (uint32_t)i;
    return (candidates){space->weights, space->ids, n};
}

/* The k largest logits. The k-th largest block maximum is a bound for the k-th largest logit, which leaves few to choose from. */
static candidates top_k(const ctx *c, const float *logits, int64_t n, int64_t k, sample_space *space) {
    const sparse_kernels *kernels = sparse_kernels_for(c->cpu);
    candidates out = {space->weights, space->ids, 0};
    float floor = -INFINITY;
    int64_t n_blocks = 0;
    for (int64_t i = 0; i < n; i += BLOCK) out.w[n_blocks++] = max_of(logits + i, i + BLOCK <= n ? BLOCK : n - i);
    if (k < n_blocks) floor = kernels->keep_largest(out.w, out.id, n_blocks, k);
    for (int64_t i = 0; i < n; i++) {
        if (!(logits[i] >= floor)) continue;
        out.w[out.n] = logits[i];
        out.id[out.n++] = (uint32_t)i;
    }
    if (out.n > k) {
        kernels->keep_largest(out.w, out.id, out.n, k);
        out.n = k;
    }
    return out;
}

/* ---- weights ---- */

/* exp(z) for z <= 0, relative error below 2e-7; 0 from -87 on, where float32 ends, and for NaN. 2^k 2^f with f in
 * [-1/2, 1/2]; k comes out of the low bits of z log2(e) + 1.5 2^23. Plain arithmetic: the same bits on every machine. */
static inline float exp_negative(float z) {
    float t = z > -87.0f ? z : -87.0f;
    float shifted = t * 1.44269504f + 12582912.0f, k = shifted - 12582912.0f;
    float f = (t - k * 0.693145752f) - k * 1.42860677e-6f; /* log(2) in two parts */
    float p = 1 + f * (1 + f * (0.5f + f * (0.166666666f + f * (0.0416664176f + f * (0.00833337034f + f * 0.00139269501f)))));
    int32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (int32_t)((uint32_t)(bits + 127) << 23) & -(z > -87.0f);
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

/* Weights in place of logits. -infinity, whatever it is multiplied with, and NaN come out as weight 0. */
static void set_weights(candidates *c, float max, double temperature) {
    float inverse = (float)fmin(1 / temperature, 1e30); /* finite: 0 stays 0 at the maximum */
    for (int64_t i = 0; i < c->n; i++) c->w[i] = exp_negative((c->w[i] - max) * inverse);
}

/* Of all weights that reach the floor; always in the same order. */
static double sum_from(const float *w, int64_t n, float floor) {
    double s[LANES] = {0}, total = 0;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++) s[l] += w[i + l] >= floor ? (double)w[i + l] : 0;
    for (int l = 0; l < LANES; l++) total += s[l];
    for (; i < n; i++) total += w[i] >= floor ? (double)w[i] : 0;
    return total;
}

/* ---- top-p and min-p ---- */

static void keep_from(candidates *c, float floor) {
    int64_t kept = 0;
    for (int64_t i = 0; i < c->n; i++) {
        if (c->w[i] < floor) continue;
        c->w[kept] = c->w[i];
        c->id[kept++] = c->id[i];
    }
    c->n = kept;
}

/* The largest t with sum of {w >= t} >= mass, found bit by bit, since positive floats are ordered as their bits are.
 * *above: sum of {w > t}. w is used up: each bit leaves the side on which t lies. */
static float nucleus_floor(float *w, int64_t n, double mass, double *above) {
    uint32_t t = 0;
    float pivot = 0;
    *above = 0;
    for (int bit = 30; bit >= 0; bit--) {
        uint32_t higher = t | 1u << bit;
        int64_t kept = 0;
        memcpy(&pivot, &higher, sizeof pivot);
        double reached = sum_from(w, n, pivot);
        bool up = *above + reached >= mass;
        for (int64_t i = 0; i < n; i++) {
            float x = w[i];
            w[kept] = x;
            kept += (x >= pivot) == up;
        }
        if (up)
            t = higher;
        else
            *above += reached;
        n = kept;
    }
    memcpy(&pivot, &t, sizeof pivot);
    return pivot;
}

/* All weights below (1 - p) / n of the whole are together less than what may be left out, so they go first. */
static void top_p(candidates *c, double p, float *scratch /* [n] */) {
    double total = sum_from(c->w, c->n, 0), mass = fmax(p, DBL_MIN) * total, above;
    keep_from(c, (float)((1 - p) * total / (double)c->n));
    memcpy(scratch, c->w, (size_t)c->n * sizeof *scratch);
    float floor = nucleus_floor(scratch, c->n, mass, &above);
    int64_t kept = 0;
    for (int64_t i = 0; i < c->n; i++) {
        float w = c->w[i];
        if (w < floor || (w == floor && above >= mass)) continue;
        if (w == floor) above += (double)w;
        c->w[kept] = w;
        c->id[kept++] = c->id[i];
    }
    c->n = kept;
}

/* ---- the draw ---- */

static int64_t draw(const candidates *c, double uniform) {
    double target = uniform * sum_from(c->w, c->n, 0), passed = 0;
    int64_t last = 0;
    for (int64_t i = 0; i < c->n; i++) {
        if (!(c->w[i] > 0)) continue;
        last = i;
        if ((passed += (double)c->w[i]) > target) break;
    }
    return c->id[last];
}

int64_t sample_token(const ctx *c, float *logits, int64_t n, const sample_opts *o, const uint32_t *recent, size_t n_recent,
                     double uniform, sample_space *space) {
    assert(n > 0 && uniform >= 0 && uniform < 1);
    if (o->repeat_penalty != 1) penalize(logits, recent, n_recent, (float)o->repeat_penalty, space->weights);
    float max = max_of(logits, n);
    if (!isfinite(max)) return -1;
    if (o->temperature <= 0) return index_of(logits, n, max);

    candidates left;
    if (o->top_k > 0 && o->top_k < n)
        left = top_k(c, logits, n, o->top_k, space);
    else
        left = all_of(logits, n, space);
    set_weights(&left, max, o->temperature);
    if (o->top_p < 1) top_p(&left, o->top_p, logits);
    if (o->min_p > 0) keep_from(&left, (float)o->min_p); /* the largest weight is exp(0) = 1 */
    return draw(&left, uniform);
}
