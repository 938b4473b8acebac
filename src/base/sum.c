/* See sum.h. */
#include "base/sum.h"

#include <string.h>

static const uint64_t PRIME = 0x9E3779B97F4A7C15u; /* 2^64 / golden ratio, odd */

static uint64_t mix(uint64_t h, uint64_t w)
{
    h = (h ^ w) * PRIME;
    return h << 29 | h >> 35;
}

static uint64_t load(const unsigned char *p)
{
    uint64_t w;
    memcpy(&w, p, sizeof w);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    w = __builtin_bswap64(w);
#endif
    return w;
}

static void block(struct fm_sum *s, const unsigned char *p)
{
    for (int i = 0; i < 4; i++) s->lane[i] = mix(s->lane[i], load(p + 8 * i));
}

void fm_sum_init(struct fm_sum *s, uint64_t seed)
{
    *s = (struct fm_sum){.n = 0};
    for (int i = 0; i < 4; i++) s->lane[i] = mix(seed, (uint64_t)i + 1);
}

void fm_sum_add(struct fm_sum *s, const void *data, size_t n)
{
    const unsigned char *p = data;
    size_t have = s->n % sizeof s->rest;
    s->n += n;
    if (have) {
        size_t take = sizeof s->rest - have < n ? sizeof s->rest - have : n;
        if (take) memcpy(s->rest + have, p, take);
        p += take;
        n -= take;
        if (have + take < sizeof s->rest) return;
        block(s, s->rest);
    }
    for (; n >= sizeof s->rest; n -= sizeof s->rest, p += sizeof s->rest) block(s, p);
    if (n) memcpy(s->rest, p, n);
}

uint64_t fm_sum_end(const struct fm_sum *s)
{
    struct fm_sum t = *s;
    size_t have = t.n % sizeof t.rest;
    if (have) {
        memset(t.rest + have, 0, sizeof t.rest - have);
        block(&t, t.rest);
    }
    uint64_t h = t.n;
    for (int i = 0; i < 4; i++) h = mix(h, t.lane[i]);
    h = mix(h, h >> 32);
    return h ^ h >> 32;
}

uint64_t fm_sum_of(uint64_t seed, const void *data, size_t n)
{
    struct fm_sum s;
    fm_sum_init(&s, seed);
    fm_sum_add(&s, data, n);
    return fm_sum_end(&s);
}
