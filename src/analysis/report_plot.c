/* Figures by gnuplot, a program of its own: a script goes in, SVG comes out. Scripts hold numbers and our own words only. */
#include "analysis/report_internal.h"

#include "core/file.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SVG_BYTES_MAX = 8 << 20 };

extern char **environ;

/* Starts gnuplot with its stdout in a pipe. False when there is none. */
static bool start(const char *script_path, pid_t *pid, int *from) {
    char *const argv[] = {(char *)"gnuplot", (char *)script_path, NULL};
    int ends[2];
    posix_spawn_file_actions_t actions;
    if (pipe(ends)) return false;
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addclose(&actions, ends[1]);
    bool started = posix_spawnp(pid, "gnuplot", &actions, NULL, argv, environ) == 0;
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    *from = ends[0];
    if (!started) close(ends[0]);
    return started;
}

static void read_all(int from, strbuf *out) {
    char block[16384];
    for (;;) {
        ssize_t n = read(from, block, sizeof block);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return;
        if (out->len < SVG_BYTES_MAX) strbuf_add(out, block, (size_t)n);
    }
}

/* Appends <svg ..>..</svg> without what stands around it in a file of its own. */
static bool add_svg(strbuf *h, const char *file) {
    const char *first = strstr(file, "<svg"), *last = NULL;
    for (const char *at = first; at && (at = strstr(at, "</svg>")); at++) last = at;
    if (!last) return false;
    strbuf_add(h, first, (size_t)(last - first) + strlen("</svg>"));
    return true;
}

err_code plot_svg(const char *script, const char *scratch_path, strbuf *h, bool *drawn, err *e) {
    strbuf file = STRBUF_INIT;
    pid_t pid;
    int from, status = 0;
    *drawn = false;
    err_code rc;
    TRY(file_write(scratch_path, script, strlen(script), e));
    if (start(scratch_path, &pid, &from)) {
        read_all(from, &file);
        close(from);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0) *drawn = add_svg(h, file.data);
    }
    unlink(scratch_path);
    TRY(strbuf_check(&file, e));
done:
    strbuf_release(&file);
    return rc;
}
