/* Rotary position embedding: each pair (a, b) turns by its angle.  Source: Su et al. 2021 (RoFormer) §3.2.2.
 *     a' = a·cos − b·sin,  b' = b·cos + a·sin      (each one product, then one fma) */
#include <math.h>

#include "kernel/scalar/scalar.h"

static void rope(float *x, const float *cs, int half, bool interleaved, bool inverse)
{
    for (int i = 0; i < half; i++) {
        float *a = interleaved ? x + 2 * i : x + i, *b = interleaved ? a + 1 : a + half;
        float c = cs[2 * i], s = inverse ? -cs[2 * i + 1] : cs[2 * i + 1], a0 = *a, b0 = *b;
        *a = fmaf(a0, c, -(b0 * s));
        *b = fmaf(b0, c, a0 * s);
    }
}

void fm_scalar_fill_rope(struct fm_kernels *k) { k->rope = rope; }
