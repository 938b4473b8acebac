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
#include "quant/fit.h"
#include "quant/lanes.h"

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

/* E2M1 rounds to even codes: where |x| is above (or, at an even upper code, not below) the middle, the next code begins. */
static const float middle[7] = {0.5f, 1.5f, 2.5f, 3.5f, 5, 7, 10}, rise[7] = {1, 1, 1, 1, 2, 2, 4};

FM_INLINE fm_lanes size_of(fm_lanes v) { return (fm_lanes)((fm_mask)v & 0x7FFFFFFF); }

FM_INLINE fm_mask reaches(fm_lanes size, int i)
{
    const fm_lanes m = fm_lanes_set(middle[i]);
    return i % 2 ? size >= m : size > m;
}

/* x in units of the scale 2^(e − 128): two factors, each a power of two that is a normal number. */
FM_INLINE fm_lanes in_units(const float *x, int e)
{
    const float a = mx_scale(192 - e / 2), b = mx_scale(192 - (e - e / 2));
    return fm_lanes_load(x) * fm_lanes_set(a) * fm_lanes_set(b);
}

/* Σ w·(error)² of the nearest codes, in units of the scale. */
static float error_at(const struct fm_fit *f, int e)
{
    fm_lanes sum = fm_lanes_set(0);
    for (int j = 0; j < MX_BLOCK; j += FM_LANES) {
        fm_lanes size = size_of(in_units(f->x + j, e)), k = fm_lanes_set(0);
        for (int i = 0; i < 7; i++) k += fm_lanes_pick(reaches(size, i), fm_lanes_set(rise[i]), fm_lanes_set(0));
        sum += fm_lanes_load(f->w + j) * (size - k) * (size - k);
    }
    return fm_lanes_sum(sum);
}

/* The exponent of least error among those with 2^e around max/6 (K's largest is 12). */
static int best_exponent(const struct fm_fit *f)
{
    float max = fm_fit_max(f->x, MX_BLOCK);
    if (max == 0) return 0;
    int top = __builtin_ilogbf(max) + 125, best = -1; /* max/8 < 2^(top − 128) <= max/4… in units of K */
    double least = 0;
    for (int e = top - 1; e <= top + 1; e++) {
        if (e < 0 || e > 252) continue; /* 252: the last whose largest code is finite */
        double d = (double)mx_scale(e), err = (double)error_at(f, e) * d * d;
        if (best < 0 || err < least) least = err, best = e;
    }
    return best < 0 ? 0 : best;
}

static void store_codes(unsigned char *b, const float *x, int e)
{
    unsigned char c[MX_BLOCK];
    for (int j = 0; j < MX_BLOCK; j += FM_LANES) {
        const fm_lanes v = in_units(x + j, e);
        fm_mask code = (fm_mask)v >> 28 & 8; /* the sign */
        for (int i = 0; i < 7; i++) code -= reaches(size_of(v), i);
        for (int l = 0; l < FM_LANES; l++) c[j + l] = (unsigned char)code[l];
    }
    for (int j = 0; j < MX_BLOCK / 2; j++) b[j] = (unsigned char)(c[j] | c[j + 16] << 4);
}

void fm_encode_w_mxfp4(void *dst, const float *src, const float *weights, size_t n)
{
    unsigned char *b = dst;
    for (size_t i = 0; i < n; i += MX_BLOCK, b += MX_BYTES) {
        struct fm_fit f;
        fm_fit_load(&f, src + i, weights ? weights + i : NULL, MX_BLOCK);
        const int e = best_exponent(&f);
        b[0] = (unsigned char)e;
        store_codes(b + 1, f.x, e);
    }
}

void fm_encode_mxfp4(void *dst, const float *src, size_t n) { fm_encode_w_mxfp4(dst, src, NULL, n); }
