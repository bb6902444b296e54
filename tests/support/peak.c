#include "support/peak.h"

#include <stdlib.h>
#include <time.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { STEPS = 1 << 20, CHAINS = 12 }; /* enough independent sums to fill two units of latency 4 to 5 */

double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Each loop keeps CHAINS sums in registers; the empty asm makes them opaque, so that none is optimised away. */
#define CHAIN_LOOP(type, set, madd)                                                                                          \
    type a = set(0.999f), b = set(1e-4f), s0 = b, s1 = b, s2 = b, s3 = b, s4 = b, s5 = b, s6 = b, s7 = b, s8 = b, s9 = b,    \
         s10 = b, s11 = b;                                                                                                   \
    for (int64_t i = 0; i < STEPS; i++) {                                                                                    \
        s0 = madd(s0, a, b), s1 = madd(s1, a, b), s2 = madd(s2, a, b), s3 = madd(s3, a, b);                                  \
        s4 = madd(s4, a, b), s5 = madd(s5, a, b), s6 = madd(s6, a, b), s7 = madd(s7, a, b);                                  \
        s8 = madd(s8, a, b), s9 = madd(s9, a, b), s10 = madd(s10, a, b), s11 = madd(s11, a, b);                              \
        __asm__ volatile("" : "+x"(s0), "+x"(s1), "+x"(s2), "+x"(s3), "+x"(s4), "+x"(s5), "+x"(s6), "+x"(s7));               \
        __asm__ volatile("" : "+x"(s8), "+x"(s9), "+x"(s10), "+x"(s11));                                                     \
    }                                                                                                                        \
    __asm__ volatile("" ::"x"(s0), "x"(s1), "x"(s2), "x"(s3), "x"(s4), "x"(s5), "x"(s6), "x"(s7), "x"(s8), "x"(s9),          \
                     "x"(s10), "x"(s11))

#if defined(__x86_64__)
__attribute__((target("avx512f"))) static void madds_avx512(void) { CHAIN_LOOP(__m512, _mm512_set1_ps, _mm512_fmadd_ps); }
__attribute__((target("avx2,fma"))) static void madds_avx2(void) { CHAIN_LOOP(__m256, _mm256_set1_ps, _mm256_fmadd_ps); }
#define MUL_ADD(x, y, z) _mm_add_ps(_mm_mul_ps(x, y), z)
static void madds_portable(void) { CHAIN_LOOP(__m128, _mm_set1_ps, MUL_ADD); }

static int64_t run_madds(cpu_level level) { /* returns the lanes */
    if (level == CPU_AVX512) return madds_avx512(), 16;
    if (level == CPU_AVX2) return madds_avx2(), 8;
    return madds_portable(), 4;
}
#else
static int64_t run_madds(cpu_level level) {
    volatile float s[CHAINS] = {0};
    (void)level;
    for (int64_t i = 0; i < STEPS; i++)
        for (int j = 0; j < CHAINS; j++) s[j] = s[j] * 0.999f + 1e-4f;
    return 1;
}
#endif

double peak_f32(const ctx *c) {
    double best = 0;
    for (int repeat = 0; repeat < 4; repeat++) {
        int64_t lanes = 0;
        double start = seconds_now();
#pragma omp parallel for num_threads(c->threads) reduction(+ : lanes) schedule(static)
        for (int t = 0; t < c->threads; t++) lanes += run_madds(c->cpu);
        double rate = 2.0 * CHAINS * STEPS * (double)lanes / (seconds_now() - start);
        if (rate > best) best = rate;
    }
    return best;
}

double peak_read(const ctx *c) {
    enum { WORDS = 1 << 24, BLOCKS = 64 }; /* 128 MB */
    uint64_t *words = malloc(WORDS * sizeof *words), total = 0;
    double best = 0;
    if (!words) return 0;
#pragma omp parallel for num_threads(c->threads) schedule(static)
    for (int64_t i = 0; i < WORDS; i++) words[i] = (uint64_t)i;
    for (int repeat = 0; repeat < 4; repeat++) {
        double start = seconds_now();
#pragma omp parallel for num_threads(c->threads) reduction(+ : total) schedule(static)
        for (int64_t b = 0; b < BLOCKS; b++) {
            uint64_t sum[4] = {0};
            for (int64_t i = b * (WORDS / BLOCKS); i < (b + 1) * (WORDS / BLOCKS); i += 4)
                for (int j = 0; j < 4; j++) sum[j] += words[i + j];
            total += sum[0] + sum[1] + sum[2] + sum[3];
        }
        double rate = (double)WORDS * sizeof *words / (seconds_now() - start);
        if (rate > best) best = rate;
    }
    free(words);
    return total ? best : 0;
}
