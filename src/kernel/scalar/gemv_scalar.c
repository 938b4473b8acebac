/* y[n] = W[n,K]·x for every format that can be decoded: one fma chain per row, over k in order. */
#include <math.h>

#include "kernel/scalar/scalar.h"

enum { CHUNK = 256 }; /* elements decoded at a time: a multiple of every block length */

static void gemv(enum fm_fmt f, float *y, const void *w, size_t row_bytes, const float *x, int n, int k)
{
    const struct fm_format *fmt = &fm_formats[f];
    for (int i = 0; i < n; i++) {
        const unsigned char *row = (const unsigned char *)w + (size_t)i * row_bytes;
        float acc = 0, v[CHUNK];
        for (int p = 0; p < k; p += CHUNK, row += CHUNK / fmt->block * fmt->block_bytes) {
            int len = k - p < CHUNK ? k - p : CHUNK;
            fmt->decode(v, row, (size_t)len);
            for (int q = 0; q < len; q++) acc = fmaf(v[q], x[p + q], acc);
        }
        y[i] = acc;
    }
}

/* A table slot knows its format by its name only. */
#define GEMV(name, fmt)                                                                                                \
    static void name(float *y, const void *w, size_t row_bytes, const float *x, int n, int k)                          \
    {                                                                                                                  \
        gemv(fmt, y, w, row_bytes, x, n, k);                                                                           \
    }
GEMV(gemv_f32, FM_F32)
GEMV(gemv_f16, FM_F16)
GEMV(gemv_bf16, FM_BF16)
GEMV(gemv_q8_0, FM_Q8_0)
GEMV(gemv_q4_0, FM_Q4_0)
GEMV(gemv_q4_1, FM_Q4_1)
GEMV(gemv_f64, FM_F64)

void fm_scalar_fill_gemv(struct fm_kernels *k)
{
    k->gemv[FM_F32] = gemv_f32;
    k->gemv[FM_F16] = gemv_f16;
    k->gemv[FM_BF16] = gemv_bf16;
    k->gemv[FM_Q8_0] = gemv_q8_0;
    k->gemv[FM_Q4_0] = gemv_q4_0;
    k->gemv[FM_Q4_1] = gemv_q4_1;
    k->gemv[FM_F64] = gemv_f64;
}
