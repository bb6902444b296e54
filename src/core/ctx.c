#include "core/ctx.h"

#include "core/names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

static const char *const cpu_names[] = {
    [CPU_PORTABLE] = "portable", [CPU_AVX2] = "avx2", [CPU_AVX512] = "avx512", [CPU_VNNI] = "vnni", [CPU_BF16] = "bf16"};
enum { N_LEVELS = sizeof cpu_names / sizeof *cpu_names };

#if defined(__x86_64__)
static bool has_f16c(void) { /* clang's __builtin_cpu_supports does not know the name */
    unsigned a, b, c = 0, d;
    return __get_cpuid(1, &a, &b, &c, &d) && c & bit_F16C;
}

static cpu_level cpu_detect(void) {
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    bool vnni = __builtin_cpu_supports("avx512vnni"), bf16 = __builtin_cpu_supports("avx512bf16") && __builtin_cpu_is("amd");
    if (avx2 && avx512) return !vnni ? CPU_AVX512 : bf16 ? CPU_BF16 : CPU_VNNI;
    return avx2 ? CPU_AVX2 : CPU_PORTABLE;
}
#else
static cpu_level cpu_detect(void) { return CPU_PORTABLE; }
#endif

cpu_level cpu_best(void) {
    cpu_level best = cpu_detect();
    const char *forced = getenv("SAE_CPU");
    int level = forced ? names_find(forced, cpu_names, N_LEVELS, sizeof *cpu_names) : -1;
    return level >= 0 && level < (int)best ? (cpu_level)level : best;
}

err_code cpu_check_forced(err *e) {
    const char *forced = getenv("SAE_CPU");
    if (!forced || names_find(forced, cpu_names, N_LEVELS, sizeof *cpu_names) >= 0) return ERR_OK;
    return names_unknown(e, ERR_USAGE, "SAE_CPU", forced, cpu_names, N_LEVELS, sizeof *cpu_names);
}

const char *cpu_level_name(cpu_level level) { return cpu_names[level]; }

void ctx_log(const ctx *c, log_level level, const char *fmt, ...) {
    if (!c->log) return;
    char message[ERR_MESSAGE_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    c->log(c->user, level, message);
}

void ctx_report(const ctx *c, const progress *p) {
    if (c->report) c->report(c->user, p);
}

err_code ctx_check_cancel(const ctx *c, err *e) {
    return c->cancel && *c->cancel ? err_set(e, ERR_CANCELLED, "stopped on request") : ERR_OK;
}
