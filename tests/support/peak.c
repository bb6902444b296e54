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
    type a = set(1), b = set(0), s0 = b, s1 = b, s2 = b, s3 = b, s4 = b, s5 = b, s6 = b, s7 = b, s8 = b, s9 = b, s10 = b,    \
         s11 = b;                                                                                                            \
    for (int64_t i = 0; i < STEPS; i++) {                                                                                    \
        s0 = madd(s0, a, b), s1 = madd(s1, a, b), s2 = madd(s2, a, b), s3 = madd(s3, a, b);                                  \
        s4 = madd(s4, a, b), s5 = madd(s5, a, b), s6 = madd(s6, a, b), s7 = madd(s7, a, b);                                  \
        s8 = madd(s8, a, b), s9 = madd(s9, a, b), s10 = madd(s10, a, b), s11 = madd(s11, a, b);                              \
        __asm__ volatile("" : "+x"(s0), "+x"(s1), "+x"(s2), "+x"(s3), "+x"(s4), "+x"(s5), "+x"(s6), "+x"(s7));               \
        __asm__ volatile("" : "+x"(s8), "+x"(s9), "+x"(s10), "+x"(s11), "+x"(a), "+x"(b));                                   \
    }                                                                                                                        \
    __asm__ volatile("" ::"x"(s0), "x"(s1), "x"(s2), "x"(s3), "x"(s4), "x"(s5), "x"(s6), "x"(s7), "x"(s8), "x"(s9),          \
                     "x"(s10), "x"(s11))

/* Instructions that multiply and add, and the products that each makes. */
typedef struct chain {
    void (*run)(void);
    int products;
} chain;

#if defined(__x86_64__)
#define AT(isa)            __attribute__((target(isa))) static void
#define FMA_512(s, a, b)   _mm512_fmadd_ps(s, b, a)
#define FMA_256(s, a, b)   _mm256_fmadd_ps(s, b, a)
#define FMA_128(s, a, b)   _mm_add_ps(_mm_mul_ps(s, b), a)
#define BYTES_512(s, a, b) _mm512_dpbusd_epi32(s, a, b)
#define PAIRS_512(s, a, b) _mm512_add_epi32(s, _mm512_madd_epi16(a, b))
#define PAIRS_256(s, a, b) _mm256_add_epi32(s, _mm256_madd_epi16(a, b))
#define PAIRS_128(s, a, b) _mm_add_epi32(s, _mm_madd_epi16(a, b))
AT("avx512f") floats_512(void) { CHAIN_LOOP(__m512, _mm512_set1_ps, FMA_512); }
AT("avx2,fma") floats_256(void) { CHAIN_LOOP(__m256, _mm256_set1_ps, FMA_256); }
AT("sse2") floats_128(void) { CHAIN_LOOP(__m128, _mm_set1_ps, FMA_128); }
AT("avx512f,avx512vnni") bytes_512(void) { CHAIN_LOOP(__m512i, _mm512_set1_epi32, BYTES_512); }
AT("avx512bw") pairs_512(void) { CHAIN_LOOP(__m512i, _mm512_set1_epi32, PAIRS_512); }
AT("avx2") pairs_256(void) { CHAIN_LOOP(__m256i, _mm256_set1_epi32, PAIRS_256); }
AT("sse2") pairs_128(void) { CHAIN_LOOP(__m128i, _mm_set1_epi32, PAIRS_128); }
static const chain floats[] = {
    {floats_128, 4}, {floats_256, 8}, {floats_512, 16}, {floats_512, 16}, {floats_512, 16}}; /* of a cpu_level */
static const chain wholes[] = {{pairs_128, 8}, {pairs_256, 16}, {pairs_512, 32}, {bytes_512, 64}, {bytes_512, 64}};
#else
static void floats_1(void) {
    volatile float s[CHAINS] = {0};
    for (int64_t i = 0; i < STEPS; i++)
        for (int j = 0; j < CHAINS; j++) s[j] = s[j] * 0.999f + 1e-4f;
}
static const chain floats[] = {{floats_1, 1}}, *wholes = floats;
#endif

static double peak_of(const ctx *c, const chain *kinds) {
    const chain *k = &kinds[c->cpu];
    double best = 0;
    for (int repeat = 0; repeat < 4; repeat++) {
        double start = seconds_now();
#pragma omp parallel for num_threads(c->threads) schedule(static)
        for (int t = 0; t < c->threads; t++) k->run();
        double rate = 2.0 * CHAINS * STEPS * k->products * c->threads / (seconds_now() - start);
        if (rate > best) best = rate;
    }
    return best;
}

double peak_f32(const ctx *c) { return peak_of(c, floats); }
double peak_whole(const ctx *c) { return peak_of(c, wholes); }

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
