/* Attention over int8: what surrounds its products, as scalar/attn_scalar.c says it. */
#include "kernel/arm/exp_neon.h"
#include "kernel/scalar/attn_rows.h"

enum { ROWS = 64, STEP = 16 };

/* The largest |x| so far: the bits of non-negative floats order as integers, NaN above all. */
FM_INLINE uint32x4_t larger(uint32x4_t most, float32x4_t x)
{
    return vmaxq_u32(most, vreinterpretq_u32_f32(vabsq_f32(x)));
}

FM_INLINE float largest(uint32x4_t most)
{
    const uint32_t u = vmaxvq_u32(most);
    float max;
    memcpy(&max, &u, sizeof max);
    return max;
}

/* ---- rounding ---- */

FM_INLINE uint32x4_t max_abs16(uint32x4_t most, const float *x)
{
    FM_UNROLL
    for (int j = 0; j < STEP; j += 4) most = larger(most, vld1q_f32(x + j));
    return most;
}

FM_INLINE int8x16_t scaled16(const float *x, float inv)
{
    int32x4_t q[4];
    FM_UNROLL
    for (int j = 0; j < 4; j++) q[j] = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 4 * j), inv));
    return vcombine_s8(vmovn_s16(vcombine_s16(vmovn_s32(q[0]), vmovn_s32(q[1]))),
                       vmovn_s16(vcombine_s16(vmovn_s32(q[2]), vmovn_s32(q[3]))));
}

static float quantise_kv(int8_t *q, const float *x, int n)
{
    const int whole = n / STEP * STEP;
    const size_t rest = (size_t)(n - whole);
    float tail[STEP] = {0}, d;
    memcpy(tail, x + whole, rest * sizeof *x);
    uint32x4_t most = max_abs16(vdupq_n_u32(0), tail);
    for (int i = 0; i < whole; i += STEP) most = max_abs16(most, x + i);
    const float max = largest(most);
    if (fm_attn_is_empty(max, &d)) {
        memset(q, 0, (size_t)n);
        return d;
    }
    const float inv = 127 / max;
    for (int i = 0; i < whole; i += STEP) vst1q_s8(q + i, scaled16(x + i, inv));
    int8_t last[STEP];
    vst1q_s8(last, scaled16(tail, inv));
    memcpy(q + whole, last, rest);
    return max / 127;
}

static void weigh_u8(uint8_t *w, float *f, const float *p, const float *d, int m)
{
    for (; m > 0; m--, w += ROWS, p += ROWS, f++) {
        float32x4_t x[ROWS / 4];
        uint32x4_t most = vdupq_n_u32(0);
        FM_UNROLL
        for (int i = 0; i < ROWS / 4; i++) {
            x[i] = vmulq_f32(vld1q_f32(p + 4 * i), vld1q_f32(d + 4 * i));
            most = larger(most, x[i]);
        }
        const float max = largest(most);
        if (fm_attn_is_empty(max, f)) {
            memset(w, 0, ROWS);
            continue;
        }
        const float inv = 255 / max;
        FM_UNROLL
        for (int i = 0; i < ROWS / 4; i += 2) {
            const uint32x4_t a = vcvtnq_u32_f32(vmulq_n_f32(x[i], inv));
            const uint32x4_t b = vcvtnq_u32_f32(vmulq_n_f32(x[i + 1], inv));
            vst1_u8(w + 4 * i, vmovn_u16(vcombine_u16(vmovn_u32(a), vmovn_u32(b))));
        }
        *f = max / 255;
    }
}

/* ---- laying out ---- */

/* Sums and differences of neighbours, of those two apart, of those four apart; eight values. */
FM_INLINE void butterflies8(float *x)
{
    float32x4_t v = vld1q_f32(x), w = vld1q_f32(x + 4);
    float32x4_t a = vuzp1q_f32(v, w), b = vuzp2q_f32(v, w), s = vaddq_f32(a, b), d = vsubq_f32(a, b);
    v = vzip1q_f32(s, d);
    w = vzip2q_f32(s, d);
    a = vcombine_f32(vget_low_f32(v), vget_low_f32(w));
    b = vcombine_f32(vget_high_f32(v), vget_high_f32(w));
    s = vaddq_f32(a, b);
    d = vsubq_f32(a, b);
    v = vcombine_f32(vget_low_f32(s), vget_low_f32(d));
    w = vcombine_f32(vget_high_f32(s), vget_high_f32(d));
    vst1q_f32(x, vaddq_f32(v, w));
    vst1q_f32(x + 4, vsubq_f32(v, w));
}

static void spread(float *x, int n)
{
    const int size = n & -n;
    const float scale = 1 / sqrtf((float)size);
    for (int i = 0; i < n; i += 8) butterflies8(x + i);
    for (int h = 8; h < size; h *= 2)
        for (int i = 0; i < n; i += 4)
            if (!(i & h)) {
                const float32x4_t a = vld1q_f32(x + i), b = vld1q_f32(x + i + h);
                vst1q_f32(x + i, vaddq_f32(a, b));
                vst1q_f32(x + i + h, vsubq_f32(a, b));
            }
    for (int i = 0; i < n; i += 4) vst1q_f32(x + i, vmulq_n_f32(vld1q_f32(x + i), scale));
}

/* Sixteen bytes are four rows of four values, which are turned within. */
static void turn(int8_t *dst, const int8_t *src, int n)
{
    static const uint8_t within[16] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
    const uint8x16_t order = vld1q_u8(within);
    for (int i = 0; i < n; i += 4, dst += 16) {
        int8_t *to = dst;
        for (int s = 0; s < ROWS; s += 4, src += 16, to += 4 * n) vst1q_s8(to, vqtbl1q_s8(vld1q_s8(src), order));
    }
}

/* ---- softmax ---- */

static void join(float *max, float *sum, float *old, float *fade, const float *top, const float *s, int m)
{
    int i = 0;
    for (; i + 4 <= m; i += 4) {
        const float32x4_t a = vld1q_f32(max + i), b = vld1q_f32(top + i), most = vbslq_f32(vcgtq_f32(b, a), b, a);
        const float32x4_t x = fm_exp4(vsubq_f32(a, most)), y = fm_exp4(vsubq_f32(b, most));
        vst1q_f32(old + i, x);
        vst1q_f32(fade + i, y);
        vst1q_f32(max + i, most);
        vst1q_f32(sum + i, vfmaq_f32(vmulq_f32(vld1q_f32(s + i), y), vld1q_f32(sum + i), x));
    }
    for (; i < m; i++) fm_attn_join(max + i, sum + i, old + i, fade + i, top[i], s[i]);
}

void fm_neon_fill_attn(struct fm_kernels *k)
{
    k->quantise_kv = quantise_kv;
    k->weigh_u8 = weigh_u8;
    k->spread = spread;
    k->turn = turn;
    k->join = join;
}
