/* Attention over int8, every tier.  Part of check_kernel: uses its `tier` and `scalar`. */
#ifndef TESTS_KERNEL_ATTENTION_H
#define TESTS_KERNEL_ATTENTION_H

#include "kernel_harness.h"

enum { ATTN_ROWS = 64 };

static void same_memory(const void *a, const void *b, size_t n, const char *what, int size)
{
    check(!memcmp(a, b, n), "%s %s of %d: differs", tier->tier, what, size);
}

/* Against the formula of kernel.h in double, and the scalar tier's bits. */
static void check_quantise_kv(int n, enum place where, float scale)
{
    float *x = floats(0, (size_t)n, where);
    for (int i = 0; i < n; i++) x[i] *= scale;
    int8_t *q = place(1, (size_t)n, where, 1), want[ATTN_ROWS];
    const float d = tier->quantise_kv(q, x, n);
    check(same1(d, scalar->quantise_kv(want, x, n)), "%s quantise_kv of %d: factor", tier->tier, n);
    same_memory(q, want, (size_t)n, "quantise_kv", n);
    check_around(1, "quantise_kv");
    for (int i = 0; i < n; i++)
        if (!check(fabs((double)x[i] - (double)d * q[i]) <= (double)d * (0.5 + 0x1p-15), "%s quantise_kv: value %d",
                   tier->tier, i))
            return;
}

/* What must not go unseen, and what has no scale. */
static void check_odd_values(void)
{
    static const float odd[] = {NAN, INFINITY, -INFINITY, 0, 1e-38f, 1e-31f};
    for (size_t v = 0; v < sizeof odd / sizeof *odd; v++) {
        float *x = floats(0, 24, AT_END);
        int8_t q[24];
        if (v < 3)
            x[17] = odd[v];
        else
            for (int i = 0; i < 24; i++) x[i] = odd[v];
        const float d = tier->quantise_kv(q, x, 24);
        check(v < 3 ? isnan(d) : d == 0, "%s: %g in a group is hidden", tier->tier, (double)odd[v]);
        check(!q[5], "%s: what has no scale is not 0", tier->tier);
    }
}

/* Every value against H in double, the scalar tier's bits, and twice is not at all: within the rounding of log2 64 sums and a
 * product, each at most the group's norm. */
static void check_spread(int n)
{
    float *x = floats(0, (size_t)n, AT_END), was[ATTN_ROWS], want[ATTN_ROWS];
    double norm = 0;
    memcpy(was, x, g.bytes[0]);
    memcpy(want, x, g.bytes[0]);
    for (int i = 0; i < n; i++) norm += (double)x[i] * (double)x[i];
    tier->spread(x, n);
    scalar->spread(want, n);
    same_bits(x, want, (size_t)n, "%s spread of %d", tier->tier, n);
    check_around(0, "spread");
    const int size = n & -n;
    for (int i = 0; i < n; i++) {
        double sum = 0;
        for (int k = 0; k < size; k++)
            sum += (double)was[i / size * size + k] * (__builtin_popcount((unsigned)(i % size & k)) % 2 ? -1 : 1);
        if (!check(fabs((double)x[i] - sum / sqrt(size)) <= 8 * 0x1p-24 * sqrt(norm), "%s spread of %d: value %d",
                   tier->tier, n, i))
            return;
    }
    tier->spread(x, n);
    for (int i = 0; i < n; i++)
        if (!check(fabs((double)x[i] - (double)was[i]) <= 16 * 0x1p-24 * sqrt(norm), "%s spread twice of %d: value %d",
                   tier->tier, n, i))
            return;
}

static void check_weigh(int m)
{
    float *p = floats(0, (size_t)m * ATTN_ROWS, AT_END), *d = floats(1, ATTN_ROWS, AT_END);
    uint8_t *w = place(2, (size_t)m * ATTN_ROWS, AT_END, 1), want[ATTN_ROWS * 8];
    float *f = outputs(3, (size_t)m, AT_END), wf[8];
    for (int i = 0; i < m * ATTN_ROWS; i++) p[i] = i / ATTN_ROWS == 1 ? 0 : fabsf(p[i]);
    for (int s = 0; s < ATTN_ROWS; s++) d[s] = fabsf(d[s]);
    if (m > 2) p[2 * ATTN_ROWS + 9] = NAN;
    tier->weigh_u8(w, f, p, d, m);
    scalar->weigh_u8(want, wf, p, d, m);
    same_memory(w, want, (size_t)m * ATTN_ROWS, "weigh_u8", m);
    same_bits(f, wf, (size_t)m, "%s weigh_u8 of %d", tier->tier, m);
    check_around(2, "weigh_u8");
    check_around(3, "weigh_u8");
    check(m < 3 || isnan(f[2]), "%s weigh_u8: NaN is hidden", tier->tier);
    for (int s = 0; s < ATTN_ROWS; s++)
        if (!check(fabs((double)p[s] * (double)d[s] - (double)f[0] * w[s]) <= (double)f[0] * (0.5 + 0x1p-14),
                   "%s weigh_u8: row %d", tier->tier, s))
            return;
}

/* States that have seen nothing, that stay and that change; a NaN stays one. */
static void check_join(int m)
{
    float *max = floats(0, (size_t)m, AT_END), *sum = floats(1, (size_t)m, AT_END), *top = floats(2, (size_t)m, AT_END);
    float *old = outputs(3, (size_t)m, AT_END), fade[40], s[40], m1[40], l1[40], o1[40], f1[40];
    for (int i = 0; i < m; i++) {
        s[i] = i % 7 == 5 ? NAN : 1 + (float)i;
        sum[i] = i % 5 == 2 ? 0 : fabsf(sum[i]) + 1;
        max[i] = i % 5 == 2 ? -INFINITY : max[i] * 30;
        top[i] *= 30;
        m1[i] = max[i];
        l1[i] = sum[i];
    }
    tier->join(max, sum, old, fade, top, s, m);
    scalar->join(m1, l1, o1, f1, top, s, m);
    same_bits(max, m1, (size_t)m, "%s join of %d: max", tier->tier, m);
    same_bits(sum, l1, (size_t)m, "%s join of %d: sum", tier->tier, m);
    same_bits(old, o1, (size_t)m, "%s join of %d: old", tier->tier, m);
    same_bits(fade, f1, (size_t)m, "%s join of %d: fade", tier->tier, m);
    for (int f = 0; f < 4; f++) check_around(f, "join");
    for (int i = 0; i < m; i++)
        check((old[i] == 1 || fade[i] == 1) && max[i] >= top[i] && isnan(sum[i]) == (i % 7 == 5),
              "%s join of %d: row %d", tier->tier, m, i);
}

/* Each row against the formula in double, and the scalar tier's bits; what lies behind the keys seen may be anything. */
static void check_soften(int m, int seen)
{
    float *p = floats(0, (size_t)m * ATTN_ROWS, AT_END);
    float *top = outputs(2, (size_t)m, AT_END), *sum = outputs(3, (size_t)m, AT_END);
    float want[ATTN_ROWS * 8], z[ATTN_ROWS * 8], wt[8], ws[8];
    for (int i = 0; i < m * ATTN_ROWS; i++)
        if (i % ATTN_ROWS >= seen && i % 3) p[i] = i % 3 == 1 ? NAN : INFINITY;
    for (int i = 0; i < m * ATTN_ROWS; i++) p[i] *= i / ATTN_ROWS % 2 ? 100 : 1;
    if (m > 2) p[2 * ATTN_ROWS + seen / 2] = NAN;
    memcpy(want, p, g.bytes[0]);
    memcpy(z, p, g.bytes[0]);
    tier->soften(p, top, sum, m, seen);
    scalar->soften(want, wt, ws, m, seen);
    same_bits(p, want, (size_t)m * ATTN_ROWS, "%s soften %d of %d", tier->tier, m, seen);
    same_bits(top, wt, (size_t)m, "%s soften %d of %d: top", tier->tier, m, seen);
    same_bits(sum, ws, (size_t)m, "%s soften %d of %d: sum", tier->tier, m, seen);
    for (int f = 0; f < 4; f++)
        if (f != 1) check_around(f, "soften");
    for (int i = 0; i < m; i++)
        for (int s = 0; s < ATTN_ROWS; s++) {
            const int at = i * ATTN_ROWS + s;
            const double e = exp((double)z[at] - (double)top[i]);
            /* one rounding of an argument as large as z and top, one of exp; below e^-87.33: 0 */
            const double slack = e * 0x1p-23 * (2 + fabs((double)z[at]) + fabs((double)top[i])) + 0x1p-125;
            if (!check(s >= seen  ? p[at] == 0
                       : isnan(e) ? isnan(p[at])
                                  : fabs((double)p[at] - e) <= slack,
                       "%s soften: row %d, key %d", tier->tier, i, s))
                return;
        }
}

static void check_turn(int n)
{
    const int size = n * ATTN_ROWS;
    int8_t *src = place(0, (size_t)size, AT_END, 1), *turned = place(1, (size_t)size, AT_END, 1);
    for (int i = 0; i < size; i++) src[i] = (int8_t)(fm_rng_uniform(&g.rng) * 255 - 127);
    tier->turn(turned, src, n);
    check_around(1, "turn");
    for (int s = 0; s < ATTN_ROWS; s++)
        for (int i = 0; i < n; i++)
            if (!check(turned[(s / 4 * n + i) * 4 + s % 4] == src[(i / 4 * ATTN_ROWS + s) * 4 + i % 4],
                       "%s turn of %d: row %d, value %d", tier->tier, n, s, i))
                return;
}

/* The largest sums that the contract allows, too. */
static void check_gemm_u8(int m, int lanes, int quads, bool keys, bool large)
{
    const ptrdiff_t lda = 4 * quads + 6, ldc = lanes + 3;
    const int zero = keys ? 128 : 0;
    uint8_t *a = place(0, (size_t)((m - 1) * lda + 4 * quads), AT_END, 1);
    int8_t *b = place(1, (size_t)(quads * lanes * 4), AT_END, 1);
    float *by = floats(2, (size_t)(lanes + m), AT_END), *c = floats(3, (size_t)((m - 1) * ldc + lanes), AT_END);
    const float *by_lane = keys ? by : NULL, *by_row = by + lanes;
    float want[17 * 70];
    for (size_t i = 0; i < g.bytes[0]; i++) a[i] = large ? 255 : (uint8_t)(fm_rng_uniform(&g.rng) * 255.99);
    for (size_t i = 0; i < g.bytes[1]; i++) b[i] = large ? -128 : (int8_t)(fm_rng_uniform(&g.rng) * 255 - 127);
    memcpy(want, c, g.bytes[3]);
    for (int i = 0; i < m; i++)
        for (int l = 0; l < lanes; l++) {
            int64_t sum = 0;
            for (int k = 0; k < 4 * quads; k++) sum += (a[i * lda + k] - zero) * b[(k / 4 * lanes + l) * 4 + k % 4];
            float *at = &want[i * ldc + l];
            *at = fmaf((float)sum, by_lane ? by_row[i] * by_lane[l] : by_row[i], *at);
        }
    tier->gemm_u8(c, ldc, a, lda, zero, b, by_lane, by_row, m, lanes, quads);
    same_bits(c, want, g.bytes[3] / sizeof *c, "%s gemm_u8 %d×%d×%d", tier->tier, m, lanes, quads);
    check_around(3, "gemm_u8");
}

static void test_attention(void)
{
    for (int n = 1; n <= 64; n++) check_quantise_kv(n, (enum place)(n % PLACES), n % 4 ? 1 : 1e-3f);
    check_odd_values();
    for (int m = 1; m <= 7; m++) check_weigh(m);
    for (int m = 1; m <= 40; m++) check_join(m);
    for (int n = 16; n <= 64; n += 16) check_turn(n);
    for (int n = 16; n <= 64; n += 16) check_spread(n);
    for (int seen = 1; seen <= ATTN_ROWS; seen++) check_soften(1 + seen % 7, seen);
    for (int m = 1; m <= 17; m++)
        for (int lanes = 16; lanes <= 64; lanes += 16)
            for (int keys = 0; keys < 2; keys++) {
                check_gemm_u8(m, lanes, 4 * (1 + m % 4), keys, false);
                if (m == 3) check_gemm_u8(m, lanes, 16, keys, true);
            }
}

#endif
