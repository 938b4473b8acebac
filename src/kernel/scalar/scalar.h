/* The reference tier: one fill function per file, and the lanes they share.  Private to this folder. */
#ifndef FM_KERNEL_SCALAR_H
#define FM_KERNEL_SCALAR_H

#include "kernel/kernel.h"

void fm_scalar_fill_gemm(struct fm_kernels *k);
void fm_scalar_fill_gemv(struct fm_kernels *k);
void fm_scalar_fill_q8(struct fm_kernels *k);
void fm_scalar_fill_packed(struct fm_kernels *k);
void fm_scalar_fill_q14(struct fm_kernels *k);
void fm_scalar_fill_attn(struct fm_kernels *k);
void fm_scalar_fill_reduce(struct fm_kernels *k);
void fm_scalar_fill_rows(struct fm_kernels *k);
void fm_scalar_fill_act(struct fm_kernels *k);
void fm_scalar_fill_norm(struct fm_kernels *k);
void fm_scalar_fill_rope(struct fm_kernels *k);
void fm_scalar_fill_adamw(struct fm_kernels *k);

/* A block of 32 weights as integers: element j is d·scale[j/16]·code[j], plus m (or m·min[j/16]).  kernel.h has the order. */
struct fm_q8_block {
    float d, m;
    int code[32], scale[2], min[2];
};

enum fm_q8_minimum { FM_Q8_NO_MINIMUM, FM_Q8_MINIMUM, FM_Q8_TWO_MINIMA };

/* Formats with an int8 product: open fills all but what its format has not: scale is 1, min 0 before.  p: the file's block, b: which
 * 32 elements of it.  open NULL: the format has none. */
struct fm_q8_reader {
    void (*open)(struct fm_q8_block *o, const unsigned char *p, int b);
    enum fm_q8_minimum minimum;
};
extern const struct fm_q8_reader fm_scalar_q8_readers[FM_FMT_COUNT];

/* The chain of gemm_q8 goes on over the n <= 8 runs of 32 of one of the file's blocks. */
float fm_scalar_q8_chain(float acc, const struct fm_q8x *xq, const unsigned char *block, enum fm_fmt f, int n);

/* The sum of eight lanes, in the order in which a 256-bit register folds: halves, then quarters, then the pair. */
static inline float fm_fold8(const float l[8])
{
    return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]));
}

#endif
