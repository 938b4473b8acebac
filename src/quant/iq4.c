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
#include "quant/lanes.h"

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

/* middle[i] lies between levels i and i + 1, which are rise[i] apart. */
static const float middle[15] = {-115.5f, -93.5f, -74, -57, -42, -28.5f, -16, -4.5f, 7, 19, 31.5f, 45.5f, 61, 79, 101};
static const float rise[15] = {23, 21, 18, 16, 14, 13, 12, 11, 12, 12, 13, 15, 16, 20, 24};

/* The levels nearest to x. */
FM_INLINE fm_lanes nearest(fm_lanes x)
{
    fm_lanes level = fm_lanes_set((float)levels[0]);
    for (int i = 0; i < 15; i++)
        level += fm_lanes_pick(x > fm_lanes_set(middle[i]), fm_lanes_set(rise[i]), fm_lanes_set(0));
    return level;
}

/* The weighted squared errors of a run, a scale in each lane. */
FM_INLINE fm_lanes errors_at(const float *x, const float *w, fm_lanes d)
{
    fm_lanes sum = fm_lanes_set(0);
    const fm_lanes none = sum, inv = fm_lanes_pick(d != none, fm_lanes_set(1) / d, none);
    for (int j = 0; j < RUN; j++) {
        const fm_lanes v = fm_lanes_set(x[j]), e = v - d * nearest(v * inv);
        sum += fm_lanes_set(w[j]) * e * e;
    }
    return sum;
}

/* For each lane the least-squares scale for the codes that inv gives, and what it explains of the Σwx² of d = 0. */
FM_INLINE fm_lanes gains_at(const float *x, const float *w, fm_lanes inv, fm_lanes *d)
{
    fm_lanes xq = fm_lanes_set(0), qq = xq;
    const fm_lanes none = xq;
    for (int j = 0; j < RUN; j++) {
        const fm_lanes v = fm_lanes_set(x[j]), q = nearest(v * inv), wq = fm_lanes_set(w[j]) * q;
        xq += wq * v;
        qq += wq * q;
    }
    *d = fm_lanes_pick(qq > none, xq / qq, none);
    return *d * xq;
}

/* Scales that put the largest value on any place between level ±89 and ±140, then scales close to the best. */
static float fit_levels(const float *x, const float *w)
{
    static const float first[] = {-138, -113, 90, 115};
    const fm_lanes step = {0, 3, 6, 9, 12, 15, 18, 21},
                   close = {1, 0.98f, 0.985f, 0.99f, 0.995f, 1.005f, 1.01f, 1.015f};
    const float max = fm_fit_max(x, RUN);
    float best = 0, gain = 0;
    fm_lanes d;
    if (!(max > 0x1p-60f || max < -0x1p-60f)) return 0;
    for (int s = 0; s < 4; s++) {
        const fm_lanes inv = (fm_lanes_set(first[s]) + step) * fm_lanes_set(1 / max);
        const int at = fm_lanes_above(gains_at(x, w, inv, &d), &gain);
        if (at >= 0) best = d[at];
    }
    if (best == 0) return 0;
    const int at = fm_lanes_above(gains_at(x, w, close * fm_lanes_set(1 / best), &d), &gain);
    return at >= 0 ? d[at] : best;
}

static void store_run(unsigned char *qs, const float *x, float d)
{
    const float inv = d != 0 ? 1 / d : 0;
    unsigned char c[RUN];
    for (int j = 0; j < RUN; j += FM_LANES) {
        const fm_lanes v = fm_lanes_load(x + j) * fm_lanes_set(inv);
        fm_mask code = {0};
        for (int i = 0; i < 15; i++) code -= v > fm_lanes_set(middle[i]);
        for (int l = 0; l < FM_LANES; l++) c[j + l] = (unsigned char)code[l];
    }
    for (int j = 0; j < RUN / 2; j++) qs[j] = (unsigned char)(c[j] | c[j + 16] << 4);
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
    const int s = d != 0 ? fm_round_clamp(want / d, -32, 31) : 0;
    fm_lanes multiple;
    for (int i = 0; i < FM_LANES; i++) {
        const int t = s + (i + 1) / 2 * (i % 2 ? -1 : 1); /* s, s − 1, s + 1, … */
        multiple[i] = (float)(t < -32 ? -32 : t > 31 ? 31 : t);
    }
    const fm_lanes errors = errors_at(x, w, fm_lanes_set(d) * multiple);
    int best = 0;
    for (int i = 1; i < FM_LANES; i++)
        if (errors[i] < errors[best]) best = i;
    return (int)multiple[best];
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
