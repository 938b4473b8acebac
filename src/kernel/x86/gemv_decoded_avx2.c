/* gemv of the formats without a loader of their own: a panel of rows is decoded, then multiplied like F32.
 * The chains are those of gemv_avx2.c, continued from panel to panel, so the bits are those of the scalar tier. */
#include "kernel/decoded.h"
#include "kernel/x86/x86.h"

/* 64 rows: eight chains of eight, enough to hide the latency of fma.  256: a multiple of every block. */
enum { ROWS = 64, COLS = 256 };

static void gemv(enum fm_fmt f, float *y, const void *w, size_t row_bytes, const float *x, int n, int k)
{
    _Alignas(64) float panel[ROWS * COLS];
    fm_decode_fn decode = fm_avx2_decoder(f);
    for (int i = 0; i < n; i += ROWS)
        for (int p = 0; p < k; p += COLS) {
            const unsigned char *at =
                (const unsigned char *)w + (size_t)i * row_bytes + fm_format_bytes(f, (uint64_t)p);
            int rows = fm_min_int(ROWS, n - i), cols = fm_min_int(COLS, k - p);
            for (int r = 0; r < rows; r++) decode(panel + r * COLS, at + (size_t)r * row_bytes, (size_t)cols);
            fm_avx2_gemm_rows(1, rows, cols, x + p, 0, 1, panel, COLS, y + i, 0, p > 0);
        }
    for (int i = 0; i < n && k <= 0; i++) y[i] = 0;
}

#define GEMV(fmt)                                                                                   \
    static void gemv_##fmt(float *y, const void *w, size_t row_bytes, const float *x, int n, int k) \
    {                                                                                               \
        gemv(FM_##fmt, y, w, row_bytes, x, n, k);                                                   \
    }
FM_DECODED_FORMATS(GEMV)

#define SLOT(fmt)                   \
    k->gemv[FM_##fmt] = gemv_##fmt; \
    k->decode[FM_##fmt] = fm_avx2_decoder(FM_##fmt);

void fm_avx2_fill_gemv_decoded(struct fm_kernels *k) { FM_DECODED_FORMATS(SLOT) }
