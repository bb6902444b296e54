/* db.c and db_write.c: what is written comes back; half-written, foreign and hostile files are refused in a sentence. */
#include "support/oom.h"
#include "support/test.h"

#include "analysis/db.h"
#include "core/file.h"

#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#define assert_near(a, b, tolerance) assert_true(fabs((a) - (b)) <= (tolerance))

typedef struct fixture {
    char *dir;
    char db[512];
} fixture;

/* Feature 0 has everything, 1 is dead, 2 is plain. */
static void write_database(const fixture *f) {
    err e;
    feature_db_writer *w;
    feature_span spans[] = {{0, 3, 1.5}, {3, 9, 2.5}};
    feature_example examples[] = {
        {.kind = "top",
         .rank = 1,
         .value = 2.5,
         .doc = 4,
         .token = 77,
         .before = "so ",
         .focus = "李白",
         .after = "!",
         .spans = spans,
         .n_spans = 2},
        {.kind = "q95", .rank = 1, .value = 1.0, .doc = 5, .token = 99, .before = "", .focus = "Li", .after = ""},
        {.kind = "q50", .rank = 1, .value = 0.5, .doc = 5, .token = 98, .before = "", .focus = "Li", .after = ""},
    };
    feature_logit logits[] = {{-1, 9, " low", -3}, {1, 8, " high", 4}};
    feature_pair near[] = {{.rank = 1, .other = 2, .value = 0.7}},
                 with[] = {{.rank = 1, .other = 2, .count = 12, .value = 0.3}};
    feature_bin bins[] = {{-1, 3}, {5, 6}};
    feature_label labels[] = {{"rule", "token \" Bai\"", 0.8, 0.9, 0.75, 0.86, 40}};
    feature_card card = {.stats = {.id = 0,
                                   .fires = 9,
                                   .tokens = 3,
                                   .docs = 2,
                                   .density = 0.25,
                                   .max = 2.5,
                                   .mean = 1,
                                   .interpretability = 0.8,
                                   .selectivity = 0.9,
                                   .neighbour = 0.7,
                                   .label = "token \" Bai\"",
                                   .top_tokens = "\" Bai\""},
                         .examples = examples,
                         .n_examples = 3,
                         .logits = logits,
                         .n_logits = 2,
                         .neighbours = near,
                         .n_neighbours = 1,
                         .cooccurrence = with,
                         .n_cooccurrence = 1,
                         .histogram = bins,
                         .n_bins = 2,
                         .labels = labels,
                         .n_labels = 1};
    feature_card dead = {.stats = {.id = 1, .interpretability = NAN, .selectivity = NAN, .neighbour = 0.1}};
    feature_card plain = {.stats = {.id = 2, .fires = 4, .density = 0.5, .interpretability = NAN, .label = "word \"tang\""}};
    assert_ok(feature_db_create(f->db, &w, &e), &e);
    assert_ok(feature_db_put_meta_path(w, "sae", f->dir, &e), &e);
    assert_ok(feature_db_put_meta(w, "model", "/models/a.gguf", &e), &e);
    assert_ok(feature_db_put_doc(w, 0, "poets.jsonl:1", &e), &e);
    assert_ok(feature_db_put_card(w, &card, "the poet drank", &e), &e);
    assert_ok(feature_db_put_card(w, &dead, "", &e), &e);
    assert_ok(feature_db_put_card(w, &plain, "the dynasty fell", &e), &e);
    assert_false(file_exists(f->db)); /* not under its name before it is whole */
    assert_ok(feature_db_finish(w, &e), &e);
    feature_db_abandon(w);
}

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    f->dir = test_make_dir();
    snprintf(f->db, sizeof f->db, "%s/features.db", f->dir);
    write_database(f);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    test_remove_dir(f->dir);
    free(f);
    return 0;
}

static void test_a_card_comes_back(void **state) {
    fixture *f = *state;
    err e;
    feature_db *db;
    feature_card card;
    int64_t n;
    assert_ok(feature_db_open(f->db, &db, &e), &e);
    assert_ok(feature_db_count(db, &n, &e), &e);
    assert_int_equal(n, 3);
    assert_ok(feature_db_card(db, 0, &card, &e), &e);
    assert_int_equal(card.stats.fires, 9);
    assert_near(card.stats.density, 0.25, 0);
    assert_string_equal(card.stats.label, "token \" Bai\"");
    assert_int_equal(card.n_examples, 3);
    assert_string_equal(card.examples[0].kind, "top");
    assert_string_equal(card.examples[0].focus, "李白");
    assert_string_equal(card.examples[1].kind, "q95"); /* strongest quantile first */
    assert_int_equal(card.examples[0].n_spans, 2);
    assert_int_equal(card.examples[0].spans[1].end, 9);
    assert_near(card.examples[0].spans[1].value, 2.5, 0);
    assert_int_equal(card.n_logits, 2);
    assert_int_equal(card.logits[0].rank, -1);
    assert_string_equal(card.logits[1].piece, " high");
    assert_int_equal(card.neighbours[0].other, 2);
    assert_int_equal(card.cooccurrence[0].count, 12);
    assert_near(card.cooccurrence[0].value, 0.3, 0);
    assert_int_equal(card.n_bins, 2);
    assert_int_equal(card.histogram[1].count, 6);
    assert_string_equal(card.labels[0].source, "rule");
    assert_near(card.labels[0].recall, 0.86, 0);
    feature_card_release(&card);
    assert_ok(feature_db_card(db, 1, &card, &e), &e);
    assert_true(isnan(card.stats.interpretability) && card.n_examples == 0);
    feature_card_release(&card);
    assert_int_equal(feature_db_card(db, 3, &card, &e), ERR_USAGE);
    assert_non_null(strstr(e.message, "feature 3 does not exist"));
    assert_non_null(strstr(e.message, "0 .. 2"));
    feature_db_close(db);
}

static void test_lists_sort_and_search(void **state) {
    fixture *f = *state;
    err e;
    feature_db *db;
    feature_stats *list;
    int64_t n;
    assert_ok(feature_db_open(f->db, &db, &e), &e);
    feature_query q = FEATURE_QUERY_DEFAULTS;
    assert_ok(feature_db_list(db, &q, &list, &n, &e), &e);
    assert_int_equal(n, 2);          /* the dead one is left out */
    assert_int_equal(list[0].id, 0); /* unknown scores come last */
    free(list);
    q.sort = "density", q.with_dead = true;
    assert_ok(feature_db_list(db, &q, &list, &n, &e), &e);
    assert_true(n == 3 && list[0].id == 2 && list[2].id == 1);
    free(list);
    q.reverse = true, q.limit = 1;
    assert_ok(feature_db_list(db, &q, &list, &n, &e), &e);
    assert_true(n == 1 && list[0].id == 1);
    free(list);
    q = FEATURE_QUERY_DEFAULTS, q.search = "dynasty";
    assert_ok(feature_db_list(db, &q, &list, &n, &e), &e);
    assert_true(n == 1 && list[0].id == 2);
    free(list);
    q.search = "\"unfinished";
    assert_int_equal(feature_db_list(db, &q, &list, &n, &e), ERR_USAGE);
    assert_non_null(strstr(e.message, "cannot search"));
    q = FEATURE_QUERY_DEFAULTS, q.sort = "id; DROP TABLE features";
    assert_int_equal(feature_db_list(db, &q, &list, &n, &e), ERR_USAGE);
    feature_db_close(db);
}

/* A study folder may be moved as a whole: paths must not name the place where it was made. */
static void test_paths_are_relative(void **state) {
    fixture *f = *state;
    char deeper[600], moved[600];
    snprintf(deeper, sizeof deeper, "%s/a", f->dir);
    assert_int_equal(mkdir(deeper, 0777), 0);
    snprintf(deeper, sizeof deeper, "%s/a/sae", f->dir);
    assert_int_equal(mkdir(deeper, 0777), 0);
    err e;
    feature_db_writer *w;
    feature_db *db;
    char path[600], *value;
    snprintf(path, sizeof path, "%s/a/x.db", f->dir);
    assert_ok(feature_db_create(path, &w, &e), &e);
    assert_ok(feature_db_put_meta_path(w, "sae", deeper, &e), &e);
    assert_ok(feature_db_put_meta_path(w, "rows", f->db, &e), &e);
    assert_int_equal(feature_db_put_meta_path(w, "none", "/no/such/file", &e), ERR_IO);
    assert_ok(feature_db_finish(w, &e), &e);
    feature_db_abandon(w);
    snprintf(moved, sizeof moved, "%s/b", f->dir);
    snprintf(deeper, sizeof deeper, "%s/a", f->dir);
    assert_int_equal(rename(deeper, moved), 0);
    snprintf(path, sizeof path, "%s/b/x.db", f->dir);
    assert_ok(feature_db_open(path, &db, &e), &e);
    assert_ok(feature_db_meta(db, "sae", &value, &e), &e);
    assert_string_equal(value, "sae");
    free(value);
    assert_ok(feature_db_meta(db, "rows", &value, &e), &e);
    assert_string_equal(value, "../features.db");
    free(value);
    assert_ok(feature_db_meta_path(db, "sae", &value, &e), &e);
    assert_true(file_is_dir(value));
    free(value);
    assert_int_equal(feature_db_meta(db, "nothing", &value, &e), ERR_FORMAT);
    feature_db_close(db);
}

static void test_unfinished_leaves_the_old_file(void **state) {
    fixture *f = *state;
    err e;
    feature_db_writer *w;
    feature_db *db;
    char tmp[600];
    assert_ok(feature_db_create(f->db, &w, &e), &e);
    assert_ok(feature_db_put_meta(w, "a", "b", &e), &e);
    assert_int_not_equal(feature_db_put_meta(w, "a", "b", &e), ERR_OK); /* a key twice: fails ... */
    assert_int_not_equal(feature_db_finish(w, &e), ERR_OK);             /* ... and stays failed */
    feature_db_abandon(w);
    snprintf(tmp, sizeof tmp, "%s.tmp", f->db);
    assert_false(file_exists(tmp));
    assert_ok(feature_db_open(f->db, &db, &e), &e);
    feature_db_close(db);
}

static void alter(const fixture *f, const char *statement) {
    sqlite3 *sql;
    assert_int_equal(sqlite3_open(f->db, &sql), SQLITE_OK);
    char *why = NULL;
    if (sqlite3_exec(sql, statement, NULL, NULL, &why)) fail_msg("%s", why);
    sqlite3_close(sql);
}

/* Opening and reading everything; the first refusal. */
static err_code read_everything(const char *path, err *e) {
    feature_db *db;
    err_code rc = feature_db_open(path, &db, e);
    for (int64_t i = 0; !rc && i < 3; i++) {
        feature_card card;
        rc = feature_db_card(db, i, &card, e);
        if (!rc) feature_card_release(&card);
    }
    if (db) feature_db_close(db);
    return rc;
}

static void test_foreign_and_hostile_files_are_refused(void **state) {
    static const struct {
        const char *statement, *sentence;
        err_code code;
    } cases[] = {
        {"UPDATE meta SET value = '2' WHERE key = 'version'", "version 2", ERR_UNSUPPORTED},
        {"UPDATE meta SET value = 'sae.codes' WHERE key = 'format'", "expected format sae.features, found sae.codes",
         ERR_FORMAT},
        {"DROP TABLE meta", "no table meta", ERR_FORMAT},
        {"DROP TABLE logits", "table logits is missing", ERR_FORMAT},
        {"DROP TABLE features; CREATE VIEW features AS WITH RECURSIVE r(id) AS (SELECT 0 UNION ALL SELECT id + 1 FROM r) "
         "SELECT * FROM r",
         "table features is missing", ERR_FORMAT},
        {"ALTER TABLE features ADD COLUMN more", "table features is not laid out", ERR_FORMAT},
        {"UPDATE examples SET spans = '[[0,3,1],[3,8,1]]' WHERE kind = 'top'", "spans", ERR_FORMAT}, /* inside a character */
        {"UPDATE examples SET spans = '[[0,30,1]]'", "spans", ERR_FORMAT},
        {"UPDATE examples SET spans = '[[-5,3,1]]'", "spans", ERR_FORMAT},
        {"UPDATE examples SET spans = 'x'", "spans", ERR_FORMAT},
        {"UPDATE logits SET piece = CAST(x'e68e' AS TEXT)", "not UTF-8", ERR_FORMAT},
    };
    fixture *f = *state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        err e = {0};
        unlink(f->db);
        write_database(f);
        alter(f, cases[i].statement);
        assert_int_equal(read_everything(f->db, &e), cases[i].code);
        if (!strstr(e.message, cases[i].sentence) || !strstr(e.message, "features.db"))
            fail_msg("%s: %s", cases[i].statement, e.message);
    }
}

static void test_files_that_are_no_databases(void **state) {
    fixture *f = *state;
    char path[600];
    err e;
    feature_db *db;
    snprintf(path, sizeof path, "%s/none.db", f->dir);
    assert_int_equal(feature_db_open(path, &db, &e), ERR_IO);
    assert_int_equal(feature_db_open(f->dir, &db, &e), ERR_FORMAT);
    assert_non_null(strstr(e.message, "found a folder"));
    assert_ok(file_write(path, "Hello, world, hello", 19, &e), &e);
    assert_int_equal(feature_db_open(path, &db, &e), ERR_FORMAT);
}

/* Cut and bit-flipped files must end in a sentence, never in a crash (run under ASan) or a hang. */
static void test_damaged_files(void **state) {
    fixture *f = *state;
    char *bytes, path[600];
    size_t size;
    err e;
    snprintf(path, sizeof path, "%s/damaged.db", f->dir);
    assert_ok(file_read(f->db, 1 << 24, &bytes, &size, &e), &e);
    for (size_t cut = 0; cut < size; cut += 4096 * 3 + 17) {
        assert_ok(file_write(path, bytes, cut, &e), &e);
        assert_int_not_equal(read_everything(path, &e), ERR_OK);
    }
    for (size_t at = 100; at < size; at += 1009) {
        bytes[at] ^= 0x55;
        assert_ok(file_write(path, bytes, size, &e), &e);
        read_everything(path, &e);
        bytes[at] ^= 0x55;
    }
    free(bytes);
}

static err_code open_list_and_read(void *path, err *e) {
    feature_db *db;
    feature_stats *list;
    int64_t n;
    feature_query q = FEATURE_QUERY_DEFAULTS;
    err_code rc = feature_db_open(path, &db, e);
    if (!rc) rc = feature_db_list(db, &q, &list, &n, e);
    if (!rc) free(list);
    if (!rc) rc = read_everything(path, e);
    if (db) feature_db_close(db);
    return rc;
}

static err_code write_little(void *path, err *e) {
    feature_db_writer *w;
    feature_card card = {.stats = {.id = 0}};
    err_code rc = feature_db_create(path, &w, e);
    if (!rc) rc = feature_db_put_card(w, &card, "", e);
    if (!rc) rc = feature_db_put_meta_path(w, "self", "/", e);
    if (!rc) rc = feature_db_finish(w, e);
    feature_db_abandon(w);
    return rc;
}

static void test_failing_allocations(void **state) {
    fixture *f = *state;
    char path[600];
    snprintf(path, sizeof path, "%s/little.db", f->dir);
    oom_sweep(open_list_and_read, f->db, 1000);
    oom_sweep(write_little, path, 1000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_card_comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lists_sort_and_search, setup, teardown),
        cmocka_unit_test_setup_teardown(test_paths_are_relative, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unfinished_leaves_the_old_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_foreign_and_hostile_files_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_files_that_are_no_databases, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damaged_files, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failing_allocations, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
