#include "support/test.h"

#include "core/file.h"
#include "core/strbuf.h"
#include "math/blas.h"

#include <ftw.h>
#include <unistd.h>

char *test_fixture(const char *name) {
    strbuf s = STRBUF_INIT;
    strbuf_addf(&s, "%s/golden/%s", SAE_TESTS_DIR, name);
    return strbuf_detach(&s);
}

char *test_make_dir(void) {
    const char *base = getenv("TMPDIR");
    strbuf s = STRBUF_INIT;
    strbuf_addf(&s, "%s/sae-test-XXXXXX", base ? base : "/tmp");
    char *dir = strbuf_detach(&s);
    if (!mkdtemp(dir)) fail_msg("cannot make a temporary folder");
    return dir;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

void test_remove_dir(char *dir) {
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(dir);
}

const char *test_model_path(void) {
    static char path[4096];
    const char *given = getenv("SAE_TEST_MODEL"), *home = getenv("HOME");
    if (given)
        snprintf(path, sizeof path, "%s", given);
    else
        snprintf(path, sizeof path, "%s/.cache/sae/SmolLM2-135M-Instruct.Q4_1.gguf", home ? home : "");
    return file_exists(path) ? path : NULL;
}

ctx test_ctx(int threads) {
    blas_init();
    ctx c = CTX_DEFAULTS;
    c.threads = threads;
    return c;
}

double test_relative_distance(const float *a, const float *b, int64_t n) {
    double distance = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        distance += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    return sqrt(distance / norm);
}
