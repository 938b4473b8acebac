/* What the AVX-512 files share.  Only files named *_avx512.c may include this. */
#ifndef FM_KERNEL_LANES_AVX512_H
#define FM_KERNEL_LANES_AVX512_H

#include "kernel/x86/lanes_avx2.h"

/* t[j]: double word j of each of sixteen rows. */
FM_INLINE void fm_transpose16(__m512i t[16])
{
    __m512i u[16];
    FM_UNROLL
    for (int g = 0; g < 16; g += 4) {
        __m512i a = _mm512_unpacklo_epi32(t[g], t[g + 1]), b = _mm512_unpackhi_epi32(t[g], t[g + 1]);
        __m512i c = _mm512_unpacklo_epi32(t[g + 2], t[g + 3]), d = _mm512_unpackhi_epi32(t[g + 2], t[g + 3]);
        u[g] = _mm512_unpacklo_epi64(a, c);
        u[g + 1] = _mm512_unpackhi_epi64(a, c);
        u[g + 2] = _mm512_unpacklo_epi64(b, d);
        u[g + 3] = _mm512_unpackhi_epi64(b, d);
    }
    FM_UNROLL
    for (int c = 0; c < 4; c++) { /* quarter l of u[4g + c]: column 4l + c of rows 4g … 4g+3 */
        __m512i a = _mm512_shuffle_i32x4(u[c], u[4 + c], 0x88), b = _mm512_shuffle_i32x4(u[8 + c], u[12 + c], 0x88);
        __m512i d = _mm512_shuffle_i32x4(u[c], u[4 + c], 0xDD), e = _mm512_shuffle_i32x4(u[8 + c], u[12 + c], 0xDD);
        t[c] = _mm512_shuffle_i32x4(a, b, 0x88);
        t[8 + c] = _mm512_shuffle_i32x4(a, b, 0xDD);
        t[4 + c] = _mm512_shuffle_i32x4(d, e, 0x88);
        t[12 + c] = _mm512_shuffle_i32x4(d, e, 0xDD);
    }
}

#endif
