/* Products of rows of W where they lie, by int8 blocks of x: of the formats that models use most.
 *
 *   a run of 32 columns   two vectors of codes of a row, sdot with x: four partial sums; those of four rows are added pairwise
 *                         into one vector, a lane each
 *   over runs             acc = fma(dw·dx, that, acc): the four outputs are the lanes */
#include "kernel/arm/arm.h"

enum { ROWS = 4, RUN = 32 };

/* Columns 0 … 15 and 16 … 31. */
struct codes {
    int8x16_t c[2];
};

FM_INLINE float half_at(const unsigned char *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(h))), 0);
}

FM_INLINE struct codes minus(uint8x16_t low, uint8x16_t high, int8_t offset)
{
    const int8x16_t by = vdupq_n_s8(offset);
    return (struct codes){{vsubq_s8(vreinterpretq_s8_u8(low), by), vsubq_s8(vreinterpretq_s8_u8(high), by)}};
}

/* ---- blocks: the codes and d, m, scales of run b, as scalar/q8_blocks_scalar.c reads them ---- */

struct run {
    struct codes codes;
    float d, m;
    int scale[2];
};

FM_INLINE void run_q8_0(struct run *r, const unsigned char *p, int b)
{
    (void)b;
    r->d = half_at(p);
    r->codes = (struct codes){{vreinterpretq_s8_u8(vld1q_u8(p + 2)), vreinterpretq_s8_u8(vld1q_u8(p + 18))}};
}

FM_INLINE void run_q4_0(struct run *r, const unsigned char *p, int b)
{
    (void)b;
    const uint8x16_t v = vld1q_u8(p + 2);
    r->d = half_at(p);
    r->codes = minus(vandq_u8(v, vdupq_n_u8(15)), vshrq_n_u8(v, 4), 8);
}

FM_INLINE void run_q4_k(struct run *r, const unsigned char *p, int b)
{
    const unsigned char *s = p + 4;
    const int scale = b < 4 ? s[b] & 63 : (s[b + 4] & 15) | s[b - 4] >> 6 << 4;
    const int min = b < 4 ? s[b + 4] & 63 : s[b + 4] >> 4 | s[b] >> 6 << 4;
    const int8x16_t by = vdupq_n_s8((int8_t)(-4 * (b % 2)));
    const uint8x16_t four = vdupq_n_u8(15);
    p += 16 + b / 2 * 32;
    r->d = half_at(s - 4) * (float)scale;
    r->m = -(half_at(s - 2) * (float)min);
    r->codes = minus(vandq_u8(vshlq_u8(vld1q_u8(p), by), four), vandq_u8(vshlq_u8(vld1q_u8(p + 16), by), four), 0);
}

FM_INLINE uint8x16_t six_bits(const unsigned char *low, const unsigned char *high, int b)
{
    const int8x16_t low_by = vdupq_n_s8((int8_t)(b % 4 < 2 ? 0 : -4)), high_by = vdupq_n_s8((int8_t)(-2 * (b % 4)));
    const uint8x16_t l = vandq_u8(vshlq_u8(vld1q_u8(low), low_by), vdupq_n_u8(15));
    const uint8x16_t h = vandq_u8(vshlq_u8(vld1q_u8(high), high_by), vdupq_n_u8(3));
    return vorrq_u8(l, vshlq_n_u8(h, 4));
}

FM_INLINE void run_q6_k(struct run *r, const unsigned char *p, int b)
{
    const unsigned char *low = p + b / 4 * 64 + b % 2 * 32, *high = p + 128 + b / 4 * 32;
    r->d = half_at(p + 208);
    for (int h = 0; h < 2; h++) r->scale[h] = (int8_t)p[192 + 2 * b + h];
    r->codes = minus(six_bits(low, high, b), six_bits(low + 16, high + 16, b), 32);
}

/* ---- products ---- */

/* One row per format; a constant where it is inlined. */
struct format {
    int runs, bytes; /* of a file's block */
    bool minimum, two;
    void (*run)(struct run *r, const unsigned char *p, int b);
};

FM_INLINE int32x4_t row_dot(const struct format *f, const struct run *r, const struct fm_q8x *x)
{
    const int32x4_t zero = vdupq_n_s32(0);
    int32x4_t s0 = vdotq_s32(zero, r->codes.c[0], vld1q_s8(x->q));
    if (!f->two) return vdotq_s32(s0, r->codes.c[1], vld1q_s8(x->q + 16));
    return vmlaq_n_s32(vmulq_n_s32(s0, r->scale[0]), vdotq_s32(zero, r->codes.c[1], vld1q_s8(x->q + 16)), r->scale[1]);
}

/* Rows from `last` on are not there: the last one stands for them. */
FM_INLINE void four_rows(const struct format *f, int last, float *y, const struct fm_q8x *x, const unsigned char *w,
                         size_t row_bytes, int k)
{
    float32x4_t acc = vdupq_n_f32(0);
    float out[ROWS];
    for (int b = 0; b < k / RUN; b += f->runs, w += f->bytes)
        for (int r = 0; r < f->runs; r++, x++) {
            struct run run[ROWS];
            int32x4_t s[ROWS];
            float d[ROWS], m[ROWS];
            FM_UNROLL
            for (int i = 0; i < ROWS; i++) {
                f->run(&run[i], w + (size_t)fm_min_int(i, last - 1) * row_bytes, r);
                s[i] = row_dot(f, &run[i], x);
                d[i] = run[i].d;
                if (f->minimum) m[i] = run[i].m;
            }
            const int32x4_t sum = vpaddq_s32(vpaddq_s32(s[0], s[1]), vpaddq_s32(s[2], s[3]));
            acc = vfmaq_f32(acc, vmulq_n_f32(vld1q_f32(d), x->d), vcvtq_f32_s32(sum));
            if (f->minimum) acc = vfmaq_n_f32(acc, vld1q_f32(m), x->s);
        }
    vst1q_f32(out, acc);
    memcpy(y, out, (size_t)fm_min_int(ROWS, last) * sizeof *y);
}

#define GEMM(fmt, ...)                                                                                               \
    static void gemm_##fmt(float *y, ptrdiff_t ldy, const struct fm_q8x *xq, int m, const void *w, size_t row_bytes, \
                           int n, int k, float *work)                                                                \
    {                                                                                                                \
        static const struct format f = {__VA_ARGS__};                                                                \
        (void)work;                                                                                                  \
        for (int j = 0; j < n; j += ROWS)                                                                            \
            for (int i = 0; i < m; i++)                                                                              \
                four_rows(&f, n - j, y + i * ldy + j, xq + (ptrdiff_t)i * (k / RUN),                                 \
                          (const unsigned char *)w + (size_t)j * row_bytes, row_bytes, k);                           \
    }
GEMM(Q8_0, 1, 34, false, false, run_q8_0)
GEMM(Q4_0, 1, 18, false, false, run_q4_0)
GEMM(Q4_K, 8, 144, true, false, run_q4_k)
GEMM(Q6_K, 8, 210, false, true, run_q6_k)

void fm_dotprod_fill_q8(struct fm_kernels *k)
{
    k->gemm_q8[FM_Q8_0] = gemm_Q8_0;
    k->gemm_q8[FM_Q4_0] = gemm_Q4_0;
    k->gemm_q8[FM_Q4_K] = gemm_Q4_K;
    k->gemm_q8[FM_Q6_K] = gemm_Q6_K;
}
