/* Q5_0: 32 codes of five bits and one scale, 22 bytes.
 *
 *   byte 0      2       6                     22
 *        ├ d ───┼ qh ───┼ c16:c0 c17:c1 … c31:c15 ┤      value[j] = d·(c[j] - 16)
 *          f16    u32     high:low nibble; bit j of qh is the fifth bit of c[j]
 *
 * Source: spec models.md §9.5.  We differ from ggml in the scale: of nineteen around max/-16 the one of least error. */
#include "quant/fit.h"

enum { BLOCK = 32, BYTES = 22 };

void fm_decode_q5_0(float *dst, const void *src, size_t n)
{
    const unsigned char *b = src;
    for (size_t i = 0; i < n; i += BLOCK, b += BYTES) {
        float d = fm_f16_to_f32(fm_load_u16(b));
        for (int j = 0; j < BLOCK; j++) dst[i + j] = d * (float)(fm_load_5bit(b + 2, j) - 16);
    }
}

void fm_encode_w_q5_0(void *dst, const float *src, const float *weights, size_t n)
{
    unsigned char *b = dst;
    for (size_t i = 0; i < n; i += BLOCK, b += BYTES) {
        struct fm_fit f;
        int8_t q[BLOCK];
        fm_fit_load(&f, src + i, weights ? weights + i : NULL, BLOCK);
        float d = fm_store_scale(b, fm_fit_scale(f.x, f.w, BLOCK, -16, 15));
        fm_fit_codes(q, f.x, BLOCK, d, 0, -16, 15);
        for (int j = 0; j < BLOCK; j++) q[j] = (int8_t)(q[j] + 16);
        fm_store_5bit(b + 2, q);
    }
}

void fm_encode_q5_0(void *dst, const float *src, size_t n) { fm_encode_w_q5_0(dst, src, NULL, n); }
