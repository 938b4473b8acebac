/* IQ2_XXS, IQ2_XS, IQ2_S: eight magnitudes at a time from a grid, signs apart; 66, 74 and 82 bytes for 256 values.
 *
 *   byte    0      2             66
 *   IQ2_XXS ├ d ───┼ 8 × (A, B) ─┤      A, B u32; byte l of A: entry; bits 7l … of B: signs; top four bits: scale s
 *   IQ2_XS  ├ d ───┼ u16 qs[32] ─┼ sc[8] ┤              qs: nine bits entry, seven bits signs
 *   IQ2_S   ├ d ───┼ qs[32] ─┼ signs[32] ─┼ qh[8] ─┼ sc[8] ┤      qh: two more bits of the entry
 *   value = ±d·(s + 1/2)/4·magnitude.  Group g of 32 has four entries l; sc[g]: low nibble l < 2, high nibble l >= 2.
 *
 * Source: spec models.md §9.5 e, g, h.  No encoders: these formats come from others' files. */
#include "quant/blocks.h"
#include "quant/iq_grids.h"

enum { BLOCK = 256, GROUPS = 8, XXS_BYTES = 66, XS_BYTES = 74, S_BYTES = 82 };

/* Bits 0 … 6 as given, bit 7 so that the number of ones is even. */
static unsigned sign7(unsigned t) { return t | (unsigned)__builtin_parity(t) << 7; }

/* dst[8] = ±scale·magnitudes of a grid entry, two bits each. */
static void put8(float *dst, uint16_t entry, unsigned signs, float scale)
{
    static const float magnitude[4] = {8, 25, 43, 0}; /* code 3 is in no entry */
    for (int j = 0; j < 8; j++) {
        float v = scale * magnitude[entry >> 2 * j & 3];
        dst[j] = signs >> j & 1 ? -v : v;
    }
}

static float scale_of(float d, unsigned s) { return d * (0.5f + (float)s) * 0.25f; }

void fm_decode_iq2_xxs(float *dst, const void *src, size_t n)
{
    const unsigned char *b = src;
    for (; n; n -= BLOCK, b += XXS_BYTES) {
        float d = fm_f16_to_f32(fm_load_u16(b));
        for (int g = 0; g < GROUPS; g++) {
            const unsigned char *a = b + 2 + 8 * g;
            uint32_t B = fm_load_u32(a + 4);
            for (int l = 0; l < 4; l++, dst += 8)
                put8(dst, fm_iq2_xxs_grid[a[l]], sign7(B >> 7 * l & 127), scale_of(d, B >> 28));
        }
    }
}

void fm_decode_iq2_xs(float *dst, const void *src, size_t n)
{
    const unsigned char *b = src;
    for (; n; n -= BLOCK, b += XS_BYTES) {
        float d = fm_f16_to_f32(fm_load_u16(b));
        for (int i = 0; i < 4 * GROUPS; i++, dst += 8) {
            unsigned w = fm_load_u16(b + 2 + 2 * i), s = b[66 + i / 4] >> i % 4 / 2 * 4 & 15;
            put8(dst, fm_iq2_xs_grid[w & 511], sign7(w >> 9), scale_of(d, s));
        }
    }
}

void fm_decode_iq2_s(float *dst, const void *src, size_t n)
{
    const unsigned char *b = src;
    for (; n; n -= BLOCK, b += S_BYTES) {
        float d = fm_f16_to_f32(fm_load_u16(b));
        for (int i = 0; i < 4 * GROUPS; i++, dst += 8) {
            unsigned index = b[2 + i] | (b[66 + i / 4] >> i % 4 * 2 & 3u) << 8, s = b[74 + i / 4] >> i % 4 / 2 * 4 & 15;
            put8(dst, fm_iq2_s_grid[index], b[34 + i], scale_of(d, s));
        }
    }
}
