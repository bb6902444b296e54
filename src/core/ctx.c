#include "core/ctx.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

static const char *const cpu_names[] = {
    [CPU_PORTABLE] = "portable", [CPU_AVX2] = "avx2", [CPU_AVX512] = "avx512", [CPU_VNNI] = "vnni", [CPU_BF16] = "bf16"};

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
    for (int level = CPU_PORTABLE; forced && level < (int)best; level++)
        if (!strcmp(forced, cpu_names[level])) return (cpu_level)level;
    return best;
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
