/* Formats: self-contained cases, and ggml's reference vectors where the shared data are there
 * (FATHOM_SHARED, default ../shared; golden/formats/README.md there describes them). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/env.h"
#include "base/rng.h"
#include "file/tensors.h"
#include "quant/format.h"
#include "quant/iq_grids.h"

/* A new format with decoder: its line here. */
static const char *const golden[] = {"f32",    "f16",   "bf16",    "q8_0",  "q4_0",  "q4_1",   "q5_0",   "q5_1",
                                     "q2_k",   "q3_k",  "q4_k",    "q5_k",  "q6_k",  "iq4_nl", "iq4_xs", "iq2_xxs",
                                     "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s", "iq1_s", "iq1_m",  "mxfp4",  "nvfp4"};
enum { N_GOLDEN = sizeof golden / sizeof *golden, RANDOM_ROWS = 8, SOURCE_ROWS = 8 };

static uint32_t bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static bool same_value(float a, float b) { return a == b || (a != a && b != b); }

/* ---- scalars ---- */

static void test_f16_all_codes(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float x = fm_f16_to_f32((uint16_t)h);
        bool nan = (h & 0x7FFF) > 0x7C00;
        assert_int_equal(isnan(x), nan);
        assert_int_equal(fm_f32_to_f16(x), nan ? h | 0x200 : h); /* a signalling NaN comes back quiet */
        double m = h & 0x3FF, e = h >> 10 & 31, want = e > 0 ? ldexp(1024 + m, (int)e - 25) : ldexp(m, -24);
        if (e < 31) assert_true((double)x == (h & 0x8000 ? -want : want));
        if (e == 31 && !nan) assert_true(isinf(x) && (x < 0) == (h >> 15));
    }
}

static void test_bf16_all_codes(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float x = fm_bf16_to_f32((uint16_t)h);
        bool nan = (h & 0x7FFF) > 0x7F80;
        assert_int_equal(isnan(x), nan);
        assert_int_equal(bits(x), h << 16);
        assert_int_equal(fm_f32_to_bf16(x), nan ? h | 0x40 : h);
    }
}

/* to(x) must be the nearer of the two codes around x, the even one when both are as near. */
static void check_rounding(float x, uint16_t (*to)(float), float (*from)(uint16_t))
{
    uint16_t h = to(x), up = (uint16_t)(h + 1), down = (uint16_t)(h - 1);
    double v = (double)from(h), a = fabs((double)x), d = fabs(fabs(v) - a);
    assert_int_equal(signbit(x), signbit((float)v));
    double above = fabs((double)from(up)) - a, below = a - fabs((double)from(down));
    assert_true(d <= above);
    if (h & 1) assert_true(d < above);
    if (!(h & 0x7FFF)) return; /* nothing is below zero */
    assert_true(d <= below);
    if (h & 1) assert_true(d < below);
}

static void test_rounding(void **state)
{
    (void)state;
    struct fm_rng r;
    fm_rng_init(&r, 1);
    for (int i = 0; i < 300000; i++) {
        uint32_t u = (uint32_t)fm_rng_u64(&r);
        if (i & 1) u &= 0xFFFFF000; /* more ties */
        float x;
        memcpy(&x, &u, sizeof x);
        if (isnan(x)) continue;
        if (fabsf(x) < 65504) check_rounding(x, fm_f32_to_f16, fm_f16_to_f32);
        if (fabsf(x) < 3e38f) check_rounding(x, fm_f32_to_bf16, fm_bf16_to_f32);
        float small = ldexpf((float)(u & 0xFFFFFF), -40); /* around and below f16's subnormals */
        check_rounding(small, fm_f32_to_f16, fm_f16_to_f32);
    }
}

static void test_edges(void **state)
{
    (void)state;
    assert_int_equal(fm_f32_to_f16(65519.996f), 0x7BFF);
    assert_int_equal(fm_f32_to_f16(65520), 0x7C00);
    assert_int_equal(fm_f32_to_f16(-65520), 0xFC00);
    assert_int_equal(fm_f32_to_f16(INFINITY), 0x7C00);
    assert_int_equal(fm_f32_to_f16(0x1p-25f), 0); /* half way between 0 and the smallest: even */
    assert_int_equal(fm_f32_to_f16(0x1.000002p-25f), 1);
    assert_int_equal(fm_f32_to_f16(-0x3p-25f), 0x8002);
    assert_int_equal(fm_f32_to_f16(0x1p-149f), 0);
    assert_int_equal(fm_f32_to_f16(-0.0f), 0x8000);
    assert_int_equal(fm_f32_to_f16(2049), 0x6800);
    assert_int_equal(fm_f32_to_f16(2051), 0x6802);
    assert_true(isnan(fm_f16_to_f32(fm_f32_to_f16(NAN))));
    assert_int_equal(fm_f32_to_bf16(0x1.fffffep127f), 0x7F80);
    assert_int_equal(fm_f32_to_bf16(0x1p-149f), 0);
    assert_int_equal(fm_f32_to_bf16(0x1p-133f), 1); /* subnormal, kept */
    assert_int_equal(fm_f32_to_bf16(-INFINITY), 0xFF80);
}

/* ---- the table ---- */

static void test_table(void **state)
{
    (void)state;
    for (int i = 0; i < FM_FMT_COUNT; i++) {
        const struct fm_format *f = &fm_formats[i];
        assert_non_null(f->name);
        assert_true(f->block > 0 && f->block_bytes > 0);
        assert_int_equal(fm_format_by_name(f->name), i);
        if (f->ggml_id >= 0) assert_int_equal(fm_format_by_ggml((uint32_t)f->ggml_id), i);
        if (f->st_dtype) assert_int_equal(fm_format_by_dtype(f->st_dtype), i);
        if (f->encode) assert_non_null(f->decode);
    }
    assert_int_equal(fm_format_by_name("q8_0"), FM_Q8_0);
    assert_int_equal(fm_format_by_name("q9"), FM_FMT_COUNT);
    assert_int_equal(fm_format_by_ggml(UINT32_MAX), FM_FMT_COUNT);
    assert_int_equal(fm_format_by_dtype("f32"), FM_FMT_COUNT);
    assert_int_equal(fm_format_bytes(FM_Q4_0, 64), 36);
    assert_int_equal(fm_format_bytes(FM_Q4_0, 65), 0);
    assert_int_equal(fm_format_bytes(FM_Q6_K, 512), 420);
}

/* ---- blocks ---- */

/* At every misalignment: same values; the bytes before and after are left alone. */
static void test_unaligned(void **state)
{
    (void)state;
    enum { N = 768, ROOM = N * 8 + 16 };
    float x[N], y[N], first[N];
    struct fm_rng r;
    fm_rng_init(&r, 2);
    for (int i = 0; i < N; i++) x[i] = (float)fm_rng_normal(&r);
    for (int f = 0; f < FM_FMT_COUNT; f++) {
        if (!fm_formats[f].encode) continue;
        size_t bytes = (size_t)fm_format_bytes((enum fm_fmt)f, N);
        for (int shift = 0; shift < 8; shift++) {
            unsigned char buf[ROOM];
            memset(buf, 0xA5, sizeof buf);
            fm_formats[f].encode(buf + 1 + shift, x, N);
            assert_int_equal(buf[shift], 0xA5);
            assert_int_equal(buf[1 + (size_t)shift + bytes], 0xA5);
            fm_formats[f].decode(y, buf + 1 + shift, N);
            if (!shift) memcpy(first, y, sizeof y);
            assert_memory_equal(first, y, sizeof y);
        }
    }
}

/* Whatever goes into a block encoder, finite numbers come out; what the block can hold, it holds. */
static void check_hostile(enum fm_fmt fmt, struct fm_rng *r)
{
    static const float odd[] = {NAN, INFINITY, -INFINITY, 0, -0.0f, 1e38f, -1e38f, 3.4e38f, 1e-40f, -1e-45f, 1, 65504};
    enum { N_ODD = sizeof odd / sizeof *odd, N = 256 };
    const struct fm_format *f = &fm_formats[fmt];
    float x[N] = {0}, w[N], y[N];
    unsigned char buf[8 * N];
    f->encode(buf, x, N);
    f->decode(y, buf, N);
    for (int i = 0; i < N; i++) assert_true(y[i] == 0);
    for (int round = 0; round < 300; round++) {
        uint64_t few = 1 + fm_rng_below(r, N_ODD);
        for (int i = 0; i < N; i++) {
            x[i] = odd[fm_rng_below(r, few)];
            w[i] = odd[fm_rng_below(r, N_ODD)];
        }
        if (round % 2 && f->encode_weighted)
            f->encode_weighted(buf, x, w, N);
        else
            f->encode(buf, x, N);
        f->decode(y, buf, N);
        for (int i = 0; i < N; i++) assert_true(isfinite(y[i]));
    }
}

static void test_hostile_values(void **state)
{
    (void)state;
    struct fm_rng r;
    fm_rng_init(&r, 3);
    for (int f = 0; f < FM_FMT_COUNT; f++)
        if (fm_formats[f].encode && fm_formats[f].block > 1) check_hostile((enum fm_fmt)f, &r);
}

/* Decoders take any bytes: blocks of noise at the very end of their buffer (the sanitizers watch). */
static void test_any_bytes(void **state)
{
    (void)state;
    struct fm_rng r;
    fm_rng_init(&r, 4);
    for (int f = 0; f < FM_FMT_COUNT; f++)
        for (int round = 0; fm_formats[f].decode && round < 200; round++) {
            size_t bytes = fm_formats[f].block_bytes;
            unsigned char *b = malloc(bytes);
            float y[256];
            assert_non_null(b);
            for (size_t i = 0; i < bytes; i++) b[i] = round == 0 ? 0xFF : (unsigned char)fm_rng_u64(&r);
            fm_formats[f].decode(y, b, fm_formats[f].block);
            free(b);
        }
}

/* All equal weights are no weights; an element without weight does not disturb the others. */
static void test_weights(void **state)
{
    (void)state;
    enum { N = 256 };
    float x[N], ones[N], some[N], y[N];
    struct fm_rng r;
    fm_rng_init(&r, 5);
    for (int i = 0; i < N; i++) {
        x[i] = (float)fm_rng_normal(&r);
        ones[i] = 0.25f;
        some[i] = i % 16 == 5 ? 0 : 1;
    }
    for (int f = 0; f < FM_FMT_COUNT; f++) {
        const struct fm_format *fmt = &fm_formats[f];
        unsigned char a[8 * N], b[8 * N];
        if (!fmt->encode_weighted) continue;
        size_t bytes = (size_t)fm_format_bytes((enum fm_fmt)f, N);
        fmt->encode(a, x, N);
        fmt->encode_weighted(b, x, ones, N);
        assert_memory_equal(a, b, bytes);
        float spoilt[N];
        memcpy(spoilt, x, sizeof x);
        double before = 0, after = 0;
        for (int i = 0; i < N; i++) {
            if (some[i] == 0) spoilt[i] *= 3;
        }
        fmt->encode(a, spoilt, N);
        fmt->decode(y, a, N);
        for (int i = 0; i < N; i++) before += (double)some[i] * pow((double)y[i] - (double)x[i], 2);
        fmt->encode_weighted(a, spoilt, some, N);
        fmt->decode(y, a, N);
        for (int i = 0; i < N; i++) after += (double)some[i] * pow((double)y[i] - (double)x[i], 2);
        if (!(after < before)) fail_msg("%s: weights do not help: %g, %g without", fmt->name, after, before);
    }
}

/* ---- grids ---- */

static uint32_t crc32_of(const uint16_t *w, size_t n)
{
    uint32_t c = 0xFFFFFFFF;
    for (size_t i = 0; i < 2 * n; i++) {
        c ^= w[i / 2] >> i % 2 * 8 & 0xFF;
        for (int k = 0; k < 8; k++) c = c >> 1 ^ (c & 1 ? 0xEDB88320 : 0);
    }
    return ~c;
}

static void test_grids(void **state)
{
    (void)state;
    static const struct {
        const uint16_t *w;
        size_t n;
        uint32_t crc;
    } grids[] = {
        {fm_iq2_xxs_grid, 256, 0xd01c53f2}, {fm_iq2_xs_grid, 512, 0x622e679a}, {fm_iq2_s_grid, 1024, 0xf8ad4e5e},
        {fm_iq3_xxs_grid, 256, 0x35d54a4a}, {fm_iq3_s_grid, 512, 0x23206141},  {fm_iq1_grid, 2048, 0xa0911588},
    };
    for (size_t g = 0; g < sizeof grids / sizeof *grids; g++) {
        for (size_t i = 1; i < grids[g].n; i++) assert_true(grids[g].w[i - 1] < grids[g].w[i]);
        assert_int_equal(crc32_of(grids[g].w, grids[g].n), grids[g].crc);
    }
}

/* ---- small floats ---- */

static void test_small_floats(void **state)
{
    (void)state;
    for (int c = 0; c < 256; c++) {
        float x = fm_e4m3_to_f32((uint8_t)c);
        int e = c >> 3 & 15, m = c & 7;
        double want = e ? ldexp(8 + m, e - 10) : ldexp(m, -9);
        if ((c & 0x7F) == 0x7F)
            assert_true(isnan(x));
        else
            assert_true((double)x == (c & 0x80 ? -want : want));
        if (!isnan(x)) assert_int_equal(fm_f32_to_e4m3(x), c);
        if (c < 255) assert_true((double)fm_e8m0_to_f32((uint8_t)c) == ldexp(1, c - 127));
    }
    assert_true(isnan(fm_e8m0_to_f32(255)) && fm_f32_to_e4m3(NAN) == 0x7F);
    assert_int_equal(fm_f32_to_e4m3(INFINITY), 0x7E);
    assert_int_equal(fm_f32_to_e4m3(-1e30f), 0xFE);
    assert_int_equal(fm_f32_to_e4m3(432), 0x7E - 0); /* half way between 416 and 448: even */
    assert_int_equal(fm_f32_to_e4m3(0x1p-10f), 0);   /* half way between 0 and the smallest */
    assert_int_equal(fm_f32_to_e4m3(0x1.8p-9f), 2);
}

/* Values on the grid of a block come back unchanged. */
static void test_exact_blocks(void **state)
{
    (void)state;
    float x[32], y[32];
    unsigned char buf[64];
    for (int i = 0; i < 32; i++) x[i] = 0.25f * (float)(i % 16 - 8);
    fm_formats[FM_Q4_0].encode(buf, x, 32);
    fm_formats[FM_Q4_0].decode(y, buf, 32);
    assert_memory_equal(x, y, sizeof x);
    for (int i = 0; i < 32; i++) x[i] = 3 + 0.5f * (float)(i % 16);
    fm_formats[FM_Q4_1].encode(buf, x, 32);
    fm_formats[FM_Q4_1].decode(y, buf, 32);
    assert_memory_equal(x, y, sizeof x);
    for (int i = 0; i < 32; i++) x[i] = 0.125f * (float)(i * 8 - 127);
    fm_formats[FM_Q8_0].encode(buf, x, 32);
    fm_formats[FM_Q8_0].decode(y, buf, 32);
    assert_memory_equal(x, y, sizeof x);
}

/* ---- reference vectors ---- */

static struct fm_file *open_golden(const char *name)
{
    const char *shared = fm_env("FATHOM_SHARED");
    char path[1024];
    struct fm_file *f;
    struct fm_error err;
    snprintf(path, sizeof path, "%s/golden/formats/%s.safetensors", shared ? shared : "../shared", name);
    FILE *there = fopen(path, "rb");
    if (!there) {
        printf("SKIP test_quant: %s is not there\n", path);
        skip();
    }
    fclose(there);
    if (fm_file_open(path, &f, &err)) fail_msg("%s", err.message);
    return f;
}

static const struct fm_tensor *need(const struct fm_file *f, const char *name)
{
    const struct fm_tensor *t = fm_file_find(f, name);
    if (!t) fail_msg("%s: tensor %s is missing", fm_file_path(f), name);
    return t;
}

/* The values of an F32 tensor, to be freed. */
static float *values(const struct fm_file *f, const char *name)
{
    const struct fm_tensor *t = need(f, name);
    float *x = malloc((size_t)t->n_elements * sizeof *x + 1);
    struct fm_error err;
    assert_non_null(x);
    if (fm_tensor_decode(t, x, &err)) fail_msg("%s", err.message);
    return x;
}

static void check_decode(const char *name)
{
    struct fm_file *f = open_golden(name);
    enum fm_fmt fmt = fm_format_by_name(name);
    const struct fm_tensor *raw = need(f, "raw"), *t = need(f, "f32");
    float *want = values(f, "f32"), *got = malloc((size_t)t->n_elements * sizeof *got);
    assert_non_null(got);
    assert_int_equal(raw->n_bytes, fm_format_bytes(fmt, t->n_elements));
    fm_formats[fmt].decode(got, raw->data, (size_t)t->n_elements);
    for (uint64_t i = 0; i < t->n_elements; i++)
        if (bits(got[i]) != bits(want[i]) && !(got[i] == 0 && want[i] == 0))
            fail_msg("%s, element %llu: %a, not %a", name, (unsigned long long)i, (double)got[i], (double)want[i]);
    free(want);
    free(got);
    fm_file_close(f);
}

static void test_golden_decode(void **state)
{
    (void)state;
    for (int i = 0; i < N_GOLDEN; i++) check_decode(golden[i]);
}

/* Mean squared error of one row after encoding and decoding; with weights w, weighted by them. */
static double row_error(enum fm_fmt fmt, const float *x, const float *w, size_t n)
{
    unsigned char *buf = malloc((size_t)fm_format_bytes(fmt, n));
    float *y = malloc(n * sizeof *y);
    assert_true(buf && y);
    if (w)
        fm_formats[fmt].encode_weighted(buf, x, w, n);
    else
        fm_formats[fmt].encode(buf, x, n);
    fm_formats[fmt].decode(y, buf, n);
    double sum = 0, weight = 0;
    for (size_t i = 0; i < n; i++) {
        double wi = w ? (double)w[i] : 1;
        sum += wi * ((double)y[i] - (double)x[i]) * ((double)y[i] - (double)x[i]);
        weight += wi;
    }
    free(buf);
    free(y);
    return sum / weight;
}

static void check_rmse(const char *name, const char *what, double got, double want)
{
    if (!(got <= want * 1.02)) fail_msg("%s, %s: rmse %g, ggml has %g", name, what, got, want);
}

/* ggml's figures: of all rows, and row by row (NULL: the file has none). */
static void check_rows(const char *name, enum fm_fmt fmt, const float *x, const float *w, size_t n, double all,
                       const float *rows)
{
    double total = 0;
    for (size_t r = 0; r < SOURCE_ROWS; r++) {
        double mean = row_error(fmt, x + r * n, w, n);
        char what[32];
        snprintf(what, sizeof what, "row %zu%s", r, w ? ", weighted" : "");
        if (rows) check_rmse(name, what, sqrt(mean), (double)rows[r]);
        total += mean;
    }
    check_rmse(name, w ? "all rows, weighted" : "all rows", sqrt(total / SOURCE_ROWS), all);
}

static void check_encode(const char *name)
{
    struct fm_file *f = open_golden(name);
    enum fm_fmt fmt = fm_format_by_name(name);
    if (!fm_file_find(f, "source") || !fm_formats[fmt].encode) {
        fm_file_close(f);
        return;
    }
    const struct fm_tensor *t = need(f, "source");
    size_t n = (size_t)t->shape[1];
    float *x = values(f, "source"), *rmse = values(f, "rmse");
    float *rows = fm_file_find(f, "rmse_rows") ? values(f, "rmse_rows") : NULL;
    assert_int_equal(t->shape[0], SOURCE_ROWS);
    check_rows(name, fmt, x, NULL, n, (double)rmse[0], rows);
    if (fm_formats[fmt].encode_weighted) {
        float *w = values(f, "imatrix"), *all = values(f, "wrmse_imatrix"), *each = values(f, "wrmse_rows");
        check_rows(name, fmt, x, w, n, (double)all[0], each + SOURCE_ROWS);
        free(w);
        free(all);
        free(each);
    }
    free(x);
    free(rmse);
    free(rows);
    fm_file_close(f);
}

static void test_golden_encode(void **state)
{
    (void)state;
    for (int i = 0; i < N_GOLDEN; i++) check_encode(golden[i]);
}

/* Plain floats have one right answer: the very bytes. */
static void check_encode_bytes(const char *name)
{
    struct fm_file *f = open_golden(name);
    enum fm_fmt fmt = fm_format_by_name(name);
    const struct fm_tensor *t = need(f, "source"), *raw = need(f, "raw");
    size_t bytes = (size_t)fm_format_bytes(fmt, t->n_elements);
    unsigned char *buf = malloc(bytes);
    float *x = values(f, "source");
    assert_non_null(buf);
    fm_formats[fmt].encode(buf, x, (size_t)t->n_elements);
    assert_memory_equal(buf, (const unsigned char *)raw->data + bytes / SOURCE_ROWS * RANDOM_ROWS, bytes);
    free(buf);
    free(x);
    fm_file_close(f);
}

static void check_round(const struct fm_file *f, const char *name, uint16_t (*to)(float), float (*from)(uint16_t))
{
    const struct fm_tensor *t = need(f, name);
    float *x = values(f, "round_src");
    for (uint64_t i = 0; i < t->n_elements; i++) {
        uint16_t want;
        memcpy(&want, (const char *)t->data + 2 * i, sizeof want);
        uint16_t got = to(x[i]);
        if (got != want && !(isnan(x[i]) && same_value(from(got), from(want))))
            fail_msg("%s: %a gives %04x, not %04x", name, (double)x[i], got, want);
    }
    free(x);
}

/* Every code of an 8-bit or smaller format. */
static void check_values(const struct fm_file *f, const char *name, float (*value)(int))
{
    float *want = values(f, name);
    for (uint64_t i = 0; i < need(f, name)->n_elements; i++)
        if (!same_value(value((int)i), want[i]))
            fail_msg("%s[%d]: %a, not %a", name, (int)i, (double)value((int)i), (double)want[i]);
    free(want);
}

static float e4m3_value(int c) { return fm_e4m3_to_f32((uint8_t)c); }
static float e8m0_value(int c) { return fm_e8m0_to_f32((uint8_t)c); }

static float e2m1_value(int c) /* by way of NVFP4, scale 1 */
{
    unsigned char b[36] = {0x38, 0x38, 0x38, 0x38, (unsigned char)c};
    float y[64];
    fm_formats[FM_NVFP4].decode(y, b, 64);
    return y[0];
}

static float mxfp4_scale(int e) /* code 2 is 2 */
{
    unsigned char b[17] = {(unsigned char)e, 2};
    float y[32];
    fm_formats[FM_MXFP4].decode(y, b, 32);
    return y[0] * 0.5f;
}

static float nvfp4_scale(int e) /* code 2 is 1 */
{
    unsigned char b[36] = {(unsigned char)e, 0, 0, 0, 2};
    float y[64];
    fm_formats[FM_NVFP4].decode(y, b, 64);
    return y[0];
}

static void check_small(const struct fm_file *f, const char *name, float limit, uint8_t (*to)(float))
{
    const uint8_t *want = need(f, name)->data;
    float *x = values(f, "round_src");
    for (uint64_t i = 0; i < need(f, name)->n_elements; i++) {
        float c = x[i] > limit ? limit : x[i] < -limit ? -limit : x[i];
        if (!isnan(c) && to(c) != want[i]) fail_msg("%s: %a gives %02x, not %02x", name, (double)x[i], to(c), want[i]);
    }
    free(x);
}

static void test_golden_scalars(void **state)
{
    (void)state;
    struct fm_file *f = open_golden("scalars");
    check_values(f, "e4m3_values", e4m3_value);
    check_values(f, "e8m0_values", e8m0_value);
    check_values(f, "e2m1_values", e2m1_value);
    check_values(f, "mxfp4_scale", mxfp4_scale);
    check_values(f, "nvfp4_scale", nvfp4_scale);
    check_small(f, "round_e4m3", 448, fm_f32_to_e4m3);
    check_small(f, "round_e2m1", 6, fm_f32_to_e2m1);
    check_round(f, "round_f16", fm_f32_to_f16, fm_f16_to_f32);
    check_round(f, "round_bf16", fm_f32_to_bf16, fm_bf16_to_f32);
    fm_file_close(f);
    check_encode_bytes("f16");
    check_encode_bytes("bf16");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f16_all_codes),  cmocka_unit_test(test_bf16_all_codes),
        cmocka_unit_test(test_rounding),       cmocka_unit_test(test_edges),
        cmocka_unit_test(test_table),          cmocka_unit_test(test_unaligned),
        cmocka_unit_test(test_hostile_values), cmocka_unit_test(test_exact_blocks),
        cmocka_unit_test(test_any_bytes),      cmocka_unit_test(test_weights),
        cmocka_unit_test(test_grids),          cmocka_unit_test(test_small_floats),
        cmocka_unit_test(test_golden_decode),  cmocka_unit_test(test_golden_encode),
        cmocka_unit_test(test_golden_scalars),
    };
    return cmocka_run_group_tests_name("quant", tests, NULL, NULL);
}
