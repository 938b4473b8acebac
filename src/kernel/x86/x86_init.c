/* The ladder: each tier is the one below with some slots replaced. */
#include "kernel/x86/x86.h"

#include <string.h>

void fm_kernels_init_x86(struct fm_kernels *k, const char *tier)
{
    fm_avx2_fill_gemm(k);
    fm_avx2_fill_gemv(k);
    fm_avx2_fill_gemv_decoded(k);
    fm_avx2_fill_q8(k);
    fm_avx2_fill_packed(k);
    fm_avx2_fill_q14(k);
    fm_avx2_fill_decode(k);
    fm_avx2_fill_encode(k);
    fm_avx2_fill_attn(k);
    fm_avx2_fill_reduce(k);
    fm_avx2_fill_rows(k);
    fm_avx2_fill_act(k);
    fm_avx2_fill_norm(k);
    fm_avx2_fill_rope(k);
    fm_avx2_fill_adamw(k);
    if (!strcmp(tier, "avx512")) {
        fm_avx512_fill_gemv(k);
        fm_avx512_fill_attn(k);
        fm_avx512_fill_q8(k);
        fm_avx512_fill_packed(k);
        fm_avx512_fill_q14(k);
    }
}
