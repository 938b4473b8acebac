/* Attention over int8, every tier.  Part of check_kernel: uses its `tier` and `scalar`. */
#ifndef TESTS_KERNEL_ATTENTION_H
#define TESTS_KERNEL_ATTENTION_H

#include "kernel_harness.h"

enum { ATTN_ROWS = 64 };

static void same_memory(const void *a, const void *b, size_t n, const char *what, int size)
{
    check(!memcmp(a, b, n), "%s %s of %d: differs", tier->tier, what, size);
}

/* Against the formulas of kernel.h in double, and the scalar tier's bits. */
static void check_int16_and_int8(int n, enum place where, float scale)
{
    float *x = floats(0, (size_t)n, where);
    for (int i = 0; i < n; i++) x[i] *= scale;
    int8_t *q8 = place(1, (size_t)n, where, 1), s8[1024];
    int16_t *q15 = place(2, (size_t)n * 2, where, 2), s15[1024];
    const float d15 = tier->quantise_q15(q15, x, n);
    check(same1(d15, scalar->quantise_q15(s15, x, n)), "%s quantise_q15 of %d: factor", tier->tier, n);
    same_memory(q15, s15, (size_t)n * 2, "quantise_q15", n);
    check_around(2, "quantise_q15");
    for (int i = 0; i < n; i++)
        if (!check(fabs((double)x[i] - (double)d15 * q15[i]) <= (double)d15 * (0.5 + 0x1p-7),
                   "%s quantise_q15: value %d", tier->tier, i))
            return;
    if (n > ATTN_ROWS) return;
    const float d8 = tier->quantise_kv(q8, x, n);
    check(same1(d8, scalar->quantise_kv(s8, x, n)), "%s quantise_kv of %d: factor", tier->tier, n);
    same_memory(q8, s8, (size_t)n, "quantise_kv", n);
    check_around(1, "quantise_kv");
    for (int i = 0; i < n; i++)
        if (!check(fabs((double)x[i] - (double)d8 * q8[i]) <= (double)d8 * (0.5 + 0x1p-15), "%s quantise_kv: value %d",
                   tier->tier, i))
            return;
}

/* What must not go unseen, and what has no scale. */
static void check_odd_values(void)
{
    static const float odd[] = {NAN, INFINITY, -INFINITY, 0, 1e-38f, 1e-31f};
    for (size_t v = 0; v < sizeof odd / sizeof *odd; v++) {
        float *x = floats(0, 24, AT_END);
        int8_t q8[24];
        int16_t q15[24];
        if (v < 3)
            x[17] = odd[v];
        else
            for (int i = 0; i < 24; i++) x[i] = odd[v];
        const float d8 = tier->quantise_kv(q8, x, 24), d15 = tier->quantise_q15(q15, x, 24);
        check(v < 3 ? !isfinite(d8) && isnan(d15) : d8 >= 0 && d15 == 0, "%s: %g in a group is hidden", tier->tier,
              (double)odd[v]);
        check(v < 3 || (!q15[5] && (odd[v] != 0 || !q8[5])), "%s: zeros are not", tier->tier);
    }
}

static void check_weigh(int m)
{
    float *p = floats(0, (size_t)m * ATTN_ROWS, AT_END), *d = floats(1, ATTN_ROWS, AT_END);
    int16_t *w = place(2, (size_t)m * ATTN_ROWS * 2, AT_END, 2), want[ATTN_ROWS * 8];
    float *f = outputs(3, (size_t)m, AT_END), wf[8];
    for (int i = 0; i < m * ATTN_ROWS; i++) p[i] = i / ATTN_ROWS == 1 ? 0 : fabsf(p[i]);
    for (int s = 0; s < ATTN_ROWS; s++) d[s] = fabsf(d[s]);
    if (m > 2) p[2 * ATTN_ROWS + 9] = NAN;
    tier->weigh_q15(w, f, p, d, m);
    scalar->weigh_q15(want, wf, p, d, m);
    same_memory(w, want, (size_t)m * ATTN_ROWS * 2, "weigh_q15", m);
    same_bits(f, wf, (size_t)m, "%s weigh_q15 of %d", tier->tier, m);
    check_around(2, "weigh_q15");
    check_around(3, "weigh_q15");
    check(m < 3 || isnan(f[2]), "%s weigh_q15: NaN is hidden", tier->tier);
    for (int s = 0; s < ATTN_ROWS; s++)
        if (!check(fabs((double)p[s] * (double)d[s] - (double)f[0] * w[s]) <= (double)f[0] * (0.5 + 0x1p-7),
                   "%s weigh_q15: row %d", tier->tier, s))
            return;
}

/* Each row against the formula in double, and the scalar tier's bits; what lies behind the keys seen may be anything. */
static void check_soften(int m, int seen)
{
    float *p = floats(0, (size_t)m * ATTN_ROWS, AT_END), *d = floats(1, (size_t)m, AT_END);
    float *top = outputs(2, (size_t)m, AT_END), *sum = outputs(3, (size_t)m, AT_END);
    float want[ATTN_ROWS * 8], z[ATTN_ROWS * 8], wt[8], ws[8];
    for (int i = 0; i < m * ATTN_ROWS; i++)
        if (i % ATTN_ROWS >= seen && i % 3) p[i] = i % 3 == 1 ? NAN : INFINITY;
    for (int i = 0; i < m; i++) d[i] = fabsf(d[i]) * (i % 2 ? 100 : 1);
    if (m > 2) p[2 * ATTN_ROWS + seen / 2] = NAN;
    memcpy(want, p, g.bytes[0]);
    memcpy(z, p, g.bytes[0]);
    tier->soften(p, top, sum, d, m, seen);
    scalar->soften(want, wt, ws, d, m, seen);
    same_bits(p, want, (size_t)m * ATTN_ROWS, "%s soften %d of %d", tier->tier, m, seen);
    same_bits(top, wt, (size_t)m, "%s soften %d of %d: top", tier->tier, m, seen);
    same_bits(sum, ws, (size_t)m, "%s soften %d of %d: sum", tier->tier, m, seen);
    for (int f = 0; f < 4; f++) check_around(f, "soften");
    for (int i = 0; i < m; i++)
        for (int s = 0; s < ATTN_ROWS; s++) {
            const int at = i * ATTN_ROWS + s;
            const double e = exp((double)z[at] * (double)d[i] - (double)top[i]);
            /* two roundings of arguments as large as x and top, one of exp; below e^-87.33: 0 */
            const double slack =
                e * 0x1p-23 * (2 + fabs((double)z[at] * (double)d[i]) + 2 * fabs((double)top[i])) + 0x1p-125;
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
            if (!check(turned[s / 2 * 2 * n + 2 * i + s % 2] == src[i / 2 * 128 + s * 2 + i % 2],
                       "%s turn of %d: row %d, value %d", tier->tier, n, s, i))
                return;
}

/* The largest sums that the contract allows, too. */
static void check_gemm_q15(int m, int lanes, int pairs, bool by_lane, bool large)
{
    const ptrdiff_t lda = 2 * pairs + 6, ldc = lanes + 3;
    int16_t *a = place(0, (size_t)((m - 1) * lda + 2 * pairs) * 2, AT_END, 2);
    int8_t *b = place(1, (size_t)(pairs * lanes * 2), AT_END, 1);
    float *by = floats(2, (size_t)(by_lane ? lanes : m), AT_END),
          *c = floats(3, (size_t)((m - 1) * ldc + lanes), AT_END);
    float want[17 * 70];
    for (size_t i = 0; i < g.bytes[0] / 2; i++)
        a[i] = large ? 32767 : (int16_t)(fm_rng_uniform(&g.rng) * 65534 - 32767);
    for (size_t i = 0; i < g.bytes[1]; i++) b[i] = large ? -128 : (int8_t)(fm_rng_uniform(&g.rng) * 255 - 127);
    memcpy(want, c, g.bytes[3]);
    for (int i = 0; i < m; i++)
        for (int l = 0; l < lanes; l++) {
            int64_t sum = 0;
            for (int k = 0; k < 2 * pairs; k++) sum += a[i * lda + k] * b[(k / 2 * lanes + l) * 2 + k % 2];
            float *at = &want[i * ldc + l];
            *at = fmaf((float)sum, by[by_lane ? l : i], *at);
        }
    tier->gemm_q15(c, ldc, a, lda, b, by_lane ? by : NULL, by_lane ? NULL : by, m, lanes, pairs);
    same_bits(c, want, g.bytes[3] / sizeof *c, "%s gemm_q15 %d×%d×%d", tier->tier, m, lanes, pairs);
    check_around(3, "gemm_q15");
}

static void test_attention(void)
{
    for (int n = 1; n <= 64; n++) check_int16_and_int8(n, (enum place)(n % PLACES), n % 4 ? 1 : 1e-3f);
    for (int n = 65; n < 900; n += 97) check_int16_and_int8(n, (enum place)(n % PLACES), 30);
    check_odd_values();
    for (int m = 1; m <= 7; m++) check_weigh(m);
    for (int n = 16; n <= 64; n += 16) check_turn(n);
    for (int seen = 1; seen <= ATTN_ROWS; seen++) check_soften(1 + seen % 7, seen);
    for (int m = 1; m <= 17; m++)
        for (int lanes = 16; lanes <= 64; lanes += 16)
            for (int by_lane = 0; by_lane < 2; by_lane++) {
                check_gemm_q15(m, lanes, 8 * (1 + m % 4), by_lane, false);
                if (m == 3) check_gemm_q15(m, lanes, 32, by_lane, true);
            }
}

#endif
