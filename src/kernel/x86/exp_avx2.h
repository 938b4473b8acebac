/* fm_expf on eight lanes: the same polynomial in the same order, hence the same bits.  For *_avx2.c only. */
#ifndef FM_KERNEL_EXP_AVX2_H
#define FM_KERNEL_EXP_AVX2_H

#include "kernel/poly.h"
#include "kernel/x86/lanes_avx2.h"

FM_INLINE __m256 fm_exp8(__m256 x)
{
    const __m256 magic = _mm256_set1_ps(FM_EXPF_MAGIC), one = _mm256_set1_ps(1);
    __m256 t = _mm256_fmadd_ps(x, _mm256_set1_ps(FM_EXPF_LOG2E), magic), n = _mm256_sub_ps(t, magic);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(FM_EXPF_LN2_HI), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(FM_EXPF_LN2_LO), r);
    __m256 q = _mm256_fmadd_ps(_mm256_set1_ps(FM_EXPF_Q4), r, _mm256_set1_ps(FM_EXPF_Q3));
    q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(FM_EXPF_Q2));
    q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(FM_EXPF_Q1));
    q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(FM_EXPF_Q0));
    __m256 p = _mm256_add_ps(one, _mm256_fmadd_ps(_mm256_mul_ps(r, r), q, r));
    __m256 y =
        _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), _mm256_slli_epi32(_mm256_castps_si256(t), 23)));
    y = _mm256_andnot_ps(_mm256_cmp_ps(x, _mm256_set1_ps(FM_EXPF_LO), _CMP_LT_OQ), y);
    y = _mm256_blendv_ps(y, _mm256_set1_ps(__builtin_inff()), _mm256_cmp_ps(x, _mm256_set1_ps(FM_EXPF_HI), _CMP_GT_OQ));
    return _mm256_blendv_ps(y, x, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}

/* 1/(1 + exp(−x)) */
FM_INLINE __m256 fm_sigmoid8(__m256 x)
{
    const __m256 one = _mm256_set1_ps(1);
    return _mm256_div_ps(one, _mm256_add_ps(one, fm_exp8(_mm256_xor_ps(x, _mm256_set1_ps(-0.0f)))));
}

#endif
