/* schema.sql.h — the statements that make features.db, version 1. A change of any of them is a new version: add a list beside
 * this one and keep the old, so that older files are still recognised. */
#ifndef ANALYSIS_SCHEMA_SQL_H
#define ANALYSIS_SCHEMA_SQL_H

#define FEATURE_DB_FORMAT  "sae.features"
#define FEATURE_DB_VERSION 1

/* X(table, statement) */
#define FEATURE_DB_SCHEMA_1(X)                                                                                               \
    X("meta", "CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")                                  \
    X("features", "CREATE TABLE features(id INTEGER PRIMARY KEY, fires INTEGER NOT NULL, tokens INTEGER NOT NULL, "          \
                  "docs INTEGER NOT NULL, density REAL NOT NULL, max REAL NOT NULL, mean REAL NOT NULL, "                    \
                  "interpretability REAL, selectivity REAL, neighbour REAL, output REAL, label TEXT NOT NULL, top_tokens "   \
                  "TEXT NOT NULL)")                                                                                          \
    X("docs", "CREATE TABLE docs(id INTEGER PRIMARY KEY, source TEXT NOT NULL)")                                             \
    X("examples", "CREATE TABLE examples(feature INTEGER NOT NULL, kind TEXT NOT NULL, rank INTEGER NOT NULL, "              \
                  "value REAL NOT NULL, doc INTEGER NOT NULL, token INTEGER NOT NULL, text_before TEXT NOT NULL, "           \
                  "text_token TEXT NOT NULL, text_after TEXT NOT NULL, spans TEXT NOT NULL, "                                \
                  "PRIMARY KEY(feature, kind, rank)) WITHOUT ROWID")                                                         \
    X("histograms", "CREATE TABLE histograms(feature INTEGER NOT NULL, bin INTEGER NOT NULL, count INTEGER NOT NULL, "       \
                    "PRIMARY KEY(feature, bin)) WITHOUT ROWID")                                                              \
    X("logits", "CREATE TABLE logits(feature INTEGER NOT NULL, rank INTEGER NOT NULL, token INTEGER NOT NULL, "              \
                "piece TEXT NOT NULL, score REAL NOT NULL, PRIMARY KEY(feature, rank)) WITHOUT ROWID")                       \
    X("neighbours", "CREATE TABLE neighbours(feature INTEGER NOT NULL, rank INTEGER NOT NULL, other INTEGER NOT NULL, "      \
                    "cosine REAL NOT NULL, PRIMARY KEY(feature, rank)) WITHOUT ROWID")                                       \
    X("cooccurrence", "CREATE TABLE cooccurrence(feature INTEGER NOT NULL, rank INTEGER NOT NULL, other INTEGER NOT NULL, "  \
                      "count INTEGER NOT NULL, jaccard REAL NOT NULL, PRIMARY KEY(feature, rank)) WITHOUT ROWID")            \
    X("labels", "CREATE TABLE labels(feature INTEGER NOT NULL, source TEXT NOT NULL, label TEXT NOT NULL, score REAL, "      \
                "auroc REAL, precision REAL, recall REAL, fires INTEGER NOT NULL, "                                          \
                "PRIMARY KEY(feature, source, label)) WITHOUT ROWID")                                                        \
    X("search", "CREATE VIRTUAL TABLE search USING fts5(feature UNINDEXED, label, tokens, contexts)")

#endif
