/* The x86 tiers: one fill function per file, and the packing of gemm.  Private to this folder. */
#ifndef FM_KERNEL_X86_H
#define FM_KERNEL_X86_H

#include "kernel/kernel.h"

void fm_avx2_fill_gemm(struct fm_kernels *k);
void fm_avx2_fill_gemv(struct fm_kernels *k);
void fm_avx2_fill_gemv_decoded(struct fm_kernels *k);
void fm_avx2_fill_q8(struct fm_kernels *k);
void fm_avx2_fill_packed(struct fm_kernels *k);
void fm_avx2_fill_q14(struct fm_kernels *k);
/* pack for pack_rows 8 or 16. */
void fm_avx2_fill_pack(struct fm_kernels *k);
void fm_avx2_fill_decode(struct fm_kernels *k);
void fm_avx2_fill_encode(struct fm_kernels *k);
void fm_avx2_fill_attn(struct fm_kernels *k);
void fm_avx512_fill_attn(struct fm_kernels *k);
void fm_avx2_fill_reduce(struct fm_kernels *k);
void fm_avx2_fill_rows(struct fm_kernels *k);
void fm_avx2_fill_act(struct fm_kernels *k);
void fm_avx2_fill_norm(struct fm_kernels *k);
void fm_avx2_fill_rope(struct fm_kernels *k);
void fm_avx2_fill_adamw(struct fm_kernels *k);

/* The decoder of a format of kernel/decoded.h: this tier's, or the scalar one. */
fm_decode_fn fm_avx2_decoder(enum fm_fmt f);

/* gemm_f32 for B = Wᵀ (w: n rows of k, w_rs apart) and at most FM_AVX2_ROWS rows of A: gemv's way, in gemv_avx2.c. */
enum { FM_AVX2_ROWS = 5 };
void fm_avx2_gemm_rows(int m, int n, int k, const float *a, ptrdiff_t a_rs, ptrdiff_t a_cs, const float *w,
                       ptrdiff_t w_rs, float *c, ptrdiff_t ldc, bool accumulate);

/* gemm_q8 for FM_AVX2_PANEL_M or more rows of x, in q8_panel_avx2.c. */
enum { FM_AVX2_PANEL_M = 3 };
void fm_avx2_gemm_panels(enum fm_fmt f, float *y, ptrdiff_t ldy, const struct fm_q8x *xq, int m, const void *w,
                         size_t row_bytes, int n, int k, float *work);

/* This tier's gemm_q8, for the tiers above. */
typedef void (*fm_gemm_q8_fn)(float *y, ptrdiff_t ldy, const struct fm_q8x *xq, int m, const void *w, size_t row_bytes,
                              int n, int k, float *work);
extern const fm_gemm_q8_fn fm_avx2_gemm_q8[FM_FMT_COUNT];

void fm_avx512_fill_q8(struct fm_kernels *k);
void fm_avx512_fill_gemv(struct fm_kernels *k);
void fm_avx512_fill_packed(struct fm_kernels *k);
void fm_avx512_fill_q14(struct fm_kernels *k);

/* Panels of gemm_f32; see gemm_pack_avx2.c. */
enum { FM_AVX2_MR = 6, FM_AVX2_NR = 16 };
void fm_avx2_pack_a(float *dst, int m, int k, const float *a, ptrdiff_t a_rs, ptrdiff_t a_cs);
void fm_avx2_pack_b(float *dst, int k, int n, const float *b, ptrdiff_t b_rs, ptrdiff_t b_cs);

#endif
