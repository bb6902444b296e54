#include "activations/live.h"

#include "activations/shuffle.h"
#include "activations/split.h"
#include "activations/store.h"
#include "core/file.h"
#include "core/mem.h"
#include "core/strbuf.h"
#include "model/sequences.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 2, SAMPLED_ROWS = 2048, WINDOW_ROWS = 4096 };

/* Rows skipped .. skipped+n-1 of a document, and where they go. */
typedef struct excerpt {
    int64_t doc, skipped, n, at;
} excerpt;

/* Documents of one part; document i has the part's rows first[i] .. first[i+1]-1. */
typedef struct document_list {
    int64_t *docs, *first; /* [n], [n + 1] */
    int64_t n;
} document_list;

typedef struct live {
    shuffled shuffle;
    model *m;
    const token_corpus *k;
    int64_t skip_first, batch_tokens;
    corpus_rows rows;
    document_list train, held_out; /* train.first is shuffle.block_first */
    double longest[COLUMNS];       /* rows beyond are replaced */
    bool served;                   /* a pool was filled */

    model_hook hooks[COLUMNS];
    struct collector {
        struct live *owner;
        int column;
    } collectors[COLUMNS];
    sequences batch;
    excerpt *excerpts;      /* of the rows that are being made */
    const excerpt *running; /* of the batch's first sequence */
    size_t cap_excerpts;
    float *to[COLUMNS]; /* where row 0 of the excerpts goes */

    float *window[COLUMNS]; /* held-out rows of documents that follow each other */
    int64_t window_first, window_rows, window_cap;
} live;

static int64_t rows_of(const live *s, int64_t doc) { return s->rows.first[doc + 1] - s->rows.first[doc]; }

/* ---- rows from the model ---- */

static err_code collect(void *user, const ctx *c, const hook_rows *rows, err *e) {
    const struct collector *to = user;
    const live *s = to->owner;
    int64_t d = rows->d_model;
    (void)c, (void)e;
    for (int64_t i = 0; i < rows->n_tokens; i++) {
        const excerpt *x = &s->running[rows->seq[i]];
        int64_t r = rows->pos[i] - s->skip_first - x->skipped;
        if (r >= 0 && r < x->n) memcpy(s->to[to->column] + (x->at + r) * d, rows->x + i * d, (size_t)d * sizeof *rows->x);
    }
    return ERR_OK;
}

static err_code run_batch(live *s, const ctx *c, err *e) {
    const model_batch b = {s->batch.n_tokens, s->batch.tokens, s->batch.seq, s->batch.pos};
    err_code rc = ctx_check_cancel(c, e);
    if (!rc && b.n_tokens) rc = model_forward(c, s->m, &b, NULL, s->hooks, s->shuffle.n_columns, NULL, e);
    s->running += s->batch.n;
    sequences_clear(&s->batch);
    return rc;
}

static void report(const live *s, const ctx *c, int64_t done, int64_t rows) {
    if (!s->served) ctx_report(c, &(progress){.stage = "first pool", .unit = "rows", .done = done, .total = rows});
}

/* Of a document, what its excerpt needs to be read for: attention looks back only. */
static int64_t tokens_read(const live *s, const excerpt *x) { return s->skip_first + x->skipped + x->n; }

static err_code run_excerpts(live *s, const ctx *c, size_t n, err *e) {
    int64_t rows = n ? s->excerpts[n - 1].at + s->excerpts[n - 1].n : 0;
    err_code rc = ERR_OK;
    s->running = s->excerpts;
    sequences_clear(&s->batch); /* of a call that failed */
    for (const excerpt *x = s->excerpts; x < s->excerpts + n; x++) {
        if (s->batch.n_tokens && s->batch.n_tokens + tokens_read(s, x) > s->batch_tokens) {
            TRY(run_batch(s, c, e));
            report(s, c, x->at, rows);
        }
        TRY(sequences_add(&s->batch, s->k->tokens + s->k->doc_offsets[x->doc], tokens_read(s, x), e));
    }
    TRY(run_batch(s, c, e));
    report(s, c, rows, rows);
    for (int i = 0; i < s->shuffle.n_columns; i++) {
        const shuffle_column *k = &s->shuffle.columns[i];
        if (dtype_find_not_finite(c, k->type, s->to[i], rows, k->d) >= 0)
            rc = err_set(e, ERR_FORMAT, "%s: the model makes rows that are infinite or not numbers", model_name(s->m));
    }
done:
    return rc;
}

static err_code add_excerpt(live *s, size_t i, excerpt x, err *e) {
    err_code rc = mem_grow(&s->excerpts, &s->cap_excerpts, i + 1, sizeof *s->excerpts, "documents", e);
    if (!rc) s->excerpts[i] = x;
    return rc;
}

static float length(const float *x, int64_t d) {
    double sum = 0;
    for (int64_t j = 0; j < d; j++) sum += (double)x[j] * x[j];
    return (float)sqrt(sum);
}

/* Every row that is too long in one of its columns gives its place to the one before it. */
static void replace_long(const live *s, const ctx *c, int64_t n, uint8_t *is_long /* [n] */) {
    const shuffle_column *k = s->shuffle.columns;
    int64_t good = 0;
    memset(is_long, 0, (size_t)n);
    for (int i = 0; i < s->shuffle.n_columns; i++) {
        double longest = s->longest[i];
#pragma omp parallel for num_threads(c->threads)
        for (int64_t r = 0; r < n; r++) is_long[r] |= (double)length(s->to[i] + r * k[i].d, k[i].d) > longest;
    }
    while (good < n && is_long[good]) good++;
    if (good == n) return;
    for (int64_t r = 0; r < n; r++) {
        if (!is_long[r]) {
            good = r;
            continue;
        }
        for (int i = 0; i < s->shuffle.n_columns; i++)
            memcpy(s->to[i] + r * k[i].d, s->to[i] + good * k[i].d, (size_t)k[i].d * sizeof(float));
    }
}

/* The rows of the first n excerpts, fit for training. */
static err_code make_rows(live *s, const ctx *c, size_t n, err *e) {
    uint8_t *is_long = NULL;
    int64_t rows = s->excerpts[n - 1].at + s->excerpts[n - 1].n;
    err_code rc;
    TRY(mem_new(&is_long, (size_t)rows, 1, "rows", e));
    TRY(run_excerpts(s, c, n, e));
    replace_long(s, c, rows, is_long);
done:
    free(is_long);
    return rc;
}

/* ---- training rows ---- */

static err_code load(shuffled *base, const ctx *c, const row_range *ranges, size_t n, err *e) {
    live *s = (live *)base;
    int64_t at = 0;
    err_code rc = ERR_OK;
    for (size_t i = 0; i < n; at += ranges[i++].n) {
        const row_range *r = &ranges[i];
        const excerpt x = {s->train.docs[r->block], r->first - base->block_first[r->block], r->n, at};
        TRY(add_excerpt(s, i, x, e));
    }
    for (int i = 0; i < base->n_columns; i++) s->to[i] = base->columns[i].pool;
    TRY(make_rows(s, c, n, e));
    s->served = true;
done:
    return rc;
}

/* ---- held-out rows ---- */

/* The window that begins with the document of held-out row r: as many whole ones as it has place for, at least one. */
static err_code make_window(live *s, const ctx *c, int64_t r, err *e) {
    const document_list *l = &s->held_out;
    int64_t first = 0, rows = 0;
    size_t n = 0;
    err_code rc = ERR_OK;
    while (l->first[first + 1] <= r) first++;
    s->window_rows = 0;
    for (int64_t i = first; i < l->n && l->first[i + 1] - l->first[first] <= s->window_cap; i++) {
        TRY(add_excerpt(s, n++, (excerpt){l->docs[i], 0, rows_of(s, l->docs[i]), rows}, e));
        rows += rows_of(s, l->docs[i]);
    }
    for (int i = 0; i < s->shuffle.n_columns; i++) s->to[i] = s->window[i];
    TRY(make_rows(s, c, n, e));
    s->window_first = l->first[first];
    s->window_rows = rows;
done:
    return rc;
}

/* Windows always begin at the same documents, whatever was read before: their rows depend on what is in a pass with them by
 * rounding. */
static err_code move_window(live *s, const ctx *c, int64_t r, err *e) {
    err_code rc = ERR_OK;
    if (r < s->window_first || !s->window_rows) TRY(make_window(s, c, 0, e));
    while (r >= s->window_first + s->window_rows) TRY(make_window(s, c, s->window_first + s->window_rows, e));
done:
    return rc;
}

static err_code read_held_out(source *base, const ctx *c, int64_t first, int64_t n, float *x, float *y, err *e) {
    live *s = (live *)base;
    float *const to[] = {x, y};
    err_code rc = ERR_OK;
    for (int64_t done = 0; done < n;) {
        TRY(move_window(s, c, first + done, e));
        int64_t at = first + done - s->window_first, m = s->window_rows - at < n - done ? s->window_rows - at : n - done;
        for (int i = 0; i < COLUMNS; i++) {
            int64_t d = s->shuffle.columns[i].d;
            if (to[i]) memcpy(to[i] + done * d, s->window[i] + at * d, (size_t)(m * d) * sizeof *x);
        }
        done += m;
    }
done:
    return rc;
}

static void close_live(source *base) {
    live *s = (live *)base;
    shuffle_release(&s->shuffle);
    corpus_rows_release(&s->rows);
    sequences_release(&s->batch);
    free(s->train.docs);
    free(s->held_out.docs);
    free(s->held_out.first);
    free(s->excerpts);
    for (int i = 0; i < COLUMNS; i++) free(s->window[i]);
    free(s);
}

static const source_ops ops = {shuffle_read, read_held_out, close_live};

/* ---- opening ---- */

static err_code list_documents(const live *s, const row_part *p, document_list *out, err *e) {
    int64_t n_docs = s->k->n_docs, rows = 0;
    err_code rc;
    TRY(mem_new(&out->docs, (size_t)n_docs, sizeof *out->docs, "documents", e));
    TRY(mem_new(&out->first, (size_t)n_docs + 1, sizeof *out->first, "documents", e));
    for (int64_t doc = 0; doc < n_docs; doc++) {
        if (!rows_of(s, doc) || !part_has(p, s->rows.first[doc])) continue;
        out->docs[out->n] = doc;
        out->first[out->n++] = rows;
        rows += rows_of(s, doc);
    }
    out->first[out->n] = rows;
done:
    return rc;
}

static err_code split_documents(live *s, double held_out, err *e) {
    row_pieces p = {0};
    row_part train = {0}, held = {0};
    err_code rc;
    TRY(pieces_of_texts(s->k, s->rows.token, s->rows.n, &p, e));
    TRY(split_pieces(&p, held_out, &train, &held, e));
    TRY(list_documents(s, &train, &s->train, e));
    TRY(list_documents(s, &held, &s->held_out, e));
    s->shuffle.block_first = s->train.first;
    s->shuffle.n_blocks = s->train.n;
    s->shuffle.base.n_rows = train.n_rows;
    s->shuffle.base.n_held_out = held.n_rows;
done:
    if (!s->shuffle.block_first) free(s->train.first);
    pieces_release(&p);
    part_release(&train);
    part_release(&held);
    return rc;
}

static err_code make_window_room(live *s, err *e) {
    const document_list *l = &s->held_out;
    int64_t most = s->shuffle.base.n_held_out < WINDOW_ROWS ? s->shuffle.base.n_held_out : WINDOW_ROWS;
    err_code rc = ERR_OK;
    for (int64_t i = 0; i < l->n; i++) most = l->first[i + 1] - l->first[i] > most ? l->first[i + 1] - l->first[i] : most;
    s->window_cap = most;
    for (int i = 0; i < s->shuffle.n_columns && !rc; i++)
        rc = mem_new(&s->window[i], (size_t)most, (size_t)s->shuffle.columns[i].d * sizeof(float), "held-out rows", e);
    return rc;
}

/* Whole documents spread over the corpus. */
static err_code sample_documents(live *s, size_t *n, int64_t *rows, err *e) {
    int64_t n_docs = s->k->n_docs, wanted = SAMPLED_ROWS * n_docs / s->rows.n + 1;
    err_code rc = ERR_OK;
    *n = 0, *rows = 0;
    if (wanted > n_docs) wanted = n_docs;
    for (int64_t i = 0; i < wanted && !rc; i++) {
        int64_t doc = i * n_docs / wanted;
        if (!rows_of(s, doc)) continue;
        rc = add_excerpt(s, (*n)++, (excerpt){doc, 0, rows_of(s, doc), *rows}, e);
        *rows += rows_of(s, doc);
    }
    return rc;
}

static err_code measure_lengths(live *s, const ctx *c, err *e) {
    float *x[COLUMNS] = {0}, *lengths = NULL;
    int64_t rows;
    size_t n;
    err_code rc;
    for (int i = 0; i < COLUMNS; i++) s->longest[i] = INFINITY;
    if (!s->skip_first) return ERR_OK;
    TRY(sample_documents(s, &n, &rows, e));
    if (!n) goto done; /* only documents without rows were met */
    TRY(mem_new(&lengths, (size_t)rows, sizeof *lengths, "lengths of rows", e));
    for (int i = 0; i < s->shuffle.n_columns; i++) {
        TRY(mem_new(&x[i], (size_t)rows, (size_t)s->shuffle.columns[i].d * sizeof(float), "rows", e));
        s->to[i] = x[i];
    }
    s->served = true; /* no progress of this */
    TRY(run_excerpts(s, c, n, e));
    s->served = false;
    for (int i = 0; i < s->shuffle.n_columns; i++) {
        int64_t d = s->shuffle.columns[i].d;
        for (int64_t r = 0; r < rows; r++) lengths[r] = length(x[i] + r * d, d);
        TRY(store_longest_used(lengths, rows, &s->longest[i], e));
    }
    s->shuffle.base.max_norm = s->longest[0];
done:
    for (int i = 0; i < COLUMNS; i++) free(x[i]);
    free(lengths);
    return rc;
}

/* Hashes what the rows and their order depend on. */
static err_code identify(live *s, err *e) {
    const source *base = &s->shuffle.base;
    strbuf all = STRBUF_INIT;
    err_code rc;
    strbuf_addf(&all,
                "rows of %s at %s and %s, corpus %" PRIx64 ", seed %" PRIu64 ", skipped %" PRId64 ", batches of %" PRId64
                " tokens, pools of %" PRId64 " rows",
                base->model_sha256, base->hook_name, base->hook_out, s->k->hash, s->shuffle.seed, s->skip_first,
                s->batch_tokens, s->shuffle.pool_rows);
    strbuf_add(&all, s->train.docs, (size_t)s->train.n * sizeof *s->train.docs);
    TRY(strbuf_check(&all, e));
    bytes_sha256(all.data, all.len, s->shuffle.base.id);
done:
    strbuf_release(&all);
    return rc;
}

static err_code describe(live *s, const live_opts *o, err *e) {
    source *base = &s->shuffle.base;
    const hook_point points[] = {o->hook, o->target ? *o->target : o->hook};
    char name[HOOK_NAME_MAX];
    for (int i = 0; i < (o->target ? 2 : 1); i++) {
        s->shuffle.columns[i] = (shuffle_column){.d = model_config_of(s->m)->d_model, .type = dtype_of(STORE_F32)};
        s->collectors[i] = (struct collector){s, i};
        s->hooks[i] = (model_hook){points[i], collect, &s->collectors[i]};
        s->shuffle.n_columns++;
        hook_format(points[i], name);
        snprintf(i ? base->hook_out : base->hook_name, sizeof base->hook_name, "%s", name);
    }
    base->d_in = s->shuffle.columns[0].d;
    base->d_out = s->shuffle.columns[1].d;
    base->context = o->context;
    base->skip_first = o->skip_first;
    snprintf(base->model_name, sizeof base->model_name, "%s", model_name(s->m));
    return model_sha256(s->m, base->model_sha256, e);
}

static err_code check_memory(const live *s, int64_t pool_rows, err *e) {
    int64_t rows = pool_rows < s->shuffle.base.n_rows ? pool_rows : s->shuffle.base.n_rows;
    size_t row = (size_t)(s->shuffle.n_columns * s->shuffle.base.d_in) * sizeof(float);
    return mem_check_free((size_t)rows * row, "a pool of rows (a smaller one will do)", e);
}

static void announce(const live *s, const ctx *c) {
    const source *base = &s->shuffle.base;
    double bytes = (double)s->shuffle.pool_rows * (double)(s->shuffle.n_columns * base->d_in) * sizeof(float);
    ctx_log(c, LOG_NOTE,
            "%s: %" PRId64 " rows of %" PRId64 " documents, %" PRId64 " rows held out, through a pool of %" PRId64
            " rows (%.0f MB)",
            base->hook_name, base->n_rows + base->n_held_out, s->train.n + s->held_out.n, base->n_held_out,
            s->shuffle.pool_rows, bytes / 1e6);
}

err_code source_open_live(const ctx *c, model *m, const token_corpus *k, const live_opts *o, source **out, err *e) {
    live *s = NULL;
    *out = NULL;
    err_code rc = mem_new0(&s, 1, sizeof *s, "a source of rows", e);
    if (rc) return rc;
    s->m = m;
    s->k = k;
    s->skip_first = o->skip_first;
    s->batch_tokens = o->batch_tokens;
    s->shuffle.base.ops = &ops;
    s->shuffle.load = load;
    s->shuffle.seed = o->seed;
    TRY(corpus_rows_number(k, o->skip_first, model_config_of(m)->n_ctx, &s->rows, e));
    TRY(describe(s, o, e));
    TRY(split_documents(s, o->held_out, e));
    TRY(check_memory(s, o->pool_rows, e));
    TRY(shuffle_start(&s->shuffle, o->pool_rows, e));
    TRY(make_window_room(s, e));
    TRY(measure_lengths(s, c, e));
    TRY(identify(s, e));
    announce(s, c);
    *out = &s->shuffle.base;
done:
    if (rc) close_live(&s->shuffle.base);
    return rc;
}
