/* Packed weights with sdot: 4 rows of W side by side, a lane each (the layout: scalar/q8_packed_scalar.c, for four rows).
 *
 *   a run of 32 columns:  a vector of codes is 4 rows × 4 columns, unpacked in registers by shift and mask; sdot with four
 *                         columns of a row of x in all lanes adds their products to int32, eight times
 *   over runs             acc = fma(dw·dx, that, acc): the four outputs are the lanes
 *
 * The scalar tier's pack and unpack_row have the same four rows. */
#ifndef FM_KERNEL_Q8_PACKED_DOTPROD_H
#define FM_KERNEL_Q8_PACKED_DOTPROD_H

#include "kernel/arm/arm.h"
#include "kernel/q8_formats.h"

enum { ROWS = 4, RUN = 32, CELLS = 4 * ROWS, GROUPS = 8, DOT_ROWS = 4, RUNS_MAX = 8 };

/* Of a block: lane = row. */
struct heads {
    float32x4_t d[RUNS_MAX], m[RUNS_MAX];           /* of each run; two scales: d[0], m[0] */
    int32x4_t scale[RUNS_MAX][2], min[RUNS_MAX][2]; /* of both halves                      */
};

/* One row per format.  Where inlined with a constant row, all conditions vanish. */
struct format {
    int runs, head;                    /* of a file's block: runs of 32, bytes before the codes */
    int low, high;                     /* bits of the two planes                                */
    int offset;                        /* a weight is its code − offset, …                      */
    const int8_t *levels;              /* … or the level that its code names                    */
    bool minimum, two, two_mins, each; /* two scales; two minima; d and m differ by run */
    void (*open)(const struct format *f, struct heads *h, const unsigned char *p);
};

/* ---- heads ---- */

FM_INLINE float32x4_t halves(const unsigned char *p) { return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p))); }

FM_INLINE int32x4_t bytes(const unsigned char *p)
{
    int32_t four;
    memcpy(&four, p, sizeof four);
    return vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four)))));
}

FM_INLINE void open_d(const struct format *f, struct heads *h, const unsigned char *p)
{
    h->d[0] = halves(p);
    if (f->minimum) h->m[0] = halves(p + 2 * ROWS);
}

/* Six-bit scales and minima: four bytes of four rows at a time, as quant/q4_k.c draws them. */
FM_INLINE void open_k(const struct format *f, struct heads *h, const unsigned char *p)
{
    (void)f;
    const uint8x16_t six = vdupq_n_u8(63), four = vdupq_n_u8(15);
    const float32x4_t d = halves(p), m = vnegq_f32(halves(p + 2 * ROWS));
    const uint8x16_t t0 = vld1q_u8(p + 4 * ROWS), t1 = vld1q_u8(p + 8 * ROWS), t2 = vld1q_u8(p + 12 * ROWS);
    unsigned char s[8 * ROWS], n[8 * ROWS];
    vst1q_u8(s, vandq_u8(t0, six));
    vst1q_u8(n, vandq_u8(t1, six));
    vst1q_u8(s + 4 * ROWS, vorrq_u8(vandq_u8(t2, four), vshlq_n_u8(vshrq_n_u8(t0, 6), 4)));
    vst1q_u8(n + 4 * ROWS, vorrq_u8(vshrq_n_u8(t2, 4), vshlq_n_u8(vshrq_n_u8(t1, 6), 4)));
    FM_UNROLL
    for (int b = 0; b < 8; b++) {
        h->d[b] = vmulq_f32(d, vcvtq_f32_s32(bytes(s + b * ROWS)));
        h->m[b] = vmulq_f32(m, vcvtq_f32_s32(bytes(n + b * ROWS)));
    }
}

FM_INLINE void open_q6_k(const struct format *f, struct heads *h, const unsigned char *p)
{
    (void)f;
    h->d[0] = halves(p);
    FM_UNROLL
    for (int i = 0; i < 16; i++) h->scale[i / 2][i % 2] = bytes(p + (2 + i) * ROWS);
}

FM_INLINE void open_q2_k(const struct format *f, struct heads *h, const unsigned char *p)
{
    (void)f;
    h->d[0] = halves(p);
    h->m[0] = vnegq_f32(halves(p + 2 * ROWS));
    FM_UNROLL
    for (int i = 0; i < 16; i++) {
        const int32x4_t both = bytes(p + (4 + i) * ROWS), four = vdupq_n_s32(15);
        h->scale[i / 2][i % 2] = vandq_s32(both, four);
        h->min[i / 2][i % 2] = vandq_s32(vshrq_n_s32(both, 4), four);
    }
}

FM_INLINE void open_q3_k(const struct format *f, struct heads *h, const unsigned char *p)
{
    (void)f;
    h->d[0] = halves(p);
    p += 2 * ROWS;
    FM_UNROLL
    for (int i = 0; i < 16; i++) {
        const int32x4_t low = vshlq_s32(bytes(p + i % 8 * ROWS), vdupq_n_s32(-(i / 8 * 4)));
        const int32x4_t top = vshlq_s32(bytes(p + (8 + i % 4) * ROWS), vdupq_n_s32(-(i / 4 * 2)));
        const int32x4_t six =
            vorrq_s32(vandq_s32(low, vdupq_n_s32(15)), vshlq_n_s32(vandq_s32(top, vdupq_n_s32(3)), 4));
        h->scale[i / 2][i % 2] = vsubq_s32(six, vdupq_n_s32(32));
    }
}

FM_INLINE void open_iq4_xs(const struct format *f, struct heads *h, const unsigned char *p)
{
    (void)f;
    const float32x4_t d = halves(p);
    const uint32x4_t top = vmovl_u16(vreinterpret_u16_u8(vld1_u8(p + 2 * ROWS)));
    const uint32x4_t low = vreinterpretq_u32_u8(vld1q_u8(p + 4 * ROWS));
    FM_UNROLL
    for (int b = 0; b < 8; b++) {
        const uint32x4_t s = vandq_u32(vshlq_u32(low, vdupq_n_s32(-4 * b)), vdupq_n_u32(15));
        const uint32x4_t t = vandq_u32(vshlq_u32(top, vdupq_n_s32(-2 * b)), vdupq_n_u32(3));
        const int32x4_t six = vreinterpretq_s32_u32(vorrq_u32(s, vshlq_n_u32(t, 4)));
        h->d[b] = vmulq_f32(d, vcvtq_f32_s32(vsubq_s32(six, vdupq_n_s32(32))));
    }
}

/* 2^(e − 128): exponents below those of normal numbers are single bits of the fraction. */
FM_INLINE void open_mxfp4(const struct format *f, struct heads *h, const unsigned char *p)
{
    (void)f;
    const uint32x4_t e = vandq_u32(vreinterpretq_u32_s32(bytes(p)), vdupq_n_u32(255));
    const uint32x4_t normal = vshlq_n_u32(vsubq_u32(e, vdupq_n_u32(1)), 23);
    const uint32x4_t small = vshlq_u32(vdupq_n_u32(0x200000), vreinterpretq_s32_u32(e));
    h->d[0] = vreinterpretq_f32_u32(vbslq_u32(vcltq_u32(e, vdupq_n_u32(2)), small, normal));
}

/* ---- codes ---- */

/* Columns 4g … 4g + 3 of a plane. */
FM_INLINE uint8x16_t plane(const unsigned char *cells, int bits, int g)
{
    const uint8x16_t v = vld1q_u8(cells + g % bits * CELLS);
    if (bits == 8) return v;
    return vandq_u8(vshlq_u8(v, vdupq_n_s8((int8_t)(-bits * (g / bits)))), vdupq_n_u8((uint8_t)((1 << bits) - 1)));
}

FM_INLINE void open_codes(const struct format *f, int8x16_t c[GROUPS], const unsigned char *cells)
{
    FM_UNROLL
    for (int g = 0; g < GROUPS; g++) {
        uint8x16_t v = plane(cells, f->low, g);
        if (f->high) v = vorrq_u8(v, vshlq_u8(plane(cells + f->low * CELLS, f->high, g), vdupq_n_s8((int8_t)f->low)));
        c[g] = f->levels ? vqtbl1q_s8(vld1q_s8(f->levels), v)
                         : vsubq_s8(vreinterpretq_s8_u8(v), vdupq_n_s8((int8_t)f->offset));
    }
}

/* Σ of sixteen columns of four rows. */
FM_INLINE int32x4_t half_dot(const int8x16_t c[4], const int8_t *q)
{
    const int8x16_t x = vld1q_s8(q);
    int32x4_t s = vdotq_laneq_s32(vdupq_n_s32(0), c[0], x, 0);
    s = vdotq_laneq_s32(s, c[1], x, 1);
    s = vdotq_laneq_s32(s, c[2], x, 2);
    return vdotq_laneq_s32(s, c[3], x, 3);
}

FM_INLINE float32x4_t add_run(const struct format *f, float32x4_t acc, const struct heads *h, int r,
                              const int8x16_t c[GROUPS], const struct fm_q8x *x)
{
    const float32x4_t d = h->d[f->each ? r : 0];
    int32x4_t s0 = half_dot(c, x->q), s1 = half_dot(c + 4, x->q + 16);
    if (f->two) s0 = vmulq_s32(s0, h->scale[r][0]), s1 = vmulq_s32(s1, h->scale[r][1]);
    acc = vfmaq_f32(acc, vmulq_n_f32(d, x->d), vcvtq_f32_s32(vaddq_s32(s0, s1)));
    if (f->minimum) acc = vfmaq_n_f32(acc, h->m[f->each ? r : 0], x->s);
    if (f->two_mins) {
        const int32x4_t s = vmlaq_n_s32(vmulq_n_s32(h->min[r][0], x->sum[0]), h->min[r][1], x->sum[1]);
        acc = vfmaq_f32(acc, vmulq_n_f32(h->m[0], x->d), vcvtq_f32_s32(s));
    }
    return acc;
}

/* Four rows of W by rows <= 4 rows of x. */
FM_INLINE void dot_tile(const struct format *f, int rows, float *y, ptrdiff_t ldy, const struct fm_q8x *xq,
                        const unsigned char *w, int k)
{
    const int run = (f->low + f->high) * CELLS, blocks = k / RUN;
    float32x4_t acc[DOT_ROWS];
    FM_UNROLL
    for (int i = 0; i < rows; i++) acc[i] = vdupq_n_f32(0);
    for (int b = 0; b < blocks; b += f->runs, w += f->head * ROWS + f->runs * run) {
        struct heads h;
        f->open(f, &h, w);
        for (int r = 0; r < f->runs; r++) {
            int8x16_t c[GROUPS];
            open_codes(f, c, w + f->head * ROWS + r * run);
            FM_UNROLL
            for (int i = 0; i < rows; i++) acc[i] = add_run(f, acc[i], &h, r, c, xq + i * blocks + b + r);
        }
    }
    FM_UNROLL
    for (int i = 0; i < rows; i++) vst1q_f32(y + i * ldy, acc[i]);
}

static const int8_t uneven[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
static const int8_t twice[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/* clang-format off */
/*                    runs head low high offset levels  minimum two    two_mins each */
#define ROW_Q8_0   {  1,   2,   8,  0,   0,     NULL,   false,  false, false,   false, open_d }
#define ROW_Q4_0   {  1,   2,   4,  0,   8,     NULL,   false,  false, false,   false, open_d }
#define ROW_Q4_1   {  1,   4,   4,  0,   0,     NULL,   true,   false, false,   false, open_d }
#define ROW_Q5_0   {  1,   2,   4,  1,   16,    NULL,   false,  false, false,   false, open_d }
#define ROW_Q5_1   {  1,   4,   4,  1,   0,     NULL,   true,   false, false,   false, open_d }
#define ROW_Q2_K   {  8,   20,  2,  0,   0,     NULL,   false,  true,  true,    false, open_q2_k }
#define ROW_Q3_K   {  8,   14,  2,  1,   4,     NULL,   false,  true,  false,   false, open_q3_k }
#define ROW_Q4_K   {  8,   16,  4,  0,   0,     NULL,   true,   false, false,   true,  open_k }
#define ROW_Q5_K   {  8,   16,  4,  1,   0,     NULL,   true,   false, false,   true,  open_k }
#define ROW_Q6_K   {  8,   18,  4,  2,   32,    NULL,   false,  true,  false,   false, open_q6_k }
#define ROW_IQ4_NL {  1,   2,   4,  0,   0,     uneven, false,  false, false,   false, open_d }
#define ROW_IQ4_XS {  8,   8,   4,  0,   0,     uneven, false,  false, false,   true,  open_iq4_xs }
#define ROW_MXFP4  {  1,   1,   4,  0,   0,     twice,  false,  false, false,   false, open_mxfp4 }
/* clang-format on */

#endif
