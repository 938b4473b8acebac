/* Attention over int8 with sdot: a vector of b is four lanes by four columns; four columns of a row of a meet it in all lanes.
 *
 *   Σ (a − 128)·b        a − 128 is an int8: one bit of a turned
 *   Σ a·b                the same and 128·Σb, with which the sums start */
#include "kernel/arm/arm.h"

enum { LANES = 16, VECTORS = LANES / 4, QUADS = 4, TILE_M = 4 };

/* What sixteen lanes of b need besides, of all rows. */
FM_INLINE void starts(int32x4_t s[VECTORS], const int8_t *b, ptrdiff_t step, int quads)
{
    int32x4_t less[VECTORS];
    FM_UNROLL
    for (int v = 0; v < VECTORS; v++) less[v] = vdupq_n_s32(0);
    for (int q = 0; q < quads; q++, b += step) {
        FM_UNROLL
        for (int v = 0; v < VECTORS; v++) less[v] = vdotq_s32(less[v], vld1q_s8(b + 16 * v), vdupq_n_s8(-128));
    }
    FM_UNROLL
    for (int v = 0; v < VECTORS; v++) s[v] = vnegq_s32(less[v]);
}

/* rows <= 4 rows of a by sixteen lanes of b. */
FM_INLINE void tile(int rows, float *c, ptrdiff_t ldc, const uint8_t *a, ptrdiff_t lda, const int8_t *b, ptrdiff_t step,
                    const int32x4_t start[VECTORS], const float *by_lane, const float *by_row, int quads)
{
    int32x4_t sum[TILE_M][VECTORS];
    FM_UNROLL
    for (int i = 0; i < rows; i++) {
        FM_UNROLL
        for (int v = 0; v < VECTORS; v++) sum[i][v] = start[v];
    }
#define STEP(t)                                                                            \
    FM_UNROLL                                                                              \
    for (int v = 0; v < VECTORS; v++) {                                                    \
        const int8x16_t w = vld1q_s8(b + (t)*step + 16 * v);                               \
        FM_UNROLL                                                                          \
        for (int i = 0; i < rows; i++) sum[i][v] = vdotq_laneq_s32(sum[i][v], w, x[i], t); \
    }
    for (int q = 0; q < quads; q += QUADS, b += QUADS * step) {
        int8x16_t x[TILE_M];
        FM_UNROLL
        for (int i = 0; i < rows; i++)
            x[i] = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(a + i * lda + 4 * q), vdupq_n_u8(128)));
        STEP(0)
        STEP(1)
        STEP(2)
        STEP(3)
    }
    FM_UNROLL
    for (int i = 0; i < rows; i++) {
        FM_UNROLL
        for (int v = 0; v < VECTORS; v++) {
            float *at = c + i * ldc + 4 * v;
            const float32x4_t d = by_lane ? vmulq_n_f32(vld1q_f32(by_lane + 4 * v), by_row[i]) : vdupq_n_f32(by_row[i]);
            vst1q_f32(at, vfmaq_f32(vld1q_f32(at), vcvtq_f32_s32(sum[i][v]), d));
        }
    }
}

void fm_dotprod_gemm_u8(float *c, ptrdiff_t ldc, const uint8_t *a, ptrdiff_t lda, int zero, const int8_t *b,
                        const float *by_lane, const float *by_row, int m, int lanes, int quads)
{
    const ptrdiff_t step = 4 * (ptrdiff_t)lanes;
    for (int l = 0; l < lanes; l += LANES, b += 4 * LANES, c += LANES) {
        const float *by = by_lane ? by_lane + l : NULL;
        int32x4_t start[VECTORS] = {vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)};
        if (!zero) starts(start, b, step, quads);
        int i = 0;
        for (; i + TILE_M <= m; i += TILE_M)
            tile(TILE_M, c + i * ldc, ldc, a + i * lda, lda, b, step, start, by, by_row + i, quads);
        for (; i < m; i++) tile(1, c + i * ldc, ldc, a + i * lda, lda, b, step, start, by, by_row + i, quads);
    }
}

void fm_dotprod_fill_attn(struct fm_kernels *k) { k->gemm_u8 = fm_dotprod_gemm_u8; }
