#include "analysis/db.h"

#include "analysis/db_internal.h"
#include "analysis/schema.sql.h"
#include "core/file.h"
#include "core/mem.h"
#include "core/strbuf.h"

#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef enum put {
    PUT_META,
    PUT_DOC,
    PUT_FEATURE,
    PUT_EXAMPLE,
    PUT_BIN,
    PUT_LOGIT,
    PUT_NEIGHBOUR,
    PUT_COOCCURRENCE,
    PUT_LABEL,
    PUT_SEARCH,
    N_PUTS
} put;

static const char *const statements[N_PUTS] = {
    [PUT_META] = "INSERT INTO meta VALUES(?,?)",
    [PUT_DOC] = "INSERT INTO docs VALUES(?,?)",
    [PUT_FEATURE] = "INSERT INTO features VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?)",
    [PUT_EXAMPLE] = "INSERT INTO examples VALUES(?,?,?,?,?,?,?,?,?,?)",
    [PUT_BIN] = "INSERT INTO histograms VALUES(?,?,?)",
    [PUT_LOGIT] = "INSERT INTO logits VALUES(?,?,?,?,?)",
    [PUT_NEIGHBOUR] = "INSERT INTO neighbours VALUES(?,?,?,?)",
    [PUT_COOCCURRENCE] = "INSERT INTO cooccurrence VALUES(?,?,?,?,?)",
    [PUT_LABEL] = "INSERT INTO labels VALUES(?,?,?,?,?,?,?,?)",
    [PUT_SEARCH] = "INSERT INTO search(rowid, feature, label, tokens, contexts) VALUES(?1,?1,?2,?3,?4)",
};

struct feature_db_writer {
    sqlite3 *sql;
    char *path, *tmp;
    sqlite3_stmt *puts[N_PUTS];
    strbuf json; /* scratch: an example's spans */
    err failed;  /* the first failure, returned from then on */
    bool finished;
};

static err_code fail(feature_db_writer *w, err_code code, err *e) {
    if (e) w->failed = *e;
    w->failed.code = code;
    return code;
}

static err_code already_failed(const feature_db_writer *w, err *e) {
    if (w->failed.code && e) *e = w->failed;
    return w->failed.code;
}

/* One row: a letter of `types` for each value, i int64_t, d double (NAN becomes NULL), s text borrowed for the call. */
static err_code put_row(feature_db_writer *w, put which, err *e, const char *types, ...) {
    if (w->failed.code) return already_failed(w, e);
    sqlite3_stmt *s = w->puts[which];
    va_list values;
    va_start(values, types);
    for (int i = 1; types[i - 1]; i++) switch (types[i - 1]) {
        case 'i': sqlite3_bind_int64(s, i, va_arg(values, int64_t)); break;
        case 'd': sqlite3_bind_double(s, i, va_arg(values, double)); break;
        case 's': sqlite3_bind_text(s, i, va_arg(values, const char *), -1, SQLITE_STATIC); break;
        }
    va_end(values);
    int rc = sqlite3_step(s);
    sqlite3_reset(s);
    sqlite3_clear_bindings(s);
    return rc == SQLITE_DONE ? ERR_OK : fail(w, db_sql_error(w->sql, w->path, e), e);
}

/* ---- life ---- */

static err_code exec(feature_db_writer *w, const char *statement, err *e) {
    return sqlite3_exec(w->sql, statement, NULL, NULL, NULL) ? db_sql_error(w->sql, w->path, e) : ERR_OK;
}

static err_code make_tables(feature_db_writer *w, err *e) {
    err_code rc;
    /* A crash loses the temporary file and nothing else, so no journal; the file is synced before it is renamed. */
    TRY(exec(w, "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE", e));
    TRY(exec(w, "BEGIN", e));
#define X(table, statement) TRY(exec(w, statement, e));
    FEATURE_DB_SCHEMA_1(X)
#undef X
    for (int i = 0; i < N_PUTS; i++)
        if (sqlite3_prepare_v3(w->sql, statements[i], -1, SQLITE_PREPARE_PERSISTENT, &w->puts[i], NULL)) {
            rc = db_sql_error(w->sql, w->path, e);
            goto done;
        }
    TRY(feature_db_put_meta(w, "format", FEATURE_DB_FORMAT, e));
    TRY(feature_db_put_meta(w, "version", "1", e));
    TRY(feature_db_put_meta(w, "tool_version", SAE_VERSION, e));
done:
    return rc;
}

err_code feature_db_create(const char *path, feature_db_writer **out, err *e) {
    feature_db_writer *w = NULL;
    strbuf tmp = STRBUF_INIT;
    *out = NULL;
    err_code rc;
    TRY(mem_new0(&w, 1, sizeof *w, "feature database", e));
    w->json = STRBUF_INIT;
    strbuf_addf(&tmp, "%s.tmp", path);
    w->tmp = strbuf_detach(&tmp);
    w->path = strdup(path);
    if (!w->tmp || !w->path) {
        rc = err_nomem(e, "a path", strlen(path));
        goto done;
    }
    unlink(w->tmp); /* what a killed run left */
    if (sqlite3_open_v2(w->tmp, &w->sql, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL)) {
        rc = w->sql ? db_sql_error(w->sql, w->tmp, e) : err_nomem(e, "feature database", 0);
        goto done;
    }
    TRY(make_tables(w, e));
    *out = w;
    w = NULL;
done:
    feature_db_abandon(w);
    return rc;
}

static void close_sql(feature_db_writer *w) {
    for (int i = 0; i < N_PUTS; i++) {
        sqlite3_finalize(w->puts[i]);
        w->puts[i] = NULL;
    }
    sqlite3_close(w->sql);
    w->sql = NULL;
}

err_code feature_db_finish(feature_db_writer *w, err *e) {
    if (w->failed.code) return already_failed(w, e);
    err_code rc = exec(w, "INSERT INTO search(search) VALUES('optimize'); COMMIT", e);
    if (rc) return fail(w, rc, e);
    close_sql(w);
    rc = file_commit(w->tmp, w->path, e);
    if (rc) return fail(w, rc, e);
    w->finished = true;
    return ERR_OK;
}

void feature_db_abandon(feature_db_writer *w) {
    if (!w) return;
    close_sql(w);
    if (!w->finished && w->tmp) unlink(w->tmp);
    strbuf_release(&w->json);
    free(w->path);
    free(w->tmp);
    free(w);
}

/* ---- meta and documents ---- */

err_code feature_db_put_meta(feature_db_writer *w, const char *key, const char *value, err *e) {
    return put_row(w, PUT_META, e, "ss", key, value);
}

/* How to get from folder `from` to `to`, both absolute and without "..". */
static void add_relative(strbuf *out, const char *from, const char *to) {
    size_t common = 0;
    for (size_t i = 0;; i++) {
        bool from_ends = from[i] == '/' || !from[i], to_ends = to[i] == '/' || !to[i];
        if (from_ends && to_ends) common = i;
        if (from[i] != to[i] || !from[i]) break;
    }
    for (const char *rest = from + common; *rest; rest++)
        if (*rest == '/' && rest[1]) strbuf_add_str(out, "../");
    const char *tail = to + common;
    strbuf_add_str(out, *tail == '/' ? tail + 1 : *tail ? tail : ".");
}

err_code feature_db_put_meta_path(feature_db_writer *w, const char *key, const char *path, err *e) {
    char *folder = NULL, from[PATH_MAX], to[PATH_MAX];
    strbuf relative = STRBUF_INIT;
    err_code rc;
    TRY(db_folder(w->path, &folder, e));
    if (!realpath(folder, from)) {
        rc = err_set_errno(e, "%s: cannot resolve", folder);
        goto done;
    }
    if (!realpath(path, to)) {
        rc = err_set_errno(e, "%s: cannot resolve", path);
        goto done;
    }
    add_relative(&relative, from, to);
    TRY(strbuf_check(&relative, e));
    TRY(feature_db_put_meta(w, key, relative.data, e));
done:
    free(folder);
    strbuf_release(&relative);
    return rc;
}

err_code feature_db_put_doc(feature_db_writer *w, int64_t id, const char *source, err *e) {
    return put_row(w, PUT_DOC, e, "is", id, source);
}

/* ---- cards ---- */

static err_code put_example(feature_db_writer *w, int64_t feature, const feature_example *x, err *e) {
    strbuf_reset(&w->json);
    strbuf_add_char(&w->json, '[');
    for (int64_t i = 0; i < x->n_spans; i++)
        strbuf_addf(&w->json, "%s[%lld,%lld,%.4g]", i ? "," : "", (long long)x->spans[i].start, (long long)x->spans[i].end,
                    x->spans[i].value);
    strbuf_add_char(&w->json, ']');
    err_code rc = strbuf_check(&w->json, e);
    if (rc) return rc;
    return put_row(w, PUT_EXAMPLE, e, "isidiissss", feature, x->kind, x->rank, x->value, x->doc, x->token, x->before,
                   x->focus, x->after, w->json.data);
}

err_code feature_db_put_card(feature_db_writer *w, const feature_card *card, const char *contexts, err *e) {
    const feature_stats *f = &card->stats;
    err_code rc;
    TRY(put_row(w, PUT_FEATURE, e, "iiiidddddddss", f->id, f->fires, f->tokens, f->docs, f->density, f->max, f->mean,
                f->interpretability, f->selectivity, f->neighbour, f->output, f->label, f->top_tokens));
    for (int64_t i = 0; i < card->n_examples; i++) TRY(put_example(w, f->id, &card->examples[i], e));
    for (int64_t i = 0; i < card->n_bins; i++)
        TRY(put_row(w, PUT_BIN, e, "iii", f->id, card->histogram[i].bin, card->histogram[i].count));
    for (int64_t i = 0; i < card->n_logits; i++) {
        const feature_logit *x = &card->logits[i];
        TRY(put_row(w, PUT_LOGIT, e, "iiisd", f->id, x->rank, x->token, x->piece, x->score));
    }
    for (int64_t i = 0; i < card->n_neighbours; i++) {
        const feature_pair *x = &card->neighbours[i];
        TRY(put_row(w, PUT_NEIGHBOUR, e, "iiid", f->id, x->rank, x->other, x->value));
    }
    for (int64_t i = 0; i < card->n_cooccurrence; i++) {
        const feature_pair *x = &card->cooccurrence[i];
        TRY(put_row(w, PUT_COOCCURRENCE, e, "iiiid", f->id, x->rank, x->other, x->count, x->value));
    }
    for (int64_t i = 0; i < card->n_labels; i++) {
        const feature_label *x = &card->labels[i];
        TRY(put_row(w, PUT_LABEL, e, "issddddi", f->id, x->source, x->label, x->score, x->auroc, x->precision, x->recall,
                    x->fires));
    }
    TRY(put_row(w, PUT_SEARCH, e, "isss", f->id, f->label, f->top_tokens, contexts));
done:
    return rc;
}
