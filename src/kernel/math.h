/* Our own exp, log, sin, cos: the C library picks variants by CPU at load time, so its bits are not ours.
 * Plain IEEE arithmetic in a fixed order: the same bits on every machine and tier (fma() is the exact C function). */
#ifndef FM_KERNEL_MATH_H
#define FM_KERNEL_MATH_H

/* max relative errors are stated and tested in check_kernel; exp flushes below −87.33 to 0 and gives +inf above 88.72 */
float fm_expf(float x);
float fm_logf(float x);
double fm_expd(double x);
double fm_logd(double x);
/* both at once, any |x| < 2^30; absolute error < 1e-15 (reduction in two parts of pi/2, double) */
void fm_sincos(double x, double *sin_x, double *cos_x);

#endif
