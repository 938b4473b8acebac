/* The ladder: each tier is the one below with some slots replaced. */
#include "kernel/arm/arm.h"

void fm_kernels_init_arm(struct fm_kernels *k, const char *tier)
{
    fm_neon_fill_gemm(k);
    fm_neon_fill_gemv(k);
    fm_neon_fill_rows(k);
    fm_neon_fill_reduce(k);
    fm_neon_fill_act(k);
    fm_neon_fill_norm(k);
    fm_neon_fill_q8(k);
    fm_neon_fill_q14(k);
    fm_neon_fill_attn(k);
    fm_neon_fill_rope(k);
    if (!strcmp(tier, "neon")) return;
    fm_dotprod_fill_packed(k);
    fm_dotprod_fill_q8(k);
    fm_dotprod_fill_attn(k);
    if (!strcmp(tier, "dotprod")) return;
    fm_i8mm_fill_packed(k);
    fm_i8mm_fill_attn(k);
}
