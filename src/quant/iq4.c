/* IQ4_NL and IQ4_XS: four-bit codes that name one of sixteen uneven levels T; 18 bytes for 32, 136 for 256.
 *
 *   byte   0      2                        18
 *   IQ4_NL ├ d ───┼ c16:c0 c17:c1 … c31:c15 ┤      value = d·T[c]
 *   byte   0      2          4          8           136
 *   IQ4_XS ├ d ───┼ high ────┼ low[4] ──┼ qs[128] ──┤      value = d·(scale[r] − 32)·T[c], eight runs of 32
 *            f16    u16: two bits per run, four in low      run r: nibbles as above in qs[16r …]
 *
 * Source: spec models.md §9.5 f. */
#include "quant/fit.h"

enum { BLOCK = 256, NL_BLOCK = 32, NL_BYTES = 18, XS_BYTES = 136, RUN = 32, RUNS = 8, LOW = 4, QS = 8 };

static const int8_t levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

static void decode_run(float *dst, const unsigned char *qs, float d)
{
    for (int j = 0; j < RUN / 2; j++) {
        dst[j] = d * (float)levels[qs[j] & 15];
        dst[j + 16] = d * (float)levels[qs[j] >> 4];
    }
}

void fm_decode_iq4_nl(float *dst, const void *src, size_t n)
{
    const unsigned char *b = src;
    for (size_t i = 0; i < n; i += NL_BLOCK, b += NL_BYTES) decode_run(dst + i, b + 2, fm_f16_to_f32(fm_load_u16(b)));
}

void fm_decode_iq4_xs(float *dst, const void *src, size_t n)
{
    const unsigned char *b = src;
    for (size_t i = 0; i < n; i += BLOCK, b += XS_BYTES) {
        float d = fm_f16_to_f32(fm_load_u16(b));
        for (int r = 0; r < RUNS; r++) {
            int scale = (b[LOW + r / 2] >> r % 2 * 4 & 15) | (fm_load_u16(b + 2) >> 2 * r & 3) << 4;
            decode_run(dst + i + r * RUN, b + QS + 16 * r, d * (float)(scale - 32));
        }
    }
}

/* The level nearest to x, by halving: half[i] lies between levels i and i + 1. */
static int nearest(float x)
{
    static const float half[15] = {-115.5f, -93.5f, -74,   -57,   -42, -28.5f, -16, -4.5f,
                                   7,       19,     31.5f, 45.5f, 61,  79,     101};
    int c = x > half[7] ? 8 : 0;
    c += x > half[c + 3] ? 4 : 0;
    c += x > half[c + 1] ? 2 : 0;
    return c + (x > half[c]);
}

/* The weighted squared error of a run at scale d. */
static float error_at(const float *x, const float *w, float d)
{
    float inv = d != 0 ? 1 / d : 0, sum = 0;
    for (int j = 0; j < RUN; j++) {
        float e = x[j] - d * (float)levels[nearest(x[j] * inv)];
        sum += w[j] * e * e;
    }
    return sum;
}

/* The least-squares scale for the codes that inv gives, and the error it leaves against the Σwx² of d = 0. */
static float gain_at(const float *x, const float *w, float inv, float *d)
{
    float xq = 0, qq = 0;
    for (int j = 0; j < RUN; j++) {
        float q = (float)levels[nearest(x[j] * inv)];
        xq += w[j] * x[j] * q;
        qq += w[j] * q * q;
    }
    *d = qq > 0 ? xq / qq : 0;
    return *d * xq;
}

/* Scales that put the largest value on any place between level ±89 and ±140. */
static float fit_levels(const float *x, const float *w)
{
    float max = fm_fit_max(x, RUN), best = 0, gain = 0, d;
    if (max == 0) return 0;
    for (int s = -140; s <= 140; s += 3) {
        if (s > -89 && s < 89) s = 89;
        float g = gain_at(x, w, (float)s / max, &d);
        if (g > gain) gain = g, best = d;
    }
    if (best != 0 && gain_at(x, w, 1 / best, &d) > gain) best = d;
    return best;
}

static void store_run(unsigned char *qs, const float *x, float d)
{
    float inv = d != 0 ? 1 / d : 0;
    for (int j = 0; j < RUN / 2; j++) qs[j] = (unsigned char)(nearest(x[j] * inv) | nearest(x[j + 16] * inv) << 4);
}

void fm_encode_w_iq4_nl(void *dst, const float *src, const float *weights, size_t n)
{
    unsigned char *b = dst;
    for (size_t i = 0; i < n; i += NL_BLOCK, b += NL_BYTES) {
        struct fm_fit f;
        fm_fit_load(&f, src + i, weights ? weights + i : NULL, NL_BLOCK);
        store_run(b + 2, f.x, fm_store_scale(b, fit_levels(f.x, f.w)));
    }
}

/* The whole multiple of d, within six bits, that leaves the least error near `want`. */
static int best_scale(const float *x, const float *w, float d, float want)
{
    int s = d != 0 ? fm_round_clamp(want / d, -32, 31) : 0, best = s;
    float least = error_at(x, w, d * (float)s);
    for (int t = s > -32 ? s - 1 : s; t <= s + 1 && t < 32; t++) {
        float e = error_at(x, w, d * (float)t);
        if (e < least) least = e, best = t;
    }
    return best;
}

void fm_encode_w_iq4_xs(void *dst, const float *src, const float *weights, size_t n)
{
    unsigned char *b = dst;
    for (size_t i = 0; i < n; i += BLOCK, b += XS_BYTES) {
        struct fm_fit f;
        float want[RUNS];
        unsigned high = 0;
        fm_fit_load(&f, src + i, weights ? weights + i : NULL, BLOCK);
        for (int r = 0; r < RUNS; r++) want[r] = fit_levels(f.x + r * RUN, f.w + r * RUN);
        float d = fm_store_scale(b, fm_fit_max(want, RUNS) / -32);
        memset(b + LOW, 0, QS - LOW);
        for (int r = 0; r < RUNS; r++) {
            int s = best_scale(f.x + r * RUN, f.w + r * RUN, d, want[r]);
            b[LOW + r / 2] |= (unsigned char)((s + 32) % 16 << r % 2 * 4);
            high |= (unsigned)(s + 32) / 16 << 2 * r;
            store_run(b + QS + 16 * r, f.x + r * RUN, d * (float)s);
        }
        fm_store_u16(b + 2, (uint16_t)high);
    }
}

void fm_encode_iq4_nl(void *dst, const float *src, size_t n) { fm_encode_w_iq4_nl(dst, src, NULL, n); }
void fm_encode_iq4_xs(void *dst, const float *src, size_t n) { fm_encode_w_iq4_xs(dst, src, NULL, n); }
