/* The aarch64 tiers: one fill function per file, and what they share.  Private to this folder.
 *
 *   neon      every aarch64 processor: floats, four lanes
 *   dotprod   besides, sdot: products of int8, of packed rows and in attention: four rows by four columns an instruction
 *   i8mm      besides, smmla: products of packed rows and in attention: two rows by two, eight columns */
#ifndef FM_KERNEL_ARM_H
#define FM_KERNEL_ARM_H

#include <arm_neon.h>
#include <string.h>

#include "kernel/kernel.h"

#define FM_INLINE static inline __attribute__((always_inline))

/* Before a loop of few, constant steps over registers: an array of registers needs constant indices. */
#if defined(__clang__)
#define FM_UNROLL _Pragma("clang loop unroll(full)")
#else
#define FM_UNROLL _Pragma("GCC unroll 16")
#endif

void fm_neon_fill_gemm(struct fm_kernels *k);
void fm_neon_fill_gemv(struct fm_kernels *k);
void fm_neon_fill_rows(struct fm_kernels *k);
void fm_neon_fill_reduce(struct fm_kernels *k);
void fm_neon_fill_act(struct fm_kernels *k);
void fm_neon_fill_norm(struct fm_kernels *k);
void fm_neon_fill_q8(struct fm_kernels *k);
void fm_neon_fill_q14(struct fm_kernels *k);
void fm_neon_fill_attn(struct fm_kernels *k);
void fm_neon_fill_rope(struct fm_kernels *k);
void fm_dotprod_fill_packed(struct fm_kernels *k);
void fm_dotprod_fill_q8(struct fm_kernels *k);
void fm_dotprod_fill_attn(struct fm_kernels *k);
void fm_i8mm_fill_packed(struct fm_kernels *k);
void fm_i8mm_fill_attn(struct fm_kernels *k);

/* gemm_u8 of the dotprod tier: for the rows that i8mm's leaves over. */
void fm_dotprod_gemm_u8(float *c, ptrdiff_t ldc, const uint8_t *a, ptrdiff_t lda, int zero, const int8_t *b,
                        const float *by_lane, const float *by_row, int m, int lanes, int quads);

/* The eight lanes of a reduction: index mod 8 in two registers. */
struct fm_lanes {
    float32x4_t low, high;
};

FM_INLINE struct fm_lanes fm_zero_lanes(void) { return (struct fm_lanes){vdupq_n_f32(0), vdupq_n_f32(0)}; }

/* ((0+4)+(2+6)) + ((1+5)+(3+7)) */
FM_INLINE float fm_fold(struct fm_lanes l)
{
    const float32x4_t halves = vaddq_f32(l.low, l.high);
    const float32x2_t quarters = vadd_f32(vget_low_f32(halves), vget_high_f32(halves));
    return vget_lane_f32(quarters, 0) + vget_lane_f32(quarters, 1);
}

/* n < 8 numbers, zeros behind them: their memory is not touched. */
FM_INLINE struct fm_lanes fm_load_tail(const float *x, size_t n)
{
    float t[8] = {0};
    memcpy(t, x, n * sizeof *x);
    return (struct fm_lanes){vld1q_f32(t), vld1q_f32(t + 4)};
}

/* t[i] lane j = r[j] lane i */
FM_INLINE void fm_transpose4(float32x4_t t[4], const float32x4_t r[4])
{
    const float32x4x2_t a = vtrnq_f32(r[0], r[1]), b = vtrnq_f32(r[2], r[3]);
    t[0] = vcombine_f32(vget_low_f32(a.val[0]), vget_low_f32(b.val[0]));
    t[1] = vcombine_f32(vget_low_f32(a.val[1]), vget_low_f32(b.val[1]));
    t[2] = vcombine_f32(vget_high_f32(a.val[0]), vget_high_f32(b.val[0]));
    t[3] = vcombine_f32(vget_high_f32(a.val[1]), vget_high_f32(b.val[1]));
}

#endif
