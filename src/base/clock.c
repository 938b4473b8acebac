/* See clock.h. */
#include "base/clock.h"

#include <time.h>

static double read_clock(clockid_t id)
{
    struct timespec t;
    (void)clock_gettime(id, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double fm_seconds(void) { return read_clock(CLOCK_MONOTONIC); }

double fm_thread_seconds(void) { return read_clock(CLOCK_THREAD_CPUTIME_ID); }
