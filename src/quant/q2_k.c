/* Q2_K: 256 codes of two bits in sixteen runs of 16, each with a four-bit scale and minimum; 84 bytes.
 *
 *   byte 0           16         80     82      84
 *        ├ sc[16] ───┼ qs[64] ──┼ d ───┼ dmin ─┤      value = d·(sc & 15)·q − dmin·(sc >> 4), rounded once
 *          min:scale   4 codes    f16    f16
 *
 *   Run r = 8n + 2j + k is elements 128n + 32j + 16k …; its codes are bits 2j, 2j+1 of qs[32n + 16k …].
 *
 * Source: spec models.md §9.5 a. */
#include "quant/fit.h"

enum { BLOCK = 256, BYTES = 84, RUN = 16, RUNS = 16, QS = 16, D = 80 };

void fm_decode_q2_k(float *dst, const void *src, size_t n)
{
    const unsigned char *b = src;
    for (size_t i = 0; i < n; i += BLOCK, b += BYTES) {
        float d = fm_f16_to_f32(fm_load_u16(b + D)), dmin = fm_f16_to_f32(fm_load_u16(b + D + 2));
        for (int r = 0; r < RUNS; r++) {
            const unsigned char *qs = b + QS + 32 * (r / 8) + 16 * (r % 2);
            float scale = d * (float)(b[r] & 15), min = dmin * (float)(b[r] >> 4);
            for (int l = 0; l < RUN; l++) dst[i + r * RUN + l] = scale * (float)(qs[l] >> (r % 8 / 2 * 2) & 3) - min;
        }
    }
}

void fm_encode_w_q2_k(void *dst, const float *src, const float *weights, size_t n)
{
    static const struct fm_fit_shape shape = {RUNS, RUN, 3, 15};
    unsigned char *b = dst;
    for (size_t i = 0; i < n; i += BLOCK, b += BYTES) {
        struct fm_fit f;
        fm_fit_load(&f, src + i, weights ? weights + i : NULL, BLOCK);
        fm_fit_runs_affine(&f, &shape);
        memset(b, 0, BYTES);
        fm_store_u16(b + D, f.d);
        fm_store_u16(b + D + 2, f.dmin);
        for (int r = 0; r < RUNS; r++) {
            unsigned char *qs = b + QS + 32 * (r / 8) + 16 * (r % 2);
            b[r] = (unsigned char)(f.scale[r] | f.min[r] << 4);
            for (int l = 0; l < RUN; l++) qs[l] |= (unsigned char)(f.q[r * RUN + l] << (r % 8 / 2 * 2));
        }
    }
}

void fm_encode_q2_k(void *dst, const float *src, size_t n) { fm_encode_w_q2_k(dst, src, NULL, n); }
