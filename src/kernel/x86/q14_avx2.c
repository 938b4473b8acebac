/* Products of F16 and BF16 weights in integers with AVX2: q14.h with eight rows as lanes; madd multiplies pairs and adds the two,
 * 16 products in two instructions.  And x as such integers, for the tiers above, too. */
#include "kernel/x86/lanes_avx2.h"
#include "kernel/x86/x86.h"

#include <math.h>

enum { LANES = 8, TILE_M = 3 };

typedef __m256i fm_ints;
typedef __m256 fm_floats;

FM_INLINE fm_ints i_set(int v) { return _mm256_set1_epi32(v); }
FM_INLINE fm_ints i_load(const void *p) { return _mm256_loadu_si256(p); }
FM_INLINE void i_store(void *p, fm_ints v) { _mm256_storeu_si256(p, v); }
FM_INLINE fm_ints i_and(fm_ints a, fm_ints b) { return _mm256_and_si256(a, b); }
FM_INLINE fm_ints i_or(fm_ints a, fm_ints b) { return _mm256_or_si256(a, b); }
FM_INLINE fm_ints i_add32(fm_ints a, fm_ints b) { return _mm256_add_epi32(a, b); }
FM_INLINE fm_ints i_sub32(fm_ints a, fm_ints b) { return _mm256_sub_epi32(a, b); }
FM_INLINE fm_ints i_max32(fm_ints a, fm_ints b) { return _mm256_max_epi32(a, b); }
FM_INLINE fm_ints i_max_u16(fm_ints a, fm_ints b) { return _mm256_max_epu16(a, b); }
FM_INLINE fm_ints i_shl32(fm_ints a, int n) { return _mm256_slli_epi32(a, n); }
FM_INLINE fm_ints i_shr32(fm_ints a, int n) { return _mm256_srli_epi32(a, n); }
FM_INLINE fm_ints i_shl16(fm_ints a, int n) { return _mm256_slli_epi16(a, n); }
FM_INLINE fm_ints i_sar16(fm_ints a, int n) { return _mm256_srai_epi16(a, n); }
/* The low words of a, the high words of b. */
FM_INLINE fm_ints i_pairs(fm_ints a, fm_ints b) { return _mm256_blend_epi16(a, b, 0xAA); }
FM_INLINE fm_ints i_rounded(fm_floats v) { return _mm256_cvtps_epi32(v); }
FM_INLINE fm_ints i_dot(fm_ints sum, fm_ints a, fm_ints b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }
FM_INLINE fm_ints i_of_bits(fm_floats v) { return _mm256_castps_si256(v); }
FM_INLINE fm_floats f_of_bits(fm_ints v) { return _mm256_castsi256_ps(v); }
FM_INLINE fm_floats f_of_ints(fm_ints v) { return _mm256_cvtepi32_ps(v); }
FM_INLINE fm_floats f_set(float v) { return _mm256_set1_ps(v); }
FM_INLINE fm_floats f_mul(fm_floats a, fm_floats b) { return _mm256_mul_ps(a, b); }
FM_INLINE fm_floats f_fma(fm_floats a, fm_floats b, fm_floats c) { return _mm256_fmadd_ps(a, b, c); }
FM_INLINE fm_floats f_load_n(const float *p, int n) { return fm_load_n(p, (size_t)n); }
FM_INLINE void f_store_n(float *p, fm_floats v, int n) { fm_store_n(p, v, (size_t)n); }

/* Words: of 2·8 int32; f16 of lanes 0 … 3 and 4 … 7 widened; each of these lanes twice. */
FM_INLINE fm_ints i_packed(fm_ints a, fm_ints b) { return _mm256_packs_epi32(a, b); }
FM_INLINE fm_floats f_low_halves(fm_ints a) { return _mm256_cvtph_ps(_mm256_castsi256_si128(a)); }
FM_INLINE fm_floats f_high_halves(fm_ints a) { return _mm256_cvtph_ps(_mm256_extracti128_si256(a, 1)); }
FM_INLINE fm_floats f_low_twice(fm_floats a)
{
    return _mm256_permutevar8x32_ps(a, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
}
FM_INLINE fm_floats f_high_twice(fm_floats a)
{
    return _mm256_permutevar8x32_ps(a, _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7));
}
/* The lane whose words i_packed brings to lane i, of low and high halves. */
static const int i_order[LANES] = {0, 1, 4, 5, 2, 3, 6, 7};
FM_INLINE fm_ints i_ordered(fm_ints a) { return _mm256_permutevar8x32_epi32(a, i_load(i_order)); }
FM_INLINE bool i_any(fm_ints a) { return !_mm256_testz_si256(a, a); }

/* t[j]: double word j of 64 bytes of each row. */
FM_INLINE void i_load_turned(fm_ints t[16], const unsigned char *const row[LANES], size_t at)
{
    FM_UNROLL
    for (int h = 0; h < 2; h++) {
        __m256 r[LANES], u[LANES];
        FM_UNROLL
        for (int i = 0; i < LANES; i++) r[i] = _mm256_castsi256_ps(i_load(row[i] + at + 32 * h));
        fm_transpose(u, r);
        FM_UNROLL
        for (int i = 0; i < LANES; i++) t[8 * h + i] = _mm256_castps_si256(u[i]);
    }
}

#define TILES_DEFINED \
    TILE(1)           \
    TILE(2)           \
    TILE(3)           \
    static const tile_fn tiles[TILE_M + 1][2] = {{NULL}, TILES(1), TILES(2), TILES(3)};

#include "kernel/x86/q14.h"

/* ---- x ---- */

/* The largest lane of non-negative floats, NaN above all. */
FM_INLINE float largest(__m256i m)
{
    __m128i r = _mm_max_epi32(_mm256_castsi256_si128(m), _mm256_extracti128_si256(m, 1));
    r = _mm_max_epi32(r, _mm_shuffle_epi32(r, 0x4E));
    return _mm_cvtss_f32(_mm_castsi128_ps(_mm_max_epi32(r, _mm_shuffle_epi32(r, 0xB1))));
}

static void quantise_q14x(struct fm_q14x *dst, const float *x, int k)
{
    for (int b = 0; b < k / BLOCK; b++, x += BLOCK, dst++) {
        __m256i most = _mm256_setzero_si256();
        FM_UNROLL
        for (int i = 0; i < BLOCK; i += 8)
            most = i_max32(most, i_and(_mm256_castps_si256(_mm256_loadu_ps(x + i)), i_set(0x7FFFFFFF)));
        const float max = largest(most);
        if (!(max >= 1e-30f && max < INFINITY)) {
            *dst = (struct fm_q14x){.d = max < 1e-30f ? 1 : NAN};
            continue;
        }
        const __m256 inv = f_set(8191 / max);
        dst->d = max / 8191;
        FM_UNROLL
        for (int i = 0; i < BLOCK; i += 8) {
            const __m256i r = i_rounded(f_mul(_mm256_loadu_ps(x + i), inv));
            const __m128i h = _mm_packs_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1));
            _mm_storeu_si128((__m128i *)(void *)(dst->q + i), h);
        }
    }
}

void fm_avx2_fill_q14(struct fm_kernels *k)
{
    k->quantise_q14x = quantise_q14x;
    fill(k);
}
