/* Learning rate by step.
 *
 *   lr ┤      ________________          WSD: rise, hold, fall (MiniCPM, arXiv 2404.06395; Hägele et al. 2405.18392)
 *      │     /                \         branchable: a longer run shares the plateau
 *      │    /                  \
 *   min┤   /                    \___
 *      └──┴──────────────────┴───────→ step
 *       warmup·N           (1−decay)·N */
#ifndef FM_TRAIN_SCHEDULE_H
#define FM_TRAIN_SCHEDULE_H

#include <stdint.h>

#include "fathom_train.h"

struct fm_schedule_plan {
    enum fm_schedule shape;
    int64_t steps;                /* of the whole run                                  */
    double warmup, decay, lr_min; /* fractions of steps, of steps, and of the peak rate */
};

/* Factor in (0, 1] of the peak rate for step 0 … steps−1 (steps beyond: the last value).
 * WSD falls by 1 − sqrt(progress) as in Hägele et al. §4, where it beats a straight line. */
double fm_schedule_at(const struct fm_schedule_plan *p, int64_t step);

/* 1 on the plateau, falling to 0 at the end of the decay: what the router-bias rate is multiplied by. */
double fm_schedule_hold(const struct fm_schedule_plan *p, int64_t step);

#endif
