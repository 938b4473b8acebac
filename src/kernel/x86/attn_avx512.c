/* Attention over int8 with AVX-512 VNNI: dpwssd multiplies pairs of int16 and adds them to int32, 32 products at a time. */
#include "kernel/x86/lanes_avx2.h"
#include "kernel/x86/x86.h"

FM_INLINE __m512i pair_of(const int16_t *a)
{
    int32_t two;
    memcpy(&two, a, sizeof two);
    return _mm512_set1_epi32(two);
}

/* R rows by C times sixteen lanes. */
FM_INLINE void tile(int R, int C, float *c, ptrdiff_t ldc, const int16_t *a, ptrdiff_t lda, const int16_t *b,
                    ptrdiff_t ldb, const float *by_lane, const float *by_row, int pairs)
{
    __m512i acc[6][4], v[4];
    FM_UNROLL
    for (int i = 0; i < R; i++) {
        FM_UNROLL
        for (int j = 0; j < C; j++) acc[i][j] = _mm512_setzero_si512();
    }
    for (int p = 0; p < pairs; p++, b += ldb, a += 2) {
        FM_UNROLL
        for (int j = 0; j < C; j++) v[j] = _mm512_loadu_si512(b + 32 * j);
        FM_UNROLL
        for (int i = 0; i < R; i++) {
            const __m512i x = pair_of(a + i * lda);
            FM_UNROLL
            for (int j = 0; j < C; j++) acc[i][j] = _mm512_dpwssd_epi32(acc[i][j], x, v[j]);
        }
    }
    FM_UNROLL
    for (int i = 0; i < R; i++) {
        const __m512 row = by_lane ? _mm512_setzero_ps() : _mm512_set1_ps(by_row[i]);
        FM_UNROLL
        for (int j = 0; j < C; j++) {
            float *at = c + i * ldc + 16 * j;
            const __m512 s = by_lane ? _mm512_loadu_ps(by_lane + 16 * j) : row;
            _mm512_storeu_ps(at, _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[i][j]), s, _mm512_loadu_ps(at)));
        }
    }
}

#define ROWS(R, C)                 \
    for (; i + (R) <= m; i += (R)) \
    tile(R, C, c + i * ldc, ldc, a + i * lda, lda, b, ldb, by_lane, by_lane ? NULL : by_row + i, pairs)

/* All rows by C times sixteen lanes. */
FM_INLINE void columns(int C, float *c, ptrdiff_t ldc, const int16_t *a, ptrdiff_t lda, const int16_t *b, ptrdiff_t ldb,
                       const float *by_lane, const float *by_row, int m, int pairs)
{
    int i = 0;
    ROWS(4, C);
    ROWS(2, C);
    ROWS(1, C);
}

static void gemm_q15(float *c, ptrdiff_t ldc, const int16_t *a, ptrdiff_t lda, const int16_t *b, const float *by_lane,
                     const float *by_row, int m, int lanes, int pairs)
{
    if (lanes == 64)
        columns(4, c, ldc, a, lda, b, 2 * lanes, by_lane, by_row, m, pairs);
    else
        for (int l = 0; l < lanes; l += 16)
            columns(1, c + l, ldc, a, lda, b + 2 * l, 2 * lanes, by_lane ? by_lane + l : NULL, by_row, m, pairs);
}

void fm_avx512_fill_attn(struct fm_kernels *k) { k->gemm_q15 = gemm_q15; }
