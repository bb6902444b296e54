#include "support/toy_source.h"
#include "core/rng.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct toy_source {
    source base;
    toy_opts o;
    float *directions;
    int64_t rows_read;
} toy_source;

static void make_row(const toy_source *t, uint64_t index, float *x, float *y) {
    const toy_opts *o = &t->o;
    const float *out = t->directions + o->n_features * o->d_in;
    rng r = rng_stream(o->seed, RNG_SYNTHETIC, index);
    for (int64_t j = 0; j < o->d_in; j++) x[j] = (float)(o->offset * (double)(j % 5) + o->noise * rng_normal(&r));
    for (int64_t j = 0; y && j < o->d_out; j++) y[j] = (float)o->offset;
    for (int64_t i = 0; i < o->n_features; i++) {
        if (rng_uniform(&r) >= o->p) continue;
        float weight = (float)(1 + rng_uniform(&r));
        for (int64_t j = 0; j < o->d_in; j++) x[j] += weight * t->directions[i * o->d_in + j];
        for (int64_t j = 0; y && j < o->d_out; j++) y[j] += weight * out[i * o->d_out + j];
    }
    for (int64_t j = 0; j < o->d_in; j++) x[j] *= (float)o->scale;
}

static err_code read_rows(source *s, const ctx *c, int64_t first, int64_t n, float *x, float *y, err *e) {
    toy_source *t = (toy_source *)s;
    (void)c, (void)e;
    t->rows_read += n;
    if (t->o.before_read) t->o.before_read(t->o.user, t->rows_read);
    for (int64_t r = 0; r < n; r++) make_row(t, (uint64_t)(first + r), x + r * s->d_in, y ? y + r * s->d_out : NULL);
    return ERR_OK;
}

static err_code read_held_out(source *s, const ctx *c, int64_t first, int64_t n, float *x, float *y, err *e) {
    (void)c, (void)e;
    for (int64_t r = 0; r < n; r++)
        make_row((toy_source *)s, UINT64_MAX - (uint64_t)(first + r), x + r * s->d_in, y ? y + r * s->d_out : NULL);
    return ERR_OK;
}

static void close_source(source *s) {
    free(((toy_source *)s)->directions);
    free(s);
}

static void random_direction(float *w, int64_t d, uint64_t seed, int64_t index) {
    rng r = rng_stream(seed, RNG_CONTROL, (uint64_t)index);
    double norm = 0;
    for (int64_t j = 0; j < d; j++) norm += pow(w[j] = (float)rng_normal(&r), 2);
    for (int64_t j = 0; j < d; j++) w[j] = (float)(w[j] / sqrt(norm));
}

source *toy_source_open(const toy_opts *o, const float **directions) {
    static const source_ops ops = {read_rows, read_held_out, close_source};
    toy_source *t = calloc(1, sizeof *t);
    if (!t || !(t->directions = malloc((size_t)(o->n_features * (o->d_in + o->d_out)) * sizeof(float)))) abort();
    t->base = (source){
        .ops = &ops, .n_rows = o->n_rows, .n_held_out = o->n_held_out, .d_in = o->d_in, .d_out = o->d_out, .skip_first = 2};
    snprintf(t->base.hook_name, sizeof t->base.hook_name, "blocks.1.hook_resid_post");
    if (o->d_out) snprintf(t->base.hook_out, sizeof t->base.hook_out, "blocks.1.hook_mlp_out");
    snprintf(t->base.model_name, sizeof t->base.model_name, "toy");
    snprintf(t->base.id, sizeof t->base.id, "toy-%llu", (unsigned long long)o->seed);
    t->o = *o;
    for (int64_t i = 0; i < o->n_features; i++) random_direction(t->directions + i * o->d_in, o->d_in, o->seed, i);
    for (int64_t i = 0; i < o->n_features && o->d_out; i++)
        random_direction(t->directions + o->n_features * o->d_in + i * o->d_out, o->d_out, o->seed, o->n_features + i);
    if (directions) *directions = t->directions;
    return &t->base;
}
