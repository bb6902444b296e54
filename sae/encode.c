/* encode.c — latents of rows, and rows from latents.
 *
 * Scores are made a tile at a time, ENCODE_ROWS rows by SAE_TILE_LATENTS latents, and picked from while they are in cache:
 * no [n, d_sae] matrix exists. Threads take blocks of rows; a row's latents do not depend on which thread had it. */
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

/* What a thread needs for one block of rows. */
typedef struct workspace {
    float *scores;     /* [block_rows, SAE_TILE_LATENTS] */
    float *prepared;   /* [block_rows, d_in]; NULL when rows are used as they are */
    float *values;     /* [block_rows, capacity] */
    uint32_t *indices; /* [block_rows, capacity] */
    row_picks *picks;  /* [block_rows] into values and indices */
} workspace;

/* The latents of one block of rows, one after the other. */
typedef struct piece {
    float *values;
    uint32_t *indices;
    bool failed;
} piece;

typedef struct encoder {
    const sae *s;
    const sparse_kernels *k;
    const float *x;
    int64_t n, block_rows, n_blocks, capacity;
    bool subtract, normalize;
    workspace *ws; /* [n_threads] */
    int n_threads;
    piece *pieces; /* [n_blocks] */
} encoder;

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

static err_code workspace_init(const encoder *n, workspace *w, err *e) {
    size_t rows = (size_t)n->block_rows, capacity = (size_t)n->capacity, picks;
    err_code rc = mem_new(&w->scores, rows, SAE_TILE_LATENTS * sizeof *w->scores, "scores of latents", e);
    if (!mem_mul(rows, capacity, &picks)) return err_nomem(e, "picks of rows", rows);
    if (!rc) rc = mem_new(&w->values, picks, sizeof *w->values, "picks of rows", e);
    if (!rc) rc = mem_new(&w->indices, picks, sizeof *w->indices, "picks of rows", e);
    if (!rc) rc = mem_new(&w->picks, rows, sizeof *w->picks, "picks of rows", e);
    if (!rc && (n->subtract || n->normalize))
        rc = mem_new(&w->prepared, rows, (size_t)n->s->cfg.d_in * sizeof(float), "centred rows", e);
    return rc;
}

static void encoder_release(encoder *n) {
    for (int t = 0; n->ws && t < n->n_threads; t++) {
        free(n->ws[t].scores);
        free(n->ws[t].prepared);
        free(n->ws[t].values);
        free(n->ws[t].indices);
        free(n->ws[t].picks);
    }
    free(n->ws);
    for (int64_t b = 0; n->pieces && b < n->n_blocks; b++) {
        free(n->pieces[b].values);
        free(n->pieces[b].indices);
    }
    free(n->pieces);
}

static err_code encoder_init(encoder *n, const ctx *c, const sae *s, const float *x, int64_t n_rows, bool centred, err *e) {
    err_code rc;
    int64_t capacity = s->cfg.variant->capacity(&s->cfg) + SPARSE_SLACK;
    int64_t affordable = PICKS_BYTES_MAX / (capacity * (int64_t)(sizeof(float) + sizeof(uint32_t)));
    *n = (encoder){.s = s, .k = sparse_kernels_for(c->cpu), .x = x, .n = n_rows, .capacity = capacity};
    n->subtract = !centred && s->cfg.apply_b_dec_to_input;
    n->normalize = !centred && s->cfg.norm;
    n->block_rows = min64(min64(ENCODE_ROWS, n_rows), affordable > 16 ? affordable : 16);
    n->n_blocks = (n_rows + n->block_rows - 1) / n->block_rows;
    n->n_threads = (int)min64(c->threads, n->n_blocks);
    TRY(mem_new0(&n->pieces, (size_t)n->n_blocks, sizeof *n->pieces, "latents", e));
    TRY(mem_new0(&n->ws, (size_t)n->n_threads, sizeof *n->ws, "workspaces", e));
    for (int t = 0; t < n->n_threads; t++) TRY(workspace_init(n, &n->ws[t], e));
done:
    return rc;
}

/* ---- one block of rows ---- */

/* z - b_dec, or what of it there is. */
static const float *prepared_rows(const encoder *n, workspace *w, int64_t first, int64_t rows) {
    int64_t d = n->s->cfg.d_in;
    const float *x = n->x + first * d;
    if (!n->subtract && !n->normalize) return x;
    for (int64_t r = 0; r < rows; r++, x += d) {
        float *z = w->prepared + r * d;
        row_units u = n->normalize ? n->s->cfg.norm->units(x, d) : (row_units){0, 1, 1};
        for (int64_t j = 0; j < d; j++) z[j] = n->normalize ? (x[j] - u.mean) / u.divisor : x[j];
        for (int64_t j = 0; n->subtract && j < d; j++) z[j] -= n->s->b_dec[j];
    }
    return w->prepared;
}

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

static void encode_block(const encoder *n, workspace *w, int64_t block, int64_t *indptr) {
    const sae *s = n->s;
    int64_t d = s->cfg.d_in, first = block * n->block_rows, rows = min64(n->block_rows, n->n - first);
    const float *x = prepared_rows(n, w, first, rows);
    for (int64_t r = 0; r < rows; r++)
        w->picks[r] = (row_picks){w->values + r * n->capacity, w->indices + r * n->capacity, 0, -INFINITY};
    for (int64_t i = 0; i < s->cfg.d_sae; i += SAE_TILE_LATENTS) {
        int64_t latents = min64(SAE_TILE_LATENTS, s->cfg.d_sae - i);
        blas_gemm_nt_serial(rows, latents, d, x, d, s->W_enc + i * d, d, 0, w->scores, SAE_TILE_LATENTS);
        for (int64_t r = 0; r < rows; r++)
            s->cfg.variant->scan(n->k, s, w->scores + r * SAE_TILE_LATENTS, i, latents, &w->picks[r]);
    }
    for (int64_t r = 0; r < rows; r++) s->cfg.variant->finish(n->k, s, &w->picks[r]);
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

static err_code encode(const ctx *c, const sae *s, const float *x, int64_t n_rows, bool centred, sparse_acts *out, err *e) {
    err_code rc;
    encoder n = {0};
    sparse_reset(out);
    TRY(sparse_reserve(out, n_rows, 0, e));
    if (n_rows == 0) goto done;
    TRY(encoder_init(&n, c, s, x, n_rows, centred, e));
#pragma omp parallel for num_threads(n.n_threads) schedule(dynamic)
    for (int64_t block = 0; block < n.n_blocks; block++) encode_block(&n, &n.ws[omp_get_thread_num()], block, out->indptr);
    TRY(join_pieces(&n, c, out, e));
done:
    encoder_release(&n);
    return rc;
}

err_code sae_encode(const ctx *c, const sae *s, const float *x, int64_t n, sparse_acts *out, err *e) {
    return encode(c, s, x, n, false, out, e);
}

err_code sae_encode_centred(const ctx *c, const sae *s, const float *x, int64_t n, sparse_acts *out, err *e) {
    return encode(c, s, x, n, true, out, e);
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
