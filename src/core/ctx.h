/* ctx.h — what every long-running call needs to know about the program around it; the first argument of such calls.
 *
 * A plain struct, made by the program (or a test) with CTX_DEFAULTS and changed freely before work starts.
 * The library keeps no mutable globals: threads, kernel choice, messages, progress and cancelling all come from here.
 * Threads: const ctx may be shared. Callbacks are called from the thread that made the call, never from a worker.
 */
#ifndef CORE_CTX_H
#define CORE_CTX_H

#include "core/err.h"

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

/* Each includes the ones before it. CPU_BF16: AVX512_BF16 on a processor that makes twice as many products of bfloat16 a cycle
 * as of floats; Intel's make half as many (measured on Emerald Rapids) and stay at CPU_VNNI. */
typedef enum cpu_level { CPU_PORTABLE, CPU_AVX2, CPU_AVX512, CPU_VNNI, CPU_BF16 } cpu_level;

typedef enum log_level { LOG_WARNING, LOG_NOTE, LOG_DEBUG } log_level;

/* How far a stage is. rate is units per second since the stage (or its resumed part) began; note may be NULL. */
typedef struct progress {
    const char *stage; /* "capture", "train", ... */
    const char *unit;  /* "tokens", "rows", ... */
    int64_t done, total;
    const char *note; /* "fvu 0.251 l0 32.0 dead 1.2%" */
} progress;

typedef struct ctx {
    int threads;   /* OpenMP threads to use, >= 1; results never depend on it */
    cpu_level cpu; /* kernels to use; cpu_best() unless forced */
    void *user;    /* handed to the two callbacks */
    void (*log)(void *user, log_level level, const char *message);
    void (*report)(void *user, const progress *p);
    const volatile sig_atomic_t *cancel; /* set non-zero (by Ctrl-C) to stop at the next safe point; may be NULL */
} ctx;

/* The highest level this machine runs; SAE_CPU=portable|avx2|avx512|vnni|bf16 in the environment lowers it. */
cpu_level cpu_best(void);
err_code cpu_check_forced(err *e); /* ERR_USAGE when SAE_CPU names no level */
const char *cpu_level_name(cpu_level level);

#define CTX_DEFAULTS ((ctx){.threads = 1, .cpu = cpu_best()})

void ctx_log(const ctx *c, log_level level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void ctx_report(const ctx *c, const progress *p);

/* ERR_CANCELLED with a sentence once cancelling was asked for, else ERR_OK. Call at points where stopping loses nothing. */
err_code ctx_check_cancel(const ctx *c, err *e);

#endif
