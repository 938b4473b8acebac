/* Products of F16 and BF16 weights in integers of 14 bits: W and x in blocks of 32 along k, each with one factor.
 *
 *   x    d = max|x|/8191, a float                 q = x/d, to nearest even
 *   W    a power of two, 2^(e − 139), e a byte    q = w/2^(e − 139), to nearest even
 *
 * e is the exponent of the block's largest weight in bf16's counting, 13 at least, of F16 113: its smallest normal has it.  So
 * |q| <= 2047·4 of F16 and 255·32 of BF16, and weights whose exponent is at most 2 (F16) or 5 (BF16) below the largest are exact;
 * the others err by at most 2^(e − 140), 2^-13 of the largest.  A sum of 32 products is exact in int32: 32·8188·8191 < 2^31.
 *
 * Packed, for all tiers: R rows side by side, R the tier's.
 *
 *   a group of R rows:   R rows' first blocks, R rows' second blocks …
 *   blocks of R rows:    16 cells; cell c: R times columns 2c and 2c + 1, int16
 *   columns 0 … 3        are q·4 + two bits of e, the lowest in column 0
 *
 * The byte 255 stands for a block with a NaN or an infinity: all q are 0, the factor is infinite, so the product is NaN. */
#include <math.h>
#include <string.h>

#include "kernel/scalar/scalar.h"

enum { BLOCK = 32, CODE = 8191, LEAST = 13, LEAST_F16 = 113, SPECIAL = 255, SCALAR_ROWS = 4, HIDDEN = 4 };

/* Nearest even, |t| < 2^22: adding 1.5·2^23 leaves no bits for a fraction. */
static int16_t rounded(float t) { return (int16_t)((t + 12582912.0f) - 12582912.0f); }

static float max_abs_or_nan(const float *x)
{
    float max = 0;
    for (int j = 0; j < BLOCK; j++) max = x[j] != x[j] || fabsf(x[j]) > max ? fabsf(x[j]) : max;
    for (int j = 0; j < BLOCK; j++) max = x[j] != x[j] ? x[j] : max;
    return max;
}

static void quantise_q14x(struct fm_q14x *dst, const float *x, int k)
{
    for (int b = 0; b < k / BLOCK; b++, x += BLOCK, dst++) {
        const float max = max_abs_or_nan(x);
        *dst = (struct fm_q14x){.d = max < 1e-30f ? 1 : NAN};
        if (!(max >= 1e-30f && max < INFINITY)) continue;
        dst->d = max / CODE;
        for (int j = 0; j < BLOCK; j++) dst->q[j] = rounded(x[j] * (CODE / max));
    }
}

/* A block of weights. */
struct block {
    int e;
    int16_t q[BLOCK];
};

static int exponent(float max, int least)
{
    uint32_t u;
    memcpy(&u, &max, sizeof u);
    const int e = (int)(u >> 23 & 255);
    return e < least ? least : e;
}

static struct block block_of(enum fm_fmt f, const unsigned char *w)
{
    float v[BLOCK];
    struct block o = {0};
    fm_formats[f].decode(v, w, BLOCK);
    const float max = max_abs_or_nan(v);
    o.e = max < INFINITY ? exponent(max, f == FM_F16 ? LEAST_F16 : LEAST) : SPECIAL;
    for (int j = 0; j < BLOCK && o.e < SPECIAL; j++) o.q[j] = rounded(ldexpf(v[j], 139 - o.e));
    return o;
}

static float chained(float acc, const struct block *w, const struct fm_q14x *x)
{
    const float d = w->e < SPECIAL ? ldexpf(1, w->e - 139) : INFINITY;
    int32_t sum = 0;
    for (int j = 0; j < BLOCK; j++) sum += w->q[j] * x->q[j];
    return fmaf(d * x->d, (float)sum, acc);
}

static void gemm(enum fm_fmt f, float *y, ptrdiff_t ldy, const struct fm_q14x *xq, int m, const unsigned char *w,
                 size_t row_bytes, int n, int k)
{
    for (int j = 0; j < n; j++, w += row_bytes) {
        for (int i = 0; i < m; i++) y[i * ldy + j] = 0;
        for (int b = 0; b < k / BLOCK; b++) {
            const struct block o = block_of(f, w + (ptrdiff_t)b * BLOCK * 2);
            for (int i = 0; i < m; i++)
                y[i * ldy + j] = chained(y[i * ldy + j], &o, xq + (ptrdiff_t)i * (k / BLOCK) + b);
        }
    }
}

/* ---- packed ---- */

/* Where column j of row r lies, in bytes from the R rows' block on. */
static size_t place_of(int rows, int r, int j)
{
    return ((size_t)(j / 2) * (size_t)rows + (size_t)r) * 4 + (size_t)j % 2 * 2;
}

static void pack(enum fm_fmt f, int rows, void *dst, const void *src, size_t row_bytes, int n, int k)
{
    for (int j = 0; j < n; j++) {
        const unsigned char *from = (const unsigned char *)src + (size_t)j * row_bytes;
        unsigned char *to = (unsigned char *)dst + (size_t)(j - j % rows) * row_bytes;
        for (int b = 0; b < k / BLOCK; b++, from += 2 * BLOCK, to += (ptrdiff_t)rows * 2 * BLOCK) {
            const struct block o = block_of(f, from);
            for (int c = 0; c < BLOCK; c++) {
                const int v = c < HIDDEN ? o.q[c] * 4 + (o.e >> 2 * c & 3) : o.q[c];
                memcpy(to + place_of(rows, j % rows, c), &(int16_t){(int16_t)v}, sizeof(int16_t));
            }
        }
    }
}

static struct block unpacked(const unsigned char *from, int rows, int r)
{
    struct block o = {0};
    for (int c = 0; c < BLOCK; c++) {
        memcpy(&o.q[c], from + place_of(rows, r, c), sizeof o.q[c]);
        if (c >= HIDDEN) continue;
        const int low = o.q[c] & 3;
        o.e |= low << 2 * c;
        o.q[c] = (int16_t)((o.q[c] - low) / 4);
    }
    return o;
}

static void gemm_packed(float *y, ptrdiff_t ldy, const struct fm_q14x *xq, int m, const void *w, size_t row_bytes,
                        int n, int k, float *work)
{
    (void)work;
    for (int j = 0; j < n; j++) {
        const unsigned char *at = (const unsigned char *)w + (size_t)(j - j % SCALAR_ROWS) * row_bytes;
        for (int i = 0; i < m; i++) y[i * ldy + j] = 0;
        for (int b = 0; b < k / BLOCK; b++, at += SCALAR_ROWS * 2 * BLOCK) {
            const struct block o = unpacked(at, SCALAR_ROWS, j % SCALAR_ROWS);
            for (int i = 0; i < m; i++)
                y[i * ldy + j] = chained(y[i * ldy + j], &o, xq + (ptrdiff_t)i * (k / BLOCK) + b);
        }
    }
}

#define SLOTS(fmt)                                                                                                    \
    static void gemm_##fmt(float *y, ptrdiff_t ldy, const struct fm_q14x *xq, int m, const void *w, size_t row_bytes, \
                           int n, int k, float *work)                                                                 \
    {                                                                                                                 \
        (void)work;                                                                                                   \
        gemm(FM_##fmt, y, ldy, xq, m, w, row_bytes, n, k);                                                            \
    }                                                                                                                 \
    static void pack_##fmt(void *dst, const void *src, size_t row_bytes, int n, int k)                                \
    {                                                                                                                 \
        pack(FM_##fmt, SCALAR_ROWS, dst, src, row_bytes, n, k);                                                       \
    }
SLOTS(F16)
SLOTS(BF16)

void fm_scalar_fill_q14(struct fm_kernels *k)
{
    k->quantise_q14x = quantise_q14x;
    k->gemm_q14[FM_F16] = gemm_F16;
    k->gemm_q14[FM_BF16] = gemm_BF16;
    k->pack[FM_F16] = pack_F16;
    k->pack[FM_BF16] = pack_BF16;
    k->gemm_packed_q14 = gemm_packed;
}
