#include "activations/capture.h"

#include "activations/deviation.h"
#include "core/mem.h"
#include "model/sequences.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define F16_MAX 65504.0f

/* Rows of one hook on their way to a chunk. */
typedef struct collector {
    struct capture *owner;
    int hook;
    int64_t next; /* the row that continues what is collected; -1: nothing is */
    float *rows;  /* [STORE_CHUNK_ROWS, d_model] */
} collector;

typedef struct capture {
    const ctx *c;
    model *m;
    const token_corpus *k;
    const capture_opts *o;
    store *s;
    corpus_rows rows;
    collector hooks[STORE_HOOKS_MAX];
    model_hook callbacks[STORE_HOOKS_MAX];
    deviation deviations[STORE_HOOKS_MAX];

    sequences batch;
    int64_t *docs; /* [batch.n] which document sequence i is */
    size_t cap_docs;
    double writing;
    int64_t tokens_run;
} capture;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int64_t length_of(const token_corpus *k, int64_t doc) {
    return (int64_t)(k->doc_offsets[doc + 1] - k->doc_offsets[doc]);
}

/* ---- the file ---- */

static err_code open_store(capture *w, const char *path, err *e) {
    const model_config *cfg = model_config_of(w->m);
    const tokenizer *t = model_tokenizer(w->m);
    char sha256[SHA256_HEX], *model_path = realpath(weights_path(model_weights(w->m)), NULL);
    int64_t longest = 0;
    err_code rc;
    for (int64_t doc = 0; doc < w->k->n_docs; doc++)
        longest = length_of(w->k, doc) > longest ? length_of(w->k, doc) : longest;
    store_info info = {.model_name = model_name(w->m),
                       .model_path = model_path,
                       .model_sha256 = sha256,
                       .architecture = cfg->architecture,
                       .tokenizer_sha256 = tokenizer_sha256(t),
                       .tool_version = SAE_VERSION,
                       .command = w->o->command,
                       .precision = model_precision_of(w->m),
                       .context = w->o->context ? w->o->context : longest,
                       .skip_first = w->o->skip_first,
                       .bos = tokenizer_adds_bos(t),
                       .n_hooks = w->o->n_hooks};
    for (int i = 0; i < w->o->n_hooks; i++) {
        info.hooks[i] = (store_hook){
            .layer = w->o->hooks[i].layer, .d_model = cfg->d_model, .dtype = w->o->dtype, .deviation = w->deviations[i]};
        hook_format(w->o->hooks[i], info.hooks[i].name);
    }
    TRY(model_sha256(w->m, sha256, e));
    TRY(store_create(path, &info, w->k, w->rows.token, w->rows.n, t, &w->s, e));
done:
    free(model_path);
    return rc;
}

/* ---- a complete chunk ---- */

/* Infinity when something is infinite or not a number. */
static float largest_magnitude(const float *x, int64_t n) {
    float most = 0;
    for (int64_t i = 0; i < n; i++) {
        float a = fabsf(x[i]);
        most = a > most ? a : most;
        if (!(a <= most)) return INFINITY;
    }
    return most;
}

static err_code widen_if_needed(capture *w, int hook, const float *x, int64_t n, err *e) {
    const store_hook *h = &store_info_of(w->s)->hooks[hook];
    if (h->dtype != STORE_F16) return ERR_OK;
    float most = largest_magnitude(x, n * h->d_model);
    if (most <= (h->rows_done ? F16_MAX : F16_MAX / 2) || isinf(most)) return ERR_OK;
    ctx_log(w->c, LOG_NOTE, "%s holds numbers up to %.3g, float16 reaches 65504: %s as bfloat16", h->name, (double)most,
            h->rows_done ? "begins again" : "stored");
    return store_restart_hook(w->s, hook, STORE_BF16, w->k, w->rows.token, model_tokenizer(w->m), e);
}

static err_code write_chunk(collector *h, int64_t chunk, int64_t n, err *e) {
    capture *w = h->owner;
    double began = now();
    err_code rc;
    TRY(widen_if_needed(w, h->hook, h->rows, n, e));
    TRY(store_write_chunk(w->s, w->c, h->hook, chunk, h->rows, e));
done:
    w->writing += now() - began;
    return rc;
}

/* Rows come in the order of the file. Those of a chunk that is complete, or whose beginning did not come by, are passed over. */
static err_code collect_row(collector *h, int64_t row, const float *x, int64_t d, err *e) {
    int64_t chunk = row / STORE_CHUNK_ROWS, at = row % STORE_CHUNK_ROWS, n_rows = h->owner->rows.n;
    if (store_chunk_done(h->owner->s, h->hook, chunk) || (row != h->next && at)) return ERR_OK;
    memcpy(h->rows + at * d, x, (size_t)d * sizeof *x);
    h->next = row + 1;
    if (at + 1 < STORE_CHUNK_ROWS && row + 1 < n_rows) return ERR_OK;
    h->next = -1;
    return write_chunk(h, chunk, at + 1, e);
}

static err_code collect_rows(void *user, const ctx *c, const hook_rows *rows, err *e) {
    collector *h = user;
    const capture *w = h->owner;
    err_code rc = ERR_OK;
    (void)c;
    for (int64_t i = 0; i < rows->n_tokens && !rc; i++) {
        int64_t kept = rows->pos[i] - w->o->skip_first;
        if (kept >= 0)
            rc = collect_row(h, w->rows.first[w->docs[rows->seq[i]]] + kept, rows->x + i * rows->d_model, rows->d_model, e);
    }
    return rc;
}

/* ---- batches ---- */

static err_code make_room(capture *w, err *e) {
    err_code rc = ERR_OK;
    size_t d = (size_t)model_config_of(w->m)->d_model;
    for (int i = 0; i < w->o->n_hooks; i++) {
        w->hooks[i] = (collector){.owner = w, .hook = i, .next = -1};
        w->callbacks[i] = (model_hook){w->o->hooks[i], collect_rows, &w->hooks[i]};
        TRY(mem_new(&w->hooks[i].rows, STORE_CHUNK_ROWS, d * sizeof(float), "a chunk of rows", e));
    }
done:
    return rc;
}

static err_code add_document(capture *w, int64_t doc, err *e) {
    err_code rc = mem_grow(&w->docs, &w->cap_docs, (size_t)w->batch.n + 1, sizeof *w->docs, "a batch", e);
    if (rc) return rc;
    w->docs[w->batch.n] = doc;
    return sequences_add(&w->batch, w->k->tokens + w->k->doc_offsets[doc], length_of(w->k, doc), e);
}

static err_code run_batch(capture *w, err *e) {
    const model_batch b = {w->batch.n_tokens, w->batch.tokens, w->batch.seq, w->batch.pos};
    if (!b.n_tokens) return ERR_OK;
    err_code rc = ctx_check_cancel(w->c, e);
    if (!rc) rc = model_forward(w->c, w->m, &b, NULL, w->callbacks, w->o->n_hooks, NULL, e);
    w->tokens_run += b.n_tokens;
    sequences_clear(&w->batch);
    return rc;
}

/* On the first documents that a pass takes together. */
static err_code measure_deviation(capture *w, err *e) {
    if (model_precision_of(w->m) == MODEL_F32) return ERR_OK;
    err_code rc = ERR_OK;
    for (int64_t doc = 0; doc < w->k->n_docs; doc++) {
        if (w->rows.first[doc] == w->rows.first[doc + 1]) continue;
        if (w->batch.n && w->batch.n_tokens + length_of(w->k, doc) > w->o->batch_tokens) break;
        TRY(add_document(w, doc, e));
    }
    const model_batch b = {w->batch.n_tokens, w->batch.tokens, w->batch.seq, w->batch.pos};
    TRY(deviation_measure(w->c, w->m, &b, w->o->hooks, w->o->n_hooks, w->o->skip_first, w->deviations, e));
done:
    sequences_clear(&w->batch);
    return rc;
}

/* ---- rounds ---- */

/* Some hook lacks a chunk that holds rows of this document. */
static bool is_missing(const capture *w, int64_t doc) {
    int64_t first = w->rows.first[doc], end = w->rows.first[doc + 1];
    for (int64_t chunk = first / STORE_CHUNK_ROWS; first < end && chunk <= (end - 1) / STORE_CHUNK_ROWS; chunk++)
        for (int i = 0; i < w->o->n_hooks; i++)
            if (!store_chunk_done(w->s, i, chunk)) return true;
    return false;
}

static int64_t missing_tokens(const capture *w) {
    int64_t n = 0;
    for (int64_t doc = 0; doc < w->k->n_docs; doc++) n += is_missing(w, doc) ? length_of(w->k, doc) : 0;
    return n;
}

static void report(const capture *w, int64_t done) {
    ctx_report(w->c, &(progress){.stage = "capture", .unit = "tokens", .done = done, .total = w->k->n_tokens});
}

/* All documents that have rows in missing chunks, once. Which ones they are is decided as they are reached: nothing that is
 * written meanwhile makes a chunk of theirs complete without them. */
static err_code run_round(capture *w, int64_t missing, err *e) {
    int64_t done = w->k->n_tokens - missing;
    err_code rc;
    for (int i = 0; i < w->o->n_hooks; i++) w->hooks[i].next = -1;
    report(w, done);
    for (int64_t doc = 0; doc < w->k->n_docs; doc++) {
        if (!is_missing(w, doc)) continue;
        if (w->batch.n_tokens + length_of(w->k, doc) > w->o->batch_tokens) {
            done += w->batch.n_tokens;
            TRY(run_batch(w, e));
            report(w, done);
        }
        TRY(add_document(w, doc, e));
    }
    done += w->batch.n_tokens;
    TRY(run_batch(w, e));
    report(w, done);
done:
    sequences_clear(&w->batch);
    return rc;
}

static int64_t rows_done(const capture *w) {
    int64_t least = w->rows.n;
    for (int i = 0; w->s && i < w->o->n_hooks; i++) {
        int64_t done = store_info_of(w->s)->hooks[i].rows_done;
        least = done < least ? done : least;
    }
    return least;
}

/* One round, and another for every hook that began again. */
static err_code run_rounds(capture *w, err *e) {
    err_code rc = ERR_OK;
    int64_t missing;
    for (int round = 0; !rc && (missing = missing_tokens(w)) > 0; round++) {
        assert(round <= w->o->n_hooks);
        rc = run_round(w, missing, e);
    }
    return rc;
}

static err_code finish_hooks(capture *w, err *e) {
    err_code rc = ERR_OK;
    for (int i = 0; i < w->o->n_hooks && !rc; i++)
        if (isnan(store_info_of(w->s)->hooks[i].mean_norm)) rc = store_finish_hook(w->s, w->c, i, e);
    return rc;
}

static void release(capture *w) {
    store_close(w->s);
    for (int i = 0; i < w->o->n_hooks; i++) free(w->hooks[i].rows);
    corpus_rows_release(&w->rows);
    sequences_release(&w->batch);
    free(w->docs);
}

err_code capture_run(const ctx *c, model *m, const token_corpus *k, const char *out_path, const capture_opts *o,
                     capture_result *result, err *e) {
    capture w = {.c = c, .m = m, .k = k, .o = o};
    double began = 0;
    err_code rc;
    assert(o->n_hooks > 0 && o->n_hooks <= STORE_HOOKS_MAX && o->skip_first >= 0 && o->batch_tokens > 0);
    TRY(corpus_rows_number(k, o->skip_first, model_config_of(m)->n_ctx, &w.rows, e));
    TRY(make_room(&w, e));
    TRY(measure_deviation(&w, e));
    TRY(open_store(&w, out_path, e));
    if (rows_done(&w) > 0 && rows_done(&w) < w.rows.n)
        ctx_log(c, LOG_NOTE, "%s: continues behind %" PRId64 " of %" PRId64 " rows", out_path, rows_done(&w), w.rows.n);
    began = now();
    TRY(run_rounds(&w, e));
    TRY(finish_hooks(&w, e));
    *result = (capture_result){k->n_tokens, w.rows.n, w.tokens_run, now() - began, w.writing};
done:
    if (rc == ERR_CANCELLED)
        err_set(e, rc, "stopped on request: %s keeps %" PRId64 " of %" PRId64 " rows, and the same command continues",
                out_path, rows_done(&w), w.rows.n);
    release(&w);
    return rc;
}
