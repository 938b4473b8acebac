/* Element by element: see rows_scalar.c. */
#include "kernel/x86/lanes_avx2.h"
#include "kernel/x86/x86.h"

static void axpy(float *y, float a, const float *x, size_t n)
{
    __m256 va = _mm256_set1_ps(a);
    for (size_t i = 0; i < n; i += 8)
        fm_store_n(y + i, _mm256_fmadd_ps(va, fm_load_n(x + i, n - i), fm_load_n(y + i, n - i)), n - i);
}

static void scale(float *y, float a, size_t n)
{
    __m256 va = _mm256_set1_ps(a);
    for (size_t i = 0; i < n; i += 8) fm_store_n(y + i, _mm256_mul_ps(fm_load_n(y + i, n - i), va), n - i);
}

static void add(float *y, const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i += 8)
        fm_store_n(y + i, _mm256_add_ps(fm_load_n(a + i, n - i), fm_load_n(b + i, n - i)), n - i);
}

static void mul(float *y, const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i += 8)
        fm_store_n(y + i, _mm256_mul_ps(fm_load_n(a + i, n - i), fm_load_n(b + i, n - i)), n - i);
}

void fm_avx2_fill_rows(struct fm_kernels *k)
{
    k->axpy = axpy;
    k->scale = scale;
    k->add = add;
    k->mul = mul;
}
