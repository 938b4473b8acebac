/* Packed rows, for all tiers: where each byte and bit of R rows side by side comes from. */
#ifndef FM_KERNEL_Q8_PACKED_H
#define FM_KERNEL_Q8_PACKED_H

#include "kernel/kernel.h"
#include "kernel/q8_formats.h"

/* kernel.h's pack, unpack_row and gemm_packed for rows at a time. */
void fm_q8_pack(enum fm_fmt f, int rows, void *dst, const void *src, size_t row_bytes, int n, int k);
void fm_q8_unpack_row(enum fm_fmt f, int rows, void *dst, const void *packed, int row, int k);
/* What a file's block has before its codes, of R rows from src on, row_bytes apart: packed into R times as many bytes. */
void fm_q8_pack_heads(enum fm_fmt f, int rows, unsigned char *dst, const unsigned char *src, size_t row_bytes);
void fm_q8_gemm_packed(enum fm_fmt f, int rows, float *y, ptrdiff_t ldy, const struct fm_q8x *xq, int m, const void *w,
                       size_t row_bytes, int n, int k);

/* unpack_row of a format for a number of rows. */
#define FM_Q8_UNPACK_ROW(fmt, rows)                                                           \
    static void unpack_##fmt(void *dst, const void *packed, size_t row_bytes, int row, int k) \
    {                                                                                         \
        (void)row_bytes;                                                                      \
        fm_q8_unpack_row(FM_##fmt, rows, dst, packed, row, k);                                \
    }

#endif
