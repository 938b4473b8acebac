/* The reference ops: the obvious translation of the formulas in op.h, one thread, sums in double.
 * Compiled twice: fm_real = float (referee of op/cpu) and, with -DFM_REAL_DOUBLE, double (referee of the gradients).
 * exp, log, sin and cos are libm's: a referee should not share its arithmetic with the accused. */
#ifndef FM_OP_REF_REF_H
#define FM_OP_REF_REF_H

#include "op/slots.h"

FM_OP_SLOTS(fm_ref_);
FM_OP_GRAD_SLOTS(fm_ref_);

/* Weights are decoded this many elements at a time: a multiple of every format's block. */
enum { FM_REF_CHUNK = 256 };

/* dst[n] = W[row, k … k+n−1]; k a multiple of FM_REF_CHUNK, n <= FM_REF_CHUNK. */
void fm_ref_weights(fm_real *dst, const struct fm_mat *w, int row, int k, int n);

#endif
