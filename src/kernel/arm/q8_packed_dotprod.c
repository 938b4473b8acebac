/* Packed weights with sdot. */
#include "kernel/arm/q8_packed_dotprod.h"

FM_INLINE void gemm(const struct format *f, float *y, ptrdiff_t ldy, const struct fm_q8x *xq, int m,
                    const unsigned char *w, size_t row_bytes, int n, int k)
{
    const ptrdiff_t x_row = k / RUN;
    for (int j = 0; j < n; j += ROWS) {
        const unsigned char *group = w + (size_t)j * row_bytes;
        int i = 0;
        for (; i + DOT_ROWS <= m; i += DOT_ROWS) dot_tile(f, DOT_ROWS, y + i * ldy + j, ldy, xq + i * x_row, group, k);
        for (; i < m; i++) dot_tile(f, 1, y + i * ldy + j, ldy, xq + i * x_row, group, k);
    }
}

#define GEMM(fmt)                                                                                                    \
    static void gemm_##fmt(float *y, ptrdiff_t ldy, const struct fm_q8x *xq, int m, const void *w, size_t row_bytes, \
                           int n, int k, float *work)                                                                \
    {                                                                                                                \
        static const struct format f = ROW_##fmt;                                                                    \
        (void)work;                                                                                                  \
        gemm(&f, y, ldy, xq, m, w, row_bytes, n, k);                                                                 \
    }
FM_Q8_FORMATS(GEMM)

#define SLOT(fmt) k->gemm_packed[FM_##fmt] = gemm_##fmt;

void fm_dotprod_fill_packed(struct fm_kernels *k)
{
    _Static_assert(ROWS == 4, "as the scalar tier packs");
    FM_Q8_FORMATS(SLOT)
}
