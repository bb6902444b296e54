/* main.c — the program: finds the command, parses its options, runs it, reports how it went. */
#define _GNU_SOURCE
#include "cli/command.h"
#include "cli/progress.h"
#include "core/names.h"
#include "math/blas.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* In the order of the work. How to add one: command.h. */
static const command *const commands[] = {
    &cmd_study,  &cmd_inspect, &cmd_tokenize, &cmd_generate, &cmd_perplexity, &cmd_capture, &cmd_train,
    &cmd_encode, &cmd_convert, &cmd_eval,     &cmd_features, &cmd_find,       &cmd_steer,
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

/* ---- stopping ---- */

static volatile sig_atomic_t cancelled; /* the program's only mutable global: a signal handler can reach nothing else */

static void on_signal(int number) {
    static const char note[] = "\nstopping at the next safe point (Ctrl-C again to stop at once)\n";
    cancelled = 1;
    if (number == SIGINT && isatty(STDERR_FILENO)) {
        ssize_t ignored = write(STDERR_FILENO, note, sizeof note - 1);
        (void)ignored;
    }
}

/* The first signal asks for a clean stop, the second one kills: SA_RESETHAND. A reader that leaves early (| head) or a
 * helper that dies shows as a failed write, never as a sudden end in the middle of a file. */
static void catch_signals(void) {
    struct sigaction stop = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND | SA_RESTART};
    sigemptyset(&stop.sa_mask);
    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGTERM, &stop, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file over its size limit: likewise an error of the write */
}

/* ---- stdout ---- */

static bool reader_is_gone(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    return poll(&p, 1, 0) == 1 && (p.revents & POLLERR);
}

/* What was printed must have arrived: a full disk behind `sae ... > file` is a failure. When the reader of a pipe has left,
 * ends as any program in a pipeline does. */
static err_code finish_stdout(err *e) {
    errno = 0;
    bool failed = fflush(stdout) != 0;
    int cause = errno;
    if (!failed && !ferror(stdout)) return ERR_OK;
    if (cause == EPIPE || reader_is_gone(STDOUT_FILENO)) {
        signal(SIGPIPE, SIG_DFL);
        raise(SIGPIPE);
    }
    errno = cause ? cause : EIO;
    return err_set_errno(e, "cannot write the result to stdout");
}

/* ---- help ---- */

static void print_commands(FILE *to) {
    fputs("Examples:\n"
          "  sae study model.gguf --layer 16 --corpus texts/ --concept \"Li Bai\" --out study/\n"
          "  sae generate model.gguf --prompt \"The Tang dynasty\" --tokens 40\n"
          "\nsae COMMAND [options]: a microscope for language models\n\nCommands:\n",
          to);
    for (int i = 0; i < N_COMMANDS; i++) fprintf(to, "  %-12s %s\n", commands[i]->name, commands[i]->help);
    fputs("\n`sae COMMAND --help` explains one. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 bad input, 130 interrupted.\n",
          to);
}

static void print_help(const command *cmd) {
    puts("Examples:");
    for (const char *line = cmd->examples; *line;) {
        int n = (int)strcspn(line, "\n");
        printf("  %.*s\n", n, line);
        line += n + (line[n] == '\n');
    }
    printf("\nsae %s %s\n%s\n", cmd->name, cmd->usage, cmd->help);
    options_print_help(stdout, cmd->options);
}

/* ---- running ---- */

static int fail(const char *name, const err *e) {
    fprintf(stderr, "sae%s%s: %s\n", name ? " " : "", name ? name : "", e->message);
    return err_exit_code(e->code);
}

static const command *command_by_name(const char *name, err *e) {
    int found = names_find(name, commands, N_COMMANDS, NAMES_OF_POINTERS);
    if (found < 0) names_unknown(e, ERR_USAGE, "command", name, commands, N_COMMANDS, NAMES_OF_POINTERS);
    return found < 0 ? NULL : commands[found];
}

/* The cores this process may run on, or fewer when its container grants less time than that (cgroup v2, "quota period"). */
static int available_cores(void) {
    cpu_set_t set;
    double quota, period;
    int cores = sched_getaffinity(0, sizeof set, &set) ? (int)sysconf(_SC_NPROCESSORS_ONLN) : CPU_COUNT(&set);
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (f && fscanf(f, "%lf %lf", &quota, &period) == 2 && period > 0 && quota / period < cores)
        cores = (int)ceil(quota / period);
    if (f) fclose(f);
    return cores < 1 ? 1 : cores;
}

static err_code run(const command *cmd, const parsed_options *o, err *e) {
    if (opt_flag(o, "help")) {
        print_help(cmd);
        return ERR_OK;
    }
    progress_view view = progress_view_stderr(opt_quiet(o), opt_flag(o, "verbose"));
    ctx c = CTX_DEFAULTS;
    c.threads = opt_given(o, "threads") ? (int)opt_int(o, "threads") : available_cores();
    c.cancel = &cancelled;
    progress_view_attach(&view, &c);
    err_code rc = cmd->run(&c, o, e);
    progress_view_end(&view);
    return rc;
}

static int run_command(const command *cmd, int argc, char *const *argv) {
    err e = {0};
    parsed_options *o = NULL;
    const option_rules rules = {cmd->name, cmd->options, cmd->min_args, cmd->max_args, cmd->usage};
    err_code rc = cpu_check_forced(&e);
    if (!rc) rc = options_parse(&rules, argc, argv, &o, &e);
    if (!rc) rc = run(cmd, o, &e);
    options_free(o);
    err unwritten = {0};
    if (rc)
        fflush(stdout);
    else if ((rc = finish_stdout(&unwritten)))
        e = unwritten;
    e.code = rc;
    return rc ? fail(cmd->name, &e) : 0;
}

int main(int argc, char **argv) {
    err e = {0};
    catch_signals();
    if (argc < 2) {
        print_commands(stderr);
        return err_exit_code(ERR_USAGE);
    }
    const char *name = argv[1];
    if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help"))
        print_commands(stdout);
    else if (!strcmp(name, "--version"))
        printf("sae %s (%s kernels)\n", SAE_VERSION, cpu_level_name(cpu_best()));
    else {
        const command *cmd = command_by_name(name, &e);
        if (!cmd) return fail(NULL, &e);
        blas_init();
        return run_command(cmd, argc - 2, argv + 2);
    }
    return finish_stdout(&e) ? fail(NULL, &e) : 0;
}
