/* Products of F16 and BF16 weights in integers of 14 bits (scalar/q14_scalar.c): four rows of W side by side, a lane each.
 *
 *   two cells of a block    8 words × 2, taken apart while loaded: columns 4p … 4p + 3, each of four rows
 *   smlal                   four rows' column times that of a row of x, added to int32
 *   over blocks             acc = fma(dw·dx, that, acc): the four outputs are the lanes
 *
 * Rows as in the file are packed first, PIECE blocks at a time; between pieces the chains wait in y. */
#include "kernel/arm/arm.h"

#include <math.h>

enum {
    ROWS = 4,
    BLOCK = 32,
    CODE = 8191,
    BLOCK_WORDS = ROWS * BLOCK,
    PIECE = 64, /* a group of them is half an L1 cache */
    TILE_M = 4,
    LEAST = 13,
    LEAST_F16 = 113,
    SPECIAL = 255,
};

_Static_assert(PIECE *BLOCK_WORDS * sizeof(int16_t) <= FM_GEMM_WORK * sizeof(float), "a group packed");

/* The bits of the largest |v|: they order as integers, NaN above all. */
FM_INLINE uint32_t largest(const float32x4_t v[BLOCK / 4])
{
    uint32x4_t most = vdupq_n_u32(0);
    FM_UNROLL
    for (int i = 0; i < BLOCK / 4; i++) most = vmaxq_u32(most, vreinterpretq_u32_f32(vabsq_f32(v[i])));
    return vmaxvq_u32(most);
}

/* v·by to nearest even. */
FM_INLINE int16x8_t integers(float32x4_t low, float32x4_t high, float by)
{
    return vcombine_s16(vmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(low, by))),
                        vmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(high, by))));
}

static void quantise_q14x(struct fm_q14x *dst, const float *x, int k)
{
    for (int b = 0; b < k / BLOCK; b++, x += BLOCK, dst++) {
        float32x4_t v[BLOCK / 4];
        FM_UNROLL
        for (int i = 0; i < BLOCK / 4; i++) v[i] = vld1q_f32(x + 4 * i);
        const uint32_t bits = largest(v);
        float max;
        memcpy(&max, &bits, sizeof max);
        if (!(max >= 1e-30f && max < INFINITY)) {
            *dst = (struct fm_q14x){.d = max < 1e-30f ? 1 : NAN};
            continue;
        }
        dst->d = max / CODE;
        FM_UNROLL
        for (int i = 0; i < BLOCK / 8; i++) vst1q_s16(dst->q + 8 * i, integers(v[2 * i], v[2 * i + 1], CODE / max));
    }
}

/* ---- packing ---- */

FM_INLINE float32x4_t wide(bool f16, uint16x4_t v)
{
    return f16 ? vcvt_f32_f16(vreinterpret_f16_u16(v)) : vreinterpretq_f32_u32(vshll_n_u16(v, 16));
}

/* A block of one row: its integers, of the first four columns with the bits of e. */
FM_INLINE void integers_of_block(bool f16, int16x8_t q[BLOCK / 8], const unsigned char *w)
{
    float32x4_t v[BLOCK / 4];
    FM_UNROLL
    for (int i = 0; i < BLOCK / 4; i++) v[i] = wide(f16, vreinterpret_u16_u8(vld1_u8(w + 8 * i)));
    const int e = fm_max_int((int)(largest(v) >> 23), f16 ? LEAST_F16 : LEAST);
    const uint32_t inv_bits = (uint32_t)(139 + 127 - e) << 23;
    float inv;
    memcpy(&inv, &inv_bits, sizeof inv);
    FM_UNROLL
    for (int i = 0; i < BLOCK / 8; i++) q[i] = e < SPECIAL ? integers(v[2 * i], v[2 * i + 1], inv) : vdupq_n_s16(0);
    static const int16_t down[8] = {0, -2, -4, -6}, up[8] = {2, 2, 2, 2}, two_bits[8] = {3, 3, 3, 3};
    q[0] = vorrq_s16(vshlq_s16(q[0], vld1q_s16(up)),
                     vandq_s16(vshlq_s16(vdupq_n_s16((int16_t)e), vld1q_s16(down)), vld1q_s16(two_bits)));
}

/* nb blocks of n <= 4 rows; the last row stands for those that are not there. */
FM_INLINE void pack_group(bool f16, int16_t *dst, const unsigned char *src, size_t row_bytes, int n, int nb)
{
    for (int b = 0; b < nb; b++, src += 2 * BLOCK) {
        int16x8_t q[ROWS][BLOCK / 8];
        FM_UNROLL
        for (int r = 0; r < ROWS; r++) integers_of_block(f16, q[r], src + (size_t)fm_min_int(r, n - 1) * row_bytes);
        FM_UNROLL
        for (int i = 0; i < BLOCK / 8; i++) {
            float32x4_t r[ROWS], t[ROWS]; /* pairs of words */
            FM_UNROLL
            for (int j = 0; j < ROWS; j++) r[j] = vreinterpretq_f32_s16(q[j][i]);
            fm_transpose4(t, r);
            FM_UNROLL
            for (int j = 0; j < ROWS; j++, dst += 8) vst1q_s16(dst, vreinterpretq_s16_f32(t[j]));
        }
    }
}

typedef void (*pack_fn)(int16_t *dst, const unsigned char *src, size_t row_bytes, int n, int nb);

static void pack_group_F16(int16_t *dst, const unsigned char *src, size_t row_bytes, int n, int nb)
{
    pack_group(true, dst, src, row_bytes, n, nb);
}

static void pack_group_BF16(int16_t *dst, const unsigned char *src, size_t row_bytes, int n, int nb)
{
    pack_group(false, dst, src, row_bytes, n, nb);
}

/* ---- products ---- */

/* Takes the bytes e out of the first two cells; returns 2^(e − 139), of 255 infinity. */
FM_INLINE float32x4_t factors(int16x8x2_t *w)
{
    const uint16x8_t even = vandq_u16(vreinterpretq_u16_s16(w->val[0]), vdupq_n_u16(3));
    const uint16x8_t odd = vandq_u16(vreinterpretq_u16_s16(w->val[1]), vdupq_n_u16(3));
    const uint16x8_t four = vorrq_u16(even, vshlq_n_u16(odd, 2));
    const uint16x4_t e = vorr_u16(vget_low_u16(four), vshl_n_u16(vget_high_u16(four), 4));
    w->val[0] = vshrq_n_s16(w->val[0], 2);
    w->val[1] = vshrq_n_s16(w->val[1], 2);
    return vmulq_n_f32(vreinterpretq_f32_u32(vshlq_n_u32(vmovl_u16(e), 23)), 0x1p-12f);
}

FM_INLINE float32x4_t load_n(const float *p, int n)
{
    float t[ROWS] = {0};
    if (n == ROWS) return vld1q_f32(p);
    memcpy(t, p, (size_t)n * sizeof *p);
    return vld1q_f32(t);
}

FM_INLINE void store_n(float *p, float32x4_t v, int n)
{
    float t[ROWS];
    vst1q_f32(t, v);
    memcpy(p, t, (size_t)n * sizeof *p);
}

/* rows <= 4 rows of x, x_nb blocks each, by nb blocks of a group, of whose rows n count; more: the chains go on from y. */
FM_INLINE void tile(int rows, float *y, ptrdiff_t ldy, const struct fm_q14x *x, ptrdiff_t x_nb, const int16_t *w, int n,
                    int nb, bool more)
{
    float32x4_t acc[TILE_M];
    FM_UNROLL
    for (int i = 0; i < rows; i++) acc[i] = more ? load_n(y + i * ldy, n) : vdupq_n_f32(0);
    for (int b = 0; b < nb; b++, x++, w += BLOCK_WORDS) {
        int32x4_t even[TILE_M], odd[TILE_M];
        float32x4_t d;
        FM_UNROLL
        for (int i = 0; i < rows; i++) even[i] = odd[i] = vdupq_n_s32(0);
        FM_UNROLL
        for (int p = 0; p < BLOCK / 4; p++) {
            int16x8x2_t c = vld2q_s16(w + 4 * ROWS * p);
            if (p == 0) d = factors(&c);
            FM_UNROLL
            for (int i = 0; i < rows; i++) {
                const int16x4_t q = vld1_s16(x[i * x_nb].q + 4 * p);
                even[i] = vmlal_lane_s16(even[i], vget_low_s16(c.val[0]), q, 0);
                odd[i] = vmlal_lane_s16(odd[i], vget_low_s16(c.val[1]), q, 1);
                even[i] = vmlal_high_lane_s16(even[i], c.val[0], q, 2);
                odd[i] = vmlal_high_lane_s16(odd[i], c.val[1], q, 3);
            }
        }
        FM_UNROLL
        for (int i = 0; i < rows; i++)
            acc[i] = vfmaq_f32(acc[i], vmulq_n_f32(d, x[i * x_nb].d), vcvtq_f32_s32(vaddq_s32(even[i], odd[i])));
    }
    FM_UNROLL
    for (int i = 0; i < rows; i++) store_n(y + i * ldy, acc[i], n);
}

/* All rows of x by part of a group. */
static void by_group(float *y, ptrdiff_t ldy, const struct fm_q14x *x, int m, ptrdiff_t x_nb, const int16_t *w, int n,
                     int nb, bool more)
{
    int i = 0;
    for (; i + TILE_M <= m; i += TILE_M) tile(TILE_M, y + i * ldy, ldy, x + i * x_nb, x_nb, w, n, nb, more);
    for (; i < m; i++) tile(1, y + i * ldy, ldy, x + i * x_nb, x_nb, w, n, nb, more);
}

static void gemm(pack_fn pack, float *y, ptrdiff_t ldy, const struct fm_q14x *xq, int m, const unsigned char *w,
                 size_t row_bytes, int n, int k, int16_t *packed)
{
    const int nb = k / BLOCK;
    for (int j = 0; j < n; j += ROWS, w += ROWS * row_bytes)
        for (int b = 0; b == 0 || b < nb; b += PIECE) {
            const int rows = fm_min_int(ROWS, n - j), piece = fm_min_int(PIECE, nb - b);
            pack(packed, w + (size_t)b * BLOCK * 2, row_bytes, rows, piece);
            by_group(y + j, ldy, xq + b, m, nb, packed, rows, piece, b > 0);
        }
}

#define SLOTS(fmt)                                                                                                    \
    static void gemm_##fmt(float *y, ptrdiff_t ldy, const struct fm_q14x *xq, int m, const void *w, size_t row_bytes, \
                           int n, int k, float *work)                                                                 \
    {                                                                                                                 \
        gemm(pack_group_##fmt, y, ldy, xq, m, w, row_bytes, n, k, (int16_t *)(void *)work);                           \
    }                                                                                                                 \
    static void pack_##fmt(void *dst, const void *src, size_t row_bytes, int n, int k)                                \
    {                                                                                                                 \
        for (int j = 0; j < n; j += ROWS)                                                                             \
            pack_group_##fmt((int16_t *)dst + (size_t)j * (row_bytes / 2),                                            \
                             (const unsigned char *)src + (size_t)j * row_bytes, row_bytes, ROWS, k / BLOCK);         \
    }
SLOTS(F16)
SLOTS(BF16)

static void gemm_packed(float *y, ptrdiff_t ldy, const struct fm_q14x *xq, int m, const void *w, size_t row_bytes,
                        int n, int k, float *work)
{
    (void)work;
    for (int j = 0; j < n; j += ROWS)
        by_group(y + j, ldy, xq, m, k / BLOCK, (const int16_t *)w + (size_t)j * (row_bytes / 2), ROWS, k / BLOCK,
                 false);
}

void fm_neon_fill_q14(struct fm_kernels *k)
{
    k->quantise_q14x = quantise_q14x;
    k->gemm_q14[FM_F16] = gemm_F16;
    k->gemm_q14[FM_BF16] = gemm_BF16;
    k->pack[FM_F16] = pack_F16;
    k->pack[FM_BF16] = pack_BF16;
    k->gemm_packed_q14 = gemm_packed;
}
