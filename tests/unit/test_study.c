/* The state of a study: what is skipped, what goes on, what is made anew, and that a damaged state is refused, not guessed. */
#include "support/test.h"

#include "analysis/study_state.h"
#include "core/strbuf.h"

#include <fcntl.h>
#include <sys/stat.h>

static void write_text(const char *folder, const char *name, const char *text, char **path) {
    err e = {0};
    assert_ok(path_join(folder, name, path, &e), &e);
    assert_ok(file_write(*path, text, strlen(text), &e), &e);
}

static void stages_come_and_go(void **state) {
    (void)state;
    err e = {0};
    char *folder = test_make_dir();
    study_state s;
    json_t *inputs = json_pack("{s:i s:s}", "k", 32, "rows", "ab"), *other = json_pack("{s:i s:s}", "k", 33, "rows", "ab"),
           *result = json_pack("{s:f}", "fvu", 0.25);
    assert_ok(study_state_open(folder, &s, &e), &e);
    assert_int_equal(study_state_status(&s, "train", inputs), STAGE_NEW);
    assert_ok(study_state_begin(&s, "train", "sae train", inputs, &e), &e);
    study_state_release(&s); /* killed here */

    assert_ok(study_state_open(folder, &s, &e), &e);
    assert_int_equal(study_state_status(&s, "train", inputs), STAGE_STOPPED);
    assert_int_equal(study_state_status(&s, "train", other), STAGE_CHANGED);
    assert_ok(study_state_finish(&s, "train", 2.5, result, &e), &e);
    study_state_release(&s);

    assert_ok(study_state_open(folder, &s, &e), &e);
    assert_int_equal(study_state_status(&s, "train", inputs), STAGE_DONE);
    assert_int_equal(study_state_status(&s, "train", other), STAGE_CHANGED);
    assert_int_equal(study_state_status(&s, "capture", inputs), STAGE_NEW);
    assert_true(json_equal(json_object_get(study_state_stage(&s, "train"), "result"), result));
    assert_ok(study_state_begin(&s, "train", "sae train", other, &e), &e); /* forgets the old result */
    assert_int_equal(study_state_status(&s, "train", other), STAGE_STOPPED);
    assert_null(json_object_get(study_state_stage(&s, "train"), "result"));
    study_state_release(&s);
    json_decref(inputs);
    json_decref(other);
    json_decref(result);
    test_remove_dir(folder);
}

/* A hash is remembered while size and time of change stay, and only then. */
static void hashes_follow_their_files(void **state) {
    (void)state;
    err e = {0};
    char *folder = test_make_dir(), *path, first[SHA256_HEX], second[SHA256_HEX], expected[SHA256_HEX];
    study_state s;
    assert_ok(study_state_open(folder, &s, &e), &e);
    write_text(folder, "rows", "one", &path);
    assert_ok(study_state_hash(&s, path, first, &e), &e);
    bytes_sha256("one", 3, expected);
    assert_string_equal(first, expected);

    /* Looks unchanged: the remembered hash is given without reading. */
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    FILE *f = fopen(path, "r+");
    fputs("two", f);
    fclose(f);
    struct timespec times[2] = {st.st_atim, st.st_mtim};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    assert_ok(study_state_hash(&s, path, second, &e), &e);
    assert_string_equal(second, first);

    times[1].tv_nsec ^= 1;
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    assert_ok(study_state_hash(&s, path, second, &e), &e);
    bytes_sha256("two", 3, expected);
    assert_string_equal(second, expected);
    free(path);
    write_text(folder, "rows", "three", &path);
    assert_ok(study_state_hash(&s, path, second, &e), &e);
    bytes_sha256("three", 5, expected);
    assert_string_equal(second, expected);
    assert_int_equal(study_state_hash(&s, "/nonexistent", second, &e), ERR_IO);
    free(path);
    study_state_release(&s);
    test_remove_dir(folder);
}

static void damaged_states_are_refused(void **state) {
    (void)state;
    const struct {
        const char *text;
        err_code code;
    } cases[] = {{"", ERR_FORMAT},
                 {"{\"format\": \"sae.st", ERR_FORMAT},
                 {"[]", ERR_FORMAT},
                 {"{\"format\": \"other\", \"version\": 1}", ERR_FORMAT},
                 {"{\"format\": \"sae.study\", \"version\": 1}", ERR_FORMAT},
                 {"{\"format\": \"sae.study\", \"version\": 1, \"stages\": {}, \"files\": {}}", ERR_FORMAT},
                 {"{\"format\": \"sae.study\", \"version\": 2, \"stages\": [], \"files\": {}}", ERR_UNSUPPORTED}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        err e = {0};
        char *folder = test_make_dir(), *path;
        study_state s;
        write_text(folder, "study.json", cases[i].text, &path);
        assert_int_equal(study_state_open(folder, &s, &e), cases[i].code);
        assert_non_null(strstr(e.message, path));
        free(path);
        test_remove_dir(folder);
    }
}

/* Entries that are not what they should be count as not known. */
static void odd_entries_are_redone(void **state) {
    (void)state;
    err e = {0};
    char *folder = test_make_dir(), *path, *file, hash[SHA256_HEX], expected[SHA256_HEX];
    study_state s;
    json_t *inputs = json_object();
    write_text(folder, "rows", "one", &file);
    strbuf text = STRBUF_INIT;
    strbuf_addf(&text,
                "{\"format\": \"sae.study\", \"version\": 1, \"stages\": [7, {}, {\"name\": 3}, {\"name\": \"train\", "
                "\"done\": true}], \"files\": {\"%s\": {\"size\": 3, \"mtime_ns\": \"x\", \"sha256\": 5}}}",
                file);
    write_text(folder, "study.json", text.data, &path);
    assert_ok(study_state_open(folder, &s, &e), &e);
    assert_int_equal(study_state_status(&s, "train", inputs), STAGE_CHANGED);
    assert_int_equal(study_state_status(&s, "find", inputs), STAGE_NEW);
    assert_ok(study_state_hash(&s, file, hash, &e), &e);
    bytes_sha256("one", 3, expected);
    assert_string_equal(hash, expected);
    json_decref(inputs);
    study_state_release(&s);
    strbuf_release(&text);
    free(path);
    free(file);
    test_remove_dir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stages_come_and_go),
        cmocka_unit_test(hashes_follow_their_files),
        cmocka_unit_test(damaged_states_are_refused),
        cmocka_unit_test(odd_entries_are_redone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
