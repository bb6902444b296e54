#include "sae/train/curves.h"
#include "core/file.h"
#include "core/strbuf.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* 'text' as gnuplot reads it: a quote within is two. */
static void add_quoted(strbuf *s, const char *text) {
    strbuf_add_str(s, "'");
    for (const char *at = text; *at; at++) strbuf_add(s, *at == '\'' ? "''" : at, *at == '\'' ? 2 : 1);
    strbuf_add_str(s, "'");
}

/* Columns of metrics.csv: step, rows, fvu, l0, dead, lr, fallback, rows_per_second. */
static void add_plot(strbuf *s, const char *csv, const char *title, const char *column, const char *more) {
    strbuf_addf(s, "set ylabel '%s'\n%splot ", title, more);
    add_quoted(s, csv);
    strbuf_addf(s, " using 2:%s every ::1 with lines linewidth 2 notitle\nunset logscale\n", column);
}

static void write_script(strbuf *s, const char *csv, const char *png) {
    strbuf_add_str(s, "set terminal pngcairo size 900,1000\nset output ");
    add_quoted(s, png);
    strbuf_add_str(s, "\nset datafile separator ','\nset grid\nset format x '%.1s%c'\nset multiplot layout 4,1\n");
    add_plot(s, csv, "FVU, held out", "3", "");
    add_plot(s, csv, "latents a row", "4", "set logscale y\n");
    add_plot(s, csv, "dead, %", "(100*$5)", "set yrange [0:*]\n");
    strbuf_add_str(s, "set xlabel 'rows'\n");
    add_plot(s, csv, "learning rate", "6", "");
    strbuf_add_str(s, "unset multiplot\n");
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

err_code curves_draw(const char *folder, bool *drawn, err *e) {
    err_code rc;
    char *csv = NULL, *png = NULL, *unfinished = NULL, *script_path = NULL;
    strbuf script = STRBUF_INIT;
    *drawn = false;
    TRY(path_join(folder, "metrics.csv", &csv, e));
    TRY(path_join(folder, "metrics.png", &png, e));
    TRY(path_join(folder, "metrics.png.tmp", &unfinished, e));
    TRY(path_join(folder, "metrics.gnuplot", &script_path, e));
    write_script(&script, csv, unfinished);
    TRY(strbuf_check(&script, e));
    TRY(file_write(script_path, script.data, script.len, e));
    *drawn = run_gnuplot(script_path) && file_exists(unfinished) && !rename(unfinished, png);
    unlink(script_path);
    if (!*drawn) unlink(unfinished);
done:
    strbuf_release(&script);
    free(csv);
    free(png);
    free(unfinished);
    free(script_path);
    return rc;
}
