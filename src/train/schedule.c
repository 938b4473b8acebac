/* See schedule.h. */
#include "train/schedule.h"

#include <math.h>

/* cos(π·x) for x in [0, 1] from additions and products only: the C library's cos differs between CPUs in its last bit,
 * and a resumed run must find the same rate on another machine.  Taylor series around x = 1/2: cos(π·x) = −sin(π·(x − 1/2)). */
static double cos_pi(double x)
{
    const double y = 3.14159265358979323846 * (x - 0.5), y2 = y * y;
    double term = y, sum = 0;
    for (int k = 1; k < 24; k += 2) {
        sum += term;
        term *= -y2 / ((k + 1) * (k + 2));
    }
    return -sum;
}

/* Share of the falling part that is over: 0 before it, up to 1. */
static double fallen(const struct fm_schedule_plan *p, int64_t step)
{
    const double n = (double)p->steps, share = p->shape == FM_SCHEDULE_COSINE ? 1 - p->warmup : p->decay;
    const double start = n * (1 - share), length = n * share;
    if (length < 1 || (double)step < start) return 0;
    const double x = ((double)step + 1 - start) / length;
    return x < 1 ? x : 1;
}

double fm_schedule_at(const struct fm_schedule_plan *p, int64_t step)
{
    const double rise = p->warmup * (double)p->steps;
    if ((double)step + 1 < rise) return ((double)step + 1) / rise;
    const double x = fallen(p, step);
    const double f = p->shape == FM_SCHEDULE_COSINE ? (1 + cos_pi(x)) / 2 : 1 - sqrt(x);
    return p->lr_min + (1 - p->lr_min) * f;
}

double fm_schedule_hold(const struct fm_schedule_plan *p, int64_t step) { return 1 - fallen(p, step); }
