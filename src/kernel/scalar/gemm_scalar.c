/* C[M,N] (+)= A[M,K]·B[K,N] in float32: one fma chain per output, over k in order. */
#include <math.h>

#include "kernel/scalar/scalar.h"

static void gemm_f32(int m, int n, int k, const float *a, ptrdiff_t a_rs, ptrdiff_t a_cs, const float *b,
                     ptrdiff_t b_rs, ptrdiff_t b_cs, float *c, ptrdiff_t ldc, bool accumulate, float *work)
{
    (void)work;
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            float acc = accumulate ? c[i * ldc + j] : 0;
            for (int p = 0; p < k; p++) acc = fmaf(a[i * a_rs + p * a_cs], b[p * b_rs + j * b_cs], acc);
            c[i * ldc + j] = acc;
        }
}

void fm_scalar_fill_gemm(struct fm_kernels *k) { k->gemm_f32 = gemm_f32; }
