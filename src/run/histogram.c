/* Times by size, for those who watch a server from outside. */
#include "run/scheduler.h"

const double fm_histogram_bounds[FM_HISTOGRAM_BOUNDS] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15,
                                                         0.25,  0.5,    0.75,  1,    2.5,   5,    10,    30,  60};

void fm_histogram_add(struct fm_histogram *h, double seconds)
{
    int i = 0;
    while (i < FM_HISTOGRAM_BOUNDS && seconds > fm_histogram_bounds[i]) i++;
    h->bins[i]++;
    h->n++;
    h->sum += seconds;
}
