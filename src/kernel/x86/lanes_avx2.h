/* What the AVX2 files share: tails, folds, transposition.  Only files named *_avx2.c may include this. */
#ifndef FM_KERNEL_LANES_AVX2_H
#define FM_KERNEL_LANES_AVX2_H

#include <immintrin.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FM_INLINE static inline __attribute__((always_inline))

/* Before a loop of few, constant steps over registers: an array of registers needs constant indices.  Not under the
 * sanitizers, whose checks would be unrolled too (clang then takes minutes). */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FM_UNROLL
#endif
#endif
#if defined(FM_UNROLL) || defined(__SANITIZE_ADDRESS__)
#undef FM_UNROLL
#define FM_UNROLL
#elif defined(__clang__)
#define FM_UNROLL _Pragma("clang loop unroll(full)")
#else
#define FM_UNROLL _Pragma("GCC unroll 32")
#endif

/* Weights that pass while several rows of x are multiplied come from memory too slowly unless they are asked for early, and
 * evenly: while the tiles over one group of rows of W read it again and again, each asks for its share of the next one.  Into the
 * second cache: the first is full of x. */
struct fm_ahead {
    uintptr_t at; /* the next line                        */
    int lines;    /* to ask for with each run of 32 columns */
};
enum { FM_LINE = 64, FM_AHEAD = 4096 };

/* For `tiles` tiles of `runs` runs over the n bytes at p.  A tile alone asks for its own, FM_AHEAD before it reads them.  (One row
 * of x reads as fast as memory gives without.) */
FM_INLINE struct fm_ahead fm_ahead_of(const void *p, size_t n, int tiles, int runs, bool one_row)
{
    const size_t all = (size_t)tiles * (size_t)runs;
    return (struct fm_ahead){(uintptr_t)p + (tiles > 1 ? n : FM_AHEAD),
                             one_row ? 0 : (int)((n / FM_LINE + all - 1) / all)};
}

FM_INLINE void fm_ask(struct fm_ahead *a)
{
    for (int i = 0; i < a->lines; i++, a->at += FM_LINE) _mm_prefetch((const char *)a->at, _MM_HINT_T1);
}

/* All ones in lanes 0 … n−1, n <= 8: a window into eight ones followed by eight zeros. */
FM_INLINE __m256i fm_tail_mask(size_t n)
{
    static const int32_t ones_zeros[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
    return _mm256_loadu_si256((const __m256i *)(ones_zeros + 8 - n));
}

/* n < 8 floats; the other lanes are 0 and their memory is not touched. */
FM_INLINE __m256 fm_load_tail(const float *p, size_t n) { return _mm256_maskload_ps(p, fm_tail_mask(n)); }

/* By halves: masked stores are slow on some processors. */
FM_INLINE void fm_store_tail(float *p, __m256 v, size_t n)
{
    __m128 x = _mm256_castps256_ps128(v);
    if (n & 4) {
        _mm_storeu_ps(p, x);
        x = _mm256_extractf128_ps(v, 1);
        p += 4;
    }
    if (n & 2) {
        _mm_storel_pi((__m64 *)p, x);
        x = _mm_movehl_ps(x, x);
        p += 2;
    }
    if (n & 1) _mm_store_ss(p, x);
}

/* The next eight floats, or the last n < 8: the body of a loop `for (i = 0; i < n; i += 8)` over any n. */
FM_INLINE __m256 fm_load_n(const float *p, size_t n) { return n >= 8 ? _mm256_loadu_ps(p) : fm_load_tail(p, n); }

FM_INLINE void fm_store_n(float *p, __m256 v, size_t n)
{
    if (n >= 8)
        _mm256_storeu_ps(p, v);
    else
        fm_store_tail(p, v, n);
}

/* next in the first n lanes, old in the others: a lane without an element must not even lose the sign of a zero. */
FM_INLINE __m256 fm_keep_n(__m256 old, __m256 next, size_t n)
{
    return n >= 8 ? next : _mm256_blendv_ps(old, next, _mm256_castsi256_ps(fm_tail_mask(n)));
}

/* ((0+4)+(2+6))+((1+5)+(3+7)) */
FM_INLINE float fm_fold(__m256 v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

/* Rows i and i+4 side by side in, columns out: t[i] = {row i [0:4], row i+4 [0:4]}, t[4+i] = the same of [4:8].
 * Sixteen shuffles instead of the 24 of whole registers, because the halves were joined while loading. */
FM_INLINE void fm_transpose_joined(__m256 t[8])
{
    FM_UNROLL
    for (int h = 0; h < 8; h += 4) {
        __m256 a = _mm256_unpacklo_ps(t[h], t[h + 1]), b = _mm256_unpackhi_ps(t[h], t[h + 1]);
        __m256 c = _mm256_unpacklo_ps(t[h + 2], t[h + 3]), d = _mm256_unpackhi_ps(t[h + 2], t[h + 3]);
        t[h] = _mm256_shuffle_ps(a, c, 0x44);
        t[h + 1] = _mm256_shuffle_ps(a, c, 0xEE);
        t[h + 2] = _mm256_shuffle_ps(b, d, 0x44);
        t[h + 3] = _mm256_shuffle_ps(b, d, 0xEE);
    }
}

FM_INLINE __m256 fm_join(const float *lo, const float *hi)
{
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(lo)), _mm_loadu_ps(hi), 1);
}

/* t[j] = {p[0][j], p[1][j] … p[7][j]} for eight rows rs floats apart. */
FM_INLINE void fm_load_transposed(__m256 t[8], const float *p, ptrdiff_t rs)
{
    const float *q = p + 4 * rs;
    t[0] = fm_join(p, q);
    t[1] = fm_join(p + rs, q + rs);
    t[2] = fm_join(p + 2 * rs, q + 2 * rs);
    t[3] = fm_join(p + 3 * rs, q + 3 * rs);
    t[4] = fm_join(p + 4, q + 4);
    t[5] = fm_join(p + rs + 4, q + rs + 4);
    t[6] = fm_join(p + 2 * rs + 4, q + 2 * rs + 4);
    t[7] = fm_join(p + 3 * rs + 4, q + 3 * rs + 4);
    fm_transpose_joined(t);
}

/* Eight rows already in registers. */
FM_INLINE void fm_transpose(__m256 t[8], const __m256 r[8])
{
    FM_UNROLL
    for (int i = 0; i < 4; i++) {
        t[i] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x20);
        t[i + 4] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x31);
    }
    fm_transpose_joined(t);
}

#endif
