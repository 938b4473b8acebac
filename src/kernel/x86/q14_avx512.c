/* Products of F16 and BF16 weights in integers with AVX-512 VNNI: q14.h with sixteen rows as lanes; dpwssd multiplies pairs and
 * adds, 32 products an instruction. */
#include "kernel/x86/lanes_avx512.h"
#include "kernel/x86/x86.h"

enum { LANES = 16, TILE_M = 6 };

typedef __m512i fm_ints;
typedef __m512 fm_floats;

FM_INLINE fm_ints i_set(int v) { return _mm512_set1_epi32(v); }
FM_INLINE fm_ints i_load(const void *p) { return _mm512_loadu_si512(p); }
FM_INLINE void i_store(void *p, fm_ints v) { _mm512_storeu_si512(p, v); }
FM_INLINE fm_ints i_and(fm_ints a, fm_ints b) { return _mm512_and_si512(a, b); }
FM_INLINE fm_ints i_or(fm_ints a, fm_ints b) { return _mm512_or_si512(a, b); }
FM_INLINE fm_ints i_add32(fm_ints a, fm_ints b) { return _mm512_add_epi32(a, b); }
FM_INLINE fm_ints i_sub32(fm_ints a, fm_ints b) { return _mm512_sub_epi32(a, b); }
FM_INLINE fm_ints i_max32(fm_ints a, fm_ints b) { return _mm512_max_epi32(a, b); }
FM_INLINE fm_ints i_max_u16(fm_ints a, fm_ints b) { return _mm512_max_epu16(a, b); }
FM_INLINE fm_ints i_shl32(fm_ints a, int n) { return _mm512_slli_epi32(a, (unsigned)n); }
FM_INLINE fm_ints i_shr32(fm_ints a, int n) { return _mm512_srli_epi32(a, (unsigned)n); }
FM_INLINE fm_ints i_shl16(fm_ints a, int n) { return _mm512_slli_epi16(a, (unsigned)n); }
FM_INLINE fm_ints i_sar16(fm_ints a, int n) { return _mm512_srai_epi16(a, (unsigned)n); }
/* The low words of a, the high words of b. */
FM_INLINE fm_ints i_pairs(fm_ints a, fm_ints b) { return _mm512_mask_mov_epi16(a, 0xAAAAAAAAu, b); }
FM_INLINE fm_ints i_rounded(fm_floats v) { return _mm512_cvtps_epi32(v); }
FM_INLINE fm_ints i_dot(fm_ints sum, fm_ints a, fm_ints b) { return _mm512_dpwssd_epi32(sum, a, b); }
FM_INLINE fm_ints i_of_bits(fm_floats v) { return _mm512_castps_si512(v); }
FM_INLINE fm_floats f_of_bits(fm_ints v) { return _mm512_castsi512_ps(v); }
FM_INLINE fm_floats f_of_ints(fm_ints v) { return _mm512_cvtepi32_ps(v); }
FM_INLINE fm_floats f_set(float v) { return _mm512_set1_ps(v); }
FM_INLINE fm_floats f_mul(fm_floats a, fm_floats b) { return _mm512_mul_ps(a, b); }
FM_INLINE fm_floats f_fma(fm_floats a, fm_floats b, fm_floats c) { return _mm512_fmadd_ps(a, b, c); }
FM_INLINE __mmask16 first(int n) { return (__mmask16)((1u << n) - 1); }
FM_INLINE fm_floats f_load_n(const float *p, int n) { return _mm512_maskz_loadu_ps(first(n), p); }
FM_INLINE void f_store_n(float *p, fm_floats v, int n) { _mm512_mask_storeu_ps(p, first(n), v); }

/* Words: of 2·16 int32; f16 of lanes 0 … 7 and 8 … 15 widened; each of these lanes twice. */
FM_INLINE fm_ints i_packed(fm_ints a, fm_ints b) { return _mm512_packs_epi32(a, b); }
FM_INLINE fm_floats f_low_halves(fm_ints a) { return _mm512_cvtph_ps(_mm512_castsi512_si256(a)); }
FM_INLINE fm_floats f_high_halves(fm_ints a) { return _mm512_cvtph_ps(_mm512_extracti64x4_epi64(a, 1)); }
FM_INLINE fm_floats f_low_twice(fm_floats a)
{
    return _mm512_permutexvar_ps(_mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7), a);
}
FM_INLINE fm_floats f_high_twice(fm_floats a)
{
    return _mm512_permutexvar_ps(_mm512_setr_epi32(8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15), a);
}
/* The lane whose words i_packed brings to lane i, of low and high halves. */
static const int i_order[LANES] = {0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15};
FM_INLINE fm_ints i_ordered(fm_ints a) { return _mm512_permutexvar_epi32(_mm512_loadu_si512(i_order), a); }
FM_INLINE bool i_any(fm_ints a) { return _mm512_test_epi32_mask(a, a); }

/* t[j]: double word j of 64 bytes of each row. */
FM_INLINE void i_load_turned(fm_ints t[16], const unsigned char *const row[LANES], size_t at)
{
    FM_UNROLL
    for (int i = 0; i < LANES; i++) t[i] = i_load(row[i] + at);
    fm_transpose16(t);
}

#define TILES_DEFINED \
    TILE(1)           \
    TILE(2)           \
    TILE(3)           \
    TILE(4)           \
    TILE(5)           \
    TILE(6)           \
    static const tile_fn tiles[TILE_M + 1][2] = {{NULL}, TILES(1), TILES(2), TILES(3), TILES(4), TILES(5), TILES(6)};

#include "kernel/x86/q14.h"

void fm_avx512_fill_q14(struct fm_kernels *k) { fill(k); }
