/* Panels for the 6×16 tile of gemm_avx2.c, so that its inner loop reads two streams forwards.
 *
 *   A panel: 6 rows        a[0,0] a[1,0] … a[5,0] │ a[0,1] … a[5,1] │ …      k groups of 6
 *   B panel: 16 columns    b[0,0] … b[0,15] │ b[1,0] … b[1,15] │ …           k groups of 16
 *
 * The last panel is filled up with zeros; what they yield is thrown away.  An A panel may write two floats past its
 * end (the next panel overwrites them): the buffer needs that room.
 * Three layouts of the source: contiguous along k (weights of x·Wᵀ; activations), contiguous across the panel (weights
 * of dy·W; dyᵀ of the weight gradient), and any other, element by element. */
#include "kernel/x86/lanes_avx2.h"
#include "kernel/x86/x86.h"

enum { MR = FM_AVX2_MR, NR = FM_AVX2_NR };

/* dst[p*width + i] = src[i*rs + p*cs] for i < n, 0 for n <= i < width. */
static void pack_any(float *dst, int width, int n, int k, const float *src, ptrdiff_t rs, ptrdiff_t cs)
{
    for (int p = 0; p < k; p++, src += cs, dst += width) {
        for (int i = 0; i < n; i++) dst[i] = src[i * rs];
        for (int i = n; i < width; i++) dst[i] = 0;
    }
}

/* Six rows contiguous along k: eight columns a step, each stored as eight floats of which the next covers two. */
static void pack_a_rows(float *dst, int k, const float *a, ptrdiff_t rs)
{
    int p = 0;
    for (; p + 8 <= k; p += 8, dst += 8 * MR) {
        __m256 r[8], t[8];
        FM_UNROLL
        for (int i = 0; i < MR; i++) r[i] = _mm256_loadu_ps(a + i * rs + p);
        r[6] = r[7] = _mm256_setzero_ps();
        fm_transpose(t, r);
        FM_UNROLL
        for (int i = 0; i < 8; i++) _mm256_storeu_ps(dst + i * MR, t[i]);
    }
    pack_any(dst, MR, MR, k - p, a + p, rs, 1);
}

/* Contiguous across the panels: count of them (constant where inlined) side by side, so that memory is read in longer
 * runs.  Six floats at a time, not eight: at the end of A there is nothing to read beyond them. */
FM_INLINE void pack_a_cols(int count, float *dst, int k, const float *a, ptrdiff_t cs)
{
    for (int p = 0; p < k; p++, a += cs, dst += MR) {
        _mm_prefetch((const char *)(a + 8 * cs), _MM_HINT_T0);
        if (count > 1) _mm_prefetch((const char *)(a + 8 * cs + 4 * MR - 1), _MM_HINT_T0);
        FM_UNROLL
        for (int i = 0; i < count; i++) {
            float *d = dst + (ptrdiff_t)i * MR * k;
            _mm_storeu_ps(d, _mm_loadu_ps(a + i * MR));
            _mm_storel_pi((__m64 *)(d + 4), _mm_castsi128_ps(_mm_loadl_epi64((const __m128i *)(a + i * MR + 4))));
        }
    }
}

void fm_avx2_pack_a(float *dst, int m, int k, const float *a, ptrdiff_t a_rs, ptrdiff_t a_cs)
{
    for (; a_rs == 1 && m >= 4 * MR; m -= 4 * MR, a += 4 * MR, dst += (ptrdiff_t)4 * MR * k)
        pack_a_cols(4, dst, k, a, a_cs);
    for (int i = 0; i < m; i += MR, a += MR * a_rs, dst += (ptrdiff_t)MR * k) {
        if (m - i < MR)
            pack_any(dst, MR, m - i, k, a, a_rs, a_cs);
        else if (a_cs == 1)
            pack_a_rows(dst, k, a, a_rs);
        else if (a_rs == 1)
            pack_a_cols(1, dst, k, a, a_cs);
        else
            pack_any(dst, MR, MR, k, a, a_rs, a_cs);
    }
}

/* Sixteen columns contiguous along k (rows of W): two 8×8 transpositions a step. */
static void pack_b_cols(float *dst, int k, const float *b, ptrdiff_t cs)
{
    int p = 0;
    for (; p + 8 <= k; p += 8, dst += 8 * NR) {
        __m256 t[8];
        fm_load_transposed(t, b + p, cs);
        FM_UNROLL
        for (int i = 0; i < 8; i++) _mm256_store_ps(dst + i * NR, t[i]);
        fm_load_transposed(t, b + p + 8 * cs, cs);
        FM_UNROLL
        for (int i = 0; i < 8; i++) _mm256_store_ps(dst + i * NR + 8, t[i]);
    }
    pack_any(dst, NR, NR, k - p, b + p, cs, 1);
}

/* Contiguous across the panels: count of them (constant where inlined) side by side, so that a row is read in long runs. */
FM_INLINE void pack_b_rows(int count, float *dst, int k, const float *b, ptrdiff_t rs)
{
    for (int p = 0; p < k; p++, b += rs, dst += NR) {
        FM_UNROLL
        for (int i = 0; i < count; i++) {
            float *d = dst + (ptrdiff_t)i * NR * k;
            _mm_prefetch((const char *)(b + 8 * rs + i * NR), _MM_HINT_T0);
            _mm256_store_ps(d, _mm256_loadu_ps(b + i * NR));
            _mm256_store_ps(d + 8, _mm256_loadu_ps(b + i * NR + 8));
        }
    }
}

void fm_avx2_pack_b(float *dst, int k, int n, const float *b, ptrdiff_t b_rs, ptrdiff_t b_cs)
{
    for (; b_cs == 1 && n >= 4 * NR; n -= 4 * NR, b += 4 * NR, dst += (ptrdiff_t)4 * NR * k)
        pack_b_rows(4, dst, k, b, b_rs);
    for (int j = 0; j < n; j += NR, b += NR * b_cs, dst += (ptrdiff_t)NR * k) {
        if (n - j < NR)
            pack_any(dst, NR, n - j, k, b, b_cs, b_rs);
        else if (b_rs == 1)
            pack_b_cols(dst, k, b, b_cs);
        else if (b_cs == 1)
            pack_b_rows(1, dst, k, b, b_rs);
        else
            pack_any(dst, NR, NR, k, b, b_cs, b_rs);
    }
}
