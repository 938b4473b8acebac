/* IQ3_XXS, IQ3_S: four magnitudes at a time from a grid, signs apart; 98 and 110 bytes for 256 values.
 *
 *   byte    0      2         66                  98
 *   IQ3_XXS ├ d ───┼ qs[64] ─┼ 8 × B ────────────┤      B u32: bits 7l … signs, top four bits: scale s
 *   IQ3_S   ├ d ───┼ qs[64] ─┼ qh[8] ─┼ signs[32] ─┼ sc[4] ┤      qh[g]: the ninth bits of the eight entries of group g
 *   value = ±d·(s + 1/2)/2·magnitude, IQ3_S: ±d·(1 + 2s)·magnitude, s a nibble of sc[g/2].
 *
 * Source: spec models.md §9.5 i, j.  No encoders: these formats come from others' files. */
#include "quant/blocks.h"
#include "quant/iq_grids.h"

enum { BLOCK = 256, GROUPS = 8, XXS_BYTES = 98, S_BYTES = 110 };

static unsigned sign7(unsigned t) { return t | (unsigned)__builtin_parity(t) << 7; }

/* dst[8] = ±scale·magnitudes of two grid entries, four bits each; level[code] is the magnitude. */
static void put8(float *dst, unsigned first, unsigned second, const float *level, unsigned signs, float scale)
{
    unsigned codes = first | second << 16;
    for (int j = 0; j < 8; j++) {
        float v = scale * level[codes >> 4 * j & 7];
        dst[j] = signs >> j & 1 ? -v : v;
    }
}

void fm_decode_iq3_xxs(float *dst, const void *src, size_t n)
{
    static const float level[8] = {4, 12, 20, 28, 36, 44, 52, 62};
    const unsigned char *b = src;
    for (; n; n -= BLOCK, b += XXS_BYTES) {
        float d = fm_f16_to_f32(fm_load_u16(b));
        for (int i = 0; i < 4 * GROUPS; i++, dst += 8) {
            uint32_t B = fm_load_u32(b + 66 + i / 4 * 4);
            put8(dst, fm_iq3_xxs_grid[b[2 + 2 * i]], fm_iq3_xxs_grid[b[3 + 2 * i]], level, sign7(B >> i % 4 * 7 & 127),
                 d * (0.5f + (float)(B >> 28)) * 0.5f);
        }
    }
}

void fm_decode_iq3_s(float *dst, const void *src, size_t n)
{
    static const float level[8] = {1, 3, 5, 7, 9, 11, 13, 15};
    const unsigned char *b = src;
    for (; n; n -= BLOCK, b += S_BYTES) {
        float d = fm_f16_to_f32(fm_load_u16(b));
        for (int i = 0; i < 4 * GROUPS; i++, dst += 8) {
            unsigned high = b[66 + i / 4] >> i % 4 * 2, s = b[106 + i / 8] >> i / 4 % 2 * 4 & 15;
            put8(dst, fm_iq3_s_grid[b[2 + 2 * i] | (high & 1) << 8], fm_iq3_s_grid[b[3 + 2 * i] | (high >> 1 & 1) << 8],
                 level, b[74 + i], d * (float)(1 + 2 * s));
        }
    }
}
