/* Of attention over int8, what every tier does alike with one float at a time. */
#ifndef FM_KERNEL_ATTN_ROWS_H
#define FM_KERNEL_ATTN_ROWS_H

#include <math.h>
#include <stdbool.h>

#include "kernel/math.h"

/* Whether values up to max cannot be scaled: then *d is what stands for their scale. */
static inline bool fm_attn_is_empty(float max, float *d)
{
    if (max >= 1e-30f && max < INFINITY) return false;
    *d = max < 1e-30f ? 0 : NAN;
    return true;
}

/* One row of kernel.h's join. */
static inline void fm_attn_join(float *max, float *sum, float *old, float *fade, float top, float s)
{
    const float most = top > *max ? top : *max;
    *old = fm_expf(*max - most);
    *fade = fm_expf(top - most);
    *max = most;
    *sum = fmaf(*sum, *old, s * *fade);
}

#endif
