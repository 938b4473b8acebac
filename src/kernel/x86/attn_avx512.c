/* Attention over int8 with AVX-512 VNNI: dpwssd multiplies pairs of int16 and adds them to int32, 32 products at a time. */
#include <math.h>

#include "kernel/poly.h"
#include "kernel/x86/lanes_avx2.h"
#include "kernel/x86/x86.h"

enum { ROWS = 64, ZMM = 16, EACH = ROWS / ZMM };

/* ---- products ---- */

FM_INLINE __m512i pair_of(const int16_t *a)
{
    int32_t two;
    memcpy(&two, a, sizeof two);
    return _mm512_set1_epi32(two);
}

/* R rows by C times sixteen lanes. */
FM_INLINE void tile(int R, int C, float *c, ptrdiff_t ldc, const int16_t *a, ptrdiff_t lda, const int8_t *b,
                    ptrdiff_t ldb, const float *by_lane, const float *by_row, int pairs)
{
    __m512i acc[4][4], v[4];
    FM_UNROLL
    for (int i = 0; i < R; i++) {
        FM_UNROLL
        for (int j = 0; j < C; j++) acc[i][j] = _mm512_setzero_si512();
    }
    for (int p = 0; p < pairs; p++, b += ldb, a += 2) {
        FM_UNROLL
        for (int j = 0; j < C; j++)
            v[j] = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)(b + 32 * j)));
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
            float *at = c + i * ldc + ZMM * j;
            const __m512 s = by_lane ? _mm512_loadu_ps(by_lane + ZMM * j) : row;
            _mm512_storeu_ps(at, _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[i][j]), s, _mm512_loadu_ps(at)));
        }
    }
}

#define ROWS_OF(R, C)              \
    for (; i + (R) <= m; i += (R)) \
    tile(R, C, c + i * ldc, ldc, a + i * lda, lda, b, ldb, by_lane, by_lane ? NULL : by_row + i, pairs)

/* All rows by C times sixteen lanes. */
FM_INLINE void columns(int C, float *c, ptrdiff_t ldc, const int16_t *a, ptrdiff_t lda, const int8_t *b, ptrdiff_t ldb,
                       const float *by_lane, const float *by_row, int m, int pairs)
{
    int i = 0;
    ROWS_OF(4, C);
    ROWS_OF(2, C);
    ROWS_OF(1, C);
}

static void gemm_q15(float *c, ptrdiff_t ldc, const int16_t *a, ptrdiff_t lda, const int8_t *b, const float *by_lane,
                     const float *by_row, int m, int lanes, int pairs)
{
    if (lanes == ROWS)
        columns(EACH, c, ldc, a, lda, b, 2 * lanes, by_lane, by_row, m, pairs);
    else
        for (int l = 0; l < lanes; l += ZMM)
            columns(1, c + l, ldc, a, lda, b + 2 * l, 2 * lanes, by_lane ? by_lane + l : NULL, by_row, m, pairs);
}

/* ---- weights ---- */

static void weigh_q15(int16_t *w, float *f, const float *p, const float *d, int m)
{
    __m512 by[EACH], x[EACH];
    FM_UNROLL
    for (int j = 0; j < EACH; j++) by[j] = _mm512_loadu_ps(d + ZMM * j);
    for (; m > 0; m--, w += ROWS, p += ROWS, f++) {
        __m512i most = _mm512_setzero_si512();
        FM_UNROLL
        for (int j = 0; j < EACH; j++) {
            x[j] = _mm512_mul_ps(_mm512_loadu_ps(p + ZMM * j), by[j]);
            most = _mm512_max_epu32(most, _mm512_castps_si512(x[j])); /* NaN, of either sign, above all */
        }
        const float max = _mm512_cvtss_f32(_mm512_castsi512_ps(_mm512_set1_epi32((int)_mm512_reduce_max_epu32(most))));
        if (!(max >= 1e-30f && max < INFINITY)) {
            memset(w, 0, ROWS * sizeof *w);
            *f = max < 1e-30f ? 0 : NAN;
            continue;
        }
        const __m512 inv = _mm512_set1_ps(32767 / max);
        FM_UNROLL
        for (int j = 0; j < EACH; j++)
            _mm256_storeu_si256((__m256i *)(void *)(w + ZMM * j),
                                _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(_mm512_mul_ps(x[j], inv))));
        *f = max / 32767;
    }
}

/* fm_expf on sixteen lanes of x <= 0 or NaN: the same polynomial in the same order, hence the same bits; scalef multiplies
 * by a power of two, exactly. */
FM_INLINE __m512 exp16(__m512 x)
{
    const __m512 magic = _mm512_set1_ps(FM_EXPF_MAGIC), one = _mm512_set1_ps(1);
    const __m512 t = _mm512_fmadd_ps(x, _mm512_set1_ps(FM_EXPF_LOG2E), magic), n = _mm512_sub_ps(t, magic);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(FM_EXPF_LN2_HI), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(FM_EXPF_LN2_LO), r);
    __m512 q = _mm512_fmadd_ps(_mm512_set1_ps(FM_EXPF_Q4), r, _mm512_set1_ps(FM_EXPF_Q3));
    q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(FM_EXPF_Q2));
    q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(FM_EXPF_Q1));
    q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(FM_EXPF_Q0));
    const __m512 p = _mm512_add_ps(one, _mm512_fmadd_ps(_mm512_mul_ps(r, r), q, r));
    return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x, _mm512_set1_ps(FM_EXPF_LO), _CMP_NLT_UQ), p, n);
}

static void soften(float *p, float *top, float *sum, const float *d, int m, int seen)
{
    const uint64_t there = seen < ROWS
    ? (1ull << seen) - 1 : ~0ull;
    for (int i = 0; i < m; i++, p += ROWS) {
        const __m512 by = _mm512_set1_ps(d[i]), none = _mm512_set1_ps(-INFINITY);
        __m512 x[EACH], most = none;
        FM_UNROLL
        for (int j = 0; j < EACH; j++) {
            x[j] = _mm512_mul_ps(_mm512_loadu_ps(p + ZMM * j), by);
            most = _mm512_mask_max_ps(most, (__mmask16)(there >> ZMM * j), x[j], most);
        }
        top[i] = _mm512_reduce_max_ps(most);
        const __m512 shift = _mm512_set1_ps(top[i]);
        __m256 acc = _mm256_setzero_ps(); /* the eight lanes of a sum: adding +0 leaves them as they are */
        FM_UNROLL
        for (int j = 0; j < EACH; j++) {
            const __m512 e = _mm512_maskz_mov_ps((__mmask16)(there >> ZMM * j), exp16(_mm512_sub_ps(x[j], shift)));
            _mm512_storeu_ps(p + ZMM * j, e);
            acc = _mm256_add_ps(acc, _mm512_castps512_ps256(e));
            acc = _mm256_add_ps(acc, _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(e), 1)));
        }
        sum[i] = fm_fold(acc);
    }
}

void fm_avx512_fill_attn(struct fm_kernels *k)
{
    k->gemm_q15 = gemm_q15;
    k->weigh_q15 = weigh_q15;
    k->soften = soften;
}
