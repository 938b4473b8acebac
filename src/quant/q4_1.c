/* Q4_1: 32 codes of four bits, one scale and one minimum, 20 bytes.
 *
 *   byte 0      2      4                     20
 *        ├ d ───┼ m ───┼ c16:c0 c17:c1 … c31:c15 ┤      value[j] = d·c[j] + m, rounded once
 *          f16    f16    high:low nibble
 *
 * Source: spec models.md §9.5; as ggml's encoder m = min, d = (max - min)/15.  As in Q8_0 we use both as stored. */
#include "quant/blocks.h"

enum { BLOCK = 32, BYTES = 20 };

void fm_decode_q4_1(float *dst, const void *src, size_t n)
{
    const unsigned char *b = src;
    for (size_t i = 0; i < n; i += BLOCK, b += BYTES) {
        float d = fm_f16_to_f32(fm_load_u16(b)), m = fm_f16_to_f32(fm_load_u16(b + 2));
        for (int j = 0; j < BLOCK / 2; j++) {
            dst[i + j] = d * (float)(b[4 + j] & 15) + m;
            dst[i + j + 16] = d * (float)(b[4 + j] >> 4) + m;
        }
    }
}

static int code(float x, float m, float inv) { return fm_round_clamp((fm_finite(x) - m) * inv, 0, 15); }

void fm_encode_q4_1(void *dst, const float *src, size_t n)
{
    unsigned char *b = dst;
    for (size_t i = 0; i < n; i += BLOCK, b += BYTES) {
        float min = fm_finite(src[i]), max = min;
        for (int j = 1; j < BLOCK; j++) {
            float x = fm_finite(src[i + j]);
            if (x < min) min = x;
            if (x > max) max = x;
        }
        float d = fm_store_f16(b, max / 15 - min / 15), m = fm_store_f16(b + 2, min), inv = d > 0 ? 1 / d : 0;
        for (int j = 0; j < BLOCK / 2; j++)
            b[4 + j] = (unsigned char)(code(src[i + j], m, inv) | code(src[i + j + 16], m, inv) << 4);
    }
}
