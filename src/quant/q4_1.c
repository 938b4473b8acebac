/* Q4_1: 32 codes of four bits, one scale and one minimum, 20 bytes.
 *
 *   byte 0      2      4                     20
 *        ├ d ───┼ m ───┼ c16:c0 c17:c1 … c31:c15 ┤      value[j] = d·c[j] + m, rounded once
 *          f16    f16    high:low nibble
 *
 * Source: spec models.md §9.5.  We differ from ggml in fitting d and m to the error, not to the two ends. */
#include "quant/fit.h"

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

void fm_encode_w_q4_1(void *dst, const float *src, const float *weights, size_t n)
{
    unsigned char *b = dst;
    for (size_t i = 0; i < n; i += BLOCK, b += BYTES) {
        struct fm_fit f;
        float d, m;
        fm_fit_load(&f, src + i, weights ? weights + i : NULL, BLOCK);
        fm_fit_affine(f.x, f.w, BLOCK, 15, false, &d, &m);
        d = fm_store_scale(b, d);
        m = fm_store_f16(b + 2, m);
        fm_fit_codes(f.q, f.x, BLOCK, d, m, 0, 15);
        for (int j = 0; j < BLOCK / 2; j++) b[4 + j] = (unsigned char)(f.q[j] | f.q[j + 16] << 4);
    }
}

void fm_encode_q4_1(void *dst, const float *src, size_t n) { fm_encode_w_q4_1(dst, src, NULL, n); }
