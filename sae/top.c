#include "sae/top.h"
#include "core/mem.h"
#include "math/blas.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum {
    TILE = 512,       /* latents between two looks at a row's candidates */
    FLOAT_ROWS = 256, /* 256 x 512 scores are 512 KB: they and OpenBLAS's packed panels share an L2 of 1 MB or more */
    WHOLE_ROWS = 96,  /* their whole numbers and candidates stay in L2 while panels of latents pass */
    LIMIT_MIN = 1024, /* candidates a row may have, at least */
    LIMIT_PER_K = 8,
    EXACT_ROWS = 8, /* up to so many rows, all exact scores cost less than bounds for a product's */
    PRUNE_MIN = 256 /* fewer candidates are not worth a look */
};

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

void top_counts_add(top_counts *sum, const top_counts *more) {
    sum->rows += more->rows;
    sum->rescored += more->rescored;
    sum->fallbacks += more->fallbacks;
}

/* ---- packing ---- */

/* Powers of two near the square root of each channel's rms: x / s and w s then share what is large in x. */
static void balance(const float *x, int64_t n, int64_t d, float *s, float *inverse_s) {
    for (int64_t j = 0; j < d; j++) {
        double sum = 0;
        for (int64_t r = 0; r < n; r++) sum += (double)x[r * d + j] * (double)x[r * d + j];
        double rms = sqrt(sum / (double)max64(n, 1));
        int power = rms > 1e-20 && rms < 1e20 ? (int)lrint(log2(rms) / 2) : 0;
        s[j] = ldexpf(1, power);
        inverse_s[j] = ldexpf(1, -power);
    }
}

static err_code allocate(top *t, err *e) {
    preselect_latents *l = &t->latents;
    size_t n = (size_t)round_up(l->n, TILE);
    err_code rc;
    TRY(mem_new0(&l->norm, n, sizeof *l->norm, "packed latents", e));
    TRY(mem_new0(&l->slack, n, sizeof *l->slack, "packed latents", e));
    TRY(mem_new0(&l->error, n, sizeof *l->error, "packed latents", e));
    if (t->method == TOP_FLOAT) goto done;
    TRY(mem_new(&t->inverse_s, (size_t)l->d, sizeof *t->inverse_s, "packed latents", e));
    TRY(mem_new(&l->step, n, sizeof *l->step, "packed latents", e));
    TRY(mem_new(&l->bias, n, sizeof *l->bias, "packed latents", e));
    TRY(mem_new(&l->offset, n, sizeof *l->offset, "packed latents", e));
    TRY(mem_new((char **)&l->q, n, (size_t)round_up(l->d, t->p->group) * (size_t)t->p->bits / 8, "packed latents", e));
done:
    return rc;
}

/* A float32 product needs only the size of its factors. */
static void measure(top *t, int64_t i) {
    int64_t d = t->latents.d;
    const float *w = t->s->W_enc + i * d;
    t->latents.norm[i] = 1.001f * sqrtf(t->k->dot(w, w, d));
    t->latents.slack[i] = preselect_slack(t->s->b_enc[i]);
}

static err_code pack(top *t, const ctx *c, const float *s, err *e) {
    preselect_latents *l = &t->latents;
    int64_t n = round_up(l->n, t->p->panel), d = l->d;
    float *scratch = NULL;
    err_code rc = mem_new(&scratch, (size_t)c->threads, (size_t)d * sizeof *scratch, "packed latents", e);
    if (rc) return rc;
#pragma omp parallel for num_threads(c->threads) schedule(static)
    for (int64_t i = 0; i < n; i++)
        t->p->pack_latent(l, i, t->s->W_enc + min64(i, l->n - 1) * d, i < l->n ? t->s->b_enc[i] : 0, s,
                          scratch + omp_get_thread_num() * d);
    free(scratch);
    return ERR_OK;
}

err_code top_init(top *t, const ctx *c, const sae *s, top_method method, const float *x, int64_t n, err *e) {
    const preselect_kernels *p = preselect_kernels_for(c->cpu);
    float *scale = NULL;
    err_code rc;
    *t = (top){.c = c, .s = s, .k = sparse_kernels_for(c->cpu), .p = p, .latents = {.n = s->cfg.d_sae, .d = s->cfg.d_in}};
    t->method = s->cfg.d_in <= p->max_d ? method : TOP_FLOAT;
    t->is_exact = t->method == TOP_FLOAT && n <= EXACT_ROWS;
    t->block_rows = t->method == TOP_WHOLE ? WHOLE_ROWS : FLOAT_ROWS;
    t->limit = max64(LIMIT_MIN, LIMIT_PER_K * s->cfg.k);
    TRY(allocate(t, e));
    if (t->method == TOP_WHOLE) {
        TRY(mem_new(&scale, (size_t)s->cfg.d_in, sizeof *scale, "packed latents", e));
        balance(x, n, s->cfg.d_in, scale, t->inverse_s);
        TRY(pack(t, c, scale, e));
    } else if (!t->is_exact) {
#pragma omp parallel for num_threads(c->threads) schedule(static)
        for (int64_t i = 0; i < s->cfg.d_sae; i++) measure(t, i);
    }
    for (int64_t i = 0; i < s->cfg.d_sae; i++) {
        t->most_wrong[0] = fmaxf(t->most_wrong[0], t->latents.norm[i]);
        t->most_wrong[1] = fmaxf(t->most_wrong[1], t->latents.slack[i]);
    }
done:
    free(scale);
    return rc;
}

void top_release(top *t) {
    preselect_latents *l = &t->latents;
    free(l->q);
    free(l->step);
    free(l->norm);
    free(l->error);
    free(l->bias);
    free(l->slack);
    free(l->offset);
    free(t->inverse_s);
    *t = (top){0};
}

/* ---- a thread's space ---- */

struct top_space {
    preselect_row *rows;    /* [block_rows] */
    preselect_picks *picks; /* [block_rows] candidates; their values are upper bounds of the scores */
    int64_t *exact;         /* [block_rows] so many candidates at the head have their exact score */
    int64_t *prune_at;      /* [block_rows] */
    bool *overflowed;       /* [block_rows] */
    char *q;                /* [block_rows, padded d] */
    float *scratch;         /* [d_in] */
    float *scores;          /* [block_rows, TILE] */
    float *values;          /* [block_rows, room] */
    uint32_t *indices;
    float *copy; /* [room] of one row's candidates */
    uint32_t *places, *ids;
};

static size_t room(const top *t) { return (size_t)(t->limit + TILE + SPARSE_SLACK); }
static size_t row_bytes(const top *t) { return (size_t)(round_up(t->latents.d, t->p->group) * t->p->bits / 8); }

err_code top_space_new(const top *t, top_space **out, err *e) {
    size_t rows = (size_t)t->block_rows, all = rows * room(t);
    err_code rc = mem_new0(out, 1, sizeof **out, "candidates", e);
    if (rc) return rc;
    top_space *w = *out;
    TRY(mem_new(&w->rows, rows, sizeof *w->rows, "candidates", e));
    TRY(mem_new(&w->picks, rows, sizeof *w->picks, "candidates", e));
    TRY(mem_new(&w->exact, rows, sizeof *w->exact, "candidates", e));
    TRY(mem_new(&w->prune_at, rows, sizeof *w->prune_at, "candidates", e));
    TRY(mem_new(&w->overflowed, rows, sizeof *w->overflowed, "candidates", e));
    TRY(mem_new(&w->values, all, sizeof *w->values, "candidates", e));
    TRY(mem_new(&w->indices, all, sizeof *w->indices, "candidates", e));
    TRY(mem_new(&w->copy, room(t), sizeof *w->copy, "candidates", e));
    TRY(mem_new(&w->places, room(t), sizeof *w->places, "candidates", e));
    TRY(mem_new(&w->ids, room(t), sizeof *w->ids, "candidates", e));
    if (t->method == TOP_FLOAT) {
        TRY(mem_new(&w->scores, rows, TILE * sizeof *w->scores, "scores of latents", e));
    } else {
        TRY(mem_new(&w->q, rows, row_bytes(t), "rounded rows", e));
        TRY(mem_new(&w->scratch, (size_t)t->latents.d, sizeof *w->scratch, "rounded rows", e));
    }
done:
    return rc;
}

void top_space_free(top_space *w) {
    if (!w) return;
    free(w->rows);
    free(w->picks);
    free(w->exact);
    free(w->prune_at);
    free(w->overflowed);
    free(w->q);
    free(w->scratch);
    free(w->scores);
    free(w->values);
    free(w->indices);
    free(w->copy);
    free(w->places);
    free(w->ids);
    free(w);
}

/* ---- one row's candidates ---- */

typedef struct row {
    const top *t;
    top_space *w;
    const float *x; /* [d_in] */
    int64_t r;
    preselect_picks *p;
} row;

static float width(const row *a, int64_t at) {
    return at < a->w->exact[a->r] ? 0 : preselect_width(&a->t->latents, &a->w->rows[a->r], a->p->indices[at]);
}

/* Candidate at a new place, with the score it now has. */
static void keep(row *a, int64_t to, int64_t at, float value) {
    a->p->values[to] = value;
    a->p->indices[to] = a->p->indices[at];
}

/* Leaves the candidates whose upper bound reaches the k-th largest lower bound, which no others can. */
static void prune(row *a) {
    int64_t k = a->t->s->cfg.k, n = a->p->n, kept = 0, exact = 0;
    if (n <= k) return;
    for (int64_t i = 0; i < n; i++) {
        a->w->copy[i] = a->p->values[i] - width(a, i);
        a->w->places[i] = (uint32_t)i;
    }
    float floor = nextafterf(a->t->k->keep_largest(a->w->copy, a->w->places, n, k), -INFINITY);
    a->p->floor = fmaxf(a->p->floor, floor);
    for (int64_t i = 0; i < n; i++) {
        if (!(a->p->values[i] > floor)) continue;
        exact += i < a->w->exact[a->r];
        keep(a, kept++, i, a->p->values[i]);
    }
    a->p->n = kept;
    a->w->exact[a->r] = exact;
}

/* Exact scores of the candidates from `from` on, which lie next to each other. */
static void rescore(row *a, int64_t from, int64_t n, top_counts *sum) {
    const sae *s = a->t->s;
    a->t->k->dots(a->x, s->cfg.d_in, s->W_enc, a->p->indices + from, n, a->p->values + from);
    for (int64_t i = from; i < from + n; i++) a->p->values[i] += s->b_enc[a->p->indices[i]];
    sum->rescored += n;
}

/* Leaves the k largest of all candidates, all of them exact: a later latent must be above the smallest. */
static void settle(row *a, top_counts *sum) {
    int64_t k = a->t->s->cfg.k, exact = a->w->exact[a->r];
    rescore(a, exact, a->p->n - exact, sum);
    if (a->p->n > k) {
        a->p->floor = fmaxf(a->p->floor, a->t->k->keep_largest(a->p->values, a->p->indices, a->p->n, k));
        a->p->n = k;
    }
    a->w->exact[a->r] = a->p->n;
}

/* After a tile: keeps the list short. */
static void look(row *a, top_counts *sum) {
    if (a->p->n < a->w->prune_at[a->r]) return;
    prune(a);
    if (a->p->n > a->t->limit) {
        settle(a, sum);
        sum->fallbacks += !a->w->overflowed[a->r];
        a->w->overflowed[a->r] = true;
    }
    a->w->prune_at[a->r] = min64(max64(2 * a->p->n, PRUNE_MIN), a->t->limit);
}

/* Exact scores of the candidates at places[from ..], into copy. */
static void rescore_places(row *a, int64_t from, int64_t n, top_counts *sum) {
    const sae *s = a->t->s;
    top_space *w = a->w;
    for (int64_t i = from; i < from + n; i++) w->ids[i] = a->p->indices[w->places[i]];
    a->t->k->dots(a->x, s->cfg.d_in, s->W_enc, w->ids + from, n, w->copy + from);
    for (int64_t i = from; i < from + n; i++) w->copy[i] += s->b_enc[w->ids[i]];
    sum->rescored += n;
}

/* Leaves only what has an exact score: the candidates at places[0 .. k) and places[k .. n), both ascending. */
static void merge(row *a, int64_t k, int64_t n) {
    const top_space *w = a->w;
    for (int64_t i = 0, best = 0, other = k; i < n; i++) {
        bool from_best = other == n || (best < k && w->places[best] < w->places[other]);
        int64_t at = from_best ? best++ : other++;
        keep(a, i, w->places[at], w->copy[at]); /* i <= places[at]: behind what is still to be read */
    }
    a->p->n = a->w->exact[a->r] = n;
}

/* The k largest: those that look best are scored exactly, then all others whose upper bound reaches the smallest of these. */
static void finish(row *a, top_counts *sum) {
    int64_t k = a->t->s->cfg.k, others = 0;
    top_space *w = a->w;
    prune(a);
    if (a->p->n > k && !w->exact[a->r]) {
        for (int64_t i = 0; i < a->p->n; i++) {
            w->copy[i] = a->p->values[i] - width(a, i) / 2;
            w->places[i] = (uint32_t)i;
        }
        a->t->k->keep_largest(w->copy, w->places, a->p->n, k);
        rescore_places(a, 0, k, sum);
        float smallest = INFINITY;
        for (int64_t i = 0; i < k; i++) smallest = fminf(smallest, w->copy[i]);
        for (int64_t i = 0, best = 0; i < a->p->n; i++) {
            if (best < k && w->places[best] == i)
                best++;
            else if (a->p->values[i] >= smallest)
                w->places[k + others++] = (uint32_t)i;
        }
        rescore_places(a, k, others, sum);
        merge(a, k, k + others);
    }
    settle(a, sum);
}

/* ---- cheap scores ---- */

static void score_all(const top *t, top_space *w, const float *x, int64_t rows, int64_t first, int64_t n) {
    int64_t d = t->latents.d;
    for (int64_t i = 0; i < n; i++) w->ids[i] = (uint32_t)(first + i);
    for (int64_t r = 0; r < rows; r++) t->k->dots(x + r * d, d, t->s->W_enc, w->ids, n, w->scores + r * TILE);
}

/* Latents first .. first + n - 1 of rows x by a product in float32, with the bound of what that can lose. */
static void scan_floats(const top *t, top_space *w, const float *x, int64_t rows, int64_t first, int64_t n) {
    int64_t d = t->latents.d;
    const sae *s = t->s;
    if (t->is_exact)
        score_all(t, w, x, rows, first, n);
    else
        blas_gemm_nt_serial(t->c, rows, n, d, x, d, s->W_enc + first * d, d, 0, w->scores, TILE);
    for (int64_t r = 0; r < rows; r++) {
        preselect_picks *p = &w->picks[r];
        float most = 1.001f * (w->rows[r].error * t->most_wrong[0] + t->most_wrong[1]);
        float *values = p->values + p->n;
        uint32_t *indices = p->indices + p->n;
        int64_t found =
            t->k->scan_above(w->scores + r * TILE, s->b_enc + first, n, p->floor - most, (uint32_t)first, values, indices);
        for (int64_t i = 0; i < found; i++) values[i] += preselect_width(&t->latents, &w->rows[r], indices[i]) / 2;
        p->n += found;
    }
}

static void scan(const top *t, top_space *w, const float *x, int64_t rows, int64_t first, int64_t n) {
    if (t->method == TOP_FLOAT)
        scan_floats(t, w, x, rows, first, n);
    else
        t->p->scan(&t->latents, first, round_up(n, t->p->panel), w->q, w->rows, rows, w->picks);
}

static void start_row(const top *t, top_space *w, const float *x, int64_t r) {
    int64_t d = t->latents.d, at = r * (int64_t)room(t);
    w->picks[r] = (preselect_picks){w->values + at, w->indices + at, 0, -INFINITY};
    w->exact[r] = 0;
    w->prune_at[r] = PRUNE_MIN;
    w->overflowed[r] = false;
    w->rows[r] = t->method == TOP_FLOAT ? preselect_row_of_floats(t->k->dot(x, x, d), d)
                                        : t->p->round_row(x, t->inverse_s, d, w->q + (size_t)r * row_bytes(t), w->scratch);
}

void top_find(const top *t, top_space *w, const float *x, int64_t n, float *values, uint32_t *indices, int64_t *counts,
              top_counts *sum) {
    int64_t d = t->latents.d, k = t->s->cfg.k;
    for (int64_t r = 0; r < n; r++) start_row(t, w, x + r * d, r);
    for (int64_t i = 0; i < t->latents.n; i += TILE) {
        scan(t, w, x, n, i, min64(TILE, t->latents.n - i));
        for (int64_t r = 0; r < n; r++) look(&(row){t, w, x + r * d, r, &w->picks[r]}, sum);
    }
    for (int64_t r = 0; r < n; r++) {
        row a = {t, w, x + r * d, r, &w->picks[r]};
        finish(&a, sum);
        counts[r] = a.p->n;
        memcpy(values + r * k, a.p->values, (size_t)a.p->n * sizeof *values);
        memcpy(indices + r * k, a.p->indices, (size_t)a.p->n * sizeof *indices);
    }
    sum->rows += n;
}
