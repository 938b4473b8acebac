/* Activations as int8 blocks, and their products with rows of weights: the order that kernel.h states, plainly. */
#include <math.h>
#include <string.h>

#include "kernel/q8_formats.h"
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
        int16_t sum[2] = {0, 0};
        for (int j = 0; j < BLOCK; j++) {
            int8_t q = d == 0 ? 0 : round_q(x[j] / d);
            dst->q[j] = q;
            sum[j / 16] = (int16_t)(sum[j / 16] + q);
        }
        dst->d = d;
        dst->s = d * (float)(sum[0] + sum[1]);
        memcpy(dst->sum, sum, sizeof sum);
    }
}

/* Products of the integers with q, by halves: exact, |Σ| <= 2·128·32·16·127 < 2^24, so its conversion to float is, too. */
static int dot_block(const struct fm_q8_block *o, const int8_t *q)
{
    int sum = 0;
    for (int j = 0; j < BLOCK; j++) sum += o->scale[j / 16] * o->code[j] * q[j];
    return sum;
}

float fm_scalar_q8_chain(float acc, const struct fm_q8x *xq, const unsigned char *block, enum fm_fmt f, int n)
{
    const struct fm_q8_reader *r = &fm_scalar_q8_readers[f];
    for (int b = 0; b < n; b++, xq++) {
        struct fm_q8_block o = {.scale = {1, 1}};
        r->open(&o, block, b);
        acc = fmaf(o.d * xq->d, (float)dot_block(&o, xq->q), acc);
        if (r->minimum == FM_Q8_MINIMUM) acc = fmaf(o.m, xq->s, acc);
        if (r->minimum == FM_Q8_TWO_MINIMA)
            acc = fmaf(o.m * xq->d, (float)(o.min[0] * xq->sum[0] + o.min[1] * xq->sum[1]), acc);
    }
    return acc;
}

static float row_dot(const struct fm_q8x *xq, const unsigned char *w, enum fm_fmt f, int n_blocks)
{
    const int each = (int)fm_formats[f].block / BLOCK;
    float acc = 0;
    for (int b = 0; b < n_blocks; b += each, w += fm_formats[f].block_bytes)
        acc = fm_scalar_q8_chain(acc, xq + b, w, f, each);
    return acc;
}

static void gemm(enum fm_fmt f, float *y, ptrdiff_t ldy, const struct fm_q8x *xq, int m, const void *w,
                 size_t row_bytes, int n, int k)
{
    for (int i = 0; i < m; i++, xq += k / BLOCK)
        for (int j = 0; j < n; j++)
            y[i * ldy + j] = row_dot(xq, (const unsigned char *)w + (size_t)j * row_bytes, f, k / BLOCK);
}

#define GEMM_Q8(fmt)                                                                                                 \
    static void gemm_##fmt(float *y, ptrdiff_t ldy, const struct fm_q8x *xq, int m, const void *w, size_t row_bytes, \
                           int n, int k, float *work)                                                                \
    {                                                                                                                \
        (void)work;                                                                                                  \
        gemm(FM_##fmt, y, ldy, xq, m, w, row_bytes, n, k);                                                           \
    }
FM_Q8_FORMATS(GEMM_Q8)

#define SLOT(fmt) k->gemm_q8[FM_##fmt] = gemm_##fmt;

void fm_scalar_fill_q8(struct fm_kernels *k)
{
    k->quantise_q8x = quantise_q8x;
    FM_Q8_FORMATS(SLOT)
}
