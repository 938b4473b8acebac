/* Packed weights, 16 rows side by side. */
#include "kernel/scalar/q8_packed.h"
#include "kernel/x86/x86.h"

enum { ROWS = 16 };

#define PACKED(fmt) FM_Q8_PACKED(fmt, ROWS)
FM_Q8_FORMATS(PACKED)

void fm_avx512_fill_packed(struct fm_kernels *k)
{
    k->pack_rows = ROWS;
    FM_Q8_FORMATS(FM_Q8_PACKED_SLOTS)
}
