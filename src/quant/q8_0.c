/* Q8_0: 32 signed bytes and one scale, 34 bytes.
 *
 *   byte 0      2                                34
 *        ├ d ───┼ q[0] q[1] …               q[31] ┤      value[j] = d·q[j]
 *          f16    int8
 *
 * Source: spec models.md §9.5; same scale as ggml's encoder, max|x|/127.  We differ in dividing by the scale as
 * stored: where f16 is coarse (subnormal scales) the codes then fit the scale that the decoder will see. */
#include "quant/fit.h"

enum { BLOCK = 32, BYTES = 34 };

void fm_decode_q8_0(float *dst, const void *src, size_t n)
{
    const unsigned char *b = src;
    for (size_t i = 0; i < n; i += BLOCK, b += BYTES) {
        float d = fm_f16_to_f32(fm_load_u16(b));
        for (int j = 0; j < BLOCK; j++) dst[i + j] = d * (float)(int8_t)b[2 + j];
    }
}

void fm_encode_q8_0(void *dst, const float *src, size_t n)
{
    unsigned char *b = dst;
    for (size_t i = 0; i < n; i += BLOCK, b += BYTES) {
        float x[BLOCK], amax = fm_fit_finite(x, src + i, BLOCK);
        float d = fm_store_f16(b, amax / 127);
        int8_t q[BLOCK];
        fm_fit_codes(q, x, BLOCK, d, 0, -127, 127);
        memcpy(b + 2, q, BLOCK);
    }
}
