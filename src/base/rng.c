/* See rng.h. */
#include "base/rng.h"

static uint64_t rotl(uint64_t x, int k) { return x << k | x >> (64 - k); }

void fm_rng_init(struct fm_rng *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        uint64_t z = (seed += 0x9E3779B97F4A7C15u);
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
        z = (z ^ z >> 27) * 0x94D049BB133111EBu;
        r->s[i] = z ^ z >> 31;
    }
}

uint64_t fm_rng_u64(struct fm_rng *r)
{
    uint64_t *s = r->s, result = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

double fm_rng_uniform(struct fm_rng *r) { return (double)(fm_rng_u64(r) >> 11) * 0x1p-53; }

uint64_t fm_rng_below(struct fm_rng *r, uint64_t n)
{
    uint64_t limit = UINT64_MAX - UINT64_MAX % n, x;
    do x = fm_rng_u64(r);
    while (x >= limit);
    return x % n;
}

/* The sum of twelve uniforms needs no log or cos, so its bits do not depend on the C library; tails end at ±6. */
double fm_rng_normal(struct fm_rng *r)
{
    double sum = -6;
    for (int i = 0; i < 12; i++) sum += fm_rng_uniform(r);
    return sum;
}
