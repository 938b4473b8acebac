/* Products of F16 and BF16 weights in integers of 14 bits, every tier.  Part of check_kernel: uses its `tier`, `scalar` and helpers. */
#ifndef TESTS_KERNEL_Q14_H
#define TESTS_KERNEL_Q14_H

#include "kernel_harness.h"

static void check_quantise_q14(const float *x, int k, const char *what)
{
    struct fm_q14x *q = place(5, (size_t)k / 32 * sizeof *q, AT_END, 4),
                   *want = place(6, (size_t)k / 32 * sizeof *q, AT_END, 4);
    memset(q, FILL, (size_t)k / 32 * sizeof *q);
    tier->quantise_q14x(q, x, k);
    scalar->quantise_q14x(want, x, k);
    check_around(5, "quantise_q14x");
    for (int b = 0; b < k / 32; b++) {
        const double d = (double)q[b].d;
        double worst = 0;
        check(same1(q[b].d, want[b].d) && !memcmp(q[b].q, want[b].q, sizeof q->q), "%s quantise_q14x %s: block %d",
              tier->tier, what, b);
        for (int j = 0; j < 32; j++) worst = fmax(worst, fabs((double)x[b * 32 + j] - d * q[b].q[j]));
        bool finite = true;
        for (int j = 0; j < 32; j++) finite &= (bool)isfinite(x[b * 32 + j]);
        /* three roundings of x/d, each of at most 8191·EPS steps */
        check(finite ? worst <= fmax(d * (0.5 + 0x1p-9), 1e-30) || (d == 1 && worst <= 1e-30) : isnan(q[b].d),
              "%s quantise_q14x %s: error %g of %g", tier->tier, what, worst, d);
    }
}

static void test_quantise_q14(void)
{
    for (int p = 0; p < PLACES; p++) check_quantise_q14(floats(0, 256, (enum place)p), 256, "random");
    float *x = floats(0, 32, AT_END);
    memset(x, 0, 32 * sizeof *x);
    check_quantise_q14(x, 32, "zeros");
    for (int j = 0; j < 32; j++) x[j] = (float)(j - 16) * 0x1p-149f;
    check_quantise_q14(x, 32, "subnormal");
    for (int j = 0; j < 32; j++) x[j] = j ? (float)j - 15.5f : -8191; /* d = 1: every one a tie */
    check_quantise_q14(x, 32, "ties");
    x[7] = -0x1.fffffep127f;
    check_quantise_q14(x, 32, "largest");
    x[7] = -INFINITY;
    check_quantise_q14(x, 32, "infinite");
    x[9] = NAN;
    check_quantise_q14(x, 32, "NaN");
}

/* What the weights of a case are. */
enum q14_weights { ORDINARY, SMALL, LARGEST_ONES, ZEROS, ANY_BITS, Q14_WEIGHTS };

static void fill_halves(unsigned char *w, enum fm_fmt f, enum q14_weights which, int k)
{
    float v[4096] = {0};
    fill_random(v, (size_t)k);
    for (int p = 0; p < k; p++) {
        if (which == SMALL) v[p] *= p % 64 < 32 ? 0x1p-13f : f == FM_F16 ? 0x1p-22f : 0x1p-118f;
        if (which == LARGEST_ONES) v[p] = f == FM_F16 ? 65504 : 0x1.fep127f;
        if (which == ZEROS) v[p] = p % 64 ? -0.0f : 1;
    }
    fm_formats[f].encode(w, v, (size_t)k);
    if (which == ANY_BITS)
        for (int p = 0; p < 2 * k; p++) w[p] = (unsigned char)fm_rng_u64(&g.rng);
}

/* Within the rounding that q14_scalar.c states: half of 2^(e − 139) for each weight, and per block the sum's conversion, the
 * factors' product and the fma. */
static bool close_q14(float y, enum fm_fmt f, const unsigned char *w, const struct fm_q14x *x, int k)
{
    double sum = 0, size = 0, bound = 0;
    for (int b = 0; b < k / 32; b++, w += 64, x++) {
        float v[32];
        double top = 0, of_x = 0;
        fm_formats[f].decode(v, w, 32);
        for (int p = 0; p < 32; p++) {
            if (!isfinite(v[p])) return isnan(y);
            const double q = (double)x->d * x->q[p];
            top = fmax(top, fabs((double)v[p]));
            of_x += fabs(q);
            sum += (double)v[p] * q;
            size += fabs((double)v[p] * q);
        }
        bound += ldexp(of_x, top > 0 ? (int)fmax(ilogb(top), f == FM_F16 ? -14 : -114) - 13 : 0) * (top > 0 ? 1 : 0);
    }
    if (size > 1e37 || size < 1e-30) return true; /* float32 has no room for it: only the bits count */
    return fabs((double)y - sum) <= bound + (3 * k / 32 + 1) * EPS * (size + bound);
}

static void check_q14(enum fm_fmt f, enum q14_weights which, int m, int n, int k, size_t apart, enum place where)
{
    const size_t row = (size_t)k * 2, step = row + apart, nb = (size_t)k / 32;
    unsigned char *w = place(0, step * (size_t)(n - 1) + row, where, 1);
    struct fm_q14x *xq = place(1, (size_t)m * nb * sizeof *xq, where, 4);
    float *x = floats(2, (size_t)m * (size_t)k, AT_END);
    const ptrdiff_t ldy = n + 3;
    const size_t ny = extent(m, ldy, n, 1);
    const int rows = tier->pack_rows;
    bool close = true;
    memset(w, 0xFF, step * (size_t)(n - 1) + row);
    for (int j = 0; j < n; j++) fill_halves(w + (size_t)j * step, f, which, k);
    for (int i = 0; i < m; i++) /* some rows' blocks are empty, tiny, of one value */
        for (int p = 0; i % 4 && p < k; p++) x[i * k + p] = i % 4 == 3 ? 1 : x[i * k + p] * (p % 96 < 32 ? 0 : 1e-25f);
    scalar->quantise_q14x(xq, x, m * k);
    float *y = outputs(3, ny, where), *want = outputs(4, ny, AT_END), *work = outputs(6, FM_GEMM_WORK, AT_END);
    tier->gemm_q14[f](y, ldy, xq, m, w, step, n, k, work);
    scalar->gemm_q14[f](want, ldy, xq, m, w, step, n, k, work);
    same_bits(y, want, ny, "%s gemm_q14 %s %d×%d×%d, weights %d", tier->tier, fm_formats[f].name, m, n, k, which);
    check_around(3, "gemm_q14");
    check_around(6, "gemm_q14 work");
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) close &= close_q14(y[i * ldy + j], f, w + (size_t)j * step, xq + (size_t)i * nb, k);
    check(close, "%s gemm_q14 %s %d×%d×%d, weights %d: too far", tier->tier, fm_formats[f].name, m, n, k, which);
    float *one = outputs(5, (size_t)n, AT_END);
    for (int i = 0; i < m; i++) {
        tier->gemm_q14[f](one, n, xq + (size_t)i * nb, 1, w, step, n, k, work);
        same_bits(one, y + i * ldy, (size_t)n, "%s gemm_q14 %s: row %d of %d alone", tier->tier, fm_formats[f].name, i,
                  m);
    }
    if (n % rows) return;
    unsigned char *packed = place(7, (size_t)rows * (step * (size_t)(n / rows - 1) + row), where, 1);
    tier->pack[f](packed, w, step, n, k);
    check_around(7, "pack");
    fill_nan(y, ny);
    tier->gemm_packed_q14(y, ldy, xq, m, packed, step, n, k, work);
    for (int i = 0; i < m; i++)
        same_bits(y + i * ldy, want + i * ldy, (size_t)n, "%s gemm_packed_q14 %s %d×%d×%d, weights %d", tier->tier,
                  fm_formats[f].name, m, n, k, which);
    check_around(3, "gemm_packed_q14");
    check_around(6, "gemm_packed_q14 work");
}

static void test_q14(void)
{
    static const enum fm_fmt formats[] = {FM_F16, FM_BF16};
    test_quantise_q14();
    for (int i = 0; i < 2; i++) {
        const enum fm_fmt f = formats[i];
        for (int which = 0; which < Q14_WEIGHTS; which++) {
            for (int m = 1; m <= 9; m++)
                for (int n = 1; n <= 66; n += n == 1 ? 6 : n == 7 ? 9 : n == 16 ? 8 : n == 24 ? 8 : 34)
                    check_q14(f, (enum q14_weights)which, m, n, 32 * (1 + (m + n) % 4), (size_t)(m % 3),
                              (enum place)((m + n) % PLACES));
            check_q14(f, (enum q14_weights)which, 13, 48, 2080, 0, AT_END); /* k in pieces */
        }
        check_q14(f, ORDINARY, 200, 35, 64, 2, AFTER_START); /* more rows than pass at once */
        check_q14(f, ORDINARY, 3, 33, 4096, 0, AT_START);
    }
    for (int f = 0; f < FM_FMT_COUNT; f++)
        check(!tier->gemm_q14[f] == (f != FM_F16 && f != FM_BF16), "gemm_q14 %s: not tested", fm_formats[f].name);
}

#endif
