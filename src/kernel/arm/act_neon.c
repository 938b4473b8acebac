/* sigmoid; SwiGLU's y = silu(g)·u. */
#include "kernel/arm/exp_neon.h"

/* The last 1 … 3 elements through four lanes. */
static void sigmoid(float *y, const float *x, size_t n)
{
    size_t i = 0;
    for (; i + 4 <= n; i += 4) vst1q_f32(y + i, fm_sigmoid4(vld1q_f32(x + i)));
    if (i == n) return;
    float t[4] = {0};
    memcpy(t, x + i, (n - i) * sizeof *t);
    vst1q_f32(t, fm_sigmoid4(vld1q_f32(t)));
    memcpy(y + i, t, (n - i) * sizeof *t);
}

FM_INLINE float32x4_t silu_mul4(float32x4_t g, float32x4_t u) { return vmulq_f32(vmulq_f32(g, fm_sigmoid4(g)), u); }

static void silu_mul(float *y, const float *g, const float *u, size_t n)
{
    size_t i = 0;
    for (; i + 4 <= n; i += 4) vst1q_f32(y + i, silu_mul4(vld1q_f32(g + i), vld1q_f32(u + i)));
    if (i == n) return;
    float a[4] = {0}, b[4] = {0};
    memcpy(a, g + i, (n - i) * sizeof *a);
    memcpy(b, u + i, (n - i) * sizeof *b);
    vst1q_f32(a, silu_mul4(vld1q_f32(a), vld1q_f32(b)));
    memcpy(y + i, a, (n - i) * sizeof *a);
}

void fm_neon_fill_act(struct fm_kernels *k)
{
    k->sigmoid = sigmoid;
    k->silu_mul = silu_mul;
}
