/* RMSNorm, y = w ⊙ x·r with r = 1/sqrt(Σx²/n + eps), and its backward.  Source: Zhang and Sennrich 2019.
 *
 * With s = Σ w·dy·x:  ∂r/∂x_j = −r³·x_j/n, so  dx_j = r·w_j·dy_j − (r³·s/n)·x_j  and  dw_j += dy_j·(x_j·r). */
#include <math.h>

#include "kernel/scalar/scalar.h"

static float inverse_rms(const float *x, size_t n, float eps)
{
    float l[8] = {0};
    for (size_t i = 0; i < n; i++) l[i % 8] = fmaf(x[i], x[i], l[i % 8]);
    return 1 / sqrtf(fm_fold8(l) / (float)n + eps);
}

static void rms_norm(float *y, const float *x, const float *w, size_t n, float eps)
{
    float r = inverse_rms(x, n, eps);
    for (size_t i = 0; i < n; i++) y[i] = w ? x[i] * r * w[i] : x[i] * r;
}

static void rms_norm_bwd(float *dx, float *dw, const float *dy, const float *x, const float *w, size_t n, float eps,
                         bool accumulate)
{
    float r = inverse_rms(x, n, eps), l[8] = {0};
    for (size_t i = 0; i < n; i++) l[i % 8] = fmaf(w ? w[i] * dy[i] : dy[i], x[i], l[i % 8]);
    float c = r * r * r / (float)n * fm_fold8(l);
    for (size_t i = 0; i < n; i++) {
        float wdy = w ? w[i] * dy[i] : dy[i], d = fmaf(-c, x[i], r * wdy);
        if (dw) dw[i] = fmaf(dy[i], x[i] * r, dw[i]);
        dx[i] = accumulate ? dx[i] + d : d;
    }
}

void fm_scalar_fill_norm(struct fm_kernels *k)
{
    k->rms_norm = rms_norm;
    k->rms_norm_bwd = rms_norm_bwd;
}
