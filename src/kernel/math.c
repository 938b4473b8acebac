/* See math.h.  Only exact operations of the C library are used: fma rounds once, everywhere. */
#include "kernel/math.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernel/poly.h"

static uint32_t bits32(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static uint64_t bits64(double x)
{
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static double from_bits64(uint64_t u)
{
    double x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* t = magic + n: its bits shifted left by 23 are n in the exponent field, the magic's own bits fall out at the top. */
float fm_expf(float x)
{
    if (x != x) return x;
    if (x > FM_EXPF_HI) return INFINITY;
    if (x < FM_EXPF_LO) return 0;
    float t = fmaf(x, FM_EXPF_LOG2E, FM_EXPF_MAGIC), n = t - FM_EXPF_MAGIC;
    float r = fmaf(-n, FM_EXPF_LN2_LO, fmaf(-n, FM_EXPF_LN2_HI, x));
    float q = fmaf(fmaf(fmaf(fmaf(FM_EXPF_Q4, r, FM_EXPF_Q3), r, FM_EXPF_Q2), r, FM_EXPF_Q1), r, FM_EXPF_Q0);
    uint32_t u = bits32(1 + fmaf(r * r, q, r)) + (bits32(t) << 23);
    float y;
    memcpy(&y, &u, sizeof y);
    return y;
}

/* By way of double: rounded correctly but for about one argument in 10^8. */
float fm_logf(float x) { return (float)fm_logd((double)x); }

/* 2^n for −1022 <= n <= 1023. */
static double pow2(int n) { return from_bits64((uint64_t)(n + 1023) << 52); }

/* c[0] + c[1]·x + … + c[n−1]·x^(n−1) */
static double horner(const double *c, int n, double x)
{
    double y = c[n - 1];
    for (int i = n - 2; i >= 0; i--) y = fma(y, x, c[i]);
    return y;
}

static const double ln2_hi = 0x1.62e42fefp-1; /* 33 bits: its product with any exponent is exact */
static const double ln2_lo = 0x1.473de6af278edp-34;
static const double magic = 0x1.8p52; /* adding it rounds to an integer */

/* Taylor to r^13: the next term is below (ln2/2)^14/14! = 4.1e-18. */
double fm_expd(double x)
{
    static const double inv_factorial[] = {
        1.0,        1.0,         1.0 / 2,      1.0 / 6,       1.0 / 24,       1.0 / 120,       1.0 / 720,
        1.0 / 5040, 1.0 / 40320, 1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800};
    if (x != x) return x;
    if (x > 709.782712893384) return INFINITY; /* log of the largest double */
    if (x < -745.2) return 0;                  /* below half of the smallest subnormal */
    double n = (x * 0x1.71547652b82fep+0 + magic) - magic;
    double r = fma(-n, ln2_lo, fma(-n, ln2_hi, x));
    double p = fma(r * r, horner(inv_factorial + 2, 12, r), r) + 1;
    int e = (int)n, half = e / 2; /* two factors: 2^1024 and 2^−1075 are no doubles */
    return p * pow2(half) * pow2(e - half);
}

/* x = 2^e·m, sqrt(1/2) <= m < sqrt(2); with f = m − 1 and s = f/(2+f),
 *     log m = 2·atanh(s) = 2s + 2s³/3 + 2s⁵/5 + … = f − (f²/2 − s·(f²/2 + R)),   R = 2s²/3 + 2s⁴/5 + …
 * The second form keeps f, which is exact, as the leading term.  s² <= 0.0295, so s^20·2/21 < 5e-17 ends the series. */
double fm_logd(double x)
{
    static const double odd[] = {2.0 / 3, 2.0 / 5, 2.0 / 7, 2.0 / 9, 2.0 / 11, 2.0 / 13, 2.0 / 15, 2.0 / 17, 2.0 / 19};
    if (!(x > 0)) return x == 0 ? -INFINITY : NAN;
    if (x == INFINITY) return x;
    int e = 0;
    if (x < 0x1p-1022) x *= 0x1p54, e = -54;
    uint64_t u = bits64(x), up = u - bits64(0x1.6a09e667f3bcdp-1); /* exponent counted from sqrt(1/2) */
    int shift = (int)((int64_t)up >> 52);
    double m = from_bits64(u - ((uint64_t)shift << 52)), k = e + shift;
    double f = m - 1, s = f / (2 + f), z = s * s, hfsq = 0.5 * f * f;
    double r = z * horner(odd, 9, z);
    return fma(k, ln2_hi, f - (hfsq - fma(s, hfsq + r, k * ln2_lo)));
}

/* |r| <= pi/4: sin to r^17, cos to r^16; the next terms are below 9e-20 and 3e-18. */
static void sincos_small(double r, double *s, double *c)
{
    static const double odd[] = {-1.0 / 6,        1.0 / 120,        -1.0 / 5040,          1.0 / 362880,
                                 -1.0 / 39916800, 1.0 / 6227020800, -1.0 / 1307674368000, 1.0 / 355687428096000};
    static const double even[] = {1.0 / 24,        -1.0 / 720,         1.0 / 40320,         -1.0 / 3628800,
                                  1.0 / 479001600, -1.0 / 87178291200, 1.0 / 20922789888000};
    double z = r * r, h = 0.5 * z, w = 1 - h;
    *s = fma(r * z, horner(odd, 8, z), r);
    *c = w + (((1 - w) - h) + z * z * horner(even, 7, z)); /* (1 − w) − h: what rounding w lost */
}

/* x = n·pi/2 + r.  n < 2^30; the fma takes n·(pi/2's first 53 bits) off exactly but for one rounding of r, and
 * n·(the next 53 bits) is below 2^-23 with an error far below 1e-20.  The last bits of n + magic are those of n. */
void fm_sincos(double x, double *sin_x, double *cos_x)
{
    double t = x * 0x1.45f306dc9c883p-1 + magic, n = t - magic, s, c;
    double r = fma(-n, 0x1.1a62633145c07p-54, fma(-n, 0x1.921fb54442d18p+0, x));
    sincos_small(r, &s, &c);
    unsigned quadrant = bits64(t) & 3; /* any x: a cast of what is no number would be undefined */
    double ys = quadrant & 1 ? c : s, yc = quadrant & 1 ? s : c;
    *sin_x = quadrant & 2 ? -ys : ys;
    *cos_x = (quadrant + 1) & 2 ? -yc : yc;
}
