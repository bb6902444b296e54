#include "sae/train/plot.h"
#include "core/file.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

void plot_add_quoted(strbuf *s, const char *text) {
    strbuf_add_str(s, "'");
    for (const char *at = text; *at; at++) strbuf_add(s, *at == '\'' ? "''" : at, *at == '\'' ? 2 : 1);
    strbuf_add_str(s, "'");
}

/* Whether gnuplot ran the script and was content. */
static bool run_gnuplot(const char *script) {
    char *const argv[] = {(char *)"gnuplot", (char *)script, NULL};
    posix_spawn_file_actions_t actions;
    pid_t pid;
    int status = -1;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    bool started = posix_spawnp(&pid, "gnuplot", &actions, NULL, argv, environ) == 0;
    posix_spawn_file_actions_destroy(&actions);
    while (started && waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    return started && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* FOLDER/NAME and what stands behind it. */
static err_code path_of(const char *folder, const char *name, const char *behind, char **out, err *e) {
    strbuf path = STRBUF_INIT;
    strbuf_addf(&path, "%s/%s%s", folder, name, behind);
    err_code rc = strbuf_check(&path, e);
    *out = rc ? NULL : strbuf_detach(&path);
    strbuf_release(&path);
    return rc;
}

err_code plot_png(const char *folder, const char *name, int width, int height, const strbuf *script, bool *drawn, err *e) {
    err_code rc;
    char *png = NULL, *unfinished = NULL, *script_path = NULL;
    strbuf whole = STRBUF_INIT;
    *drawn = false;
    TRY(path_of(folder, name, ".png", &png, e));
    TRY(path_of(folder, name, ".png.tmp", &unfinished, e));
    TRY(path_of(folder, name, ".gnuplot", &script_path, e));
    strbuf_addf(&whole, "set terminal pngcairo size %d,%d\nset output ", width, height);
    plot_add_quoted(&whole, unfinished);
    strbuf_add_str(&whole, "\n");
    strbuf_add(&whole, script->data, script->len);
    TRY(strbuf_check(script, e));
    TRY(strbuf_check(&whole, e));
    TRY(file_write(script_path, whole.data, whole.len, e));
    *drawn = run_gnuplot(script_path) && file_exists(unfinished) && !rename(unfinished, png);
    unlink(script_path);
    if (!*drawn) unlink(unfinished);
done:
    strbuf_release(&whole);
    free(png);
    free(unfinished);
    free(script_path);
    return rc;
}
