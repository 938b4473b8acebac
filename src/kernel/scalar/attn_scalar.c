/* Attention over int8: 64 rows of a cache by 8-bit queries and weights, as kernel.h says. */
#include <math.h>
#include <string.h>

#include "kernel/math.h"
#include "kernel/scalar/attn_rows.h"
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
    const float max = max_abs(x, n);
    float d;
    if (fm_attn_is_empty(max, &d)) {
        memset(q, 0, (size_t)n * sizeof *q);
        return d;
    }
    const float inv = 127 / max;
    for (int i = 0; i < n; i++) q[i] = (int8_t)rounded(x[i] * inv);
    return max / 127;
}

static void spread(float *x, int n)
{
    const int size = n & -n;
    const float scale = 1 / sqrtf((float)size);
    for (int h = 1; h < size; h *= 2)
        for (int i = 0; i < n; i++)
            if (!(i & h)) {
                const float a = x[i], b = x[i + h];
                x[i] = a + b;
                x[i + h] = a - b;
            }
    for (int i = 0; i < n; i++) x[i] *= scale;
}

static void weigh_u8(uint8_t *w, float *f, const float *p, const float *d, int m)
{
    float x[ROWS];
    for (; m > 0; m--, w += ROWS, p += ROWS, f++) {
        for (int s = 0; s < ROWS; s++) x[s] = p[s] * d[s];
        const float max = max_abs(x, ROWS);
        if (fm_attn_is_empty(max, f)) {
            memset(w, 0, ROWS);
            continue;
        }
        const float inv = 255 / max;
        for (int s = 0; s < ROWS; s++) w[s] = (uint8_t)rounded(x[s] * inv);
        *f = max / 255;
    }
}

static void turn(int8_t *dst, const int8_t *src, int n)
{
    for (int s = 0; s < ROWS; s++)
        for (int i = 0; i < n; i++) dst[(s / 4 * n + i) * 4 + s % 4] = src[(i / 4 * ROWS + s) * 4 + i % 4];
}

static void join(float *max, float *sum, float *old, float *fade, const float *top, const float *s, int m)
{
    for (int i = 0; i < m; i++) fm_attn_join(max + i, sum + i, old + i, fade + i, top[i], s[i]);
}

static void gemm_u8(float *c, ptrdiff_t ldc, const uint8_t *a, ptrdiff_t lda, int zero, const int8_t *b,
                    const float *by_lane, const float *by_row, int m, int lanes, int quads)
{
    for (int i = 0; i < m; i++)
        for (int l = 0; l < lanes; l++) {
            int32_t sum = 0;
            for (int k = 0; k < 4 * quads; k++)
                sum += (a[i * lda + k] - zero) * b[((ptrdiff_t)(k / 4) * lanes + l) * 4 + k % 4];
            float *at = &c[i * ldc + l];
            *at = fmaf((float)sum, by_lane ? by_row[i] * by_lane[l] : by_row[i], *at);
        }
}

void fm_scalar_fill_attn(struct fm_kernels *k)
{
    k->quantise_kv = quantise_kv;
    k->spread = spread;
    k->weigh_u8 = weigh_u8;
    k->turn = turn;
    k->join = join;
    k->gemm_u8 = gemm_u8;
}
