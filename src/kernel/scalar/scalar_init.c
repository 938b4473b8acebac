/* Every slot of the table, the readable way.  Speed is not a goal here: this tier is the referee of the others. */
#include <string.h>

#include "kernel/scalar/scalar.h"

void fm_kernels_init_scalar(struct fm_kernels *k)
{
    memset(k, 0, sizeof *k);
    k->tier = "scalar";
    for (int f = 0; f < FM_FMT_COUNT; f++) k->decode[f] = fm_formats[f].decode;
    fm_scalar_fill_gemm(k);
    fm_scalar_fill_gemv(k);
    fm_scalar_fill_q8(k);
    fm_scalar_fill_packed(k);
    fm_scalar_fill_q14(k);
    fm_scalar_fill_attn(k);
    fm_scalar_fill_reduce(k);
    fm_scalar_fill_rows(k);
    fm_scalar_fill_act(k);
    fm_scalar_fill_norm(k);
    fm_scalar_fill_rope(k);
    fm_scalar_fill_adamw(k);
}
