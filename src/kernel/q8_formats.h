/* The formats with an int8 product (gemm_q8), by name.  A new one: here, its block in scalar/q8_blocks_scalar.c, then in the
 * faster tiers. */
#ifndef FM_KERNEL_Q8_FORMATS_H
#define FM_KERNEL_Q8_FORMATS_H

/* clang-format off */
#define FM_Q8_BLOCKS_OF_32(X)  X(Q8_0) X(Q4_0) X(Q4_1) X(Q5_0) X(Q5_1) X(IQ4_NL) X(MXFP4)
#define FM_Q8_BLOCKS_OF_256(X) X(Q2_K) X(Q3_K) X(Q4_K) X(Q5_K) X(Q6_K) X(IQ4_XS)
#define FM_Q8_FORMATS(X)       FM_Q8_BLOCKS_OF_32(X) FM_Q8_BLOCKS_OF_256(X)
/* clang-format on */

#endif
