/* fm_expf on four lanes: the same polynomial in the same order, hence the same bits. */
#ifndef FM_KERNEL_EXP_NEON_H
#define FM_KERNEL_EXP_NEON_H

#include "kernel/arm/arm.h"
#include "kernel/poly.h"

FM_INLINE float32x4_t fm_exp4(float32x4_t x)
{
    const float32x4_t magic = vdupq_n_f32(FM_EXPF_MAGIC);
    const float32x4_t t = vfmaq_f32(magic, x, vdupq_n_f32(FM_EXPF_LOG2E)), n = vsubq_f32(t, magic);
    float32x4_t r = vfmsq_f32(x, n, vdupq_n_f32(FM_EXPF_LN2_HI));
    r = vfmsq_f32(r, n, vdupq_n_f32(FM_EXPF_LN2_LO));
    float32x4_t q = vfmaq_f32(vdupq_n_f32(FM_EXPF_Q3), vdupq_n_f32(FM_EXPF_Q4), r);
    q = vfmaq_f32(vdupq_n_f32(FM_EXPF_Q2), q, r);
    q = vfmaq_f32(vdupq_n_f32(FM_EXPF_Q1), q, r);
    q = vfmaq_f32(vdupq_n_f32(FM_EXPF_Q0), q, r);
    const float32x4_t p = vaddq_f32(vdupq_n_f32(1), vfmaq_f32(r, vmulq_f32(r, r), q));
    float32x4_t y =
        vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(p), vshlq_n_s32(vreinterpretq_s32_f32(t), 23)));
    y = vbslq_f32(vcltq_f32(x, vdupq_n_f32(FM_EXPF_LO)), vdupq_n_f32(0), y);
    y = vbslq_f32(vcgtq_f32(x, vdupq_n_f32(FM_EXPF_HI)), vdupq_n_f32(__builtin_inff()), y);
    return vbslq_f32(vceqq_f32(x, x), y, x);
}

/* 1/(1 + exp(−x)) */
FM_INLINE float32x4_t fm_sigmoid4(float32x4_t x)
{
    const float32x4_t one = vdupq_n_f32(1);
    return vdivq_f32(one, vaddq_f32(one, fm_exp4(vnegq_f32(x))));
}

#endif
