/* The reference tier: one fill function per file, and the lanes they share.  Private to this folder. */
#ifndef FM_KERNEL_SCALAR_H
#define FM_KERNEL_SCALAR_H

#include "kernel/kernel.h"

void fm_scalar_fill_gemm(struct fm_kernels *k);
void fm_scalar_fill_gemv(struct fm_kernels *k);
void fm_scalar_fill_q8(struct fm_kernels *k);
void fm_scalar_fill_reduce(struct fm_kernels *k);
void fm_scalar_fill_rows(struct fm_kernels *k);
void fm_scalar_fill_act(struct fm_kernels *k);
void fm_scalar_fill_norm(struct fm_kernels *k);
void fm_scalar_fill_rope(struct fm_kernels *k);
void fm_scalar_fill_adamw(struct fm_kernels *k);

/* The sum of eight lanes, in the order in which a 256-bit register folds: halves, then quarters, then the pair. */
static inline float fm_fold8(const float l[8])
{
    return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]));
}

#endif
