/* RMSNorm forward and backward: see norm_scalar.c for the formulas and their order. */
#include <math.h>

#include "kernel/x86/lanes_avx2.h"
#include "kernel/x86/x86.h"

static float inverse_rms(const float *x, size_t n, float eps)
{
    __m256 acc = _mm256_setzero_ps();
    for (size_t i = 0; i < n; i += 8) {
        __m256 v = fm_load_n(x + i, n - i);
        acc = fm_keep_n(acc, _mm256_fmadd_ps(v, v, acc), n - i);
    }
    return 1 / sqrtf(fm_fold(acc) / (float)n + eps);
}

static void rms_norm(float *y, const float *x, const float *w, size_t n, float eps)
{
    __m256 r = _mm256_set1_ps(inverse_rms(x, n, eps));
    for (size_t i = 0; i < n; i += 8) {
        __m256 v = _mm256_mul_ps(fm_load_n(x + i, n - i), r);
        fm_store_n(y + i, w ? _mm256_mul_ps(v, fm_load_n(w + i, n - i)) : v, n - i);
    }
}

/* w⊙dy, or dy without weights */
FM_INLINE __m256 weighted(const float *w, __m256 dy, size_t i, size_t n)
{
    return w ? _mm256_mul_ps(fm_load_n(w + i, n - i), dy) : dy;
}

static float weighted_dot(const float *w, const float *dy, const float *x, size_t n)
{
    __m256 acc = _mm256_setzero_ps();
    for (size_t i = 0; i < n; i += 8) {
        __m256 v = weighted(w, fm_load_n(dy + i, n - i), i, n);
        acc = fm_keep_n(acc, _mm256_fmadd_ps(v, fm_load_n(x + i, n - i), acc), n - i);
    }
    return fm_fold(acc);
}

static void rms_norm_bwd(float *dx, float *dw, const float *dy, const float *x, const float *w, size_t n, float eps,
                         bool accumulate)
{
    float r = inverse_rms(x, n, eps), c = r * r * r / (float)n * weighted_dot(w, dy, x, n);
    __m256 vr = _mm256_set1_ps(r), vc = _mm256_set1_ps(c);
    for (size_t i = 0; i < n; i += 8) {
        __m256 vx = fm_load_n(x + i, n - i), vy = fm_load_n(dy + i, n - i);
        __m256 d = _mm256_fnmadd_ps(vc, vx, _mm256_mul_ps(vr, weighted(w, vy, i, n)));
        if (dw) fm_store_n(dw + i, _mm256_fmadd_ps(vy, _mm256_mul_ps(vx, vr), fm_load_n(dw + i, n - i)), n - i);
        fm_store_n(dx + i, accumulate ? _mm256_add_ps(fm_load_n(dx + i, n - i), d) : d, n - i);
    }
}

void fm_avx2_fill_norm(struct fm_kernels *k)
{
    k->rms_norm = rms_norm;
    k->rms_norm_bwd = rms_norm_bwd;
}
