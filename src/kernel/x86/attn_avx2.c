/* Attention over int8 in AVX2: madd multiplies and adds pairs of int16, sixteen products at a time. */
#include <math.h>

#include "kernel/x86/lanes_avx2.h"
#include "kernel/x86/x86.h"

enum { ROWS = 64 };

FM_INLINE __m256i abs_bits(__m256 x) { return _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x7FFFFFFF)); }

/* The largest lane of non-negative floats, NaN above all. */
FM_INLINE float largest(__m256i m)
{
    __m128i r = _mm_max_epi32(_mm256_castsi256_si128(m), _mm256_extracti128_si256(m, 1));
    r = _mm_max_epi32(r, _mm_shuffle_epi32(r, 0x4E));
    return _mm_cvtss_f32(_mm_castsi128_ps(_mm_max_epi32(r, _mm_shuffle_epi32(r, 0xB1))));
}

FM_INLINE float max_abs(const float *x, int n)
{
    __m256i m = _mm256_setzero_si256();
    for (int i = 0; i < n; i += 8) m = _mm256_max_epi32(m, abs_bits(fm_load_n(x + i, (size_t)(n - i))));
    return largest(m);
}

static float quantise_kv(int8_t *q, const float *x, int n)
{
    const float d = max_abs(x, n) / 127;
    const __m256 by = _mm256_set1_ps(d), top = _mm256_set1_ps(127), low = _mm256_set1_ps(-127);
    int8_t at[ROWS];
    for (int i = 0; i < n; i += 8) {
        __m256 t = d == 0 ? _mm256_setzero_ps() : _mm256_div_ps(fm_load_n(x + i, (size_t)(n - i)), by);
        __m256i r = _mm256_cvtps_epi32(_mm256_max_ps(_mm256_min_ps(t, top), low));
        __m128i h = _mm_packs_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1));
        _mm_storel_epi64((__m128i *)(at + i), _mm_packs_epi16(h, h));
    }
    memcpy(q, at, (size_t)n);
    return d;
}

FM_INLINE __m128i scaled16(__m256 x, __m256 inv)
{
    __m256i r = _mm256_cvtps_epi32(_mm256_mul_ps(x, inv));
    return _mm_packs_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1));
}

/* Whether nothing can be scaled: then *d is what stands for it. */
FM_INLINE bool is_empty(float max, float *d)
{
    if (max >= 1e-30f && max < INFINITY) return false;
    *d = max < 1e-30f ? 0 : NAN;
    return true;
}

static float quantise_q15(int16_t *q, const float *x, int n)
{
    const float max = max_abs(x, n);
    float d;
    if (is_empty(max, &d)) {
        memset(q, 0, (size_t)n * sizeof *q);
        return d;
    }
    const __m256 inv = _mm256_set1_ps(32767 / max);
    int i = 0;
    for (; i + 8 <= n; i += 8) _mm_storeu_si128((__m128i *)(q + i), scaled16(_mm256_loadu_ps(x + i), inv));
    if (i < n) {
        int16_t rest[8];
        _mm_storeu_si128((__m128i *)rest, scaled16(fm_load_tail(x + i, (size_t)(n - i)), inv));
        memcpy(q + i, rest, (size_t)(n - i) * sizeof *q);
    }
    return max / 32767;
}

static void weigh_q15(int16_t *w, float *f, const float *p, const float *d, int m)
{
    for (; m > 0; m--, w += ROWS, p += ROWS, f++) {
        __m256 x[ROWS / 8];
        __m256i most = _mm256_setzero_si256();
        FM_UNROLL
        for (int i = 0; i < ROWS / 8; i++) {
            x[i] = _mm256_mul_ps(_mm256_loadu_ps(p + 8 * i), _mm256_loadu_ps(d + 8 * i));
            most = _mm256_max_epi32(most, abs_bits(x[i]));
        }
        const float max = largest(most);
        if (is_empty(max, f)) {
            memset(w, 0, ROWS * sizeof *w);
            continue;
        }
        const __m256 inv = _mm256_set1_ps(32767 / max);
        FM_UNROLL
        for (int i = 0; i < ROWS / 8; i++) _mm_storeu_si128((__m128i *)(w + 8 * i), scaled16(x[i], inv));
        *f = max / 32767;
    }
}

/* Four bytes are two values of two rows.  Within them the middle ones change places; then eight by eight of them are
 * transposed. */
static void turn(int8_t *dst, const int8_t *src, int n)
{
    const __m256i swap = _mm256_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15, 0, 2, 1, 3, 4, 6, 5, 7,
                                          8, 10, 9, 11, 12, 14, 13, 15);
    for (int s = 0; s < ROWS / 2; s += 8)
        for (int i = 0; i < n / 2; i += 8) {
            __m256 t[8];
            fm_load_transposed(t, (const float *)(const void *)(src + (i * ROWS + s * 2) * 2), ROWS / 2);
            FM_UNROLL
            for (int j = 0; j < 8; j++)
                _mm256_storeu_si256((__m256i *)(dst + ((s + j) * n + 2 * i) * 2),
                                    _mm256_shuffle_epi8(_mm256_castps_si256(t[j]), swap));
        }
}

/* ---- products ---- */

FM_INLINE __m256i pair_of(const int16_t *a)
{
    int32_t two;
    memcpy(&two, a, sizeof two);
    return _mm256_set1_epi32(two);
}

FM_INLINE __m256i widened(const int8_t *b) { return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)b)); }

FM_INLINE void add_scaled(float *c, __m256i sum, __m256 s)
{
    _mm256_storeu_ps(c, _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), s, _mm256_loadu_ps(c)));
}

/* R rows by sixteen lanes. */
FM_INLINE void tile(int R, float *c, ptrdiff_t ldc, const int16_t *a, ptrdiff_t lda, const int8_t *b, ptrdiff_t ldb,
                    const float *by_lane, const float *by_row, int pairs)
{
    __m256i acc[4][2];
    FM_UNROLL
    for (int i = 0; i < R; i++) acc[i][0] = acc[i][1] = _mm256_setzero_si256();
    for (int p = 0; p < pairs; p++, b += ldb, a += 2) {
        const __m256i b0 = widened(b), b1 = widened(b + 16);
        FM_UNROLL
        for (int i = 0; i < R; i++) {
            const __m256i x = pair_of(a + i * lda);
            acc[i][0] = _mm256_add_epi32(acc[i][0], _mm256_madd_epi16(x, b0));
            acc[i][1] = _mm256_add_epi32(acc[i][1], _mm256_madd_epi16(x, b1));
        }
    }
    FM_UNROLL
    for (int i = 0; i < R; i++) {
        const __m256 row = by_lane ? _mm256_setzero_ps() : _mm256_set1_ps(by_row[i]);
        add_scaled(c + i * ldc, acc[i][0], by_lane ? _mm256_loadu_ps(by_lane) : row);
        add_scaled(c + i * ldc + 8, acc[i][1], by_lane ? _mm256_loadu_ps(by_lane + 8) : row);
    }
}

#define ROWS_OF(R)                 \
    for (; i + (R) <= m; i += (R)) \
    tile(R, c + i * ldc + l, ldc, a + i * lda, lda, b + 2 * l, ldb, s, s ? NULL : by_row + i, pairs)

static void gemm_q15(float *c, ptrdiff_t ldc, const int16_t *a, ptrdiff_t lda, const int8_t *b, const float *by_lane,
                     const float *by_row, int m, int lanes, int pairs)
{
    const ptrdiff_t ldb = 2 * lanes;
    for (int l = 0; l < lanes; l += 16) {
        const float *s = by_lane ? by_lane + l : NULL;
        int i = 0;
        ROWS_OF(4);
        ROWS_OF(2);
        ROWS_OF(1);
    }
}

void fm_avx2_fill_attn(struct fm_kernels *k)
{
    k->quantise_kv = quantise_kv;
    k->quantise_q15 = quantise_q15;
    k->weigh_q15 = weigh_q15;
    k->turn = turn;
    k->gemm_q15 = gemm_q15;
}
