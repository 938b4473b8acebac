/* Q4_0: 32 codes of four bits and one scale, 18 bytes.
 *
 *   byte 0      2                     18
 *        ├ d ───┼ c16:c0 c17:c1 … c31:c15 ┤      value[j] = d·(c[j] - 8)
 *          f16    high:low nibble
 *
 * Source: spec models.md §9.5; the scale is ggml's: the value of largest size gets code 0, so d = max/-8 and d may
 * be negative.  As in Q8_0 we divide by the scale as stored. */
#include "quant/blocks.h"

enum { BLOCK = 32, BYTES = 18 };

void fm_decode_q4_0(float *dst, const void *src, size_t n)
{
    const unsigned char *b = src;
    for (size_t i = 0; i < n; i += BLOCK, b += BYTES) {
        float d = fm_f16_to_f32(fm_load_u16(b));
        for (int j = 0; j < BLOCK / 2; j++) {
            dst[i + j] = d * (float)((b[2 + j] & 15) - 8);
            dst[i + j + 16] = d * (float)((b[2 + j] >> 4) - 8);
        }
    }
}

static int code(float x, float inv) { return fm_round_clamp(fm_finite(x) * inv, -8, 7) + 8; }

void fm_encode_q4_0(void *dst, const float *src, size_t n)
{
    unsigned char *b = dst;
    for (size_t i = 0; i < n; i += BLOCK, b += BYTES) {
        float amax = 0, max = 0; /* max: with its sign */
        for (int j = 0; j < BLOCK; j++) {
            float x = fm_finite(src[i + j]), a = x < 0 ? -x : x;
            if (a > amax) amax = a, max = x;
        }
        float d = fm_store_f16(b, max / -8), inv = d != 0 ? 1 / d : 0;
        for (int j = 0; j < BLOCK / 2; j++)
            b[2 + j] = (unsigned char)(code(src[i + j], inv) | code(src[i + j + 16], inv) << 4);
    }
}
