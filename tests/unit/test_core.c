/* core: checked sizes, arena, strings, files, halves, random streams. */
#include "core/file.h"
#include "core/half.h"
#include "core/mem.h"
#include "core/rng.h"
#include "core/strbuf.h"
#include "support/test.h"

static void err_prefix_builds_a_path_of_context(void **state) {
    (void)state;
    err e = {0};
    assert_int_equal(err_set(&e, ERR_FORMAT, "expected %d, got %d", 1, 2), ERR_FORMAT);
    assert_int_equal(err_prefix(&e, ERR_FORMAT, "%s", "m.gguf"), ERR_FORMAT);
    assert_string_equal(e.message, "m.gguf: expected 1, got 2");
    assert_int_equal(err_exit_code(ERR_FORMAT), 3);
    assert_int_equal(err_exit_code(ERR_CANCELLED), 130);
    assert_int_equal(err_set(NULL, ERR_USAGE, "nobody listens"), ERR_USAGE);
}

/* Names in files are anything: bytes that would end the line, drive a terminal, or break JSON. */
static void messages_are_a_line_of_text(void **state) {
    (void)state;
    static const struct {
        const char *name, *shown;
    } cases[] = {
        {"\xe6\x9d\x8e \xc3\xa9 \xf0\x9f\x8c\x99", "\xe6\x9d\x8e \xc3\xa9 \xf0\x9f\x8c\x99"},
        {"a\nb\tc\rd\x1b[2J\x7f", "a?b?c?d?[2J?"},
        {"\xff\xc0\xaf \xe6\x9d", "??? ??"},                                        /* no UTF-8 */
        {"\xc2\x9b \xe0\x80\xaf \xed\xa0\x80 \xf4\x90\x80\x80", "?? ??? ??? ????"}, /* C1, overlong, surrogate, too large */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        err e = {0};
        err_set(&e, ERR_FORMAT, "%s", cases[i].name);
        assert_string_equal(e.message, cases[i].shown);
        err_set(&e, ERR_FORMAT, "x");
        err_prefix(&e, ERR_FORMAT, "%s", cases[i].name);
        assert_memory_equal(e.message, cases[i].shown, strlen(cases[i].shown));
    }
}

static void allocation_refuses_overflow_and_aligns(void **state) {
    (void)state;
    err e = {0};
    float *p = (float *)1;
    assert_int_equal(mem_new(&p, SIZE_MAX / 2, 4, "a lie", &e), ERR_NOMEM);
    assert_null(p);
    assert_ok(mem_new0(&p, 3, sizeof *p, "three floats", &e), &e);
    assert_int_equal((uintptr_t)p % 64, 0);
    assert_true(p[0] == 0 && p[2] == 0);
    free(p);
}

/* Sizes on both sides of a large page, and of none. */
static void large_allocations_hold_what_was_asked_for(void **state) {
    (void)state;
    static const size_t sizes[] = {0, 1, (4 << 20) - 1, 4 << 20, (4 << 20) + 1};
    err e = {0};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char *p;
        assert_ok(mem_new_large(&p, sizes[i], 1, "pages", &e), &e);
        memset(p, 1, sizes[i]);
        free(p);
    }
    char *p = (char *)&e;
    assert_int_equal(mem_new_large(&p, SIZE_MAX / 2, 4, "a lie", &e), ERR_NOMEM);
    assert_null(p);
    assert_int_equal(mem_new_large(&p, SIZE_MAX - 5, 1, "a lie", &e), ERR_NOMEM);
    assert_null(p);
}

static void free_memory_is_asked_for(void **state) {
    (void)state;
    err e = {0};
    assert_ok(mem_check_free(1, "a byte", &e), &e);
    assert_int_equal(mem_check_free(SIZE_MAX / 2, "half of everything", &e), ERR_NOMEM);
    assert_non_null(strstr(e.message, "half of everything: expected 9223372036.9 GB of free memory, found "));
}

/* What a container may still take: its limit less what it uses, without files that are only cached. */
static void control_group_limits_memory(void **state) {
    (void)state;
    static const char *const names[] = {"memory.current", "memory.stat", "memory.max"};
    static const struct {
        const char *files[3]; /* by name; NULL: not there */
        size_t expected;
    } cases[] = {{{"700\n", "anon 300\nfile 400\nfile_mapped 9\n", "1000\n"}, 700},
                 {{"700\n", "anon 700\n", "1000\n"}, 300},
                 {{"1100\n", NULL, "1000\n"}, 0},
                 {{"700\n", "file 400\n", "max\n"}, SIZE_MAX},
                 {{NULL, NULL, NULL}, SIZE_MAX}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        char *dir = test_make_dir(), *path;
        err e = {0};
        for (int i = 0; i < 3; i++) {
            if (!cases[c].files[i]) continue;
            assert_ok(path_join(dir, names[i], &path, &e), &e);
            FILE *f = fopen(path, "w");
            assert_true(f && fputs(cases[c].files[i], f) >= 0 && !fclose(f));
            free(path);
        }
        assert_true(mem_free_in_group(dir) == cases[c].expected);
        test_remove_dir(dir);
    }
}

static void arena_keeps_its_memory_over_reset(void **state) {
    (void)state;
    arena a = {0};
    err e = {0};
    char *first, *big, *again;
    assert_ok(arena_take(&a, &first, 100, 1, &e), &e);
    assert_ok(arena_take(&a, &big, 3 << 20, 1, &e), &e);
    memset(first, 1, 100);
    memset(big, 2, 3 << 20);
    arena_reset(&a);
    assert_ok(arena_take(&a, &again, 3 << 20, 1, &e), &e);
    assert_ok(arena_take(&a, &big, 100, 1, &e), &e);
    arena_block *only = a.blocks;
    arena_reset(&a);
    assert_ptr_equal(a.blocks, only);
    arena_release(&a);
}

static void written_file_reads_back_and_leaves_no_temporary(void **state) {
    (void)state;
    err e = {0};
    char *dir = test_make_dir(), *path, *tmp, *bytes, hash[SHA256_HEX];
    size_t size;
    assert_ok(path_join(dir, "a/b/c.bin", &path, &e), &e);
    assert_ok(path_join(dir, "a/b", &tmp, &e), &e);
    assert_ok(file_make_dirs(tmp, &e), &e);
    assert_ok(file_write(path, "abc", 3, &e), &e);
    assert_ok(file_read(path, 100, &bytes, &size, &e), &e);
    assert_int_equal(size, 3);
    assert_string_equal(bytes, "abc");
    assert_ok(file_sha256(path, hash, &e), &e); /* FIPS 180-2, appendix B.1 */
    assert_string_equal(hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_int_equal(file_read(path, 2, &(char *){NULL}, &size, &e), ERR_FORMAT);
    assert_int_equal(file_check_space(path, UINT64_MAX, &e), ERR_NOSPACE);
    assert_int_equal(file_check_space("no/such/folder/yet", 1, &e), ERR_OK);
    free(bytes);
    free(tmp);
    assert_ok(path_join(dir, "a/b/c.bin.tmp", &tmp, &e), &e);
    assert_false(file_exists(tmp));
    free(tmp);
    free(path);
    test_remove_dir(dir);
}

/* Every float16 value survives; halfway cases go to even; 65520 is the first to become infinite. */
static void half_rounds_to_nearest_even(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float x = half_to_f32((uint16_t)h), b = bf16_to_f32((uint16_t)h);
        if (!isnan(x)) assert_int_equal(half_from_f32(x), h);
        if (!isnan(b)) assert_int_equal(bf16_from_f32(b), h);
    }
    assert_int_equal(half_from_f32(1.0f + 0x1p-11f), 0x3c00);
    assert_int_equal(half_from_f32(1.0f + 3 * 0x1p-11f), 0x3c02);
    assert_int_equal(half_from_f32(65519.996f), 0x7bff);
    assert_int_equal(half_from_f32(65520.0f), 0x7c00);
    assert_int_equal(half_from_f32(0x1p-25f), 0);
    assert_int_equal(half_from_f32(0x1.8p-25f), 1);
    assert_true(isnan(half_to_f32(half_from_f32(NAN))) && isnan(bf16_to_f32(bf16_from_f32(NAN))));
}

static void random_streams_differ_and_have_the_right_moments(void **state) {
    (void)state;
    rng a = rng_stream(7, RNG_INIT, 0), same = rng_stream(7, RNG_INIT, 0), b = rng_stream(7, RNG_SHUFFLE, 0),
        c = rng_stream(7, RNG_INIT, 1);
    uint64_t first = rng_u64(&a);
    assert_true(first == rng_u64(&same) && first != rng_u64(&b) && first != rng_u64(&c));
    double sum = 0, squares = 0;
    enum { N = 100000 };
    for (int i = 0; i < N; i++) {
        double x = rng_normal(&a);
        sum += x;
        squares += x * x;
    }
    assert_true(fabs(sum / N) < 0.02 && fabs(squares / N - 1) < 0.03); /* 6 standard errors */
    uint64_t v[10], seen = 0;
    for (int i = 0; i < 10; i++) v[i] = (uint64_t)i;
    rng_permute(&a, v, 10);
    for (int i = 0; i < 10; i++) seen |= 1u << v[i];
    assert_int_equal(seen, 1023);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(err_prefix_builds_a_path_of_context),
        cmocka_unit_test(messages_are_a_line_of_text),
        cmocka_unit_test(allocation_refuses_overflow_and_aligns),
        cmocka_unit_test(large_allocations_hold_what_was_asked_for),
        cmocka_unit_test(free_memory_is_asked_for),
        cmocka_unit_test(control_group_limits_memory),
        cmocka_unit_test(arena_keeps_its_memory_over_reset),
        cmocka_unit_test(written_file_reads_back_and_leaves_no_temporary),
        cmocka_unit_test(half_rounds_to_nearest_even),
        cmocka_unit_test(random_streams_differ_and_have_the_right_moments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
