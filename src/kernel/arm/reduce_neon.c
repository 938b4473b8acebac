/* Rows to one number: lanes by index mod 8 (mod 4 in double), folded as kernel.h says. */
#include <math.h>

#include "kernel/arm/exp_neon.h"
#include "kernel/math.h"

static float dot(const float *a, const float *b, size_t n)
{
    struct fm_lanes l = fm_zero_lanes();
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        l.low = vfmaq_f32(l.low, vld1q_f32(a + i), vld1q_f32(b + i));
        l.high = vfmaq_f32(l.high, vld1q_f32(a + i + 4), vld1q_f32(b + i + 4));
    }
    float t[8];
    vst1q_f32(t, l.low);
    vst1q_f32(t + 4, l.high);
    for (size_t j = 0; i < n; i++, j++) t[j] = fmaf(a[i], b[i], t[j]);
    return fm_fold((struct fm_lanes){vld1q_f32(t), vld1q_f32(t + 4)});
}

static double sumsq(const float *x, size_t n)
{
    float64x2_t low = vdupq_n_f64(0), high = low;
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        const float32x4_t v = vld1q_f32(x + i);
        const float64x2_t a = vcvt_f64_f32(vget_low_f32(v)), b = vcvt_high_f64_f32(v);
        low = vfmaq_f64(low, a, a);
        high = vfmaq_f64(high, b, b);
    }
    double t[4];
    vst1q_f64(t, low);
    vst1q_f64(t + 2, high);
    for (size_t j = 0; i < n; i++, j++) t[j] = fma((double)x[i], (double)x[i], t[j]);
    return (t[0] + t[2]) + (t[1] + t[3]);
}

/* b unless a is greater: NaN never enters, and the sign of a zero is settled by position. */
FM_INLINE float32x4_t greater4(float32x4_t a, float32x4_t b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
static float greater(float a, float b) { return a > b ? a : b; }

static float max(const float *x, size_t n)
{
    float32x4_t low = vdupq_n_f32(-INFINITY), high = low;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        low = greater4(vld1q_f32(x + i), low);
        high = greater4(vld1q_f32(x + i + 4), high);
    }
    float l[8];
    vst1q_f32(l, low);
    vst1q_f32(l + 4, high);
    for (size_t j = 0; i < n; i++, j++) l[j] = greater(x[i], l[j]);
    for (int j = 0; j < 4; j++) l[j] = greater(l[j], l[j + 4]);
    for (int j = 0; j < 2; j++) l[j] = greater(l[j], l[j + 2]);
    return greater(l[0], l[1]);
}

static float exp_sum(float *y, const float *x, size_t n, float shift)
{
    const float32x4_t s = vdupq_n_f32(shift);
    struct fm_lanes l = fm_zero_lanes();
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const float32x4_t a = fm_exp4(vsubq_f32(vld1q_f32(x + i), s)), b = fm_exp4(vsubq_f32(vld1q_f32(x + i + 4), s));
        vst1q_f32(y + i, a);
        vst1q_f32(y + i + 4, b);
        l.low = vaddq_f32(l.low, a);
        l.high = vaddq_f32(l.high, b);
    }
    float t[8];
    vst1q_f32(t, l.low);
    vst1q_f32(t + 4, l.high);
    for (size_t j = 0; i < n; i++, j++) t[j] += y[i] = fm_expf(x[i] - shift);
    return fm_fold((struct fm_lanes){vld1q_f32(t), vld1q_f32(t + 4)});
}

static void soften(float *p, float *top, float *sum, int m, int seen)
{
    enum { ROWS = 64 };
    const size_t n = (size_t)seen;
    for (int i = 0; i < m; i++, p += ROWS) {
        top[i] = max(p, n);
        sum[i] = exp_sum(p, p, n, top[i]);
        memset(p + n, 0, (ROWS - n) * sizeof *p);
    }
}

void fm_neon_fill_reduce(struct fm_kernels *k)
{
    k->dot = dot;
    k->sumsq = sumsq;
    k->max = max;
    k->exp_sum = exp_sum;
    k->soften = soften;
}
