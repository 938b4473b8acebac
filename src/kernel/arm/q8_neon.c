/* Activations as int8 blocks. */
#include "kernel/arm/arm.h"

enum { BLOCK = 32, LANES = 4 };

/* The bits of non-negative floats order as integers, NaN above all. */
static float max_abs_or_nan(const float *x)
{
    uint32x4_t best = vdupq_n_u32(0);
    for (int j = 0; j < BLOCK; j += LANES) best = vmaxq_u32(best, vreinterpretq_u32_f32(vabsq_f32(vld1q_f32(x + j))));
    const uint32_t u = vmaxvq_u32(best);
    float amax;
    memcpy(&amax, &u, sizeof amax);
    return amax;
}

/* Nearest even of t within ±127; NaN counts as 127. */
FM_INLINE int32x4_t round_q(float32x4_t t)
{
    const float32x4_t high = vdupq_n_f32(127), low = vdupq_n_f32(-127);
    t = vbslq_f32(vcltq_f32(t, high), t, high);
    t = vbslq_f32(vcgtq_f32(t, low), t, low);
    return vcvtnq_s32_f32(t);
}

static void quantise_q8x(struct fm_q8x *dst, const float *x, int k)
{
    for (int b = 0; b < k / BLOCK; b++, x += BLOCK, dst++) {
        const float d = max_abs_or_nan(x) / 127;
        const float32x4_t by = vdupq_n_f32(d);
        for (int h = 0; h < 2; h++) {
            int32x4_t q[4];
            FM_UNROLL
            for (int j = 0; j < 4; j++) q[j] = round_q(vdivq_f32(vld1q_f32(x + 16 * h + LANES * j), by));
            int8x16_t v = vcombine_s8(vmovn_s16(vcombine_s16(vmovn_s32(q[0]), vmovn_s32(q[1]))),
                                      vmovn_s16(vcombine_s16(vmovn_s32(q[2]), vmovn_s32(q[3]))));
            if (d == 0) v = vdupq_n_s8(0);
            vst1q_s8(dst->q + 16 * h, v);
            dst->sum[h] = vaddlvq_s8(v);
        }
        dst->d = d;
        dst->s = d * (float)(dst->sum[0] + dst->sum[1]);
    }
}

void fm_neon_fill_q8(struct fm_kernels *k) { k->quantise_q8x = quantise_q8x; }
