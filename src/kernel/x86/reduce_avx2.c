/* Rows to one number; the lanes that reduce_scalar.c emulates are here the register. */
#include <math.h>
#include <string.h>

#include "kernel/x86/exp_avx2.h"
#include "kernel/x86/x86.h"

static float dot(const float *a, const float *b, size_t n)
{
    __m256 acc = _mm256_setzero_ps();
    for (size_t i = 0; i < n; i += 8)
        acc = fm_keep_n(acc, _mm256_fmadd_ps(fm_load_n(a + i, n - i), fm_load_n(b + i, n - i), acc), n - i);
    return fm_fold(acc);
}

/* A tail lane adds 0·0 to a sum that is no negative zero: nothing changes. */
static double sumsq(const float *x, size_t n)
{
    __m256d acc = _mm256_setzero_pd();
    for (size_t i = 0; i < n; i += 4) {
        __m256d v =
            _mm256_cvtps_pd(n - i >= 4 ? _mm_loadu_ps(x + i) : _mm256_castps256_ps128(fm_load_tail(x + i, n - i)));
        acc = _mm256_fmadd_pd(v, v, acc);
    }
    __m128d s = _mm_add_pd(_mm256_castpd256_pd128(acc), _mm256_extractf128_pd(acc, 1));
    return _mm_cvtsd_f64(_mm_add_sd(s, _mm_unpackhi_pd(s, s)));
}

static float max(const float *x, size_t n)
{
    __m256 m = _mm256_set1_ps(-INFINITY);
    for (size_t i = 0; i < n; i += 8) m = fm_keep_n(m, _mm256_max_ps(fm_load_n(x + i, n - i), m), n - i);
    __m128 r = _mm_max_ps(_mm256_castps256_ps128(m), _mm256_extractf128_ps(m, 1));
    r = _mm_max_ps(r, _mm_movehl_ps(r, r));
    return _mm_cvtss_f32(_mm_max_ss(r, _mm_movehdup_ps(r)));
}

static float exp_sum(float *y, const float *x, size_t n, float shift)
{
    __m256 acc = _mm256_setzero_ps(), s = _mm256_set1_ps(shift);
    for (size_t i = 0; i < n; i += 8) {
        __m256 e = fm_exp8(_mm256_sub_ps(fm_load_n(x + i, n - i), s));
        fm_store_n(y + i, e, n - i);
        acc = fm_keep_n(acc, _mm256_add_ps(acc, e), n - i);
    }
    return fm_fold(acc);
}

static void soften(float *p, float *top, float *sum, int m, int seen)
{
    enum { ROWS = 64 };
    const size_t n = (size_t)seen;
    for (int i = 0; i < m; i++, p += ROWS) {
        top[i] = max(p, n);
        sum[i] = exp_sum(p, p, n, top[i]);
        memset(p + n, 0, (ROWS - n) * sizeof *p);
    }
}

void fm_avx2_fill_reduce(struct fm_kernels *k)
{
    k->dot = dot;
    k->sumsq = sumsq;
    k->max = max;
    k->exp_sum = exp_sum;
    k->soften = soften;
}
