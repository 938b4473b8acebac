/* sigmoid, SwiGLU and its derivative: see act_scalar.c. */
#include "kernel/x86/exp_avx2.h"
#include "kernel/x86/x86.h"

static void sigmoid(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i += 8) fm_store_n(y + i, fm_sigmoid8(fm_load_n(x + i, n - i)), n - i);
}

static void silu_mul(float *y, const float *g, const float *u, size_t n)
{
    for (size_t i = 0; i < n; i += 8) {
        __m256 vg = fm_load_n(g + i, n - i), vu = fm_load_n(u + i, n - i);
        fm_store_n(y + i, _mm256_mul_ps(_mm256_mul_ps(vg, fm_sigmoid8(vg)), vu), n - i);
    }
}

static void silu_mul_bwd(float *dg, float *du, const float *dy, const float *g, const float *u, size_t n)
{
    const __m256 one = _mm256_set1_ps(1);
    for (size_t i = 0; i < n; i += 8) {
        __m256 vg = fm_load_n(g + i, n - i), vu = fm_load_n(u + i, n - i), vy = fm_load_n(dy + i, n - i);
        __m256 s = fm_sigmoid8(vg);
        __m256 slope = _mm256_mul_ps(s, _mm256_fmadd_ps(vg, _mm256_sub_ps(one, s), one));
        fm_store_n(dg + i, _mm256_mul_ps(_mm256_mul_ps(vy, vu), slope), n - i);
        fm_store_n(du + i, _mm256_mul_ps(vy, _mm256_mul_ps(vg, s)), n - i);
    }
}

void fm_avx2_fill_act(struct fm_kernels *k)
{
    k->sigmoid = sigmoid;
    k->silu_mul = silu_mul;
    k->silu_mul_bwd = silu_mul_bwd;
}
