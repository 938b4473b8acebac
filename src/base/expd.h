/* exp in double with the same bits on every machine: the C library picks its variant by CPU. */
#ifndef FM_BASE_EXPD_H
#define FM_BASE_EXPD_H

/* Relative error below 4e-16; 0 below -745.2, +inf above 709.8, NaN stays NaN.  Plain IEEE arithmetic, no tables. */
double fm_exp_det(double x);

#endif
