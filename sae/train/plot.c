#include "sae/train/plot.h"
#include "core/file.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

void plot_add_quoted(strbuf *s, const char *text) {
    strbuf_add_str(s, "'");
    for (const char *at = text; *at; at++) strbuf_add(s, *at == '\'' ? "''" : at, *at == '\'' ? 2 : 1);
    strbuf_add_str(s, "'");
}

/* Whether gnuplot ran the script and was content. */
static bool run_gnuplot(const char *script_path, const char *stdout_path) {
    char *const argv[] = {(char *)"gnuplot", (char *)script_path, NULL};
    posix_spawn_file_actions_t actions;
    pid_t pid;
    int status = -1;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, stdout_path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    bool started = posix_spawnp(&pid, "gnuplot", &actions, NULL, argv, environ) == 0;
    posix_spawn_file_actions_destroy(&actions);
    while (started && waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    return started && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

err_code plot_run(const char *script, const char *path, bool *drawn, err *e) {
    strbuf script_path = STRBUF_INIT, unfinished = STRBUF_INIT;
    err_code rc;
    *drawn = false;
    strbuf_addf(&script_path, "%s.gnuplot", path);
    strbuf_addf(&unfinished, "%s.tmp", path);
    TRY(strbuf_check(&script_path, e));
    TRY(strbuf_check(&unfinished, e));
    TRY(file_write(script_path.data, script, strlen(script), e));
    *drawn = run_gnuplot(script_path.data, unfinished.data) && !rename(unfinished.data, path);
    unlink(script_path.data);
    if (!*drawn) unlink(unfinished.data);
done:
    strbuf_release(&script_path);
    strbuf_release(&unfinished);
    return rc;
}

err_code plot_png(const char *folder, const char *name, int width, int height, const strbuf *script, bool *drawn, err *e) {
    strbuf whole = STRBUF_INIT;
    char *path = NULL;
    err_code rc;
    strbuf_addf(&whole, "set terminal pngcairo size %d,%d\n", width, height);
    strbuf_add(&whole, script->data, script->len);
    TRY(strbuf_check(script, e));
    TRY(strbuf_check(&whole, e));
    TRY(path_join(folder, name, &path, e));
    TRY(plot_run(whole.data, path, drawn, e));
done:
    strbuf_release(&whole);
    free(path);
    return rc;
}
