/* encode.c — latents of rows, and rows from latents.
 *
 * Scores are made a tile at a time, ENCODE_ROWS rows by SAE_TILE_LATENTS latents, and picked from while they are in cache:
 * no [n, d_sae] matrix exists. Threads take blocks of rows; a row's latents do not depend on which thread had it. Where the k
 * largest scores fire, top.h finds them. */
#include "sae/encode.h"
#include "core/mem.h"
#include "math/blas.h"
#include "sae/variants/variants.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* 256 x 512 scores are 512 KB: they and OpenBLAS's packed panels share an L2 of 1 MB or more. Measured at d 576: 93 % of the
 * rate of one large product; 128 rows give 83 %. */
enum { ENCODE_ROWS = 256, PICKS_BYTES_MAX = 64 << 20 };

/* Packing latents as whole numbers pays for itself from so many rows on; where many of the latents fire, bounds exclude few. */
enum { PRESELECT_ROWS_MIN = 512, PRESELECT_LATENTS_PER_K = 32, BALANCE_ROWS = 256 };

/* What a thread needs for one block of rows. */
typedef struct workspace {
    float *scores;     /* [block_rows, SAE_TILE_LATENTS]; NULL where top finds the picks */
    float *prepared;   /* [block_rows, d_in]; NULL when rows are used as they are */
    float *values;     /* [block_rows, capacity] */
    uint32_t *indices; /* [block_rows, capacity] */
    row_picks *picks;  /* [block_rows] into values and indices */
    top_space *top;
    int64_t *counts; /* [block_rows] of top */
    top_counts sum;
} workspace;

/* The latents of one block of rows, one after the other. */
typedef struct piece {
    float *values;
    uint32_t *indices;
    bool failed;
} piece;

typedef struct encoder {
    const ctx *c;
    const sae *s;
    const sparse_kernels *k;
    const float *x;
    int64_t n, block_rows, n_blocks, capacity;
    bool subtract, normalize;
    top top;       /* where the variant picks the largest */
    workspace *ws; /* [n_threads] */
    int n_threads;
    piece *pieces; /* [n_blocks] */
} encoder;

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

static bool uses_top(const encoder *n) { return n->s->cfg.variant->picks_largest; }

static err_code workspace_init(const encoder *n, workspace *w, err *e) {
    size_t rows = (size_t)n->block_rows, picks;
    err_code rc;
    if (!mem_mul(rows, (size_t)n->capacity, &picks)) return err_nomem(e, "picks of rows", rows);
    TRY(mem_new(&w->values, picks, sizeof *w->values, "picks of rows", e));
    TRY(mem_new(&w->indices, picks, sizeof *w->indices, "picks of rows", e));
    TRY(mem_new(&w->picks, rows, sizeof *w->picks, "picks of rows", e));
    if (uses_top(n)) {
        TRY(mem_new(&w->counts, rows, sizeof *w->counts, "picks of rows", e));
        TRY(top_space_new(&n->top, &w->top, e));
    } else
        TRY(mem_new(&w->scores, rows, SAE_TILE_LATENTS * sizeof *w->scores, "scores of latents", e));
    if (n->subtract || n->normalize)
        TRY(mem_new(&w->prepared, rows, (size_t)n->s->cfg.d_in * sizeof(float), "centred rows", e));
done:
    return rc;
}

static void encoder_release(encoder *n) {
    for (int t = 0; n->ws && t < n->n_threads; t++) {
        free(n->ws[t].scores);
        free(n->ws[t].prepared);
        free(n->ws[t].values);
        free(n->ws[t].indices);
        free(n->ws[t].picks);
        free(n->ws[t].counts);
        top_space_free(n->ws[t].top);
    }
    free(n->ws);
    top_release(&n->top);
    for (int64_t b = 0; n->pieces && b < n->n_blocks; b++) {
        free(n->pieces[b].values);
        free(n->pieces[b].indices);
    }
    free(n->pieces);
}

/* ---- rows as the encoder sees them ---- */

/* z - b_dec, or what of it there is, of rows x [n, d_in]; into z unless that is x itself. */
static const float *prepared_rows(const encoder *n, float *z, const float *x, int64_t rows) {
    int64_t d = n->s->cfg.d_in;
    if (!n->subtract && !n->normalize) return x;
    for (int64_t r = 0; r < rows; r++) {
        const float *from = x + r * d;
        float *to = z + r * d;
        row_units u = n->normalize ? n->s->cfg.norm->units(from, d) : (row_units){0, 1, 1};
        for (int64_t j = 0; j < d; j++) to[j] = n->normalize ? (from[j] - u.mean) / u.divisor : from[j];
        for (int64_t j = 0; n->subtract && j < d; j++) to[j] -= n->s->b_dec[j];
    }
    return z;
}

/* ---- life ---- */

static top_method method_of(const encoder *n, const ctx *c, preselect how) {
    static const top_method methods[] = {TOP_FLOAT, TOP_FLOAT, TOP_WHOLE, TOP_PRODUCT};
    if (how != PRESELECT_AUTO) return methods[how];
    bool pays = c->cpu >= CPU_AVX2 && n->n >= PRESELECT_ROWS_MIN && n->s->cfg.d_sae >= PRESELECT_LATENTS_PER_K * n->s->cfg.k;
    return pays ? TOP_WHOLE : TOP_FLOAT;
}

static err_code init_top(encoder *n, const ctx *c, preselect how, err *e) {
    int64_t rows = min64(n->n, BALANCE_ROWS);
    float *z = NULL;
    err_code rc;
    if (n->subtract || n->normalize) TRY(mem_new(&z, (size_t)rows, (size_t)n->s->cfg.d_in * sizeof *z, "centred rows", e));
    TRY(top_init(&n->top, c, n->s, method_of(n, c, how), prepared_rows(n, z, n->x, rows), rows, e));
    n->capacity = n->s->cfg.k;
    n->block_rows = n->top.block_rows;
done:
    free(z);
    return rc;
}

static void init_tiles(encoder *n) {
    n->capacity = n->s->cfg.variant->capacity(&n->s->cfg) + SPARSE_SLACK;
    int64_t affordable = PICKS_BYTES_MAX / (n->capacity * (int64_t)(sizeof(float) + sizeof(uint32_t)));
    n->block_rows = min64(ENCODE_ROWS, affordable > 16 ? affordable : 16);
}

static err_code encoder_init(encoder *n, const ctx *c, const sae *s, const float *x, int64_t n_rows, bool centred,
                             preselect how, err *e) {
    err_code rc;
    *n = (encoder){.c = c, .s = s, .k = sparse_kernels_for(c->cpu), .x = x, .n = n_rows};
    n->subtract = !centred && s->cfg.apply_b_dec_to_input;
    n->normalize = !centred && s->cfg.norm;
    if (uses_top(n))
        TRY(init_top(n, c, how, e));
    else
        init_tiles(n);
    n->block_rows = min64(n->block_rows, n_rows);
    n->n_blocks = (n_rows + n->block_rows - 1) / n->block_rows;
    n->n_threads = (int)min64(c->threads, n->n_blocks);
    TRY(mem_new0(&n->pieces, (size_t)n->n_blocks, sizeof *n->pieces, "latents", e));
    TRY(mem_new0(&n->ws, (size_t)n->n_threads, sizeof *n->ws, "workspaces", e));
    for (int t = 0; t < n->n_threads; t++) TRY(workspace_init(n, &n->ws[t], e));
done:
    return rc;
}

/* ---- one block of rows ---- */

/* Moves the block's picks to the block's own memory; counts go to indptr[first + 1 ..]. */
static void keep_piece(const workspace *w, int64_t first, int64_t rows, piece *p, int64_t *indptr) {
    size_t total = 0, at = 0;
    for (int64_t r = 0; r < rows; r++) total += (size_t)w->picks[r].n;
    p->failed = mem_new(&p->values, total, sizeof *p->values, "latents", NULL) ||
                mem_new(&p->indices, total, sizeof *p->indices, "latents", NULL);
    for (int64_t r = 0; r < rows && !p->failed; r++) {
        const row_picks *picks = &w->picks[r];
        memcpy(p->values + at, picks->values, (size_t)picks->n * sizeof *p->values);
        memcpy(p->indices + at, picks->indices, (size_t)picks->n * sizeof *p->indices);
        at += (size_t)picks->n;
        indptr[first + r + 1] = picks->n;
    }
}

static void scan_tiles(const encoder *n, workspace *w, const float *x, int64_t rows) {
    const sae *s = n->s;
    int64_t d = s->cfg.d_in;
    for (int64_t r = 0; r < rows; r++)
        w->picks[r] = (row_picks){w->values + r * n->capacity, w->indices + r * n->capacity, 0, -INFINITY};
    for (int64_t i = 0; i < s->cfg.d_sae; i += SAE_TILE_LATENTS) {
        int64_t latents = min64(SAE_TILE_LATENTS, s->cfg.d_sae - i);
        blas_gemm_nt_serial(n->c, rows, latents, d, x, d, s->W_enc + i * d, d, 0, w->scores, SAE_TILE_LATENTS);
        for (int64_t r = 0; r < rows; r++)
            s->cfg.variant->scan(n->k, s, w->scores + r * SAE_TILE_LATENTS, i, latents, &w->picks[r]);
    }
}

static void find_largest(const encoder *n, workspace *w, const float *x, int64_t rows) {
    int64_t k = n->capacity;
    top_find(&n->top, w->top, x, rows, w->values, w->indices, w->counts, &w->sum);
    for (int64_t r = 0; r < rows; r++) w->picks[r] = (row_picks){w->values + r * k, w->indices + r * k, w->counts[r], 0};
}

static void encode_block(const encoder *n, workspace *w, int64_t block, int64_t *indptr) {
    int64_t first = block * n->block_rows, rows = min64(n->block_rows, n->n - first);
    const float *x = prepared_rows(n, w->prepared, n->x + first * n->s->cfg.d_in, rows);
    (uses_top(n) ? find_largest : scan_tiles)(n, w, x, rows);
    for (int64_t r = 0; r < rows; r++) n->s->cfg.variant->finish(n->k, n->s, &w->picks[r]);
    keep_piece(w, first, rows, &n->pieces[block], indptr);
}

/* ---- all blocks ---- */

static err_code join_pieces(const encoder *n, const ctx *c, sparse_acts *out, err *e) {
    for (int64_t b = 0; b < n->n_blocks; b++)
        if (n->pieces[b].failed) return err_set(e, ERR_NOMEM, "out of memory: latents of %lld rows", (long long)n->n);
    for (int64_t r = 0; r < n->n; r++) out->indptr[r + 1] += out->indptr[r];
    err_code rc = sparse_reserve(out, n->n, out->indptr[n->n], e);
    if (rc) return rc;
#pragma omp parallel for num_threads(c->threads)
    for (int64_t b = 0; b < n->n_blocks; b++) {
        int64_t from = out->indptr[b * n->block_rows], to = out->indptr[min64((b + 1) * n->block_rows, n->n)];
        if (from == to) continue;
        memcpy(out->values + from, n->pieces[b].values, (size_t)(to - from) * sizeof *out->values);
        memcpy(out->indices + from, n->pieces[b].indices, (size_t)(to - from) * sizeof *out->indices);
    }
    out->n_rows = n->n;
    return ERR_OK;
}

static err_code encode(const ctx *c, const sae *s, const float *x, int64_t n_rows, bool centred, preselect how,
                       sparse_acts *out, top_counts *sum, err *e) {
    err_code rc;
    encoder n = {0};
    sparse_reset(out);
    TRY(sparse_reserve(out, n_rows, 0, e));
    if (n_rows == 0) goto done;
    TRY(encoder_init(&n, c, s, x, n_rows, centred, how, e));
#pragma omp parallel for num_threads(n.n_threads) schedule(dynamic)
    for (int64_t block = 0; block < n.n_blocks; block++) encode_block(&n, &n.ws[omp_get_thread_num()], block, out->indptr);
    for (int t = 0; sum && t < n.n_threads; t++) top_counts_add(sum, &n.ws[t].sum);
    TRY(join_pieces(&n, c, out, e));
done:
    encoder_release(&n);
    return rc;
}

err_code sae_encode(const ctx *c, const sae *s, const float *x, int64_t n, sparse_acts *out, err *e) {
    return encode(c, s, x, n, false, PRESELECT_AUTO, out, NULL, e);
}

err_code sae_encode_centred(const ctx *c, const sae *s, const float *x, int64_t n, preselect how, sparse_acts *out,
                            top_counts *sum, err *e) {
    return encode(c, s, x, n, true, how, out, sum, e);
}

/* ---- back ---- */

static void decode_row(const sparse_kernels *k, const sae *s, const sparse_acts *f, int64_t r, float *x_hat /* [d_out] */) {
    int64_t d = s->cfg.d_out, from = f->indptr[r];
    memcpy(x_hat, s->b_dec, (size_t)d * sizeof *x_hat);
    k->add_rows(x_hat, d, s->W_dec, f->indices + from, f->values + from, f->indptr[r + 1] - from);
}

static void restore_row(const sae *s, const float *x, float *x_hat) {
    row_units u = s->cfg.norm->units(x, s->cfg.d_in);
    for (int64_t j = 0; j < s->cfg.d_out; j++) x_hat[j] = x_hat[j] * u.scale + u.mean;
}

static bool restores(const sae *s) { return s->cfg.norm && !s->cfg.transcoder; }

err_code sae_reconstruct(const ctx *c, const sae *s, const sparse_acts *f, const float *x, float *x_hat, err *e) {
    (void)e;
    const sparse_kernels *k = sparse_kernels_for(c->cpu);
    int64_t d = s->cfg.d_in, d_out = s->cfg.d_out;
#pragma omp parallel for num_threads(c->threads)
    for (int64_t r = 0; r < f->n_rows; r++) {
        decode_row(k, s, f, r, x_hat + r * d_out);
        if (restores(s)) restore_row(s, x + r * d, x_hat + r * d_out);
    }
    if (s->W_skip) blas_gemm_nt(c, f->n_rows, d_out, d, x, d, s->W_skip, d, 1, x_hat, d_out);
    return ERR_OK;
}

err_code sae_decode(const ctx *c, const sae *s, const sparse_acts *f, float *x_hat, err *e) {
    if (restores(s) || s->W_skip)
        return err_set(e, ERR_UNSUPPORTED, "with %s the reconstruction needs the rows, latents alone do not determine it",
                       s->W_skip ? "a skip connection" : s->cfg.norm->name);
    return sae_reconstruct(c, s, f, NULL, x_hat, e);
}

float sae_row_scale(const sae *s, const float *x) { return restores(s) ? s->cfg.norm->units(x, s->cfg.d_in).scale : 1; }
