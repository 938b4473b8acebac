/* Our own exp, log, sin, cos: the C library picks variants by CPU at load time, so its bits are not ours.
 * Plain IEEE arithmetic in a fixed order: the same bits on every machine and tier (fma() is the exact C function). */
#ifndef FM_KERNEL_MATH_H
#define FM_KERNEL_MATH_H

/* e^x, relative error < 1e-7 (1.4 roundings; tested).  Below −87.33: 0, there are no subnormal results.  Above 88.72283, the
 * logarithm of the largest float: +inf.  NaN stays NaN. */
float fm_expf(float x);
/* ln x by way of double: relative error < 6.1e-8.  0: −inf; negative: NaN. */
float fm_logf(float x);
/* e^x, relative error < 5e-16; subnormal results are rounded twice; 0 below −745.2, +inf above 709.78. */
double fm_expd(double x);
/* ln x, relative error < 5e-16, subnormal x included.  0: −inf; negative: NaN. */
double fm_logd(double x);
/* both at once, any |x| < 2^30; absolute error < 5e-16 (reduction in two parts of pi/2) */
void fm_sincos(double x, double *sin_x, double *cos_x);

#endif
