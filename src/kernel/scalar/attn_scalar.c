/* Attention over int8: 64 rows of a cache by int16 queries and weights, as kernel.h says. */
#include <math.h>
#include <string.h>

#include "kernel/scalar/scalar.h"

enum { ROWS = 64 };

/* The bits of non-negative floats order as integers, infinity and then NaN above all: so neither goes unseen. */
static float max_abs(const float *x, int n)
{
    uint32_t best = 0;
    for (int i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, &x[i], sizeof u);
        u &= 0x7FFFFFFF;
        if (u > best) best = u;
    }
    float max;
    memcpy(&max, &best, sizeof max);
    return max;
}

/* To nearest even while |t| < 2^22: adding 1.5·2^23 leaves no bits for a fraction. */
static float rounded(float t) { return (t + 12582912.0f) - 12582912.0f; }

static float quantise_kv(int8_t *q, const float *x, int n)
{
    const float d = max_abs(x, n) / 127;
    for (int i = 0; i < n; i++) {
        float t = d == 0 ? 0 : x[i] / d;
        t = t < 127 ? t : 127;
        t = t > -127 ? t : -127;
        q[i] = (int8_t)rounded(t);
    }
    return d;
}

static float quantise_q15(int16_t *q, const float *x, int n)
{
    const float max = max_abs(x, n);
    if (!(max >= 1e-30f && max < INFINITY)) {
        memset(q, 0, (size_t)n * sizeof *q);
        return max < 1e-30f ? 0 : NAN;
    }
    const float inv = 32767 / max;
    for (int i = 0; i < n; i++) q[i] = (int16_t)rounded(x[i] * inv);
    return max / 32767;
}

static void weigh_q15(int16_t *w, float *f, const float *p, const float *d, int m)
{
    float x[ROWS];
    for (int i = 0; i < m; i++) {
        for (int s = 0; s < ROWS; s++) x[s] = p[i * ROWS + s] * d[s];
        f[i] = quantise_q15(w + (ptrdiff_t)i * ROWS, x, ROWS);
    }
}

static void turn(int8_t *dst, const int8_t *src, int n)
{
    for (int s = 0; s < ROWS; s++)
        for (int i = 0; i < n; i++) dst[(s / 2 * n + i) * 2 + s % 2] = src[(i / 2 * ROWS + s) * 2 + i % 2];
}

static void gemm_q15(float *c, ptrdiff_t ldc, const int16_t *a, ptrdiff_t lda, const int8_t *b, const float *by_lane,
                     const float *by_row, int m, int lanes, int pairs)
{
    for (int i = 0; i < m; i++)
        for (int l = 0; l < lanes; l++) {
            int32_t sum = 0;
            for (int p = 0; p < pairs; p++) {
                const int16_t *x = a + i * lda + 2 * p;
                const int8_t *y = b + ((ptrdiff_t)p * lanes + l) * 2;
                sum += x[0] * y[0] + x[1] * y[1];
            }
            float *at = &c[i * ldc + l];
            *at = fmaf((float)sum, by_lane ? by_lane[l] : by_row[i], *at);
        }
}

void fm_scalar_fill_attn(struct fm_kernels *k)
{
    k->quantise_kv = quantise_kv;
    k->quantise_q15 = quantise_q15;
    k->weigh_q15 = weigh_q15;
    k->turn = turn;
    k->gemm_q15 = gemm_q15;
}
