/* Attention over int8 in AVX2: bytes widened to int16, of which madd multiplies and adds pairs, sixteen products at a time. */
#include <math.h>

#include "kernel/scalar/attn_rows.h"
#include "kernel/x86/exp_avx2.h"
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

FM_INLINE __m128i scaled16(__m256 x, __m256 inv)
{
    __m256i r = _mm256_cvtps_epi32(_mm256_mul_ps(x, inv));
    return _mm_packs_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1));
}

static float quantise_kv(int8_t *q, const float *x, int n)
{
    const float max = max_abs(x, n);
    float d;
    if (fm_attn_is_empty(max, &d)) {
        memset(q, 0, (size_t)n);
        return d;
    }
    const __m256 inv = _mm256_set1_ps(127 / max);
    int8_t at[ROWS];
    for (int i = 0; i < n; i += 8) {
        const __m128i h = scaled16(fm_load_n(x + i, (size_t)(n - i)), inv);
        _mm_storel_epi64((__m128i *)(at + i), _mm_packs_epi16(h, h));
    }
    memcpy(q, at, (size_t)n);
    return max / 127;
}

static void weigh_u8(uint8_t *w, float *f, const float *p, const float *d, int m)
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
        if (fm_attn_is_empty(max, f)) {
            memset(w, 0, ROWS);
            continue;
        }
        const __m256 inv = _mm256_set1_ps(255 / max);
        FM_UNROLL
        for (int i = 0; i < ROWS / 8; i += 2)
            _mm_storeu_si128((__m128i *)(w + 8 * i), _mm_packus_epi16(scaled16(x[i], inv), scaled16(x[i + 1], inv)));
        *f = max / 255;
    }
}

/* ---- laying out ---- */

/* Sums and differences of the lanes that OTHER brings together; those at SIGN are the second of each two. */
#define BUTTERFLY(V, OTHER, SIGN) _mm256_blend_ps(_mm256_add_ps(OTHER, V), _mm256_sub_ps(OTHER, V), SIGN)

static void spread(float *x, int n)
{
    const int size = n & -n;
    const __m256 scale = _mm256_set1_ps(1 / sqrtf((float)size));
    for (int i = 0; i < n; i += 8) {
        __m256 v = _mm256_loadu_ps(x + i);
        v = BUTTERFLY(v, _mm256_permute_ps(v, 0xB1), 0xAA);
        v = BUTTERFLY(v, _mm256_permute_ps(v, 0x4E), 0xCC);
        _mm256_storeu_ps(x + i, BUTTERFLY(v, _mm256_permute2f128_ps(v, v, 1), 0xF0));
    }
    for (int h = 8; h < size; h *= 2)
        for (int i = 0; i < n; i += 8)
            if (!(i & h)) {
                const __m256 a = _mm256_loadu_ps(x + i), b = _mm256_loadu_ps(x + i + h);
                _mm256_storeu_ps(x + i, _mm256_add_ps(a, b));
                _mm256_storeu_ps(x + i + h, _mm256_sub_ps(a, b));
            }
    for (int i = 0; i < n; i += 8) _mm256_storeu_ps(x + i, _mm256_mul_ps(_mm256_loadu_ps(x + i), scale));
}

/* Sixteen bytes are four rows of four values, which are turned within. */
static void turn(int8_t *dst, const int8_t *src, int n)
{
    const __m256i within =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    for (int i = 0; i < n; i += 4, dst += 16) {
        int8_t *to = dst;
        for (int s = 0; s < ROWS; s += 8, src += 32, to += 8 * n) {
            const __m256i v = _mm256_shuffle_epi8(_mm256_loadu_si256((const __m256i *)(const void *)src), within);
            _mm_storeu_si128((__m128i *)to, _mm256_castsi256_si128(v));
            _mm_storeu_si128((__m128i *)(to + 4 * n), _mm256_extracti128_si256(v, 1));
        }
    }
}

/* ---- products ---- */

enum { GEMM_ROWS = 4, DEPTH = 64 };

/* R rows of a, less zero, as int16. */
FM_INLINE void widen(int R, int16_t *wide, const uint8_t *a, ptrdiff_t lda, int zero, int quads)
{
    const __m256i z = _mm256_set1_epi16((short)zero);
    for (int i = 0; i < R; i++)
        for (int k = 0; k < 4 * quads; k += 16) {
            const uint8_t *at = a + i * lda + k;
            _mm256_store_si256((__m256i *)(wide + i * DEPTH + k),
                               _mm256_sub_epi16(_mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)at)), z));
        }
}

FM_INLINE __m256i four_of(const int16_t *a)
{
    int64_t four;
    memcpy(&four, a, sizeof four);
    return _mm256_set1_epi64x(four);
}

FM_INLINE __m256i widened(const int8_t *b) { return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)b)); }

/* R rows by eight lanes: two sums for each, of either half of the quads, until the end. */
FM_INLINE void tile(int R, float *c, ptrdiff_t ldc, const int16_t *a, const int8_t *b, ptrdiff_t ldb,
                    const float *by_lane, const float *by_row, int quads)
{
    __m256i acc[GEMM_ROWS][2];
    FM_UNROLL
    for (int i = 0; i < R; i++) acc[i][0] = acc[i][1] = _mm256_setzero_si256();
    for (int q = 0; q < quads; q++, b += ldb, a += 4) {
        const __m256i b0 = widened(b), b1 = widened(b + 16);
        FM_UNROLL
        for (int i = 0; i < R; i++) {
            const __m256i x = four_of(a + i * DEPTH);
            acc[i][0] = _mm256_add_epi32(acc[i][0], _mm256_madd_epi16(x, b0));
            acc[i][1] = _mm256_add_epi32(acc[i][1], _mm256_madd_epi16(x, b1));
        }
    }
    FM_UNROLL
    for (int i = 0; i < R; i++) {
        const __m256i sum = _mm256_permute4x64_epi64(_mm256_hadd_epi32(acc[i][0], acc[i][1]), 0xD8);
        __m256 s = _mm256_set1_ps(by_row[i]);
        if (by_lane) s = _mm256_mul_ps(s, _mm256_loadu_ps(by_lane));
        float *at = c + i * ldc;
        _mm256_storeu_ps(at, _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), s, _mm256_loadu_ps(at)));
    }
}

#define ROWS_OF(R)                                                                                             \
    for (; i + (R) <= m; i += (R)) {                                                                           \
        widen(R, wide, a + i * lda, lda, zero, quads);                                                         \
        for (int l = 0; l < lanes; l += 8)                                                                     \
            tile(R, c + i * ldc + l, ldc, wide, b + 4 * l, 4 * (ptrdiff_t)lanes, by_lane ? by_lane + l : NULL, \
                 by_row + i, quads);                                                                           \
    }

static void gemm_u8(float *c, ptrdiff_t ldc, const uint8_t *a, ptrdiff_t lda, int zero, const int8_t *b,
                    const float *by_lane, const float *by_row, int m, int lanes, int quads)
{
    _Alignas(32) int16_t wide[GEMM_ROWS * DEPTH];
    int i = 0;
    ROWS_OF(4);
    ROWS_OF(2);
    ROWS_OF(1);
}

/* ---- softmax ---- */

static void join(float *max, float *sum, float *old, float *fade, const float *top, const float *s, int m)
{
    for (int i = 0; i < m; i += 8) {
        const size_t n = (size_t)(m - i);
        const __m256 a = fm_load_n(max + i, n), b = fm_load_n(top + i, n), most = _mm256_max_ps(b, a);
        const __m256 x = fm_exp8(_mm256_sub_ps(a, most)), y = fm_exp8(_mm256_sub_ps(b, most));
        const __m256 l = fm_load_n(sum + i, n), new = fm_load_n(s + i, n);
        fm_store_n(old + i, x, n);
        fm_store_n(fade + i, y, n);
        fm_store_n(max + i, most, n);
        fm_store_n(sum + i, _mm256_fmadd_ps(l, x, _mm256_mul_ps(new, y)), n);
    }
}

void fm_avx2_fill_attn(struct fm_kernels *k)
{
    k->quantise_kv = quantise_kv;
    k->spread = spread;
    k->weigh_u8 = weigh_u8;
    k->turn = turn;
    k->join = join;
    k->gemm_u8 = gemm_u8;
}
