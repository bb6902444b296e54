/* db.h — features.db: everything known about an SAE's features, in SQLite, readable with the sqlite3 shell.
 *
 *   meta(key, value)                                     format "sae.features", version, model, sae, activations, codes (relative paths), hashes
 *   features(id, fires, tokens, docs, density, max, mean, ... )   one row per latent, dead ones too; the score columns features sort by
 *   examples(feature, kind, rank, value, doc, token, text_before, text_token, text_after, ...)   kind: top, or the quantile it was drawn from
 *   histograms(feature, bin, count)   logits(feature, rank, token, piece, score)   neighbours(feature, rank, other, cosine)
 *   labels(feature, source, label, score, ...)           FTS5 table search(feature, label, tokens, contexts)
 * schema.sql.h holds the statements. Newer versions are refused, older read.
 */
#ifndef ANALYSIS_DB_H
#define ANALYSIS_DB_H

#include "core/err.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct sqlite3 sqlite3;

typedef struct feature_db {
    sqlite3 *sql;
    char *path;
} feature_db;

err_code feature_db_open(const char *path, feature_db **out, err *e); /* to read; checks format and version */
void feature_db_close(feature_db *db);                               /* accepts NULL */

/* A meta value; relative paths come back joined to the database's folder. Owned by the caller, free(). */
err_code feature_db_meta(const feature_db *db, const char *key, char **out, err *e);
err_code feature_db_meta_path(const feature_db *db, const char *key, char **out, err *e);

typedef struct feature_stats {
    int64_t id, fires, docs;
    double density, max, mean; /* mean over rows where it fires */
    char label[160];           /* best label, "" for none */
} feature_stats;

err_code feature_db_count(const feature_db *db, int64_t *n, err *e);
err_code feature_db_stats(const feature_db *db, int64_t feature, feature_stats *out, err *e); /* ERR_USAGE: out of range */

#endif
