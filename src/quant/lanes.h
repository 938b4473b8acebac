/* Eight floats at a time, in the compilers' own vectors: SSE, AVX2, NEON or plain code comes of the same lines, with the
 * same bits, since each lane is computed as a float alone would be and -ffp-contract=off fuses nothing.
 * Private to this folder; kernel/x86 compiles its files once more with AVX2. */
#ifndef FM_QUANT_LANES_H
#define FM_QUANT_LANES_H

#include <stdint.h>
#include <string.h>

enum { FM_LANES = 8 };
typedef float fm_lanes __attribute__((vector_size(32)));
typedef int32_t fm_mask __attribute__((vector_size(32))); /* of a comparison: all bits or none */

#define FM_INLINE static inline __attribute__((always_inline))

FM_INLINE fm_lanes fm_lanes_set(float x) { return (fm_lanes){x, x, x, x, x, x, x, x}; }

FM_INLINE fm_lanes fm_lanes_load(const float *p)
{
    fm_lanes v;
    memcpy(&v, p, sizeof v);
    return v;
}

FM_INLINE void fm_lanes_store(float *p, fm_lanes v) { memcpy(p, &v, sizeof v); }

FM_INLINE fm_lanes fm_lanes_pick(fm_mask m, fm_lanes yes, fm_lanes no)
{
    return (fm_lanes)(((fm_mask)yes & m) | ((fm_mask)no & ~m));
}

/* As fm_round_clamp, as a float: nearest integer, ties to even, in lo … hi; NaN gives lo. */
FM_INLINE fm_lanes fm_lanes_code(fm_lanes x, float lo, float hi)
{
    const fm_lanes l = fm_lanes_set(lo), h = fm_lanes_set(hi), big = fm_lanes_set(12582912.0f);
    x = fm_lanes_pick(x > l, x, l);
    x = fm_lanes_pick(x < h, x, h);
    return (x + big) - big;
}

/* n codes, n a multiple of 8: the nearest integers to (x − m)·inv in lo … hi. */
FM_INLINE void fm_lanes_codes(int8_t *q, const float *x, int n, float m, float inv, int lo, int hi)
{
    const fm_lanes big = fm_lanes_set(12582912.0f), l = fm_lanes_set((float)lo), h = fm_lanes_set((float)hi);
    for (int i = 0; i < n; i += FM_LANES) {
        fm_lanes v = (fm_lanes_load(x + i) - fm_lanes_set(m)) * fm_lanes_set(inv);
        v = fm_lanes_pick(v > l, v, l);
        v = fm_lanes_pick(v < h, v, h);
        const fm_mask c = (fm_mask)(v + big); /* the code is in the lowest bits */
        for (int j = 0; j < FM_LANES; j++) q[i + j] = (int8_t)c[j];
    }
}

/* In the order ((0+4)+(2+6))+((1+5)+(3+7)). */
FM_INLINE float fm_lanes_sum(fm_lanes v) { return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7])); }

/* The first lane of the largest value that is above *best, or -1; *best becomes it. */
FM_INLINE int fm_lanes_above(fm_lanes v, float *best)
{
    int at = -1;
    for (int i = 0; i < FM_LANES; i++)
        if (v[i] > *best) *best = v[i], at = i;
    return at;
}

#endif
