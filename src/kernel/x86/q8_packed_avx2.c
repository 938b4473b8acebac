/* Packed weights, 8 rows side by side. */
#include "kernel/scalar/q8_packed.h"
#include "kernel/x86/x86.h"

enum { ROWS = 8 };

#define PACKED(fmt)                                                                                                  \
    FM_Q8_UNPACK_ROW(fmt, ROWS)                                                                                      \
    static void gemm_##fmt(float *y, ptrdiff_t ldy, const struct fm_q8x *xq, int m, const void *w, size_t row_bytes, \
                           int n, int k, float *work)                                                                \
    {                                                                                                                \
        (void)work;                                                                                                  \
        fm_q8_gemm_packed(FM_##fmt, ROWS, y, ldy, xq, m, w, row_bytes, n, k);                                        \
    }
FM_Q8_FORMATS(PACKED)

#define SLOTS(fmt)                          \
    k->unpack_row[FM_##fmt] = unpack_##fmt; \
    k->gemm_packed[FM_##fmt] = gemm_##fmt;

void fm_avx2_fill_packed(struct fm_kernels *k)
{
    k->pack_rows = ROWS;
    fm_avx2_fill_pack(k);
    FM_Q8_FORMATS(SLOTS)
}
