/* Seeded numbers: xoshiro256** filled by splitmix64 (Blackman and Vigna, 2018).  Same stream everywhere. */
#ifndef FM_BASE_RNG_H
#define FM_BASE_RNG_H

#include <stdint.h>

struct fm_rng {
    uint64_t s[4];
};

void fm_rng_init(struct fm_rng *r, uint64_t seed);
uint64_t fm_rng_u64(struct fm_rng *r);
double fm_rng_uniform(struct fm_rng *r);             /* [0, 1), 53 bits                              */
uint64_t fm_rng_below(struct fm_rng *r, uint64_t n); /* [0, n), unbiased; n >= 1                     */
double fm_rng_normal(struct fm_rng *r);              /* mean 0, variance 1; sum of 12 uniforms minus 6 */

#endif
