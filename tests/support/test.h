/* test.h — what every test includes: cmocka, and the few helpers tests share. */
#ifndef TESTS_SUPPORT_TEST_H
#define TESTS_SUPPORT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/ctx.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEST_SKIP 77 /* a test program's exit code when what it needs is absent */

/* SAE_TESTS_DIR/golden/<name>; owned by the caller. */
char *test_fixture(const char *name);

/* A fresh empty folder under the build's temporary files; removed by test_remove_dir. Owned by the caller. */
char *test_make_dir(void);
void test_remove_dir(char *dir); /* removes the folder and frees the string */

/* The default model's file ($SAE_TEST_MODEL, else ~/.cache/sae/SmolLM2-135M-Instruct.Q4_1.gguf), or NULL when absent. */
const char *test_model_path(void);
/* The same of Gemma 3 270M ($SAE_TEST_GEMMA, else ~/.cache/sae/gemma-3-270m-q4_k_m.gguf). */
const char *test_gemma_path(void);

ctx test_ctx(int threads);

/* Fails the test with e's sentence unless rc is ERR_OK. */
#define assert_ok(rc, e)                                                                                                     \
    do {                                                                                                                     \
        if ((rc) != ERR_OK) fail_msg("%s", (e)->message);                                                                    \
    } while (0)

/* ||a - b|| / ||b|| in double. */
double test_relative_distance(const float *a, const float *b, int64_t n);

#endif
