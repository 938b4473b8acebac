/* Encoders: every tier's bytes are those of quant/, and weights do what they promise. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "kernel/kernel.h"
#include "op/op.h"

enum { N = 1024, ROOM = 8 * N };

/* Rows as weights have them, and as they should never be. */
static void fill_row(struct fm_rng *r, int kind, float *x, float *w)
{
    static const float odd[] = {NAN,      INFINITY, -INFINITY, 0, -0.0f, 1e38f,
                                -3.4e38f, 1e-40f,   -1e-45f,   1, 65504, 0x1p-70f};
    for (int i = 0; i < N; i++) {
        const float g = (float)fm_rng_normal(r);
        x[i] = kind == 0   ? 0.02f * g
               : kind == 1 ? 0.01f + 0.02f * g
               : kind == 2 ? g * g * g
               : kind == 3 ? (i / 32 % 2 ? 0 : 1e-6f * g)
               : kind == 4 ? (i % 64 == 7 ? 8 * g : g)
               : kind == 5 ? 0x1p-58f * g
               : kind == 6 ? 1e9f * g
                           : odd[fm_rng_below(r, sizeof odd / sizeof *odd)];
        w[i] = kind == 7             ? odd[fm_rng_below(r, sizeof odd / sizeof *odd)]
               : fm_rng_below(r, 16) ? (float)pow(fm_rng_normal(r), 2) + 0.01f
                                     : 0;
    }
}
enum { KINDS = 8 };

static void test_tiers(void **state)
{
    (void)state;
    static float x[N], w[N];
    static unsigned char want[ROOM], got[ROOM];
    struct fm_rng r;
    int slots = 0;
    fm_rng_init(&r, 11);
    for (int tier = 0; tier < fm_n_kernel_tiers; tier++) {
        const struct fm_kernels *k = fm_kernels_tier(fm_kernel_tiers[tier]);
        if (!k) print_message("SKIP tier %s: this processor cannot run it\n", fm_kernel_tiers[tier]);
        for (int round = 0; k && round < 5 * KINDS; round++) {
            fill_row(&r, round % KINDS, x, w);
            for (int f = 0; f < FM_FMT_COUNT; f++) {
                const struct fm_format *fmt = &fm_formats[f];
                const size_t bytes = (size_t)fm_format_bytes((enum fm_fmt)f, N);
                if (!k->encode[f]) continue;
                slots++;
                memset(got, 0xA5, sizeof got);
                fmt->encode(want, x, N);
                k->encode[f](got, x, NULL, N);
                if (memcmp(want, got, bytes))
                    fail_msg("%s, %s, row %d: other bytes", k->tier, fmt->name, round % KINDS);
                assert_int_equal(got[bytes], 0xA5);
                if (!fmt->encode_weighted) continue;
                fmt->encode_weighted(want, x, w, N);
                k->encode[f](got, x, w, N);
                if (memcmp(want, got, bytes))
                    fail_msg("%s, %s, row %d: weights: other bytes", k->tier, fmt->name, round % KINDS);
            }
        }
    }
    print_message("           %d rows compared\n", slots);
}

/* The one door for the layers above: any format that can be written, with and without weights. */
static void test_door(void **state)
{
    (void)state;
    static float x[N], w[N];
    static unsigned char want[ROOM], got[ROOM];
    struct fm_rng r;
    fm_rng_init(&r, 12);
    fill_row(&r, 0, x, w);
    for (int f = 0; f < FM_FMT_COUNT; f++) {
        const struct fm_format *fmt = &fm_formats[f];
        const size_t bytes = (size_t)fm_format_bytes((enum fm_fmt)f, N);
        if (!fmt->encode) continue;
        fmt->encode(want, x, N);
        fm_cpu_encode((enum fm_fmt)f, got, x, NULL, N);
        assert_memory_equal(want, got, bytes);
        if (fmt->encode_weighted) fmt->encode_weighted(want, x, w, N);
        fm_cpu_encode((enum fm_fmt)f, got, x, w, N);
        assert_memory_equal(want, got, bytes);
    }
}

static double weighted_error(const struct fm_format *f, const unsigned char *b, const float *x, const float *w)
{
    static float y[N];
    double sum = 0;
    f->decode(y, b, N);
    for (int i = 0; i < N; i++) sum += (double)w[i] * pow((double)y[i] - (double)x[i], 2);
    return sum;
}

/* Over some thousand blocks the weighted error is below that of an encoder which knows no weights.  Of a single block this
 * can fail: the search is not exhaustive.  Row 3 has scales below f16's normal numbers, where their rounding decides. */
static void test_weights_help(void **state)
{
    (void)state;
    static float x[N], w[N];
    static unsigned char plain[ROOM], weighted[ROOM];
    for (int f = 0; f < FM_FMT_COUNT; f++) {
        const struct fm_format *fmt = &fm_formats[f];
        if (!fmt->encode_weighted) continue;
        for (int kind = 0; kind < 5; kind += kind == 2 ? 2 : 1) {
            struct fm_rng r;
            double with = 0, without = 0;
            fm_rng_init(&r, 13);
            for (int round = 0; round < 12; round++) {
                fill_row(&r, kind, x, w);
                fm_cpu_encode((enum fm_fmt)f, plain, x, NULL, N);
                fm_cpu_encode((enum fm_fmt)f, weighted, x, w, N);
                with += weighted_error(fmt, weighted, x, w);
                without += weighted_error(fmt, plain, x, w);
            }
            if (!(with <= without)) fail_msg("%s, row %d: %g with weights, %g without", fmt->name, kind, with, without);
        }
    }
}

/* Only the proportions of weights count; no weight at all counts as equal weights; a block of zeros stays zeros. */
static void test_weights_edges(void **state)
{
    (void)state;
    static float x[N], w[N], scaled[N], zero[N], y[N];
    static unsigned char a[ROOM], b[ROOM];
    struct fm_rng r;
    fm_rng_init(&r, 14);
    for (int f = 0; f < FM_FMT_COUNT; f++) {
        const struct fm_format *fmt = &fm_formats[f];
        const size_t bytes = (size_t)fm_format_bytes((enum fm_fmt)f, N);
        if (!fmt->encode_weighted) continue;
        fill_row(&r, 0, x, w);
        for (int i = 0; i < N; i++) scaled[i] = w[i] * 0x1p40f, zero[i] = 0;
        fmt->encode_weighted(a, x, w, N);
        fmt->encode_weighted(b, x, scaled, N);
        assert_memory_equal(a, b, bytes);
        fmt->encode(a, x, N);
        fmt->encode_weighted(b, x, zero, N);
        assert_memory_equal(a, b, bytes);
        fmt->encode_weighted(a, zero, w, N);
        fmt->decode(y, a, N);
        for (int i = 0; i < N; i++) assert_true(y[i] == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tiers), cmocka_unit_test(test_door),
                                       cmocka_unit_test(test_weights_help), cmocka_unit_test(test_weights_edges)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
