#include "support/oom.h"
#include "support/test.h"

#include <limits.h>
#include <stdatomic.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/lsan_interface.h>
#else
static int __lsan_do_recoverable_leak_check(void) { return 0; }
#endif

static atomic_int until_failure = INT_MAX; /* the allocation that fails is the one that brings this to zero */

static bool fails(void) { return atomic_load(&until_failure) != INT_MAX && atomic_fetch_sub(&until_failure, 1) == 1; }

#define WRAP(name, parameters, arguments)                                                                                    \
    void *__real_##name parameters;                                                                                          \
    void *__wrap_##name parameters;                                                                                          \
    void *__wrap_##name parameters { return fails() ? NULL : __real_##name arguments; }
WRAP(malloc, (size_t size), (size))
WRAP(calloc, (size_t count, size_t size), (count, size))
WRAP(realloc, (void *p, size_t size), (p, size))
WRAP(aligned_alloc, (size_t alignment, size_t size), (alignment, size))
WRAP(strdup, (const char *s), (s))
WRAP(strndup, (const char *s, size_t n), (s, n))

void oom_sweep(err_code (*work)(void *arg, err *e), void *arg, int at_most) {
    for (int n = 1; n <= at_most; n++) {
        err e = {0};
        atomic_store(&until_failure, n);
        err_code rc = work(arg, &e);
        bool failed = atomic_exchange(&until_failure, INT_MAX) <= 0;
        if (!failed) {
            assert_ok(rc, &e);
            assert_true(n > 1);
            return;
        }
        if (rc != ERR_OK && rc != ERR_NOMEM) fail_msg("allocation %d failing gave code %d: %s", n, rc, e.message);
        if (rc == ERR_NOMEM && !strstr(e.message, "memory")) fail_msg("allocation %d failing gave '%s'", n, e.message);
        if (__lsan_do_recoverable_leak_check()) fail_msg("allocation %d failing leaked", n);
    }
}
