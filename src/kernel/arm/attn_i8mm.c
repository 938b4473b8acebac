/* Attention over int8 with smmla and usmmla, four rows of a at a time: two rows of a by two lanes of b, eight columns each.
 *
 *   of b      sixteen lanes are laid out so, once for all rows
 *   of a      int8 if 128 is taken from it, else unsigned as it is
 *   the sums  [a0·b0, a0·b1, a1·b0, a1·b1] until the end
 *
 * What rows are left over go by sdot. */
#include "kernel/arm/arm.h"

enum { LANES = 16, COUPLES = LANES / 2, PAIRS = 2, TILE_M = 2 * PAIRS, STEPS_MAX = 8 };

/* Eight columns of sixteen lanes, two and two. */
struct lanes8 {
    int8x16_t of[COUPLES];
};

FM_INLINE void lay_lanes(struct lanes8 *to, const int8_t *b, ptrdiff_t step, int steps)
{
    for (int t = 0; t < steps; t++, b += 2 * step) {
        FM_UNROLL
        for (int v = 0; v < COUPLES / 2; v++) {
            const int32x4_t x = vreinterpretq_s32_s8(vld1q_s8(b + 16 * v));
            const int32x4_t y = vreinterpretq_s32_s8(vld1q_s8(b + step + 16 * v));
            to[t].of[2 * v] = vreinterpretq_s8_s32(vzip1q_s32(x, y));
            to[t].of[2 * v + 1] = vreinterpretq_s8_s32(vzip2q_s32(x, y));
        }
    }
}

/* Columns 0 … 7 and 8 … 15 of two rows. */
FM_INLINE void lay_rows(uint8x16_t to[2], bool keys, const uint8_t *a, ptrdiff_t lda)
{
    uint8x16_t x = vld1q_u8(a), y = vld1q_u8(a + lda);
    if (keys) x = veorq_u8(x, vdupq_n_u8(128)), y = veorq_u8(y, vdupq_n_u8(128));
    const uint64x2_t p = vreinterpretq_u64_u8(x), q = vreinterpretq_u64_u8(y);
    to[0] = vreinterpretq_u8_u64(vzip1q_u64(p, q));
    to[1] = vreinterpretq_u8_u64(vzip2q_u64(p, q));
}

FM_INLINE void finish(float *c, int32x4_t sum, const float *by_lane, float by_row)
{
    const float32x4_t d = by_lane ? vmulq_n_f32(vld1q_f32(by_lane), by_row) : vdupq_n_f32(by_row);
    vst1q_f32(c, vfmaq_f32(vld1q_f32(c), vcvtq_f32_s32(sum), d));
}

/* Four rows of a by sixteen lanes of b; keys: zero is 128. */
FM_INLINE void tile(bool keys, float *c, ptrdiff_t ldc, const uint8_t *a, ptrdiff_t lda, const struct lanes8 *b,
                    const float *by_lane, const float *by_row, int steps)
{
    int32x4_t sum[PAIRS][COUPLES];
    FM_UNROLL
    for (int i = 0; i < PAIRS; i++) {
        FM_UNROLL
        for (int v = 0; v < COUPLES; v++) sum[i][v] = vdupq_n_s32(0);
    }
    for (int t = 0; t < steps; t += 2, a += 16) {
        uint8x16_t x[PAIRS][2];
        FM_UNROLL
        for (int i = 0; i < PAIRS; i++) lay_rows(x[i], keys, a + 2 * i * lda, lda);
        FM_UNROLL
        for (int h = 0; h < 2; h++) {
            FM_UNROLL
            for (int v = 0; v < COUPLES; v++) {
                const int8x16_t w = b[t + h].of[v];
                FM_UNROLL
                for (int i = 0; i < PAIRS; i++)
                    sum[i][v] = keys ? vmmlaq_s32(sum[i][v], vreinterpretq_s8_u8(x[i][h]), w)
                                     : vusmmlaq_s32(sum[i][v], x[i][h], w);
            }
        }
    }
    FM_UNROLL
    for (int i = 0; i < PAIRS; i++, c += 2 * ldc, by_row += 2) {
        FM_UNROLL
        for (int v = 0; v < COUPLES; v += 2) {
            const int64x2_t p = vreinterpretq_s64_s32(sum[i][v]), q = vreinterpretq_s64_s32(sum[i][v + 1]);
            const float *by = by_lane ? by_lane + 2 * v : NULL;
            finish(c + 2 * v, vreinterpretq_s32_s64(vzip1q_s64(p, q)), by, by_row[0]);
            finish(c + ldc + 2 * v, vreinterpretq_s32_s64(vzip2q_s64(p, q)), by, by_row[1]);
        }
    }
}

static void gemm_u8(float *c, ptrdiff_t ldc, const uint8_t *a, ptrdiff_t lda, int zero, const int8_t *b,
                    const float *by_lane, const float *by_row, int m, int lanes, int quads)
{
    const int whole = m / TILE_M * TILE_M, steps = quads / 2;
    struct lanes8 laid[STEPS_MAX];
    for (int l = 0; l < lanes && whole; l += LANES) {
        const float *by = by_lane ? by_lane + l : NULL;
        lay_lanes(laid, b + 4 * l, 4 * (ptrdiff_t)lanes, steps);
        for (int i = 0; i < whole; i += TILE_M)
            if (zero)
                tile(true, c + i * ldc + l, ldc, a + i * lda, lda, laid, by, by_row + i, steps);
            else
                tile(false, c + i * ldc + l, ldc, a + i * lda, lda, laid, by, by_row + i, steps);
    }
    if (whole < m)
        fm_dotprod_gemm_u8(c + whole * ldc, ldc, a + whole * lda, lda, zero, b, by_lane, by_row + whole, m - whole,
                           lanes, quads);
}

void fm_i8mm_fill_attn(struct fm_kernels *k) { k->gemm_u8 = gemm_u8; }
