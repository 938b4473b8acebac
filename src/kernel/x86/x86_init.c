/* The ladder: each tier is the one below with some slots replaced. */
#include "kernel/x86/x86.h"

void fm_kernels_init_x86(struct fm_kernels *k, const char *tier)
{
    (void)tier; /* avx2 is the only rung so far */
    (void)k;
}
