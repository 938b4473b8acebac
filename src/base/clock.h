/* Seconds that only go forward: for measuring how long something took. */
#ifndef FM_BASE_CLOCK_H
#define FM_BASE_CLOCK_H

double fm_seconds(void);
/* Processor time of the calling thread: what it did itself, whatever else the machine did meanwhile. */
double fm_thread_seconds(void);

#endif
