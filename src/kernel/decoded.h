/* The formats that no tier reads in registers: their rows are decoded to float32 first.  A new format: here, until a
 * kernel of its own pays. */
#ifndef FM_KERNEL_DECODED_H
#define FM_KERNEL_DECODED_H

/* clang-format off */
#define FM_DECODED_FORMATS(X)                                                                                          \
    X(F64) X(Q5_0) X(Q5_1) X(Q2_K) X(Q3_K) X(Q4_K) X(Q5_K) X(Q6_K) X(IQ4_NL) X(IQ4_XS) X(IQ2_XXS) X(IQ2_XS) X(IQ2_S)   \
    X(IQ3_XXS) X(IQ3_S) X(IQ1_S) X(IQ1_M) X(MXFP4) X(NVFP4) X(F8_E4M3) X(F8_E8M0)      \
    X(F4_E2M1)
/* clang-format on */

#endif
