/* Q6_K: 256 codes of six bits in sixteen runs of 16, each with a signed byte as scale; 210 bytes.
 *
 *   byte 0          128       192        208    210
 *        ├ ql[128] ─┼ qh[64] ─┼ sc[16] ──┼ d ───┤      value = d·sc[r]·(q − 32)
 *          low 4 bits  high 2   int8       f16
 *
 *   Half n, quarter p, l < 32: element e = 128n + 32p + l of run e/16 has its low bits in ql[64n + 32(p%2) + l] (high
 *   nibble for p >= 2), its high bits in qh[32n + l] at bit 2p.
 *
 * Source: spec models.md §9.5 d. */
#include "quant/fit.h"

enum { BLOCK = 256, BYTES = 210, RUN = 16, RUNS = 16, QH = 128, SC = 192, D = 208 };

static int low_at(int e) { return e / 128 * 64 + e % 64; }
static int high_at(int e) { return QH + e / 128 * 32 + e % 32; }

void fm_decode_q6_k(float *dst, const void *src, size_t n)
{
    const unsigned char *b = src;
    for (size_t i = 0; i < n; i += BLOCK, b += BYTES) {
        float d = fm_f16_to_f32(fm_load_u16(b + D));
        for (int e = 0; e < BLOCK; e++) {
            int q = (b[low_at(e)] >> e % 128 / 64 * 4 & 15) | (b[high_at(e)] >> e % 128 / 32 * 2 & 3) << 4;
            dst[i + e] = d * (float)(int8_t)b[SC + e / RUN] * (float)(q - 32);
        }
    }
}

void fm_encode_w_q6_k(void *dst, const float *src, const float *weights, size_t n)
{
    static const struct fm_fit_shape shape = {RUNS, RUN, 32, 128};
    unsigned char *b = dst;
    for (size_t i = 0; i < n; i += BLOCK, b += BYTES) {
        struct fm_fit f;
        fm_fit_load(&f, src + i, weights ? weights + i : NULL, BLOCK);
        fm_fit_runs(&f, &shape);
        memset(b, 0, BYTES);
        fm_store_u16(b + D, f.d);
        memcpy(b + SC, f.scale, RUNS);
        for (int e = 0; e < BLOCK; e++) {
            int q = f.q[e] + 32;
            b[low_at(e)] |= (unsigned char)((q & 15) << e % 128 / 64 * 4);
            b[high_at(e)] |= (unsigned char)(q >> 4 << e % 128 / 32 * 2);
        }
    }
}

void fm_encode_q6_k(void *dst, const float *src, size_t n) { fm_encode_w_q6_k(dst, src, NULL, n); }
