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

/* The file that the variable names, else the one of this name in the cache; NULL when it is not there. */
static const char *find_model(const char *variable, const char *name, char path[4096]) {
    const char *given = getenv(variable), *home = getenv("HOME");
    if (given)
        snprintf(path, 4096, "%s", given);
    else
        snprintf(path, 4096, "%s/.cache/sae/%s", home ? home : "", name);
    return file_exists(path) ? path : NULL;
}

const char *test_model_path(void) {
    static char path[4096];
    return find_model("SAE_TEST_MODEL", "SmolLM2-135M-Instruct.Q4_1.gguf", path);
}

const char *test_gemma_path(void) {
    static char path[4096];
    return find_model("SAE_TEST_GEMMA", "gemma-3-270m-q4_k_m.gguf", path);
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
