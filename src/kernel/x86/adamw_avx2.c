/* One AdamW step: see adamw_scalar.c.  Bound by memory: 16 bytes read and 12 written per element. */
#include "kernel/x86/lanes_avx2.h"
#include "kernel/x86/x86.h"

static void adamw(float *p, float *m, float *v, const float *g, size_t n, const struct fm_adamw *o, float grad_scale)
{
    const __m256 keep = _mm256_set1_ps(1 - o->lr * o->weight_decay), gs = _mm256_set1_ps(grad_scale);
    const __m256 b1 = _mm256_set1_ps(o->beta1), b2 = _mm256_set1_ps(o->beta2), lr = _mm256_set1_ps(o->lr);
    const __m256 c1 = _mm256_set1_ps(1 - o->beta1), c2 = _mm256_set1_ps(1 - o->beta2), eps = _mm256_set1_ps(o->eps);
    const __m256 bias1 = _mm256_set1_ps(o->bias1), bias2 = _mm256_set1_ps(o->bias2);
    for (size_t i = 0; i < n; i += 8) {
        __m256 gi = _mm256_mul_ps(fm_load_n(g + i, n - i), gs);
        __m256 mi = _mm256_fmadd_ps(b1, fm_load_n(m + i, n - i), _mm256_mul_ps(c1, gi));
        __m256 vi = _mm256_fmadd_ps(b2, fm_load_n(v + i, n - i), _mm256_mul_ps(c2, _mm256_mul_ps(gi, gi)));
        __m256 root = _mm256_add_ps(_mm256_sqrt_ps(_mm256_div_ps(vi, bias2)), eps);
        __m256 step = _mm256_div_ps(_mm256_div_ps(mi, bias1), root);
        fm_store_n(m + i, mi, n - i);
        fm_store_n(v + i, vi, n - i);
        fm_store_n(p + i, _mm256_fnmadd_ps(lr, step, _mm256_mul_ps(fm_load_n(p + i, n - i), keep)), n - i);
    }
}

void fm_avx2_fill_adamw(struct fm_kernels *k) { k->adamw = adamw; }
