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
    LOOK_MIN = 512  /* fewer candidates are not worth a look */
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
    if (t->method != TOP_WHOLE) goto done;
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
    t->method = method == TOP_WHOLE && s->cfg.d_in > p->max_d ? TOP_FLOAT : method;
    t->is_exact = t->method == TOP_PRODUCT || (t->method == TOP_FLOAT && n <= EXACT_ROWS);
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
        t->mean_norm += t->latents.norm[i] / (float)s->cfg.d_sae;
        t->mean_error += t->latents.error[i] / (float)s->cfg.d_sae;
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
    preselect_picks *best;  /* [block_rows] the k best exact scores so far */
    float *half;            /* [block_rows] how far a score lies below its upper bound, about */
    int64_t *look_at;       /* [block_rows] */
    bool *overflowed;       /* [block_rows] */
    char *q;                /* [block_rows, padded d] */
    float *scratch;         /* [d_in] */
    float *scores;          /* [block_rows, TILE] */
    float *values;          /* [block_rows, room], of picks, then [block_rows, 2 k], of best */
    uint32_t *indices;
    float *chosen; /* [room] of one row's candidates */
    uint32_t *places, *ids;
};

static size_t room(const top *t) { return (size_t)(t->limit + TILE + SPARSE_SLACK); }
static size_t row_bytes(const top *t) { return (size_t)(round_up(t->latents.d, t->p->group) * t->p->bits / 8); }

err_code top_space_new(const top *t, top_space **out, err *e) {
    size_t rows = (size_t)t->block_rows, all = rows * (room(t) + 2 * (size_t)t->s->cfg.k);
    err_code rc = mem_new0(out, 1, sizeof **out, "candidates", e);
    if (rc) return rc;
    top_space *w = *out;
    TRY(mem_new(&w->rows, rows, sizeof *w->rows, "candidates", e));
    TRY(mem_new(&w->picks, rows, sizeof *w->picks, "candidates", e));
    TRY(mem_new(&w->best, rows, sizeof *w->best, "candidates", e));
    TRY(mem_new(&w->half, rows, sizeof *w->half, "candidates", e));
    TRY(mem_new(&w->look_at, rows, sizeof *w->look_at, "candidates", e));
    TRY(mem_new(&w->overflowed, rows, sizeof *w->overflowed, "candidates", e));
    TRY(mem_new(&w->values, all, sizeof *w->values, "candidates", e));
    TRY(mem_new(&w->indices, all, sizeof *w->indices, "candidates", e));
    TRY(mem_new(&w->chosen, room(t), sizeof *w->chosen, "candidates", e));
    TRY(mem_new(&w->places, room(t), sizeof *w->places, "candidates", e));
    TRY(mem_new(&w->ids, room(t), sizeof *w->ids, "candidates", e));
    if (t->method != TOP_WHOLE) {
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
    free(w->best);
    free(w->half);
    free(w->look_at);
    free(w->overflowed);
    free(w->q);
    free(w->scratch);
    free(w->scores);
    free(w->values);
    free(w->indices);
    free(w->chosen);
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
    preselect_picks *p, *best;
} row;

/* Puts n exact scores, in the order of latents, among the best, of which k stay. */
static void insert(const row *a, int64_t n) {
    preselect_picks *b = a->best;
    const top_space *w = a->w;
    int64_t k = a->t->s->cfg.k, mine = b->n - 1, other = n - 1;
    for (int64_t to = b->n + n - 1; other >= 0; to--) {
        bool stays = mine >= 0 && b->indices[mine] > w->ids[other];
        b->values[to] = stays ? b->values[mine] : w->chosen[other];
        b->indices[to] = stays ? b->indices[mine--] : w->ids[other--];
    }
    b->n += n;
    if (b->n > k) a->t->k->keep_largest(b->values, b->indices, b->n, k), b->n = k;
    if (b->n < k) return;
    float smallest = INFINITY;
    for (int64_t i = 0; i < k; i++) smallest = fminf(smallest, b->values[i]);
    a->p->floor = smallest;
}

/* Scores the candidates at places [n <= k], ascending, exactly; of the others those stay that can still be among the largest. */
static void settle(const row *a, int64_t n, top_counts *sum) {
    const sae *s = a->t->s;
    const top_space *w = a->w;
    preselect_picks *p = a->p;
    int64_t kept = 0;
    for (int64_t i = 0; i < n; i++) w->ids[i] = p->indices[w->places[i]];
    if (a->t->is_exact) {
        for (int64_t i = 0; i < n; i++) w->chosen[i] = p->values[w->places[i]];
    } else {
        a->t->k->dots(a->x, s->cfg.d_in, s->W_enc, w->ids, n, w->chosen);
        for (int64_t i = 0; i < n; i++) w->chosen[i] += s->b_enc[w->ids[i]];
        sum->rescored += n;
    }
    insert(a, n);
    for (int64_t i = 0, done = 0; i < p->n; i++) {
        bool stays = p->values[i] >= p->floor;
        if (done < n && w->places[done] == i) done++, stays = false;
        p->values[kept] = p->values[i];
        p->indices[kept] = p->indices[i];
        kept += stays;
    }
    p->n = kept;
}

/* Settles what looks better than the k-th best so far, which raises the floor. */
static void improve(const row *a, top_counts *sum) {
    const top_space *w = a->w;
    int64_t k = a->t->s->cfg.k, n = 0;
    float above = a->p->floor + w->half[a->r];
    for (int64_t i = 0; i < a->p->n; i++) {
        w->chosen[n] = a->p->values[i];
        w->places[n] = (uint32_t)i;
        n += a->p->values[i] > above;
    }
    if (n > k) a->t->k->keep_largest(w->chosen, w->places, n, k), n = k;
    settle(a, n, sum);
}

/* How far a score of a product in float32 can lie below its upper bound or above its lower one, at most. */
static float most_wrong(const top *t, const preselect_row *x) {
    return 1.001f * (x->error * t->most_wrong[0] + t->most_wrong[1]);
}

/* Where one narrow bound holds for all latents, no exact score is needed: k of them reach the k-th largest upper bound less the
 * bound's width. */
static void raise_floor(const row *a) {
    const top_space *w = a->w;
    preselect_picks *p = a->p;
    int64_t k = a->t->s->cfg.k, kept = 0;
    if (p->n <= k) return;
    memcpy(w->chosen, p->values, (size_t)p->n * sizeof *w->chosen);
    memcpy(w->places, p->indices, (size_t)p->n * sizeof *w->places);
    float kth = a->t->k->keep_largest(w->chosen, w->places, p->n, k), width = 2.0001f * most_wrong(a->t, &w->rows[a->r]);
    p->floor = fmaxf(p->floor, nextafterf(kth - width, -INFINITY));
    for (int64_t i = 0; i < p->n; i++) {
        p->values[kept] = p->values[i];
        p->indices[kept] = p->indices[i];
        kept += p->values[i] >= p->floor;
    }
    p->n = kept;
}

/* Settles all. */
static void drain(const row *a, top_counts *sum) {
    while (a->p->n) {
        int64_t n = min64(a->p->n, a->t->s->cfg.k);
        for (int64_t i = 0; i < n; i++) a->w->places[i] = (uint32_t)i;
        settle(a, n, sum);
    }
}

/* After a tile: keeps the list short. */
static void look(const row *a, top_counts *sum) {
    if (a->p->n < a->w->look_at[a->r]) return;
    if (a->t->method == TOP_FLOAT)
        raise_floor(a);
    else
        improve(a, sum);
    if (a->p->n > a->t->limit) {
        drain(a, sum);
        sum->fallbacks += !a->w->overflowed[a->r];
        a->w->overflowed[a->r] = true;
    }
    a->w->look_at[a->r] = min64(max64(2 * a->p->n, LOOK_MIN), a->t->limit);
}

static void finish(const row *a, top_counts *sum) {
    if (a->t->method == TOP_FLOAT) raise_floor(a);
    improve(a, sum);
    drain(a, sum);
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
    if (t->is_exact && t->method == TOP_FLOAT)
        score_all(t, w, x, rows, first, n);
    else
        blas_gemm_nt_serial(t->c, rows, n, d, x, d, s->W_enc + first * d, d, 0, w->scores, TILE);
    for (int64_t r = 0; r < rows; r++) {
        preselect_picks *p = &w->picks[r];
        float most = most_wrong(t, &w->rows[r]);
        float *values = p->values + p->n;
        uint32_t *indices = p->indices + p->n;
        int64_t found =
            t->k->scan_above(w->scores + r * TILE, s->b_enc + first, n, p->floor - most, (uint32_t)first, values, indices);
        for (int64_t i = 0; i < found; i++) values[i] += preselect_width(&t->latents, &w->rows[r], indices[i]) / 2;
        p->n += found;
    }
}

static void scan(const top *t, top_space *w, const float *x, int64_t rows, int64_t first, int64_t n) {
    if (t->method != TOP_WHOLE)
        scan_floats(t, w, x, rows, first, n);
    else
        t->p->scan(&t->latents, first, round_up(n, t->p->panel), w->q, w->rows, rows, w->picks);
}

static void start_row(const top *t, top_space *w, const float *x, int64_t r) {
    int64_t d = t->latents.d, at = r * (int64_t)room(t), best = t->block_rows * (int64_t)room(t) + 2 * r * t->s->cfg.k;
    w->picks[r] = (preselect_picks){w->values + at, w->indices + at, 0, -INFINITY};
    w->best[r] = (preselect_picks){w->values + best, w->indices + best, 0, 0};
    w->look_at[r] = LOOK_MIN;
    w->overflowed[r] = false;
    w->rows[r] = t->method == TOP_WHOLE ? t->p->round_row(x, t->inverse_s, d, w->q + (size_t)r * row_bytes(t), w->scratch)
                                        : preselect_row_of_floats(t->k->dot(x, x, d), d);
    w->half[r] = w->rows[r].error * t->mean_norm + w->rows[r].norm * t->mean_error;
}

static row row_of(const top *t, top_space *w, const float *x, int64_t r) {
    return (row){t, w, x + r * t->latents.d, r, &w->picks[r], &w->best[r]};
}

void top_find(const top *t, top_space *w, const float *x, int64_t n, float *values, uint32_t *indices, int64_t *counts,
              top_counts *sum) {
    int64_t d = t->latents.d, k = t->s->cfg.k;
    for (int64_t r = 0; r < n; r++) start_row(t, w, x + r * d, r);
    for (int64_t i = 0; i < t->latents.n; i += TILE) {
        scan(t, w, x, n, i, min64(TILE, t->latents.n - i));
        for (int64_t r = 0; r < n; r++) {
            row a = row_of(t, w, x, r);
            look(&a, sum);
        }
    }
    for (int64_t r = 0; r < n; r++) {
        row a = row_of(t, w, x, r);
        finish(&a, sum);
        counts[r] = a.best->n;
        memcpy(values + r * k, a.best->values, (size_t)a.best->n * sizeof *values);
        memcpy(indices + r * k, a.best->indices, (size_t)a.best->n * sizeof *indices);
    }
    sum->rows += n;
}
