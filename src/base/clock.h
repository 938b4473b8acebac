/* Seconds that only go forward: for measuring how long something took. */
#ifndef FM_BASE_CLOCK_H
#define FM_BASE_CLOCK_H

double fm_seconds(void);

#endif
