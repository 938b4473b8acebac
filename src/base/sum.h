/* A 64-bit checksum for our own files: against truncation, bad disks and mix-ups, not against an adversary.
 *
 *   bytes ─ 32 at a time ─┬ lane 0: h = rotl((h ^ w)·P, 29)   w: 8 bytes, little-endian
 *                         ├ lane 1 …                          each step is a bijection of h and of w: a change
 *                         ├ lane 2                            confined to one word is always seen
 *                         └ lane 3
 *   end: the rest padded with zeros, then lanes and length folded by the same step */
#ifndef FM_BASE_SUM_H
#define FM_BASE_SUM_H

#include <stddef.h>
#include <stdint.h>

struct fm_sum {
    uint64_t lane[4], n; /* n: bytes so far */
    unsigned char rest[32];
};

/* seed tells uses apart: equal bytes under another seed have another sum. */
void fm_sum_init(struct fm_sum *s, uint64_t seed);
void fm_sum_add(struct fm_sum *s, const void *data, size_t n);
uint64_t fm_sum_end(const struct fm_sum *s); /* s may go on */
uint64_t fm_sum_of(uint64_t seed, const void *data, size_t n);

#endif
