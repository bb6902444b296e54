/* db.h — features.db: everything known about an SAE's features, in SQLite, readable with the sqlite3 shell.
 *
 *   meta(key, value)            format "sae.features", version, model, sae, activations, codes (relative paths), hashes, rows, seed
 *   features(id, fires, ...)    one row per latent, dead ones too: counts and the score columns features sort by
 *   docs(id, source)            the corpus' documents
 *   examples(feature, kind, rank, value, doc, token, text_before, text_token, text_after, spans)
 *                               kind: "top", or "q95" .. "q05", the quantile of the positive part it was drawn at;
 *                               token: index into /tokens of the activation file; spans: JSON [[start, end, value], ..], bytes of
 *                               the joined text and how strongly the feature fires there
 *   histograms(feature, bin, count)          bin b counts values in [2^(b/4), 2^((b+1)/4))
 *   logits(feature, rank, token, piece, score)   logit lens; rank 1, 2, .. promoted, -1, -2, .. suppressed
 *   neighbours(feature, rank, other, cosine)     of decoder rows
 *   cooccurrence(feature, rank, other, count, jaccard)   rows on which both fire
 *   labels(feature, source, label, score, auroc, precision, recall, fires)   held-out scores; fires: the held-out rows behind them
 *   search                      FTS5 table (feature, label, tokens, contexts)
 *
 * schema.sql.h holds the statements. The schema is checked word for word when a file is opened, so a database is either ours
 * or refused: newer versions are refused, older ones read. Unknown numbers are NULL in the file and NAN here.
 * Threads: a handle belongs to one thread. Errors: ERR_FORMAT, ERR_UNSUPPORTED (newer version), ERR_IO, ERR_NOSPACE, ERR_NOMEM.
 */
#ifndef ANALYSIS_DB_H
#define ANALYSIS_DB_H

#include "core/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct sqlite3 sqlite3;

typedef struct feature_db {
    sqlite3 *sql;
    char *path;
} feature_db;

/* ---- what the tables hold ---- */

enum { FEATURE_LABEL_MAX = 160, FEATURE_TOKENS_MAX = 200, FEATURE_KIND_MAX = 8 };

typedef struct feature_stats {
    int64_t id, fires, tokens, docs;     /* rows, different tokens and documents it fires on */
    double density, max, mean;           /* fires / rows; mean over rows where it fires */
    double interpretability;             /* held-out F1 of the best rule (labels.h); NAN when it fires too rarely to tell */
    double selectivity;                  /* 1: fires on one token only, 0: on as many different tokens as text has (pass.h) */
    double output;                       /* output score (output_score.h); NAN unless asked for */
    double neighbour;                    /* cosine with the closest other decoder row */
    char label[FEATURE_LABEL_MAX];       /* best label, "" for none */
    char top_tokens[FEATURE_TOKENS_MAX]; /* the tokens that carry most of its activation, as shown text */
} feature_stats;

typedef struct feature_span {
    int64_t start, end; /* bytes of before + focus + after */
    double value;
} feature_span;

typedef struct feature_example {
    char kind[FEATURE_KIND_MAX];
    int64_t rank, doc, token;
    double value;
    char *before, *focus, *after; /* whole UTF-8 characters; focus holds the activating token */
    feature_span *spans;          /* [n_spans] ascending; inside the text, on character boundaries */
    int64_t n_spans;
} feature_example;

typedef struct feature_logit {
    int64_t rank, token;
    char *piece;
    double score;
} feature_logit;

typedef struct feature_pair { /* neighbours and co-occurrence */
    int64_t rank, other, count;
    double value; /* cosine, or Jaccard index */
} feature_pair;

typedef struct feature_bin {
    int64_t bin, count;
} feature_bin;

typedef struct feature_label {
    char source[32];
    char *label;
    double score, auroc, precision, recall;
    int64_t fires;
} feature_label;

/* Everything about one feature. Owned by the caller, feature_card_release. */
typedef struct feature_card {
    feature_stats stats;
    feature_example *examples; /* by kind in the order written, then rank */
    feature_logit *logits;
    feature_pair *neighbours, *cooccurrence;
    feature_bin *histogram;
    feature_label *labels;
    int64_t n_examples, n_logits, n_neighbours, n_cooccurrence, n_bins, n_labels;
} feature_card; /* zero-initialise */

/* ---- reading ---- */

err_code feature_db_open(const char *path, feature_db **out, err *e); /* to read; checks format, version and schema */
void feature_db_close(feature_db *db);                                /* accepts NULL */

/* A meta value; relative paths come back joined to the database's folder. Owned by the caller, free(). */
err_code feature_db_meta(const feature_db *db, const char *key, char **out, err *e);
err_code feature_db_meta_path(const feature_db *db, const char *key, char **out, err *e);

err_code feature_db_count(const feature_db *db, int64_t *n, err *e);
err_code feature_db_stats(const feature_db *db, int64_t feature, feature_stats *out, err *e); /* ERR_USAGE: out of range */
err_code feature_db_card(const feature_db *db, int64_t feature, feature_card *out, err *e);   /* ERR_USAGE: out of range */
void feature_card_release(feature_card *card);

/* What features can be sorted by. How to add one: a column in schema.sql.h and a row in the table in db.c. */
typedef struct feature_order {
    const char *name, *help;
    bool descending; /* the way people usually want it */
} feature_order;
extern const feature_order feature_orders[];
extern const int n_feature_orders;

typedef struct feature_query {
    const char *sort;   /* a feature_order's name */
    const char *search; /* FTS5 query over labels, tokens and contexts; NULL: all */
    bool reverse;       /* the other way round */
    bool with_dead;     /* features that never fire too */
    int64_t limit, offset, min_fires;
} feature_query;
#define FEATURE_QUERY_DEFAULTS ((feature_query){.sort = "interpretability", .limit = 20})

/* The features asked for, in order; ties by id; unknown scores last. *out owned by the caller, free(). */
err_code feature_db_list(const feature_db *db, const feature_query *q, feature_stats **out, int64_t *n, err *e);

/* ---- writing ---- */

/* A new database under "<path>.tmp"; finish renames it, so that path never holds half of one. Rows of a table are added in
 * the order of its key. Every call after a failed one returns the same failure. */
typedef struct feature_db_writer feature_db_writer;

err_code feature_db_create(const char *path, feature_db_writer **out, err *e);
err_code feature_db_put_meta(feature_db_writer *w, const char *key, const char *value, err *e);
/* A path as meta value, stored relative to the database's folder where both are relative or both absolute. */
err_code feature_db_put_meta_path(feature_db_writer *w, const char *key, const char *path, err *e);
err_code feature_db_put_doc(feature_db_writer *w, int64_t id, const char *source, err *e);
/* The card's contents as rows of all tables. contexts: text for the search table. */
err_code feature_db_put_card(feature_db_writer *w, const feature_card *card, const char *contexts, err *e);
err_code feature_db_finish(feature_db_writer *w, err *e);
void feature_db_abandon(feature_db_writer *w); /* frees; removes what was not finished. Accepts NULL, call after finish too */

#endif
