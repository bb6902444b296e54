/* db_internal.h — what reading (db.c) and writing (db_write.c) features.db share. */
#ifndef ANALYSIS_DB_INTERNAL_H
#define ANALYSIS_DB_INTERNAL_H

#include "analysis/db.h"

#include <sqlite3.h>

/* What SQLite just refused as one of our codes, with its own words. */
err_code db_sql_error(sqlite3 *sql, const char *path, err *e);

/* "/a/b" for "/a/b/features.db", "." for a bare name. Owned by the caller, free(). */
err_code db_folder(const char *path, char **out, err *e);

#endif
