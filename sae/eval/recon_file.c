/* Reconstruction of the rows that are in a file: all of them with documents as groups, or those a training kept out. */
#include "activations/source.h"
#include "activations/store.h"
#include "core/mem.h"
#include "sae/eval/recon.h"

#include <stdlib.h>
#include <string.h>

enum { BATCH_ROWS = STORE_CHUNK_ROWS, BLOCK_ROWS = 256 /* stand for a document where rows have none */ };

typedef struct reading {
    const ctx *c;
    const sae *sae;
    float *x;       /* [BATCH_ROWS, d] */
    int32_t *group; /* [BATCH_ROWS] */
    recon recon;
    int64_t done, total;
} reading;

static err_code start(reading *r, int64_t n_groups, err *e) {
    err_code rc;
    TRY(mem_new(&r->x, BATCH_ROWS, (size_t)r->sae->cfg.d_in * sizeof *r->x, "rows", e));
    TRY(mem_new(&r->group, BATCH_ROWS, sizeof *r->group, "rows", e));
    TRY(recon_init(&r->recon, r->sae, n_groups < RECON_GROUPS_MAX ? n_groups : RECON_GROUPS_MAX, e));
done:
    return rc;
}

static err_code add(reading *r, int64_t n, err *e) {
    err_code rc;
    TRY(recon_add(r->c, &r->recon, r->x, r->group, n, e));
    r->done += n;
    ctx_report(r->c, &(progress){.stage = "eval", .unit = "rows", .done = r->done, .total = r->total});
    rc = ctx_check_cancel(r->c, e);
done:
    return rc;
}

static void release(reading *r) {
    recon_release(&r->recon);
    free(r->x);
    free(r->group);
}

/* ---- all rows ---- */

/* The text that each row's token belongs to. */
static err_code texts_of_rows(const store *s, int32_t **of, int64_t *n_texts, err *e) {
    const store_info *info = store_info_of(s);
    token_corpus k = {0};
    uint64_t *row_token = NULL;
    int32_t *text = NULL;
    err_code rc;
    TRY(mem_new(of, (size_t)info->n_rows, sizeof **of, "rows", e));
    TRY(mem_new(&row_token, (size_t)info->n_rows, sizeof *row_token, "rows", e));
    TRY(store_read_row_token(s, row_token, e));
    TRY(store_read_corpus(s, &k, e));
    TRY(mem_new(&text, (size_t)k.n_docs, sizeof *text, "documents", e));
    *n_texts = corpus_texts(&k, text);
    int64_t doc = 0;
    for (int64_t r = 0; r < info->n_rows; r++) {
        while (doc + 1 < k.n_docs && row_token[r] >= k.doc_offsets[doc + 1]) doc++;
        (*of)[r] = k.n_docs ? text[doc] : 0;
    }
done:
    free(row_token);
    free(text);
    corpus_release(&k);
    return rc;
}

/* Rows that are not too long, with their documents. */
static err_code read_all(reading *r, const store *s, int hook, err *e) {
    int32_t *text = NULL;
    uint8_t *is_long = NULL;
    int64_t n_texts, n_long, d = r->sae->cfg.d_in;
    err_code rc;
    r->total = store_info_of(s)->n_rows;
    TRY(texts_of_rows(s, &text, &n_texts, e));
    TRY(mem_new(&is_long, (size_t)r->total, 1, "rows", e));
    TRY(store_read_long(s, hook, is_long, &n_long, e));
    TRY(start(r, n_texts, e));
    for (int64_t first = 0; first < r->total; first += BATCH_ROWS) {
        int64_t n = r->total - first < BATCH_ROWS ? r->total - first : BATCH_ROWS;
        TRY(store_read_rows(s, r->c, hook, first, n, r->x, e));
        int64_t kept = 0;
        for (int64_t i = 0; i < n; i++) {
            if (is_long[first + i]) continue;
            if (kept < i) memcpy(r->x + kept * d, r->x + i * d, (size_t)d * sizeof *r->x);
            r->group[kept++] = (int32_t)(text[first + i] * r->recon.n_groups / n_texts);
        }
        TRY(add(r, kept, e));
    }
done:
    free(is_long);
    free(text);
    return rc;
}

static err_code from_store(reading *r, const char *path, const recon_file_opts *o, err *e) {
    const char *name = o->dataset ? o->dataset : r->sae->cfg.hook_name;
    store *s = NULL;
    int hook = 0;
    err_code rc;
    TRY(store_open(path, &s, e));
    const store_info *info = store_info_of(s);
    if ((*name || info->n_hooks != 1) && (hook = store_find_hook(s, name, e)) < 0) {
        rc = err_prefix(e, ERR_MISMATCH, "%s", path);
        goto done;
    }
    rc = sae_check_fits(r->sae, info->hooks[hook].name, info->model_sha256, info->hooks[hook].d_model, e);
    if (rc) {
        err_prefix(e, rc, "%s", path);
        goto done;
    }
    TRY(read_all(r, s, hook, e));
done:
    store_close(s);
    return rc;
}

/* ---- rows kept out of a training ---- */

static err_code from_source(reading *r, const char *path, const recon_file_opts *o, err *e) {
    source_opts how = SOURCE_DEFAULTS;
    source *s = NULL;
    err_code rc;
    how.dataset = o->dataset ? o->dataset : r->sae->cfg.hook_name[0] ? r->sae->cfg.hook_name : NULL;
    how.seed = o->seed;
    TRY(source_open_hdf5(r->c, path, &how, &s, e));
    rc = sae_check_fits(r->sae, s->hook_name, s->model_sha256, s->d_in, e);
    if (rc) {
        err_prefix(e, rc, "%s", path);
        goto done;
    }
    r->total = s->n_held_out;
    int64_t blocks = (r->total + BLOCK_ROWS - 1) / BLOCK_ROWS;
    TRY(start(r, blocks, e));
    for (int64_t first = 0; first < r->total; first += BATCH_ROWS) {
        int64_t n = r->total - first < BATCH_ROWS ? r->total - first : BATCH_ROWS;
        TRY(source_read_held_out(s, r->c, first, n, r->x, e));
        for (int64_t i = 0; i < n; i++) r->group[i] = (int32_t)((first + i) / BLOCK_ROWS * r->recon.n_groups / blocks);
        TRY(add(r, n, e));
    }
done:
    source_close(s);
    return rc;
}

err_code recon_file(const ctx *c, const sae *s, const char *path, const recon_file_opts *o, recon_result *out, err *e) {
    reading r = {.c = c, .sae = s};
    err_code rc;
    TRY(o->held_out ? from_source(&r, path, o, e) : from_store(&r, path, o, e));
    rc = recon_finish(c, &r.recon, o->seed, out, e);
done:
    release(&r);
    return rc;
}
