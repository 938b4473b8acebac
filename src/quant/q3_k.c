/* Q3_K: 256 codes of three bits in sixteen runs of 16, each with a six-bit scale; 110 bytes.
 *
 *   byte 0            32         96          108    110
 *        ├ hmask[32] ─┼ qs[64] ──┼ sc[12] ───┼ d ───┤      value = d·(scale[r] − 32)·(q − 4)
 *          third bits   low bits   16 × 6 bit  f16
 *
 *   Run r = 8n + 2j + k is elements 128n + 32j + 16k …; low bits as in Q2_K, the third is bit 4n + j of hmask[16k …].
 *   Scale r: low four bits in sc[r % 8] (low nibble for r < 8), high two in sc[8 + r % 4] at bit 2·(r / 4).
 *
 * Source: spec models.md §9.5 b. */
#include "quant/fit.h"

enum { BLOCK = 256, BYTES = 110, RUN = 16, RUNS = 16, QS = 32, SC = 96, D = 108 };

void fm_decode_q3_k(float *dst, const void *src, size_t n)
{
    const unsigned char *b = src;
    for (size_t i = 0; i < n; i += BLOCK, b += BYTES) {
        float d = fm_f16_to_f32(fm_load_u16(b + D));
        for (int r = 0; r < RUNS; r++) {
            const unsigned char *sc = b + SC, *high = b + 16 * (r % 2), *qs = b + QS + 32 * (r / 8) + 16 * (r % 2);
            int scale = (sc[r % 8] >> r / 8 * 4 & 15) | (sc[8 + r % 4] >> r / 4 * 2 & 3) << 4;
            float s = d * (float)(scale - 32);
            for (int l = 0; l < RUN; l++) {
                int q = (qs[l] >> (r % 8 / 2 * 2) & 3) | (high[l] >> r / 2 & 1) << 2;
                dst[i + r * RUN + l] = s * (float)(q - 4);
            }
        }
    }
}

void fm_encode_w_q3_k(void *dst, const float *src, const float *weights, size_t n)
{
    static const struct fm_fit_shape shape = {RUNS, RUN, 4, 32};
    unsigned char *b = dst;
    for (size_t i = 0; i < n; i += BLOCK, b += BYTES) {
        struct fm_fit f;
        fm_fit_load(&f, src + i, weights ? weights + i : NULL, BLOCK);
        fm_fit_runs(&f, &shape);
        memset(b, 0, BYTES);
        fm_store_u16(b + D, f.d);
        for (int r = 0; r < RUNS; r++) {
            unsigned char *sc = b + SC, *high = b + 16 * (r % 2), *qs = b + QS + 32 * (r / 8) + 16 * (r % 2);
            int scale = f.scale[r] + 32;
            sc[r % 8] |= (unsigned char)((scale & 15) << r / 8 * 4);
            sc[8 + r % 4] |= (unsigned char)(scale >> 4 << r / 4 * 2);
            for (int l = 0; l < RUN; l++) {
                int q = f.q[r * RUN + l] + 4;
                qs[l] |= (unsigned char)((q & 3) << (r % 8 / 2 * 2));
                high[l] |= (unsigned char)(q >> 2 << r / 2);
            }
        }
    }
}

void fm_encode_q3_k(void *dst, const float *src, size_t n) { fm_encode_w_q3_k(dst, src, NULL, n); }
