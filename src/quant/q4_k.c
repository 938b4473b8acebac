/* Q4_K and Q5_K: 256 codes in eight runs of 32, each with a six-bit scale and minimum; 144 and 176 bytes.
 *
 *   byte 0      2       4          16           144
 *   Q4_K ├ d ───┼ dmin ─┼ sc[12] ──┼ qs[128] ───┤           value = d·scale[r]·q − dmin·min[r], rounded once
 *   byte 0      2       4          16         48           176
 *   Q5_K ├ d ───┼ dmin ─┼ sc[12] ──┼ qh[32] ──┼ qs[128] ───┤      bit r of qh[l] is the fifth bit of code l of run r
 *          f16    f16
 *   Runs 2c and 2c + 1 are the low and high nibbles of qs[32c …].
 *   Six-bit numbers, r < 4:  sc[r] = scale[r+4]>>4 : scale[r]     sc[4+r] = min[r+4]>>4 : min[r]     (two bits : six)
 *                            sc[8+r] = min[r+4]&15 : scale[r+4]&15                                   (nibbles)
 *
 * Source: spec models.md §9.5 c. */
#include "quant/fit.h"

enum { BLOCK = 256, RUN = 32, RUNS = 8, SC = 4, QH = 16, Q4_BYTES = 144, Q5_BYTES = 176 };

static int scale_of(const unsigned char *sc, int r)
{
    return r < 4 ? sc[r] & 63 : (sc[r + 4] & 15) | sc[r - 4] >> 6 << 4;
}

static int min_of(const unsigned char *sc, int r) { return r < 4 ? sc[r + 4] & 63 : sc[r + 4] >> 4 | sc[r] >> 6 << 4; }

static void store_scales(unsigned char *sc, const int8_t *scale, const int8_t *min)
{
    for (int r = 0; r < 4; r++) {
        sc[r] = (unsigned char)(scale[r] | scale[r + 4] >> 4 << 6);
        sc[r + 4] = (unsigned char)(min[r] | min[r + 4] >> 4 << 6);
        sc[r + 8] = (unsigned char)((scale[r + 4] & 15) | (min[r + 4] & 15) << 4);
    }
}

/* bytes tells the two formats apart: Q5_K has high bits between scales and low bits. */
static void decode(float *dst, const unsigned char *b, size_t n, int bytes)
{
    const int qs_at = bytes - 128;
    for (size_t i = 0; i < n; i += BLOCK, b += bytes) {
        float d = fm_f16_to_f32(fm_load_u16(b)), dmin = fm_f16_to_f32(fm_load_u16(b + 2));
        for (int r = 0; r < RUNS; r++) {
            const unsigned char *qs = b + qs_at + 32 * (r / 2), *qh = b + QH;
            float scale = d * (float)scale_of(b + SC, r), min = dmin * (float)min_of(b + SC, r);
            for (int l = 0; l < RUN; l++) {
                int q = qs[l] >> r % 2 * 4 & 15;
                if (bytes == Q5_BYTES) q |= (qh[l] >> r & 1) << 4;
                dst[i + r * RUN + l] = scale * (float)q - min;
            }
        }
    }
}

static void encode(unsigned char *b, const float *src, const float *weights, size_t n, int bytes)
{
    const struct fm_fit_shape shape = {RUNS, RUN, bytes == Q5_BYTES ? 31 : 15, 63};
    const int qs_at = bytes - 128;
    for (size_t i = 0; i < n; i += BLOCK, b += bytes) {
        struct fm_fit f;
        fm_fit_load(&f, src + i, weights ? weights + i : NULL, BLOCK);
        fm_fit_runs_affine(&f, &shape);
        memset(b, 0, (size_t)bytes);
        fm_store_u16(b, f.d);
        fm_store_u16(b + 2, f.dmin);
        store_scales(b + SC, f.scale, f.min);
        for (int r = 0; r < RUNS; r++) {
            unsigned char *qs = b + qs_at + 32 * (r / 2), *qh = b + QH;
            for (int l = 0; l < RUN; l++) {
                int q = f.q[r * RUN + l];
                qs[l] |= (unsigned char)((q & 15) << r % 2 * 4);
                if (bytes == Q5_BYTES) qh[l] |= (unsigned char)(q >> 4 << r);
            }
        }
    }
}

void fm_decode_q4_k(float *dst, const void *src, size_t n) { decode(dst, src, n, Q4_BYTES); }
void fm_decode_q5_k(float *dst, const void *src, size_t n) { decode(dst, src, n, Q5_BYTES); }

void fm_encode_w_q4_k(void *dst, const float *src, const float *weights, size_t n)
{
    encode(dst, src, weights, n, Q4_BYTES);
}

void fm_encode_w_q5_k(void *dst, const float *src, const float *weights, size_t n)
{
    encode(dst, src, weights, n, Q5_BYTES);
}

void fm_encode_q4_k(void *dst, const float *src, size_t n) { encode(dst, src, NULL, n, Q4_BYTES); }
void fm_encode_q5_k(void *dst, const float *src, size_t n) { encode(dst, src, NULL, n, Q5_BYTES); }
