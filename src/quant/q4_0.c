/* Q4_0: 32 codes of four bits and one scale, 18 bytes.
 *
 *   byte 0      2                     18
 *        ├ d ───┼ c16:c0 c17:c1 … c31:c15 ┤      value[j] = d·(c[j] - 8)
 *          f16    high:low nibble
 *
 * Source: spec models.md §9.5.  We differ from ggml in the scale: the one of least error (fit.h), not max/-8. */
#include "quant/fit.h"

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

void fm_encode_w_q4_0(void *dst, const float *src, const float *weights, size_t n)
{
    unsigned char *b = dst;
    for (size_t i = 0; i < n; i += BLOCK, b += BYTES) {
        struct fm_fit f;
        fm_fit_load(&f, src + i, weights ? weights + i : NULL, BLOCK);
        float d = fm_store_scale(b, fm_fit_scale(f.x, f.w, BLOCK, -8, 7));
        fm_fit_codes(f.q, f.x, BLOCK, d, 0, -8, 7);
        for (int j = 0; j < BLOCK / 2; j++) b[2 + j] = (unsigned char)((f.q[j] + 8) | (f.q[j + 16] + 8) << 4);
    }
}

void fm_encode_q4_0(void *dst, const float *src, size_t n) { fm_encode_w_q4_0(dst, src, NULL, n); }
