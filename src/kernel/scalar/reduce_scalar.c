/* Rows to one number: lanes by index mod 8 (mod 4 in double), folded as a register folds. */
#include <math.h>

#include "kernel/math.h"
#include "kernel/scalar/scalar.h"

static float dot(const float *a, const float *b, size_t n)
{
    float l[8] = {0};
    for (size_t i = 0; i < n; i++) l[i % 8] = fmaf(a[i], b[i], l[i % 8]);
    return fm_fold8(l);
}

static double sumsq(const float *x, size_t n)
{
    double l[4] = {0};
    for (size_t i = 0; i < n; i++) l[i % 4] = fma((double)x[i], (double)x[i], l[i % 4]);
    return (l[0] + l[2]) + (l[1] + l[3]);
}

/* As maxps(a, b): b unless a is greater, so NaN never enters and the sign of a zero is settled by position. */
static float greater(float a, float b) { return a > b ? a : b; }

static float max(const float *x, size_t n)
{
    float l[8];
    for (int i = 0; i < 8; i++) l[i] = -INFINITY;
    for (size_t i = 0; i < n; i++) l[i % 8] = greater(x[i], l[i % 8]);
    for (int i = 0; i < 4; i++) l[i] = greater(l[i], l[i + 4]);
    for (int i = 0; i < 2; i++) l[i] = greater(l[i], l[i + 2]);
    return greater(l[0], l[1]);
}

static float exp_sum(float *y, const float *x, size_t n, float shift)
{
    float l[8] = {0};
    for (size_t i = 0; i < n; i++) {
        float e = fm_expf(x[i] - shift);
        y[i] = e;
        l[i % 8] += e;
    }
    return fm_fold8(l);
}

static void soften(float *p, float *top, float *sum, int m, int seen)
{
    enum { ROWS = 64 };
    for (int i = 0; i < m; i++, p += ROWS) {
        top[i] = max(p, (size_t)seen);
        sum[i] = exp_sum(p, p, (size_t)seen, top[i]);
        for (int s = seen; s < ROWS; s++) p[s] = 0;
    }
}

void fm_scalar_fill_reduce(struct fm_kernels *k)
{
    k->dot = dot;
    k->sumsq = sumsq;
    k->max = max;
    k->exp_sum = exp_sum;
    k->soften = soften;
}
