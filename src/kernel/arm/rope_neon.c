/* Rotary position embedding, four pairs at a time: see rope_scalar.c. */
#include <math.h>

#include "kernel/arm/arm.h"

FM_INLINE void turn4(float32x4_t *a, float32x4_t *b, const float *cs, bool inverse)
{
    const float32x4x2_t t = vld2q_f32(cs);
    const float32x4_t c = t.val[0], s = inverse ? vnegq_f32(t.val[1]) : t.val[1], a0 = *a, b0 = *b;
    *a = vfmaq_f32(vnegq_f32(vmulq_f32(b0, s)), a0, c);
    *b = vfmaq_f32(vmulq_f32(a0, s), b0, c);
}

static void turn1(float *a, float *b, const float *cs, bool inverse)
{
    const float c = cs[0], s = inverse ? -cs[1] : cs[1], a0 = *a, b0 = *b;
    *a = fmaf(a0, c, -(b0 * s));
    *b = fmaf(b0, c, a0 * s);
}

static void rope(float *x, const float *cs, int half, bool interleaved, bool inverse)
{
    int i = 0;
    for (; i + 4 <= half; i += 4) {
        if (interleaved) {
            float32x4x2_t v = vld2q_f32(x + 2 * i);
            turn4(&v.val[0], &v.val[1], cs + 2 * i, inverse);
            vst2q_f32(x + 2 * i, v);
        } else {
            float32x4_t a = vld1q_f32(x + i), b = vld1q_f32(x + half + i);
            turn4(&a, &b, cs + 2 * i, inverse);
            vst1q_f32(x + i, a);
            vst1q_f32(x + half + i, b);
        }
    }
    for (; i < half; i++) {
        float *a = interleaved ? x + 2 * i : x + i;
        turn1(a, interleaved ? a + 1 : a + half, cs + 2 * i, inverse);
    }
}

void fm_neon_fill_rope(struct fm_kernels *k) { k->rope = rope; }
