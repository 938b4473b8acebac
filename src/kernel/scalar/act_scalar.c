/* sigmoid; SwiGLU's y = silu(g)·u with silu(g) = g·σ(g), and its derivative.  Source: Shazeer 2020, GLU variants. */
#include <math.h>

#include "kernel/math.h"
#include "kernel/scalar/scalar.h"

static float sigmoid1(float x) { return 1 / (1 + fm_expf(-x)); }

static void sigmoid(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] = sigmoid1(x[i]);
}

static void silu_mul(float *y, const float *g, const float *u, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] = g[i] * sigmoid1(g[i]) * u[i];
}

static void silu_mul_bwd(float *dg, float *du, const float *dy, const float *g, const float *u, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float s = sigmoid1(g[i]), slope = s * fmaf(g[i], 1 - s, 1); /* d(g·σ)/dg = σ(1 + g(1 − σ)) */
        float a = dy[i] * u[i] * slope, b = dy[i] * (g[i] * s);
        dg[i] = a;
        du[i] = b;
    }
}

void fm_scalar_fill_act(struct fm_kernels *k)
{
    k->sigmoid = sigmoid;
    k->silu_mul = silu_mul;
    k->silu_mul_bwd = silu_mul_bwd;
}
