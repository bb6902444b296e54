#include "cli/progress.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define REDRAW_SECONDS 0.1
#define LOG_SECONDS    10.0

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

progress_view progress_view_stderr(bool quiet, bool verbose) {
    const char *term = getenv("TERM");
    struct winsize size;
    progress_view v = {.to = stderr, .quiet = quiet, .verbose = verbose, .columns = 80};
    v.terminal = isatty(STDERR_FILENO) && !(term && !strcmp(term, "dumb"));
    if (v.terminal && !ioctl(STDERR_FILENO, TIOCGWINSZ, &size) && size.ws_col > 20) v.columns = size.ws_col;
    return v;
}

/* ---- text ---- */

static void add(char *buffer, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void add(char *buffer, size_t size, const char *fmt, ...) {
    size_t used = strlen(buffer);
    va_list args;
    va_start(args, fmt);
    vsnprintf(buffer + used, size - used, fmt, args);
    va_end(args);
}

/* 1234567 -> "1,234,567" */
static const char *grouped(int64_t x, char out[32]) {
    char digits[24];
    int n = snprintf(digits, sizeof digits, "%" PRId64, x < 0 ? 0 : x), at = 0;
    for (int i = 0; i < n; i++) {
        if (i && (n - i) % 3 == 0) out[at++] = ',';
        out[at++] = digits[i];
    }
    out[at] = '\0';
    return out;
}

static void add_duration(char *buffer, size_t size, double seconds) {
    int64_t s = (int64_t)(seconds + 0.5);
    if (s >= 3600)
        add(buffer, size, "%" PRId64 "h %02" PRId64 "m", s / 3600, s / 60 % 60);
    else if (s >= 60)
        add(buffer, size, "%" PRId64 "m %02" PRId64 "s", s / 60, s % 60);
    else
        add(buffer, size, "%" PRId64 "s", s);
}

static void add_rate(char *buffer, size_t size, double rate, const char *unit) {
    char number[32];
    if (rate >= 100)
        add(buffer, size, "%s %s/s", grouped((int64_t)(rate + 0.5), number), unit);
    else
        add(buffer, size, "%.3g %s/s", rate, unit);
}

void progress_format(char *buffer, size_t size, const progress *p, int64_t worked, double seconds) {
    char a[32], b[32];
    double rate = seconds > 0 ? (double)worked / seconds : 0;
    bool finished = p->total > 0 && p->done >= p->total;
    buffer[0] = '\0';
    add(buffer, size, "%s  ", p->stage);
    if (p->total > 0 && !finished)
        add(buffer, size, "%d%%  %s/", (int)(100.0 * (double)p->done / (double)p->total), grouped(p->done, a));
    add(buffer, size, "%s %s", grouped(p->total > 0 ? p->total : p->done, b), p->unit);
    if (rate > 0) {
        add(buffer, size, "  ");
        add_rate(buffer, size, rate, p->unit);
    }
    if (finished) {
        add(buffer, size, "  ");
        add_duration(buffer, size, seconds);
    } else if (p->total > 0 && rate > 0) {
        add(buffer, size, "  ");
        add_duration(buffer, size, (double)(p->total - p->done) / rate);
        add(buffer, size, " left");
    }
    if (p->note && *p->note) add(buffer, size, "  %s", p->note);
}

/* ---- drawing ---- */

void progress_view_end(progress_view *v) {
    if (v->line_open) fputc('\n', v->to);
    v->line_open = false;
}

/* Cuts at `columns` characters, not in the middle of a UTF-8 one. */
static void cut(char *text, int columns) {
    for (char *at = text; *at; at++)
        if (((unsigned char)*at & 0xc0) != 0x80 && columns-- == 0) *at-- = '\0';
}

static void draw(progress_view *v, const progress *p, double time) {
    char line[512];
    progress_format(line, sizeof line, p, p->done - v->first_done, time - v->started);
    if (v->terminal) {
        cut(line, v->columns - 1);
        fprintf(v->to, "\r%s\033[K", line);
        v->line_open = true;
    } else {
        fprintf(v->to, "%s\n", line);
    }
    v->drawn = time;
}

static void begin_stage(progress_view *v, const progress *p, double time) {
    progress_view_end(v);
    snprintf(v->stage, sizeof v->stage, "%s", p->stage);
    v->first_done = p->done;
    v->total = p->total;
    v->started = v->drawn = time;
}

static void report(void *user, const progress *p) {
    progress_view *v = user;
    if (v->quiet || (!v->terminal && !v->verbose)) return;
    double time = now();
    bool same = !strncmp(v->stage, p->stage, sizeof v->stage - 1) && v->total == p->total && p->done >= v->last_done;
    bool finished = p->total > 0 && p->done >= p->total, already_said = same && v->last_done >= p->total && finished;
    if (!same) begin_stage(v, p, time);
    v->last_done = p->done;
    bool due = time - v->drawn >= (v->terminal ? REDRAW_SECONDS : LOG_SECONDS);
    if (!already_said && (finished || due || (!same && v->terminal))) draw(v, p, time);
    if (finished) progress_view_end(v);
    fflush(v->to);
}

static void log_message(void *user, log_level level, const char *message) {
    progress_view *v = user;
    if ((v->quiet && level != LOG_WARNING) || (level == LOG_DEBUG && !v->verbose)) return;
    if (v->line_open) fputs("\r\033[K", v->to);
    v->line_open = false;
    fprintf(v->to, "%s%s\n", level == LOG_WARNING ? "warning: " : "", message);
}

void progress_view_attach(progress_view *v, ctx *c) {
    c->user = v;
    c->log = log_message;
    c->report = report;
}
