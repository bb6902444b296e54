#include "analysis/encode_file.h"

#include "activations/codes.h"
#include "activations/matrix.h"
#include "activations/store.h"
#include "core/mem.h"
#include "sae/fvu.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <time.h>

enum { BATCH_ROWS = 4096 };

typedef struct encoding {
    const encode_opts *o;
    sae *sae;
    matrix *rows;
    codes_writer *out;
    float *x;     /* [BATCH_ROWS, d_in] */
    float *x_hat; /* [BATCH_ROWS, d_out] */
    sparse_acts acts;
    fvu_sums sums; /* of autoencoders: a transcoder's output stands for other rows */
    int64_t nonzeros;
} encoding;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
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

static err_code open_all(const ctx *c, encoding *v, const char *sae_path, const char *path, const char *out, err *e) {
    const char *dataset = v->o->dataset;
    err_code rc;
    TRY(sae_load_given(sae_path, &v->o->given, &v->sae, e));
    if (v->sae->note) ctx_log(c, LOG_WARNING, "%s: %s", sae_path, v->sae->note);
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
                              .d_out = v->sae->cfg.d_out};
    TRY(mem_new(&v->x, BATCH_ROWS, (size_t)info->d * sizeof *v->x, "rows", e));
    TRY(mem_new(&v->x_hat, BATCH_ROWS, (size_t)v->sae->cfg.d_out * sizeof *v->x_hat, "rows", e));
    TRY(fvu_init(&v->sums, info->d, e));
    TRY(codes_create(out, &about, &v->out, e));
done:
    return rc;
}

static err_code encode_batch(const ctx *c, encoding *v, int64_t first, int64_t n, err *e) {
    err_code rc;
    TRY(matrix_read(v->rows, c, first, n, v->x, e));
    TRY(sae_encode(c, v->sae, v->x, n, &v->acts, e));
    TRY(sae_reconstruct(c, v->sae, &v->acts, v->x, v->x_hat, e));
    if (!v->sae->cfg.transcoder) fvu_add(&v->sums, v->x, v->x_hat, n, v->acts.indptr[n]);
    v->nonzeros += v->acts.indptr[n];
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

err_code encode_file(const ctx *c, const char *sae_path, const char *rows, const char *out, const encode_opts *o,
                     encode_result *result, err *e) {
    encoding v = {.o = o};
    double started = now();
    err_code rc;
    TRY(open_all(c, &v, sae_path, rows, out, e));
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
                              .nonzeros = v.nonzeros,
                              .fvu = v.sae->cfg.transcoder ? (double)NAN : fvu_of(&v.sums),
                              .seconds = now() - started};
done:
    close_all(&v);
    return rc;
}
