/* IQ1_S, IQ1_M: eight values of −1, 0, 1 at a time from a grid, all shifted by ±1/8; 50 and 56 bytes for 256 values.
 *
 *   byte  0      2         34            50
 *   IQ1_S ├ d ───┼ qs[32] ─┼ u16 qh[8] ──┤      qh[g]: 3 high bits for each of 4 entries, 3 bits scale s, sign of shift
 *   byte  0         32       48           56
 *   IQ1_M ├ qs[32] ─┼ qh[16] ┼ u16 sc[4] ─┤      qh: nibble per entry, 3 high bits and sign of shift;
 *                                                sc: four times 3 bits scale, the top nibbles together are d (f16)
 *   value = d·(2s + 1)·(entry ± 1/8)
 *
 * Source: spec models.md §9.5 k, l.  No encoders: these formats come from others' files. */
#include "quant/blocks.h"
#include "quant/iq_grids.h"

enum { BLOCK = 256, ENTRIES = 32, S_BYTES = 50, M_BYTES = 56 };

/* dst[8] = scale·(entry + shift), two bits each. */
static void put8(float *dst, uint16_t entry, float shift, float scale)
{
    for (int j = 0; j < 8; j++) dst[j] = scale * ((float)((entry >> 2 * j & 3) - 1) + shift);
}

void fm_decode_iq1_s(float *dst, const void *src, size_t n)
{
    const unsigned char *b = src;
    for (; n; n -= BLOCK, b += S_BYTES) {
        float d = fm_f16_to_f32(fm_load_u16(b));
        for (int i = 0; i < ENTRIES; i++, dst += 8) {
            unsigned qh = fm_load_u16(b + 34 + i / 4 * 2), index = b[2 + i] | (qh >> i % 4 * 3 & 7) << 8;
            put8(dst, fm_iq1_grid[index], qh >> 15 ? -0.125f : 0.125f, d * (float)(2 * (qh >> 12 & 7) + 1));
        }
    }
}

void fm_decode_iq1_m(float *dst, const void *src, size_t n)
{
    const unsigned char *b = src;
    for (; n; n -= BLOCK, b += M_BYTES) {
        unsigned bits = 0;
        for (int k = 0; k < 4; k++) bits |= fm_load_u16(b + 48 + 2 * k) >> 12 << 4 * k;
        float d = fm_f16_to_f32((uint16_t)bits);
        for (int i = 0; i < ENTRIES; i++, dst += 8) {
            unsigned q = b[32 + i / 2] >> i % 2 * 4 & 15, s = fm_load_u16(b + 48 + i / 8 * 2) >> i % 8 / 2 * 3 & 7;
            put8(dst, fm_iq1_grid[b[i] | (q & 7) << 8], q & 8 ? -0.125f : 0.125f, d * (float)(2 * s + 1));
        }
    }
}
