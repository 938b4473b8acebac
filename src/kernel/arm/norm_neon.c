/* RMSNorm, y = w ⊙ x·r with r = 1/sqrt(Σx²/n + eps).  Source: Zhang and Sennrich 2019. */
#include <math.h>

#include "kernel/arm/arm.h"

static void rms_norm(float *y, const float *x, const float *w, size_t n, float eps)
{
    struct fm_lanes l = fm_zero_lanes();
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const float32x4_t a = vld1q_f32(x + i), b = vld1q_f32(x + i + 4);
        l.low = vfmaq_f32(l.low, a, a);
        l.high = vfmaq_f32(l.high, b, b);
    }
    const struct fm_lanes t = fm_load_tail(x + i, n - i); /* zeros add nothing: the sums are not negative */
    l.low = vfmaq_f32(l.low, t.low, t.low);
    l.high = vfmaq_f32(l.high, t.high, t.high);
    const float r = 1 / sqrtf(fm_fold(l) / (float)n + eps);
    i = 0;
    for (; w && i + 4 <= n; i += 4) vst1q_f32(y + i, vmulq_f32(vmulq_n_f32(vld1q_f32(x + i), r), vld1q_f32(w + i)));
    for (; !w && i + 4 <= n; i += 4) vst1q_f32(y + i, vmulq_n_f32(vld1q_f32(x + i), r));
    for (; i < n; i++) y[i] = w ? x[i] * r * w[i] : x[i] * r;
}

void fm_neon_fill_norm(struct fm_kernels *k) { k->rms_norm = rms_norm; }
