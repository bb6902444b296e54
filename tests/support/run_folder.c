#include "support/run_folder.h"

#include "core/file.h"
#include "support/test.h"

#include <sys/wait.h>
#include <time.h>

char *joined(const char *dir, const char *name) {
    char *path;
    err e = {0};
    assert_ok(path_join(dir, name, &path, &e), &e);
    return path;
}

char *file_of(const char *dir, const char *name, size_t *size) {
    char *path = joined(dir, name), *bytes;
    err e = {0};
    assert_ok(file_read(path, 1 << 24, &bytes, size, &e), &e);
    free(path);
    return bytes;
}

bool has_file(const char *dir, const char *name) {
    char *path = joined(dir, name);
    bool there = file_exists(path);
    free(path);
    return there;
}

void assert_same_file(const char *a, const char *b, const char *name) {
    size_t size_a, size_b;
    char *bytes_a = file_of(a, name, &size_a), *bytes_b = file_of(b, name, &size_b);
    assert_int_equal(size_a, size_b);
    assert_memory_equal(bytes_a, bytes_b, size_a);
    free(bytes_a);
    free(bytes_b);
}

void assert_same_result(const char *a, const char *b) {
    assert_same_file(a, b, has_file(a, "sae.safetensors") ? "sae.safetensors" : "sae_weights.safetensors");
    assert_same_file(a, b, "cfg.json");
}

char *metrics_without_rates(const char *dir) {
    size_t size, to = 0;
    char *text = file_of(dir, "metrics.csv", &size);
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        char *comma = end;
        while (comma > line && *comma != ',') comma--;
        memmove(text + to, line, (size_t)(comma - line));
        to += (size_t)(comma - line);
        text[to++] = '\n';
    }
    text[to] = '\0';
    return text;
}

int wait_for(pid_t child) {
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void sleep_ms(uint64_t ms) {
    const struct timespec t = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}
