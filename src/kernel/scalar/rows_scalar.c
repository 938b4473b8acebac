/* Element by element: axpy, scale, add, mul. */
#include <math.h>

#include "kernel/scalar/scalar.h"

static void axpy(float *y, float a, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] = fmaf(a, x[i], y[i]);
}

static void scale(float *y, float a, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] *= a;
}

static void add(float *y, const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] = a[i] + b[i];
}

static void mul(float *y, const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] = a[i] * b[i];
}

void fm_scalar_fill_rows(struct fm_kernels *k)
{
    k->axpy = axpy;
    k->scale = scale;
    k->add = add;
    k->mul = mul;
}
