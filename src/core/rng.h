/* rng.h — random numbers that depend on (seed, purpose, index) and never on threads or timing.
 *
 * A stream is made where it is needed: rng_stream(seed, RNG_SHUFFLE, epoch). Two streams that differ in any of the three
 * are independent. xoshiro256** (Blackman and Vigna 2018, "Scrambled linear pseudorandom number generators"), its state
 * filled by splitmix64. A stream is plain data: copy it to save it.
 */
#ifndef CORE_RNG_H
#define CORE_RNG_H

#include <stdint.h>

typedef enum rng_purpose { /* append only: files made with a seed must stay reproducible */
                           RNG_INIT,
                           RNG_SHUFFLE,
                           RNG_SAMPLING,
                           RNG_CORPUS,
                           RNG_RESERVOIR,
                           RNG_SPLIT,
                           RNG_BOOTSTRAP,
                           RNG_CONTROL,
                           RNG_SYNTHETIC,
} rng_purpose;

typedef struct rng {
    uint64_t s[4];
} rng;

rng rng_stream(uint64_t seed, rng_purpose purpose, uint64_t index);
uint64_t rng_u64(rng *r);
double rng_uniform(rng *r);                        /* [0, 1), 53 bits */
uint64_t rng_below(rng *r, uint64_t n);            /* [0, n), unbiased; n >= 1 */
double rng_normal(rng *r);                         /* mean 0, variance 1 (Box-Muller, one value a call) */
void rng_permute(rng *r, uint64_t *v, uint64_t n); /* Fisher-Yates */

#endif
