/* The constants of fm_expf, shared by math.c and the vector tiers so that their bits cannot differ.
 *
 * exp(x) = 2^n·exp(r) with n = round(x/ln2), r = x − n·ln2 in two parts, |r| <= ln2/2, and
 * exp(r) ≈ 1 + (r + r²·q(r)).  q is the minimax polynomial of degree 4 for the relative error of exp(r) on that interval
 * (Remez exchange, coefficients then rounded to float): 3.1e-9, a twentieth of half an ulp. */
#ifndef FM_KERNEL_POLY_H
#define FM_KERNEL_POLY_H

#define FM_EXPF_HI     88.72283f   /* the largest x with a finite exp; above: +inf                                */
#define FM_EXPF_LO     (-87.33f)   /* below: 0.  Above it n >= −126 and 2^n·exp(r) is a normal number             */
#define FM_EXPF_MAGIC  12582912.0f /* 1.5·2^23: adding it rounds to an integer, which the low bits then hold  */
#define FM_EXPF_LOG2E  0x1.715476p+0f
#define FM_EXPF_LN2_HI 0x1.62e430p-1f
#define FM_EXPF_LN2_LO (-0x1.05c610p-29f)
#define FM_EXPF_Q0     0x1.fffffcp-2f
#define FM_EXPF_Q1     0x1.555492p-3f
#define FM_EXPF_Q2     0x1.5558f2p-5f
#define FM_EXPF_Q3     0x1.123a20p-7f
#define FM_EXPF_Q4     0x1.6a23d0p-10f

#endif
