/* A feature database from anybody: opened, listed and shown without a crash, whatever its pages hold. */
#include "analysis/db.h"
#include "analysis/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void read_all(feature_db *db) {
    err e = {0};
    feature_query q = FEATURE_QUERY_DEFAULTS;
    feature_stats *found = NULL;
    int64_t n = 0;
    char *text = NULL;
    if (feature_db_meta_path(db, "sae", &text, &e) == ERR_OK) free(text);
    for (int i = 0; i < n_feature_orders; i++) {
        q.sort = feature_orders[i].name;
        q.search = i % 2 ? "moon" : NULL;
        q.limit = 8;
        if (feature_db_list(db, &q, &found, &n, &e)) continue;
        for (int64_t k = 0; k < n; k++) {
            feature_card card = {0};
            if (feature_db_card(db, found[k].id, &card, &e)) continue;
            json_decref(feature_card_to_json(&card));
            feature_card_release(&card);
        }
        free(found);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[] = "/tmp/fuzz-features-XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0) abort();
    ssize_t written = write(fd, data, size);
    close(fd);
    feature_db *db;
    err e = {0};
    if (written == (ssize_t)size && feature_db_open(path, &db, &e) == ERR_OK) {
        read_all(db);
        feature_db_close(db);
    }
    unlink(path);
    return 0;
}
