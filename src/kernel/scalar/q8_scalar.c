/* Activations as int8 blocks, and their products with Q8_0, Q4_0 and Q4_1 rows.
 *
 * Order, the same in every tier: a block of 32 gives eight exact integers, isum[l] = Σ q·w over elements 4l … 4l+3
 * (what maddubs and madd leave in the lanes of a 256-bit register); then over the blocks, first to last,
 *     acc[l] = fma(dw·dx, isum[l], acc[l])          and, for Q4_1,          min = fma(m, s, min)
 * and the output is fold8(acc) (+ min).  |isum| <= 4·128·127 < 2^24, so its conversion to float is exact. */
#include <math.h>
#include <string.h>

#include "kernel/scalar/scalar.h"

enum { BLOCK = 32 };

static float max_abs_or_nan(const float *x)
{
    uint32_t best = 0; /* the bits of non-negative floats order as integers, NaN above all: so it spoils d */
    for (int j = 0; j < BLOCK; j++) {
        uint32_t u;
        memcpy(&u, &x[j], sizeof u);
        u &= 0x7FFFFFFF;
        if (u > best) best = u;
    }
    float amax;
    memcpy(&amax, &best, sizeof amax);
    return amax;
}

/* Nearest even: adding 1.5·2^23 leaves no bits for a fraction.  The clamp matters where d is subnormal and coarse. */
static int8_t round_q(float t)
{
    t = t < 127 ? t : 127;
    t = t > -127 ? t : -127;
    return (int8_t)((t + 12582912.0f) - 12582912.0f);
}

static void quantise_q8x(struct fm_q8x *dst, const float *x, int k)
{
    for (int b = 0; b < k / BLOCK; b++, x += BLOCK, dst++) {
        float d = max_abs_or_nan(x) / 127;
        int sum = 0;
        for (int j = 0; j < BLOCK; j++) {
            int8_t q = d == 0 ? 0 : round_q(x[j] / d);
            dst->q[j] = q;
            sum += q;
        }
        dst->d = d;
        dst->s = d * (float)sum;
    }
}

static float f16_at(const unsigned char *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return fm_f16_to_f32(h);
}

/* The codes of one block as integers; the scale; the minimum (0 where the format has none). */
struct block {
    float d, m;
    int c[BLOCK];
};

static void open_q8_0(struct block *o, const unsigned char *p)
{
    o->d = f16_at(p);
    o->m = 0;
    for (int j = 0; j < BLOCK; j++) o->c[j] = (int8_t)p[2 + j];
}

static void open_nibbles(struct block *o, const unsigned char *p, int offset)
{
    for (int j = 0; j < BLOCK / 2; j++) {
        o->c[j] = (p[j] & 15) - offset;
        o->c[j + BLOCK / 2] = (p[j] >> 4) - offset;
    }
}

static void open_q4_0(struct block *o, const unsigned char *p)
{
    o->d = f16_at(p);
    o->m = 0;
    open_nibbles(o, p + 2, 8);
}

static void open_q4_1(struct block *o, const unsigned char *p)
{
    o->d = f16_at(p);
    o->m = f16_at(p + 2);
    open_nibbles(o, p + 4, 0);
}

typedef void (*open_fn)(struct block *o, const unsigned char *p);

static float row_dot(const struct fm_q8x *xq, const unsigned char *w, size_t block_bytes, int n_blocks, open_fn open,
                     bool has_min)
{
    float acc[8] = {0}, min = 0;
    for (int b = 0; b < n_blocks; b++, xq++, w += block_bytes) {
        struct block o;
        open(&o, w);
        for (int l = 0; l < 8; l++) {
            int isum = 0;
            for (int j = 4 * l; j < 4 * l + 4; j++) isum += o.c[j] * xq->q[j];
            acc[l] = fmaf(o.d * xq->d, (float)isum, acc[l]);
        }
        min = fmaf(o.m, xq->s, min);
    }
    return has_min ? fm_fold8(acc) + min : fm_fold8(acc);
}

static void gemm(enum fm_fmt f, open_fn open, float *y, ptrdiff_t ldy, const struct fm_q8x *xq, int m, const void *w,
                 size_t row_bytes, int n, int k)
{
    for (int i = 0; i < m; i++, xq += k / BLOCK)
        for (int j = 0; j < n; j++)
            y[i * ldy + j] = row_dot(xq, (const unsigned char *)w + (size_t)j * row_bytes, fm_formats[f].block_bytes,
                                     k / BLOCK, open, f == FM_Q4_1);
}

#define GEMM_Q8(name, fmt, open)                                                                                      \
    static void name(float *y, ptrdiff_t ldy, const struct fm_q8x *xq, int m, const void *w, size_t row_bytes, int n, \
                     int k)                                                                                           \
    {                                                                                                                 \
        gemm(fmt, open, y, ldy, xq, m, w, row_bytes, n, k);                                                           \
    }
GEMM_Q8(gemm_q8_0, FM_Q8_0, open_q8_0)
GEMM_Q8(gemm_q4_0, FM_Q4_0, open_q4_0)
GEMM_Q8(gemm_q4_1, FM_Q4_1, open_q4_1)

void fm_scalar_fill_q8(struct fm_kernels *k)
{
    k->quantise_q8x = quantise_q8x;
    k->gemm_q8[FM_Q8_0] = gemm_q8_0;
    k->gemm_q8[FM_Q4_0] = gemm_q4_0;
    k->gemm_q8[FM_Q4_1] = gemm_q4_1;
}
