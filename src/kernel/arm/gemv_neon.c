/* y[n] = W[n,K]·x for float weights: four rows are the lanes, transposed four columns at a time; sixteen rows together hide the
 * latency of one chain. */
#include <math.h>

#include "kernel/arm/arm.h"

enum { LANES = 4, GROUP = 16 };

typedef float32x4_t (*load_fn)(const unsigned char *p);

FM_INLINE float32x4_t load_f32(const unsigned char *p) { return vreinterpretq_f32_u8(vld1q_u8(p)); }
FM_INLINE float32x4_t load_f16(const unsigned char *p) { return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p))); }
FM_INLINE float32x4_t load_bf16(const unsigned char *p)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p)), 16));
}

/* rows = 4, 8 … 16, a constant where it is inlined.  Rows from `last` on are not there: the last one stands for them. */
FM_INLINE void rows_by_x(load_fn load, enum fm_fmt f, int bytes, int rows, int last, float *y, const unsigned char *w,
                         size_t row_bytes, const float *x, int k)
{
    const unsigned char *row[GROUP];
    float32x4_t acc[GROUP / LANES];
    float out[GROUP], v[GROUP];
    for (int i = 0; i < rows; i++) row[i] = w + (size_t)fm_min_int(i, last - 1) * row_bytes;
    FM_UNROLL
    for (int g = 0; g < rows / LANES; g++) acc[g] = vdupq_n_f32(0);
    int p = 0;
    for (; p + LANES <= k; p += LANES) {
        const float32x4_t xp = vld1q_f32(x + p);
        FM_UNROLL
        for (int g = 0; g < rows / LANES; g++) {
            float32x4_t r[4], t[4];
            FM_UNROLL
            for (int i = 0; i < LANES; i++) r[i] = load(row[LANES * g + i] + (size_t)p * (size_t)bytes);
            fm_transpose4(t, r);
            acc[g] = vfmaq_laneq_f32(acc[g], t[0], xp, 0);
            acc[g] = vfmaq_laneq_f32(acc[g], t[1], xp, 1);
            acc[g] = vfmaq_laneq_f32(acc[g], t[2], xp, 2);
            acc[g] = vfmaq_laneq_f32(acc[g], t[3], xp, 3);
        }
    }
    for (; p < k; p++) {
        for (int i = 0; i < rows; i++) fm_formats[f].decode(&v[i], row[i] + (size_t)p * (size_t)bytes, 1);
        FM_UNROLL
        for (int g = 0; g < rows / LANES; g++) acc[g] = vfmaq_n_f32(acc[g], vld1q_f32(v + LANES * g), x[p]);
    }
    FM_UNROLL
    for (int g = 0; g < rows / LANES; g++) vst1q_f32(out + LANES * g, acc[g]);
    memcpy(y, out, (size_t)fm_min_int(rows, last) * sizeof *y);
}

#define GEMV(fmt, load, bytes)                                                                            \
    static void gemv_##fmt(float *y, const void *w, size_t row_bytes, const float *x, int n, int k)       \
    {                                                                                                     \
        const unsigned char *p = w;                                                                       \
        int i = 0;                                                                                        \
        for (; i + GROUP <= n; i += GROUP, p += GROUP * row_bytes)                                        \
            rows_by_x(load, FM_##fmt, bytes, GROUP, GROUP, y + i, p, row_bytes, x, k);                    \
        for (; i < n; i += LANES, p += LANES * row_bytes)                                                 \
            rows_by_x(load, FM_##fmt, bytes, LANES, fm_min_int(LANES, n - i), y + i, p, row_bytes, x, k); \
    }
GEMV(F32, load_f32, 4)
GEMV(F16, load_f16, 2)
GEMV(BF16, load_bf16, 2)

void fm_neon_fill_gemv(struct fm_kernels *k)
{
    k->gemv[FM_F32] = gemv_F32;
    k->gemv[FM_F16] = gemv_F16;
    k->gemv[FM_BF16] = gemv_BF16;
}
