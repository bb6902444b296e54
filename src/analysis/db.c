#include "analysis/db.h"

#include "analysis/db_internal.h"
#include "analysis/schema.sql.h"
#include "core/file.h"
#include "core/mem.h"
#include "core/names.h"
#include "core/strbuf.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* How to add one: a column in schema.sql.h (a new version) and a row here. The name is the column. */
const feature_order feature_orders[] = {
    {"interpretability", "how well a rule over tokens and words predicts held-out firing", true},
    {"density", "share of rows it fires on", true},
    {"max", "largest activation", true},
    {"mean", "mean activation where it fires", true},
    {"selectivity", "1: fires on one token only, 0: as varied as text", true},
    {"neighbour", "cosine with the closest other decoder row", true},
    {"output", "how surely it makes the model say its own tokens (features --output-scores)", true},
    {"fires", "rows it fires on", true},
    {"docs", "documents it fires in", true},
    {"id", "number of the latent", false},
};
const int n_feature_orders = sizeof feature_orders / sizeof *feature_orders;

enum { TEXT_LENGTH_MAX = 16 << 20 }; /* no text of ours comes near; a hostile file may claim anything */

/* ---- SQLite's errors as ours ---- */

err_code db_sql_error(sqlite3 *sql, const char *path, err *e) {
    int cause = sqlite3_errcode(sql) & 0xff;
    const char *words = sqlite3_errmsg(sql);
    switch (cause) {
    case SQLITE_NOMEM: return err_set(e, ERR_NOMEM, "%s: out of memory", path);
    case SQLITE_FULL: return err_set(e, ERR_NOSPACE, "%s: no space left to write the feature database", path);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_TOOBIG: return err_set(e, ERR_FORMAT, "%s: not a sound SQLite database (%s)", path, words);
    case SQLITE_CANTOPEN:
    case SQLITE_IOERR:
    case SQLITE_PERM:
    case SQLITE_READONLY: return err_set(e, ERR_IO, "%s: %s", path, words);
    default: return err_set(e, ERR_FAILED, "%s: %s", path, words);
    }
}

err_code db_folder(const char *path, char **out, err *e) {
    const char *base = path_base(path);
    strbuf s = STRBUF_INIT;
    if (base == path)
        strbuf_add_char(&s, '.');
    else
        strbuf_add(&s, path, (size_t)(base - path - (base - path > 1)));
    *out = strbuf_detach(&s);
    return *out ? ERR_OK : err_nomem(e, "a path", strlen(path));
}

/* ---- one statement ---- */

static err_code prepare(const feature_db *db, const char *statement, sqlite3_stmt **out, err *e) {
    return sqlite3_prepare_v2(db->sql, statement, -1, out, NULL) ? db_sql_error(db->sql, db->path, e) : ERR_OK;
}

static err_code next_row(const feature_db *db, sqlite3_stmt *s, bool *there_is, err *e) {
    int rc = sqlite3_step(s);
    *there_is = rc == SQLITE_ROW;
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? ERR_OK : db_sql_error(db->sql, db->path, e);
}

static double real_column(sqlite3_stmt *s, int column) {
    return sqlite3_column_type(s, column) == SQLITE_NULL ? NAN : sqlite3_column_double(s, column);
}

static bool is_utf8(const char *text, size_t n) {
    for (size_t i = 0; i < n;) {
        utf8proc_int32_t code;
        utf8proc_ssize_t used = utf8proc_iterate((const utf8proc_uint8_t *)text + i, (utf8proc_ssize_t)(n - i), &code);
        if (used <= 0 || code == 0) return false;
        i += (size_t)used;
    }
    return true;
}

/* Borrowed until the next step. */
static err_code text_column(const feature_db *db, sqlite3_stmt *s, int column, const char **out, err *e) {
    const char *text = (const char *)sqlite3_column_text(s, column);
    if (!text && sqlite3_column_type(s, column) == SQLITE_NULL) text = "";
    if (!text) return err_nomem(e, "text", 0);
    if (!is_utf8(text, strlen(text))) return err_set(e, ERR_FORMAT, "%s: holds text that is not UTF-8", db->path);
    *out = text;
    return ERR_OK;
}

static err_code text_column_copy(const feature_db *db, sqlite3_stmt *s, int column, char **out, err *e) {
    const char *text;
    err_code rc = text_column(db, s, column, &text, e);
    if (rc) return rc;
    *out = strdup(text);
    return *out ? ERR_OK : err_nomem(e, "text", strlen(text));
}

/* Into a fixed field, cut at a character's end. */
static err_code text_column_field(const feature_db *db, sqlite3_stmt *s, int column, char *out, size_t size, err *e) {
    const char *text;
    err_code rc = text_column(db, s, column, &text, e);
    if (rc) return rc;
    size_t n = strlen(text);
    if (n >= size)
        for (n = size - 1; n > 0 && ((unsigned char)text[n] & 0xC0) == 0x80;) n--;
    memcpy(out, text, n);
    out[n] = '\0';
    return ERR_OK;
}

/* ---- opening ---- */

static err_code query_text(const feature_db *db, const char *statement, const char *argument, char **out, err *e) {
    sqlite3_stmt *s = NULL;
    bool there_is;
    *out = NULL;
    err_code rc = prepare(db, statement, &s, e);
    if (rc) return rc;
    sqlite3_bind_text(s, 1, argument, -1, SQLITE_STATIC);
    TRY(next_row(db, s, &there_is, e));
    if (there_is) TRY(text_column_copy(db, s, 0, out, e));
done:
    sqlite3_finalize(s);
    return rc;
}

static err_code check_table(const feature_db *db, const char *table, const char *expected, err *e) {
    char *found = NULL;
    err_code rc = query_text(db, "SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?", table, &found, e);
    if (!rc && (!found || strcmp(found, expected)))
        rc = err_set(e, ERR_FORMAT, "%s: table %s is %s", db->path, table,
                     found ? "not laid out as a feature database of version 1 has it" : "missing");
    free(found);
    return rc;
}

static err_code check_meta(const feature_db *db, err *e) {
    char *format = NULL, *version = NULL;
    err_code rc;
    TRY(query_text(db, "SELECT value FROM meta WHERE key = ?", "format", &format, e));
    if (!format || strcmp(format, FEATURE_DB_FORMAT)) {
        rc = err_set(e, ERR_FORMAT, "%s: expected format " FEATURE_DB_FORMAT ", found %.60s", db->path,
                     format ? format : "none");
        goto done;
    }
    TRY(query_text(db, "SELECT value FROM meta WHERE key = ?", "version", &version, e));
    if (!version || strcmp(version, "1"))
        rc = err_set(e, ERR_UNSUPPORTED, "%s: feature database of version %.20s, this program reads version %d", db->path,
                     version ? version : "(none)", FEATURE_DB_VERSION);
done:
    free(format);
    free(version);
    return rc;
}

static err_code check_database(const feature_db *db, err *e) {
    err_code rc;
    char *meta = NULL;
    TRY(query_text(db, "SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?", "meta", &meta, e));
    if (!meta) {
        rc = err_set(e, ERR_FORMAT, "%s: a database, but not one of features (it has no table meta)", db->path);
        goto done;
    }
#define X(table, statement)                                                                                                  \
    if (!strcmp(table, "meta")) TRY(check_table(db, table, statement, e));
    FEATURE_DB_SCHEMA_1(X)
#undef X
    TRY(check_meta(db, e)); /* before the other tables: a newer version may have laid them out anew */
#define X(table, statement) TRY(check_table(db, table, statement, e));
    FEATURE_DB_SCHEMA_1(X)
#undef X
done:
    free(meta);
    return rc;
}

/* SQLite opens and creates anything; its own complaint comes at the first read, so look before. */
static err_code check_header(const char *path, err *e) {
    char header[16] = {0};
    FILE *f = fopen(path, "rb");
    if (!f) return err_set_errno(e, "%s: cannot open", path);
    size_t n = fread(header, 1, sizeof header, f);
    fclose(f);
    if (n == sizeof header && !memcmp(header, "SQLite format 3", 16)) return ERR_OK;
    return err_set(e, ERR_FORMAT, "%s: expected a feature database (SQLite), found %s", path,
                   file_is_dir(path) ? "a folder" : "something else");
}

err_code feature_db_open(const char *path, feature_db **out, err *e) {
    *out = NULL;
    feature_db *db = NULL;
    err_code rc = check_header(path, e);
    if (rc) return rc;
    TRY(mem_new0(&db, 1, sizeof *db, "feature database", e));
    db->path = strdup(path);
    if (!db->path) {
        rc = err_nomem(e, "a path", strlen(path));
        goto done;
    }
    if (sqlite3_open_v2(path, &db->sql, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL)) {
        rc = db->sql ? db_sql_error(db->sql, path, e) : err_nomem(e, "feature database", 0);
        goto done;
    }
    sqlite3_db_config(db->sql, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(db->sql, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_limit(db->sql, SQLITE_LIMIT_LENGTH, TEXT_LENGTH_MAX);
    if (sqlite3_exec(db->sql, "PRAGMA cell_size_check = ON", NULL, NULL, NULL)) {
        rc = db_sql_error(db->sql, path, e);
        goto done;
    }
    TRY(check_database(db, e));
    *out = db;
    db = NULL;
done:
    feature_db_close(db);
    return rc;
}

void feature_db_close(feature_db *db) {
    if (!db) return;
    sqlite3_close(db->sql);
    free(db->path);
    free(db);
}

/* ---- meta ---- */

err_code feature_db_meta(const feature_db *db, const char *key, char **out, err *e) {
    err_code rc = query_text(db, "SELECT value FROM meta WHERE key = ?", key, out, e);
    return rc || *out ? rc : err_set(e, ERR_FORMAT, "%s: says nothing about %s", db->path, key);
}

err_code feature_db_meta_path(const feature_db *db, const char *key, char **out, err *e) {
    char *value = NULL, *folder = NULL;
    *out = NULL;
    err_code rc;
    TRY(feature_db_meta(db, key, &value, e));
    if (value[0] == '/') {
        *out = value;
        value = NULL;
        goto done;
    }
    TRY(db_folder(db->path, &folder, e));
    TRY(path_join(folder, value, out, e));
done:
    free(value);
    free(folder);
    return rc;
}

/* ---- features ---- */

#define STATS_COLUMNS                                                                                                        \
    "id, fires, tokens, docs, density, max, mean, interpretability, selectivity, neighbour, output, label, "                 \
    "top_tokens"

static err_code read_stats(const feature_db *db, sqlite3_stmt *s, feature_stats *out, err *e) {
    *out = (feature_stats){
        .id = sqlite3_column_int64(s, 0),
        .fires = sqlite3_column_int64(s, 1),
        .tokens = sqlite3_column_int64(s, 2),
        .docs = sqlite3_column_int64(s, 3),
        .density = real_column(s, 4),
        .max = real_column(s, 5),
        .mean = real_column(s, 6),
        .interpretability = real_column(s, 7),
        .selectivity = real_column(s, 8),
        .neighbour = real_column(s, 9),
        .output = real_column(s, 10),
    };
    err_code rc = text_column_field(db, s, 11, out->label, sizeof out->label, e);
    return rc ? rc : text_column_field(db, s, 12, out->top_tokens, sizeof out->top_tokens, e);
}

err_code feature_db_count(const feature_db *db, int64_t *n, err *e) {
    sqlite3_stmt *s = NULL;
    bool there_is;
    *n = 0;
    err_code rc = prepare(db, "SELECT count(*) FROM features", &s, e);
    if (rc) return rc;
    TRY(next_row(db, s, &there_is, e));
    *n = sqlite3_column_int64(s, 0);
done:
    sqlite3_finalize(s);
    return rc;
}

static err_code no_such_feature(const feature_db *db, int64_t feature, err *e) {
    int64_t n;
    err_code rc = feature_db_count(db, &n, e);
    return rc ? rc
              : err_set(e, ERR_USAGE, "feature %" PRId64 " does not exist, %s has 0 .. %" PRId64, feature, db->path, n - 1);
}

err_code feature_db_stats(const feature_db *db, int64_t feature, feature_stats *out, err *e) {
    sqlite3_stmt *s = NULL;
    bool there_is;
    err_code rc = prepare(db, "SELECT " STATS_COLUMNS " FROM features WHERE id = ?", &s, e);
    if (rc) return rc;
    sqlite3_bind_int64(s, 1, feature);
    TRY(next_row(db, s, &there_is, e));
    rc = there_is ? read_stats(db, s, out, e) : no_such_feature(db, feature, e);
done:
    sqlite3_finalize(s);
    return rc;
}

static const feature_order *order_by_name(const char *name, err *e) {
    int found = names_find(name, feature_orders, n_feature_orders, sizeof *feature_orders);
    if (found < 0)
        names_unknown(e, ERR_USAGE, "order of features", name, feature_orders, n_feature_orders, sizeof *feature_orders);
    return found < 0 ? NULL : &feature_orders[found];
}

/* A search that FTS5 cannot parse is the user's, not the file's, fault. */
static err_code search_error(const feature_db *db, const char *search, err *e) {
    if ((sqlite3_errcode(db->sql) & 0xff) != SQLITE_ERROR) return db_sql_error(db->sql, db->path, e);
    return err_set(e, ERR_USAGE, "cannot search for %.100s: %s (put \"double quotes\" around words with punctuation)", search,
                   sqlite3_errmsg(db->sql));
}

err_code feature_db_list(const feature_db *db, const feature_query *q, feature_stats **out, int64_t *n, err *e) {
    *out = NULL;
    *n = 0;
    const feature_order *order = order_by_name(q->sort, e);
    if (!order) return ERR_USAGE;
    sqlite3_stmt *s = NULL;
    strbuf sql = STRBUF_INIT;
    size_t cap = 0;
    bool there_is;
    err_code rc;
    strbuf_addf(
        &sql, "SELECT " STATS_COLUMNS " FROM features WHERE fires >= ?1 %s ORDER BY %s IS NULL, %s %s, id LIMIT ?2 OFFSET ?3",
        q->search ? "AND id IN (SELECT rowid FROM search WHERE search MATCH ?4)" : "", order->name, order->name,
        order->descending != q->reverse ? "DESC" : "ASC");
    TRY(strbuf_check(&sql, e));
    TRY(prepare(db, sql.data, &s, e));
    sqlite3_bind_int64(s, 1, q->min_fires > 0 ? q->min_fires : !q->with_dead);
    sqlite3_bind_int64(s, 2, q->limit);
    sqlite3_bind_int64(s, 3, q->offset);
    if (q->search) sqlite3_bind_text(s, 4, q->search, -1, SQLITE_STATIC);
    for (;;) {
        int step = sqlite3_step(s);
        there_is = step == SQLITE_ROW;
        if (step != SQLITE_ROW && step != SQLITE_DONE) {
            rc = q->search ? search_error(db, q->search, e) : db_sql_error(db->sql, db->path, e);
            goto done;
        }
        if (!there_is) break;
        TRY(mem_grow(out, &cap, (size_t)*n + 1, sizeof **out, "features", e));
        TRY(read_stats(db, s, &(*out)[*n], e));
        ++*n;
    }
done:
    sqlite3_finalize(s);
    strbuf_release(&sql);
    if (rc) {
        free(*out);
        *out = NULL;
        *n = 0;
    }
    return rc;
}

/* ---- cards ---- */

static bool on_boundary(const char *text, int64_t at) { return ((unsigned char)text[at] & 0xC0) != 0x80; }

/* [[start, end, value], ..] over text of `length` bytes. */
static err_code parse_spans(const feature_db *db, const char *json, const char *text, feature_example *x, err *e) {
    json_error_t why;
    int64_t length = (int64_t)strlen(text), last = 0;
    json_t *list = json_loads(json, 0, &why);
    size_t n = json_array_size(list); /* 0 for what is no array */
    err_code rc = ERR_OK;
    if (!json_is_array(list)) goto bad;
    TRY(mem_new(&x->spans, n, sizeof *x->spans, "spans of an example", e));
    for (size_t i = 0; i < n; i++) {
        json_t *item = json_array_get(list, i);
        json_t *start = json_array_get(item, 0), *end = json_array_get(item, 1), *value = json_array_get(item, 2);
        feature_span span = {json_integer_value(start), json_integer_value(end), json_number_value(value)};
        if (!json_is_integer(start) || !json_is_integer(end) || !json_is_number(value)) goto bad;
        if (span.start < last || span.end < span.start || span.end > length) goto bad;
        if (!on_boundary(text, span.start) || !on_boundary(text, span.end)) goto bad;
        last = span.start;
        x->spans[x->n_spans++] = span;
    }
    goto done;
bad:
    rc = err_set(e, ERR_FORMAT, "%s: an example's spans are not [[start, end, value], ..] within its text", db->path);
done:
    json_decref(list);
    return rc;
}

static err_code read_example(const feature_db *db, sqlite3_stmt *s, feature_example *x, err *e) {
    strbuf text = STRBUF_INIT;
    const char *spans;
    err_code rc;
    TRY(text_column_field(db, s, 0, x->kind, sizeof x->kind, e));
    x->rank = sqlite3_column_int64(s, 1);
    x->value = real_column(s, 2);
    x->doc = sqlite3_column_int64(s, 3);
    x->token = sqlite3_column_int64(s, 4);
    TRY(text_column_copy(db, s, 5, &x->before, e));
    TRY(text_column_copy(db, s, 6, &x->focus, e));
    TRY(text_column_copy(db, s, 7, &x->after, e));
    TRY(text_column(db, s, 8, &spans, e));
    strbuf_addf(&text, "%s%s%s", x->before, x->focus, x->after);
    TRY(strbuf_check(&text, e));
    TRY(parse_spans(db, spans, text.data, x, e));
done:
    strbuf_release(&text);
    return rc;
}

static err_code read_logit(const feature_db *db, sqlite3_stmt *s, feature_logit *x, err *e) {
    *x = (feature_logit){.rank = sqlite3_column_int64(s, 0), .token = sqlite3_column_int64(s, 1), .score = real_column(s, 3)};
    return text_column_copy(db, s, 2, &x->piece, e);
}

static err_code read_neighbour(const feature_db *db, sqlite3_stmt *s, feature_pair *x, err *e) {
    (void)db, (void)e;
    *x = (feature_pair){.rank = sqlite3_column_int64(s, 0), .other = sqlite3_column_int64(s, 1), .value = real_column(s, 2)};
    return ERR_OK;
}

static err_code read_cooccurrence(const feature_db *db, sqlite3_stmt *s, feature_pair *x, err *e) {
    err_code rc = read_neighbour(db, s, x, e);
    x->count = sqlite3_column_int64(s, 3);
    return rc;
}

static err_code read_bin(const feature_db *db, sqlite3_stmt *s, feature_bin *x, err *e) {
    (void)db, (void)e;
    *x = (feature_bin){sqlite3_column_int64(s, 0), sqlite3_column_int64(s, 1)};
    return ERR_OK;
}

static err_code read_label(const feature_db *db, sqlite3_stmt *s, feature_label *x, err *e) {
    *x = (feature_label){.score = real_column(s, 2),
                         .auroc = real_column(s, 3),
                         .precision = real_column(s, 4),
                         .recall = real_column(s, 5),
                         .fires = sqlite3_column_int64(s, 6)};
    err_code rc = text_column_field(db, s, 0, x->source, sizeof x->source, e);
    return rc ? rc : text_column_copy(db, s, 1, &x->label, e);
}

/* All rows of a statement with one argument, through READ(db, row, item): the item counts as soon as it exists, so that a
 * failed read is released with the card. */
#define READ_ALL(statement, READ, items, n_items, what)                                                                      \
    do {                                                                                                                     \
        size_t cap = 0;                                                                                                      \
        bool there_is;                                                                                                       \
        TRY(prepare(db, statement, &s, e));                                                                                  \
        sqlite3_bind_int64(s, 1, feature);                                                                                   \
        for (;;) {                                                                                                           \
            TRY(next_row(db, s, &there_is, e));                                                                              \
            if (!there_is) break;                                                                                            \
            TRY(mem_grow(&(items), &cap, (size_t)(n_items) + 1, sizeof *(items), what, e));                                  \
            memset(&(items)[n_items], 0, sizeof *(items));                                                                   \
            TRY(READ(db, s, &(items)[(n_items)++], e));                                                                      \
        }                                                                                                                    \
        sqlite3_finalize(s);                                                                                                 \
        s = NULL;                                                                                                            \
    } while (0)

err_code feature_db_card(const feature_db *db, int64_t feature, feature_card *out, err *e) {
    sqlite3_stmt *s = NULL;
    *out = (feature_card){0};
    err_code rc;
    TRY(feature_db_stats(db, feature, &out->stats, e));
    READ_ALL(
        "SELECT kind, rank, value, doc, token, text_before, text_token, text_after, spans FROM examples WHERE feature = ? "
        "ORDER BY kind != 'top', kind DESC, rank",
        read_example, out->examples, out->n_examples, "examples");
    READ_ALL("SELECT rank, token, piece, score FROM logits WHERE feature = ? ORDER BY rank", read_logit, out->logits,
             out->n_logits, "logits");
    READ_ALL("SELECT rank, other, cosine FROM neighbours WHERE feature = ? ORDER BY rank", read_neighbour, out->neighbours,
             out->n_neighbours, "neighbours");
    READ_ALL("SELECT rank, other, jaccard, count FROM cooccurrence WHERE feature = ? ORDER BY rank", read_cooccurrence,
             out->cooccurrence, out->n_cooccurrence, "co-occurrence");
    READ_ALL("SELECT bin, count FROM histograms WHERE feature = ? ORDER BY bin", read_bin, out->histogram, out->n_bins,
             "histogram");
    READ_ALL("SELECT source, label, score, auroc, precision, recall, fires FROM labels WHERE feature = ? "
             "ORDER BY score IS NULL, score DESC",
             read_label, out->labels, out->n_labels, "labels");
done:
    sqlite3_finalize(s);
    if (rc) feature_card_release(out);
    return rc;
}

void feature_card_release(feature_card *card) {
    for (int64_t i = 0; i < card->n_examples; i++) {
        feature_example *x = &card->examples[i];
        free(x->before);
        free(x->focus);
        free(x->after);
        free(x->spans);
    }
    for (int64_t i = 0; i < card->n_logits; i++) free(card->logits[i].piece);
    for (int64_t i = 0; i < card->n_labels; i++) free(card->labels[i].label);
    free(card->examples);
    free(card->logits);
    free(card->neighbours);
    free(card->cooccurrence);
    free(card->histogram);
    free(card->labels);
    *card = (feature_card){0};
}
