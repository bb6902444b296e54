/* places.c — where a model's parts stand in its file: names, and rows of matrices. */
#include "model/model_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

void tensor_name(char out[TENSOR_NAME_MAX], const char *stem, int layer, const char *kind) {
    const char *number = strstr(stem, "%d");
    if (number)
        snprintf(out, TENSOR_NAME_MAX, "%.*s%d%s.%s", (int)(number - stem), stem, layer, number + 2, kind);
    else
        snprintf(out, TENSOR_NAME_MAX, "%s.%s", stem, kind);
}

place place_whole(const char *stem, int64_t n, int64_t k) {
    return (place){.stem = stem, .n = n, .k = k, .n_all = n, .order = {.group = n, .stride = n}};
}

/* Rows first .. first + n of a tensor with n_all. */
static place part(const char *stem, int64_t n, int64_t k, int64_t first, int64_t n_all) {
    return (place){.stem = stem, .n = n, .k = k, .n_all = n_all, .order = {.first = first, .group = n, .stride = n}};
}

/* q, k and v: matrices of their own, or parts of one. */
static void place_heads(const model_spec *s, place places[LAYER_LINEARS]) {
    const model_config *g = &s->cfg;
    const tensor_names *t = &s->names;
    int64_t d = g->d_model, d_q = g->n_heads * g->d_head, d_kv = g->n_kv_heads * g->d_head, all = d_q + 2 * d_kv;
    places[LAYER_Q] = t->qkv ? part(t->qkv, d_q, d, 0, all) : place_whole(t->q, d_q, d);
    places[LAYER_K] = t->qkv ? part(t->qkv, d_kv, d, d_q, all) : place_whole(t->k, d_kv, d);
    places[LAYER_V] = t->qkv ? part(t->qkv, d_kv, d, d_q + d_kv, all) : place_whole(t->v, d_kv, d);
    for (int i = 0; i < 3 && s->qkv_by_head; i++)
        places[LAYER_Q + i].order = (row_order){.first = i * g->d_head, .group = g->d_head, .stride = 3 * g->d_head};
    for (int i = 0; i < 2 && s->rope_pairs; i++)
        places[LAYER_Q + i].order = (row_order){.group = g->d_head, .stride = g->d_head, .n_paired = s->n_rotated};
}

void places_of(const model_spec *s, place places[LAYER_LINEARS]) {
    const model_config *g = &s->cfg;
    const tensor_names *t = &s->names;
    int64_t d = g->d_model;
    place_heads(s, places);
    places[LAYER_ATTN_OUT] = place_whole(t->attn_out, d, g->n_heads * g->d_head);
    places[LAYER_GATE] = t->gate_up ? part(t->gate_up, g->d_ff, d, 0, 2 * g->d_ff) : place_whole(t->gate, g->d_ff, d);
    places[LAYER_UP] = t->gate_up ? part(t->gate_up, g->d_ff, d, g->d_ff, 2 * g->d_ff) : place_whole(t->up, g->d_ff, d);
    places[LAYER_DOWN] = place_whole(t->down, d, g->d_ff);
}

double rope_llama3_factor(const rope_spec *r, double frequency) {
    double turns = r->original_length * frequency / (2 * acos(-1));
    double share = fmin(fmax((turns - r->low_factor) / (r->high_factor - r->low_factor), 0), 1);
    return 1 / ((1 - share) / r->llama3_factor + share);
}
