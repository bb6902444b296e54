/* synth.c — row = sum over active features of coefficient * direction, plus noise: made when asked for, from its number. */
#include "activations/source.h"
#include "core/file.h"
#include "core/mem.h"
#include "core/rng.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct synth {
    source base;
    synth_opts o;
    float *directions; /* [n_features, d_in] unit */
    uint64_t *order;   /* [n_rows] rows of `epoch` in the order of the stream */
    int64_t epoch;     /* -1: none yet */
} synth;

static void make_directions(synth *s) {
    rng r = rng_stream(s->o.seed, RNG_SYNTHETIC, 0);
    for (int64_t i = 0; i < s->o.n_features; i++) {
        float *w = s->directions + i * s->o.d_in;
        double norm = 0;
        for (int64_t j = 0; j < s->o.d_in; j++) {
            w[j] = (float)rng_normal(&r);
            norm += (double)w[j] * w[j];
        }
        for (int64_t j = 0; j < s->o.d_in; j++) w[j] = (float)(w[j] / sqrt(norm));
    }
}

/* Row number `row`; the held-out ones follow the n_rows others. */
static void make_row(const synth *s, int64_t row, float *x) {
    const synth_opts *o = &s->o;
    rng r = rng_stream(o->seed, RNG_SYNTHETIC, 1 + (uint64_t)row);
    for (int64_t j = 0; j < o->d_in; j++) x[j] = o->noise > 0 ? (float)(o->noise * rng_normal(&r)) : 0.0f;
    for (int64_t i = 0; i < o->n_features; i++) {
        if (rng_uniform(&r) >= o->p_active) continue;
        float a = (float)(0.5 + rng_uniform(&r));
        const float *w = s->directions + i * o->d_in;
        for (int64_t j = 0; j < o->d_in; j++) x[j] += a * w[j];
    }
}

static void shuffle(synth *s, int64_t epoch) {
    if (epoch == s->epoch) return;
    rng r = rng_stream(s->o.seed, RNG_SHUFFLE, (uint64_t)epoch);
    for (int64_t i = 0; i < s->o.n_rows; i++) s->order[i] = (uint64_t)i;
    rng_permute(&r, s->order, (uint64_t)s->o.n_rows);
    s->epoch = epoch;
}

static err_code read_stream(source *base, const ctx *c, int64_t first, int64_t n, float *x, float *y, err *e) {
    synth *s = (synth *)base;
    (void)y;
    int64_t n_rows = s->o.n_rows, d = s->o.d_in;
    while (n > 0) {
        err_code rc = ctx_check_cancel(c, e);
        if (rc) return rc;
        shuffle(s, first / n_rows);
        int64_t from = first % n_rows, m = n < n_rows - from ? n : n_rows - from;
#pragma omp parallel for num_threads(c->threads)
        for (int64_t i = 0; i < m; i++) make_row(s, (int64_t)s->order[from + i], x + i * d);
        first += m, n -= m, x += m * d;
    }
    return ERR_OK;
}

static err_code read_held_out(source *base, const ctx *c, int64_t first, int64_t n, float *x, float *y, err *e) {
    const synth *s = (const synth *)base;
    (void)y, (void)e;
#pragma omp parallel for num_threads(c->threads)
    for (int64_t i = 0; i < n; i++) make_row(s, s->o.n_rows + first + i, x + i * s->o.d_in);
    return ERR_OK;
}

static void close_synth(source *base) {
    synth *s = (synth *)base;
    free(s->directions);
    free(s->order);
    free(s);
}

static const source_ops ops = {read_stream, read_held_out, close_synth};

err_code source_open_synthetic(const synth_opts *o, source **out, const float **directions, err *e) {
    synth *s = NULL;
    size_t values;
    char what[256];
    *out = NULL;
    if (o->d_in < 1 || o->n_features < 1 || o->n_rows < 1 || o->n_held_out < 0 ||
        !mem_mul((size_t)o->n_features, (size_t)o->d_in, &values))
        return err_set(e, ERR_USAGE, "synthetic rows: expected at least one row, feature and dimension");
    err_code rc = mem_new0(&s, 1, sizeof *s, "synthetic rows", e);
    if (rc) return rc;
    s->base = (source){.ops = &ops, .n_rows = o->n_rows, .n_held_out = o->n_held_out, .d_in = o->d_in};
    s->o = *o;
    s->epoch = -1;
    TRY(mem_new(&s->directions, values, sizeof *s->directions, "synthetic features", e));
    TRY(mem_new(&s->order, (size_t)o->n_rows, sizeof *s->order, "the order of rows", e));
    make_directions(s);
    snprintf(what, sizeof what, "synthetic %lld %lld %lld %lld %.17g %.17g %llu", (long long)o->d_in,
             (long long)o->n_features, (long long)o->n_rows, (long long)o->n_held_out, o->p_active, o->noise,
             (unsigned long long)o->seed);
    bytes_sha256(what, strlen(what), s->base.id);
    if (directions) *directions = s->directions;
    *out = &s->base;
done:
    if (rc) close_synth(&s->base);
    return rc;
}
