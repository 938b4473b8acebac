/* Rotary position embedding: see rope_scalar.c.
 *
 *   interleaved   x  = a0 b0 a1 b1 …     cs = c0 s0 c1 s1 …       four pairs a register
 *                 x' = x·(c0 c0 c1 c1) ∓ (b0 a0 b1 a1)·(s0 s0 s1 s1), minus in the even lanes (fmaddsub)
 *   halves        a at x, b at x + half: eight pairs, c and s sorted apart first */
#include <math.h>

#include "kernel/x86/lanes_avx2.h"
#include "kernel/x86/x86.h"

static void turn(float *a, float *b, float c, float s)
{
    float a0 = *a, b0 = *b;
    *a = fmaf(a0, c, -(b0 * s));
    *b = fmaf(b0, c, a0 * s);
}

static void rope_pairs(float *x, const float *cs, int half, __m256 sign)
{
    int i = 0;
    for (; i + 4 <= half; i += 4) {
        __m256 v = _mm256_loadu_ps(x + 2 * i), t = _mm256_loadu_ps(cs + 2 * i);
        __m256 s = _mm256_xor_ps(_mm256_movehdup_ps(t), sign);
        __m256 turned = _mm256_mul_ps(_mm256_permute_ps(v, 0xB1), s);
        _mm256_storeu_ps(x + 2 * i, _mm256_fmaddsub_ps(v, _mm256_moveldup_ps(t), turned));
    }
    bool inverse = _mm256_movemask_ps(sign);
    for (; i < half; i++) turn(x + 2 * i, x + 2 * i + 1, cs[2 * i], inverse ? -cs[2 * i + 1] : cs[2 * i + 1]);
}

static void rope_halves(float *x, const float *cs, int half, __m256 sign)
{
    int i = 0;
    for (; i + 8 <= half; i += 8) {
        __m256 t = _mm256_loadu_ps(cs + 2 * i), u = _mm256_loadu_ps(cs + 2 * i + 8);
        __m256d c01 = _mm256_castps_pd(_mm256_shuffle_ps(t, u, 0x88)),
                s01 = _mm256_castps_pd(_mm256_shuffle_ps(t, u, 0xDD));
        __m256 c = _mm256_castpd_ps(_mm256_permute4x64_pd(c01, 0xD8));
        __m256 s = _mm256_xor_ps(_mm256_castpd_ps(_mm256_permute4x64_pd(s01, 0xD8)), sign);
        __m256 a = _mm256_loadu_ps(x + i), b = _mm256_loadu_ps(x + half + i);
        _mm256_storeu_ps(x + i, _mm256_fmsub_ps(a, c, _mm256_mul_ps(b, s)));
        _mm256_storeu_ps(x + half + i, _mm256_fmadd_ps(b, c, _mm256_mul_ps(a, s)));
    }
    bool inverse = _mm256_movemask_ps(sign);
    for (; i < half; i++) turn(x + i, x + half + i, cs[2 * i], inverse ? -cs[2 * i + 1] : cs[2 * i + 1]);
}

static void rope(float *x, const float *cs, int half, bool interleaved, bool inverse)
{
    __m256 sign = _mm256_set1_ps(inverse ? -0.0f : 0.0f);
    if (interleaved)
        rope_pairs(x, cs, half, sign);
    else
        rope_halves(x, cs, half, sign);
}

void fm_avx2_fill_rope(struct fm_kernels *k) { k->rope = rope; }
