/* The progress line: its text, and when it is drawn at all. */
#include "support/test.h"

#include "cli/progress.h"

static void says_percent_rate_and_time_left(void **state) {
    (void)state;
    char line[256];
    progress p = {.stage = "train", .unit = "rows", .done = 1260000, .total = 3000000, .note = "fvu 0.251"};
    progress_format(line, sizeof line, &p, 260000, 20); /* resumed at 1,000,000: 13,000 a second, 1,740,000 to go */
    assert_string_equal(line, "train  42%  1,260,000/3,000,000 rows  13,000 rows/s  2m 14s left  fvu 0.251");
    p = (progress){.stage = "train", .unit = "rows", .done = 3000000, .total = 3000000};
    progress_format(line, sizeof line, &p, 3000000, 3700);
    assert_string_equal(line, "train  3,000,000 rows  811 rows/s  1h 01m");
    p = (progress){.stage = "read", .unit = "files", .done = 12}; /* total unknown */
    progress_format(line, sizeof line, &p, 12, 5);
    assert_string_equal(line, "read  12 files  2.4 files/s");
    p = (progress){.stage = "read", .unit = "files", .done = 0, .total = 9};
    progress_format(line, sizeof line, &p, 0, 0); /* nothing known yet: no division by zero */
    assert_string_equal(line, "read  0%  0/9 files");
    char tiny[8];
    progress_format(tiny, sizeof tiny, &p, 0, 0);
    assert_int_equal(strlen(tiny), 7);
}

/* What a view prints for a stage of three reports and a note in between. */
static char *printed(bool terminal, bool quiet, bool verbose) {
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);
    progress_view v = {.to = to, .terminal = terminal, .quiet = quiet, .verbose = verbose, .columns = 30};
    ctx c = CTX_DEFAULTS;
    progress_view_attach(&v, &c);
    progress p = {.stage = "s", .unit = "u", .total = 2, .note = "a note that is cut at the terminal's width"};
    ctx_report(&c, &p);
    ctx_log(&c, LOG_NOTE, "note %d", 1);
    ctx_log(&c, LOG_DEBUG, "debug");
    ctx_log(&c, LOG_WARNING, "careful");
    p.done = 2;
    p.note = NULL;
    ctx_report(&c, &p);
    ctx_report(&c, &p); /* said once */
    progress_view_end(&v);
    fclose(to);
    return text;
}

static void is_drawn_where_it_helps(void **state) {
    (void)state;
    char *text = printed(true, false, false);
    assert_non_null(strstr(text, "\rs  0%  0/2 u  a note that is \033[K\r\033[Knote 1\nwarning: careful\n\rs  2 u"));
    assert_null(strstr(text, "debug"));
    assert_int_equal(text[strlen(text) - 1], '\n');
    free(text);
    text = printed(false, false, false); /* a log file */
    assert_string_equal(text, "note 1\nwarning: careful\n");
    free(text);
    text = printed(true, true, false);
    assert_string_equal(text, "warning: careful\n");
    free(text);
    text = printed(false, false, true);
    assert_non_null(strstr(text, "note 1\ndebug\nwarning: careful\ns  2 u"));
    assert_null(strchr(text, '\r'));
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_percent_rate_and_time_left),
        cmocka_unit_test(is_drawn_where_it_helps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
