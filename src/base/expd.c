/* See expd.h.  exp(x) = 2^k·exp(r), k = x/ln 2 rounded, r = x − k·ln 2 in two parts, |r| <= 0.3466;
 * exp(r) by its Taylor series to r^13: the first term left out is below 0.3466^14/14! = 4e-18. */
#include "base/expd.h"

#include <math.h>

/* ln 2 = LN2_HI + LN2_LO; the low 20 bits of LN2_HI are zero, so k·LN2_HI is exact for |k| < 2^20 */
static const double LN2_HI = 0x1.62e42feep-1, LN2_LO = 0x1.a39ef35793c76p-33;
static const double INV_LN2 = 0x1.71547652b82fep+0;

double fm_exp_det(double x)
{
    static const double c[] = {
        1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040,
        1.0 / 720,        1.0 / 120,       1.0 / 24,       1.0 / 6,       1.0 / 2,      1,           1};
    if (x != x) return x;
    if (x > 709.79) return HUGE_VAL;
    if (x < -745.2) return 0;
    double k = x * INV_LN2;
    int n = (int)(k < 0 ? k - 0.5 : k + 0.5);
    double r = (x - n * LN2_HI) - n * LN2_LO, p = c[0];
    for (int i = 1; i < 14; i++) p = p * r + c[i];
    return ldexp(p, n); /* exact but for the one rounding of a subnormal result */
}
