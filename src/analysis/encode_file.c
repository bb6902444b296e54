#include "analysis/encode_file.h"

#include "activations/codes.h"
#include "activations/matrix.h"
#include "activations/store.h"
#include "core/mem.h"
#include "sae/fvu.h"
#include "sae/sae.h"
#include "sae/variants/variants.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

enum { BATCH_ROWS = 4096 };

typedef struct encoding {
    const encode_opts *o;
    sae *sae;
    matrix *rows;
    codes_writer *out;
    float *x, *x_hat; /* [BATCH_ROWS, d] */
    sparse_acts acts;
    fvu_sums sums;
} encoding;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static err_code set_k(sae *s, int64_t k, err *e) {
    if (!k) return ERR_OK;
    if (!s->cfg.variant->uses_k)
        return err_set(e, ERR_USAGE, "a %s autoencoder has no k: how many latents fire is up to its %s", s->cfg.variant->name,
                       s->cfg.variant->uses_threshold ? "thresholds" : "biases");
    if (k > s->cfg.d_sae)
        return err_set(e, ERR_USAGE, "k: expected 1 to d_sae = %" PRId64 ", found %" PRId64, s->cfg.d_sae, k);
    s->cfg.k = k;
    return ERR_OK;
}

/* An activation file of ours says which hook and model its rows are of; other files do not. */
static err_code check_origin(const encoding *v, const char *path, const char **dataset, err *e) {
    err not_ours = {0};
    store *s = NULL;
    err_code rc = ERR_OK;
    if (store_open(path, &s, &not_ours) || *dataset) goto done;
    const store_info *info = store_info_of(s);
    const char *hook = v->sae->cfg.hook_name;
    if (!*hook) goto done;
    int found = store_find_hook(s, hook, e);
    rc = found < 0 ? ERR_MISMATCH : sae_check_fits(v->sae, hook, info->model_sha256, info->hooks[found].d_model, e);
    if (rc)
        err_prefix(e, rc, "%s", path);
    else
        *dataset = hook;
done:
    store_close(s);
    return rc;
}

static err_code open_all(encoding *v, const char *folder, const char *path, const char *out, err *e) {
    const char *dataset = v->o->dataset;
    err_code rc;
    TRY(sae_load(folder, &v->sae, e));
    TRY(set_k(v->sae, v->o->k, e));
    TRY(check_origin(v, path, &dataset, e));
    TRY(matrix_open(path, dataset, &v->rows, e));
    const matrix_info *info = matrix_info_of(v->rows);
    if (info->d != v->sae->cfg.d_in) {
        rc = err_set(e, ERR_MISMATCH, "%s: %s has rows of %" PRId64 " values, expected the SAE's d_in of %" PRId64, path,
                     info->dataset, info->d, v->sae->cfg.d_in);
        goto done;
    }
    const codes_info about = {.sae_sha256 = v->sae->sha256,
                              .hook_name = v->sae->cfg.hook_name,
                              .d_sae = v->sae->cfg.d_sae,
                              .n_rows = info->n_rows,
                              .d_out = v->sae->cfg.d_in};
    TRY(mem_new(&v->x, BATCH_ROWS, (size_t)info->d * sizeof *v->x, "rows", e));
    TRY(mem_new(&v->x_hat, BATCH_ROWS, (size_t)info->d * sizeof *v->x_hat, "rows", e));
    TRY(fvu_init(&v->sums, info->d, e));
    TRY(codes_create(out, &about, &v->out, e));
done:
    return rc;
}

static void scale(float *x, int64_t n, double by) {
    for (int64_t i = 0; i < n; i++) x[i] = (float)(x[i] * by);
}

static err_code encode_batch(const ctx *c, encoding *v, int64_t first, int64_t n, err *e) {
    int64_t d = v->sae->cfg.d_in;
    bool scaled = v->o->scaling != 1;
    err_code rc;
    TRY(matrix_read(v->rows, c, first, n, v->x, e));
    if (scaled) scale(v->x, n * d, v->o->scaling);
    TRY(sae_encode(c, v->sae, v->x, n, &v->acts, e));
    TRY(sae_decode(c, v->sae, &v->acts, v->x_hat, e));
    fvu_add(&v->sums, v->x, v->x_hat, n, v->acts.indptr[n]);
    if (scaled) scale(v->x_hat, n * d, 1 / v->o->scaling);
    TRY(codes_append(v->out, n, v->acts.indptr, v->acts.indices, v->acts.values, v->x_hat, e));
done:
    return rc;
}

static void close_all(encoding *v) {
    codes_abandon(v->out);
    matrix_close(v->rows);
    sae_free(v->sae);
    free(v->x);
    free(v->x_hat);
    sparse_release(&v->acts);
    fvu_release(&v->sums);
}

err_code encode_file(const ctx *c, const char *sae_folder, const char *rows, const char *out, const encode_opts *o,
                     encode_result *result, err *e) {
    encoding v = {.o = o};
    double started = now();
    err_code rc;
    TRY(open_all(&v, sae_folder, rows, out, e));
    int64_t total = matrix_info_of(v.rows)->n_rows;
    for (int64_t first = 0; first < total; first += BATCH_ROWS) {
        TRY(ctx_check_cancel(c, e));
        ctx_report(c, &(progress){.stage = "encode", .unit = "rows", .done = first, .total = total});
        TRY(encode_batch(c, &v, first, total - first < BATCH_ROWS ? total - first : BATCH_ROWS, e));
    }
    ctx_report(c, &(progress){.stage = "encode", .unit = "rows", .done = total, .total = total});
    TRY(codes_finish(v.out, e));
    *result = (encode_result){.rows = total,
                              .latents = v.sae->cfg.d_sae,
                              .nonzeros = v.sums.n_fired,
                              .fvu = fvu_of(&v.sums),
                              .seconds = now() - started};
done:
    close_all(&v);
    return rc;
}
