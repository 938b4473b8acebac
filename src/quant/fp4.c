/* MXFP4 and NVFP4: floats of four bits (E2M1) with a shared scale; 17 bytes for 32, 36 for 64.
 *
 *   byte  0     1                        17
 *   MXFP4 ├ e ──┼ c16:c0 c17:c1 … c31:c15 ┤      value = 2^(e − 128)·K[c], K = twice E2M1: whole numbers
 *           u8
 *   byte  0       4                                        36
 *   NVFP4 ├ s[4] ─┼ c8:c0 … c15:c7 │ c24:c16 … │ … │ … ────┤      value = E4M3(s[run])/2·K[c], four runs of 16
 *
 *   e = 0, 1 give subnormal scales, e = 255 gives 2^127 (as ggml; E8M0 would call it NaN); s = 0x7F counts as 0.
 *
 * Source: OCP MX 1.0; spec models.md §9.5.  We differ from ggml in trying the exponents beside floor(log2 max) − 2. */
#include "quant/blocks.h"

enum { MX_BLOCK = 32, MX_BYTES = 17, NV_BLOCK = 64, NV_BYTES = 36, RUN = 16 };

static const int8_t twice[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/* 2^(e − 128), in two exact steps: the first is normal for every e. */
static float mx_scale(int e)
{
    uint32_t u = (uint32_t)(e < 2 ? e + 23 : e - 1) << 23;
    float x;
    memcpy(&x, &u, sizeof x);
    return e < 2 ? x * 0x1p-24f : x;
}

void fm_decode_mxfp4(float *dst, const void *src, size_t n)
{
    const unsigned char *b = src;
    for (size_t i = 0; i < n; i += MX_BLOCK, b += MX_BYTES) {
        float d = mx_scale(b[0]);
        for (int j = 0; j < MX_BLOCK / 2; j++) {
            dst[i + j] = d * (float)twice[b[1 + j] & 15];
            dst[i + j + 16] = d * (float)twice[b[1 + j] >> 4];
        }
    }
}

void fm_decode_nvfp4(float *dst, const void *src, size_t n)
{
    const unsigned char *b = src;
    for (size_t i = 0; i < n; i += NV_BLOCK, b += NV_BYTES)
        for (int r = 0; r < NV_BLOCK / RUN; r++) {
            float d = b[r] == 0x7F ? 0 : fm_e4m3_to_f32(b[r]) * 0.5f;
            for (int j = 0; j < RUN / 2; j++) {
                dst[i + r * RUN + j] = d * (float)twice[b[4 + r * 8 + j] & 15];
                dst[i + r * RUN + j + 8] = d * (float)twice[b[4 + r * 8 + j] >> 4];
            }
        }
}

/* The code of x at scale d: E2M1 codes count in halves of it. */
static int code(float x, double d) { return fm_f32_to_e2m1((float)((double)x / d * 0.5)); }

static double error_at(const float *x, int e)
{
    double d = (double)mx_scale(e), sum = 0;
    for (int j = 0; j < MX_BLOCK; j++) {
        double r = (double)x[j] - d * twice[code(x[j], d)];
        sum += r * r;
    }
    return sum;
}

/* The exponent of least error among those with 2^e around max/6 (K's largest is 12). */
static int best_exponent(const float *x)
{
    float max = 0;
    for (int j = 0; j < MX_BLOCK; j++) max = x[j] > max ? x[j] : -x[j] > max ? -x[j] : max;
    if (max == 0) return 0;
    int top = __builtin_ilogbf(max) + 125, best = -1; /* max/8 < 2^(top − 128) <= max/4… in units of K */
    double least = 0;
    for (int e = top - 1; e <= top + 1; e++) {
        if (e < 0 || e > 252) continue; /* 252: the last whose largest code is finite */
        double err = error_at(x, e);
        if (best < 0 || err < least) least = err, best = e;
    }
    return best < 0 ? 0 : best;
}

void fm_encode_mxfp4(void *dst, const float *src, size_t n)
{
    unsigned char *b = dst;
    for (size_t i = 0; i < n; i += MX_BLOCK, b += MX_BYTES) {
        float x[MX_BLOCK];
        for (int j = 0; j < MX_BLOCK; j++) x[j] = fm_finite(src[i + j]);
        int e = best_exponent(x);
        double d = (double)mx_scale(e);
        b[0] = (unsigned char)e;
        for (int j = 0; j < MX_BLOCK / 2; j++) b[1 + j] = (unsigned char)(code(x[j], d) | code(x[j + 16], d) << 4);
    }
}
