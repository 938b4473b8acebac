/* y[n] = W[n,K]·x for every format that can be decoded: one fma chain per row, over k in order. */
#include <math.h>

#include "kernel/decoded.h"
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
#define GEMV(fmt)                                                                                   \
    static void gemv_##fmt(float *y, const void *w, size_t row_bytes, const float *x, int n, int k) \
    {                                                                                               \
        gemv(FM_##fmt, y, w, row_bytes, x, n, k);                                                   \
    }
/* clang-format off */
GEMV(F32) GEMV(F16) GEMV(BF16) GEMV(Q8_0) GEMV(Q4_0) GEMV(Q4_1)
FM_DECODED_FORMATS(GEMV)
/* clang-format on */

#define SLOT(fmt) k->gemv[FM_##fmt] = gemv_##fmt;

void fm_scalar_fill_gemv(struct fm_kernels *k)
{
    /* clang-format off */
    SLOT(F32) SLOT(F16) SLOT(BF16) SLOT(Q8_0) SLOT(Q4_0) SLOT(Q4_1)
    FM_DECODED_FORMATS(SLOT)
    /* clang-format on */
}
