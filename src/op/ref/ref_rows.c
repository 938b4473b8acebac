/* Ops on rows and elements: sums, copies, RMSNorm, RoPE, SwiGLU, the cache's rows.  spec models.md §1.2, §1.3. */
#include <math.h>
#include <string.h>

#include "op/ref/ref.h"

void fm_ref_add(struct fm_ctx *c, fm_real *y, const fm_real *a, const fm_real *b, size_t n)
{
    if (c->status) return;
    for (size_t i = 0; i < n; i++) y[i] = a[i] + b[i];
}

void fm_ref_add_bias(struct fm_ctx *c, fm_real *y, const fm_real *bias, int T, int N)
{
    if (c->status) return;
    for (int t = 0; t < T; t++)
        for (int n = 0; n < N; n++) y[(size_t)t * N + n] += bias[n];
}

void fm_ref_bias_bwd(struct fm_ctx *c, fm_real *db, const fm_real *dy, int T, int N)
{
    if (c->status) return;
    for (int n = 0; n < N; n++) {
        double acc = db[n];
        for (int t = 0; t < T; t++) acc += dy[(size_t)t * N + n];
        db[n] = (fm_real)acc;
    }
}

void fm_ref_copy(struct fm_ctx *c, fm_real *dst, size_t dst_ld, const fm_real *src, size_t src_ld, int repeat, int rows,
                 int cols)
{
    if (c->status) return;
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < cols; i++) dst[r * dst_ld + i] = src[r / repeat * src_ld + i];
}

void fm_ref_sum_repeat(struct fm_ctx *c, fm_real *dst, size_t dst_ld, const fm_real *src, size_t src_ld, int repeat,
                       int rows, int cols)
{
    if (c->status) return;
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < cols; i++) {
            double acc = 0;
            for (int j = 0; j < repeat; j++) acc += src[((size_t)r * repeat + j) * src_ld + i];
            dst[r * dst_ld + i] = (fm_real)acc;
        }
}

/* 1/sqrt(mean x² + eps) */
static double inv_rms(const fm_real *x, int D, double eps)
{
    double sum = 0;
    for (int i = 0; i < D; i++) sum += (double)x[i] * x[i];
    return 1 / sqrt(sum / D + eps);
}

void fm_ref_rms_norm(struct fm_ctx *c, fm_real *y, size_t ldy, const fm_real *x, size_t ldx, const fm_real *w, int rows,
                     int D, fm_real eps)
{
    if (c->status) return;
    for (int r = 0; r < rows; r++) {
        const fm_real *xr = x + r * ldx;
        double s = inv_rms(xr, D, eps);
        for (int i = 0; i < D; i++) y[r * ldy + i] = (fm_real)((w ? (double)w[i] : 1) * xr[i] * s);
    }
}

/* With s = 1/sqrt(mean x² + eps) and g = w⊙dy:  dx = s·g − x·s³/D·Σ(g⊙x),  dw += Σ_rows dy⊙x·s. */
void fm_ref_rms_norm_bwd(struct fm_ctx *c, fm_real *dx, size_t lddx, fm_real *dw, const fm_real *dy, size_t lddy,
                         const fm_real *x, size_t ldx, const fm_real *w, int rows, int D, fm_real eps, bool accumulate)
{
    if (c->status) return;
    for (int r = 0; r < rows; r++) {
        const fm_real *xr = x + r * ldx, *dyr = dy + r * lddy;
        fm_real *dxr = dx + r * lddx;
        double s = inv_rms(xr, D, eps), gx = 0;
        for (int i = 0; i < D; i++) gx += (w ? (double)w[i] : 1) * dyr[i] * xr[i];
        for (int i = 0; i < D; i++) {
            double d = s * (w ? (double)w[i] : 1) * dyr[i] - xr[i] * (s * s * s / D * gx);
            if (dw) dw[i] += (fm_real)(dyr[i] * s * xr[i]);
            dxr[i] = (fm_real)(d + (accumulate ? dxr[i] : 0));
        }
    }
}

void fm_ref_rope_table(struct fm_ctx *c, fm_real *cs, const int32_t *pos, int T, const double *freq, int half)
{
    if (c->status) return;
    for (int t = 0; t < T; t++)
        for (int i = 0; i < half; i++) {
            fm_real *p = cs + ((size_t)t * half + i) * 2;
            p[0] = (fm_real)cos(pos[t] * freq[i]);
            p[1] = (fm_real)sin(pos[t] * freq[i]);
        }
}

/* (a, b) → (a·cos − b·sin, b·cos + a·sin) for each pair of one head. */
static void rotate(fm_real *x, const fm_real *cs, int half, bool interleaved, bool inverse)
{
    for (int i = 0; i < half; i++) {
        fm_real *a = interleaved ? x + 2 * i : x + i, *b = interleaved ? a + 1 : a + half;
        double co = cs[2 * i], si = inverse ? -cs[2 * i + 1] : cs[2 * i + 1], va = *a, vb = *b;
        *a = (fm_real)(va * co - vb * si);
        *b = (fm_real)(vb * co + va * si);
    }
}

void fm_ref_rope(struct fm_ctx *c, fm_real *x, size_t x_t, size_t x_h, int H, int T, const fm_real *cs, int half,
                 bool interleaved, bool inverse)
{
    if (c->status) return;
    for (int t = 0; t < T; t++)
        for (int h = 0; h < H; h++)
            rotate(x + t * x_t + h * x_h, cs + (size_t)t * half * 2, half, interleaved, inverse);
}

void fm_ref_swiglu(struct fm_ctx *c, fm_real *y, const fm_real *g, const fm_real *u, size_t n)
{
    if (c->status) return;
    for (size_t i = 0; i < n; i++) y[i] = (fm_real)(g[i] / (1 + exp(-(double)g[i])) * u[i]);
}

/* y = g·σ·u with σ = 1/(1+e^−g):  dg = dy·u·σ(1 + g(1−σ)),  du = dy·g·σ. */
void fm_ref_swiglu_bwd(struct fm_ctx *c, fm_real *dg, fm_real *du, const fm_real *dy, const fm_real *g,
                       const fm_real *u, size_t n)
{
    if (c->status) return;
    for (size_t i = 0; i < n; i++) {
        double gi = g[i], ui = u[i], d = dy[i], s = 1 / (1 + exp(-gi));
        dg[i] = (fm_real)(d * ui * s * (1 + gi * (1 - s)));
        du[i] = (fm_real)(d * gi * s);
    }
}
