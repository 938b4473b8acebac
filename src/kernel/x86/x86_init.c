/* The ladder: each tier is the one below with some slots replaced. */
#include "kernel/x86/x86.h"

#include <string.h>

void fm_kernels_init_x86(struct fm_kernels *k, const char *tier)
{
    if (strcmp(tier, "avx2")) return;
    fm_avx2_fill_gemm(k);
    fm_avx2_fill_gemv(k);
    fm_avx2_fill_q8(k);
}
