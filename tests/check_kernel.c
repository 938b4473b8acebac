/* Every slot of every tier: against the plain chain or a double sum, against the scalar tier, bit for bit where kernel.h
 * promises bits; odd lengths, misaligned buffers, no byte read or written outside them (guard pages), NaN-filled outputs.
 * Usage: check_kernel [--quick | --bench].  Exit 1 on a failure.  Independent of FATHOM_CPU.
 *
 * Bounds: a sum of K products in any order, fused or not, errs by at most K·eps·Σ|a·b| (Higham 2002, §3.1). */
#include "kernel_harness.h"

static const struct fm_kernels *scalar, *tier; /* tier: the one under test, which may be scalar too */

#include "kernel_attention.h"

/* ---- functions of math.h against the C library, one precision up ---- */

static double relative(double got, double want) { return want == 0 ? fabs(got) : fabs((got - want) / want); }

static void test_math(void)
{
    double e_expf = 0, e_exp = 0, e_log = 0, e_logf = 0, e_sin = 0;
    for (int i = 0; i < (g.quick ? 50000 : 500000); i++) {
        double u = fm_rng_uniform(&g.rng), x = u * 176.05 - 87.33, y = exp(u * 1400 - 700), s, c;
        double z = (u - 0.5) * (i % 3 == 0 ? 0x1p31 : i % 3 == 1 ? 2000 : 8);
        e_expf = fmax(e_expf, relative((double)fm_expf((float)x), exp((double)(float)x)));
        e_exp = fmax(e_exp, relative(fm_expd(u * 1400 - 700), y));
        e_log = fmax(e_log, relative(fm_logd(y), log(y)));
        e_logf = fmax(e_logf, relative((double)fm_logf((float)(0.5 + u)), log((double)(float)(0.5 + u))));
        fm_sincos(z, &s, &c);
        e_sin = fmax(e_sin, fmax(fabs(s - sin(z)), fabs(c - cos(z))));
    }
    check(e_expf < 1e-7, "fm_expf: relative error %g", e_expf);
    check(e_logf < 6.1e-8, "fm_logf: relative error %g", e_logf);
    check(e_exp < 5e-16, "fm_expd: relative error %g", e_exp);
    check(e_log < 5e-16, "fm_logd: relative error %g", e_log);
    check(e_sin < 5e-16, "fm_sincos: error %g", e_sin);
    check(fm_expf(0) == 1 && fm_expf(-88) == 0 && fm_expf(88.73f) == INFINITY && fm_expf(88.72f) < INFINITY &&
              fm_expf(-INFINITY) == 0 && fm_expf(INFINITY) == INFINITY && isnan(fm_expf(NAN)),
          "fm_expf: extremes");
    check(fm_expd(0) == 1 && fm_expd(-746) == 0 && fm_expd(710) == INFINITY && fm_expd(-745) == 0x1p-1074 &&
              isnan(fm_expd(NAN)),
          "fm_expd: extremes");
    check(fm_logd(0) == -INFINITY && isnan(fm_logd(-1)) && fm_logd(1) == 0 && fm_logd(INFINITY) == INFINITY &&
              relative(fm_logd(0x1p-1074), log(0x1p-1074)) < 5e-16 && isnan(fm_logd(NAN)),
          "fm_logd: extremes");
}

/* ---- float matrices ---- */

struct strides {
    ptrdiff_t a_rs, a_cs, b_rs, b_cs;
};

enum { LAYOUTS = 5 };

static struct strides layout(int which, int m, int n, int k)
{
    switch (which) {
    case 0: return (struct strides){k, 1, n, 1};
    case 1: return (struct strides){k, 1, 1, k}; /* x·Wᵀ  */
    case 2: return (struct strides){1, m, n, 1}; /* dyᵀ·x */
    case 3: return (struct strides){1, m, 1, k};
    default: return (struct strides){2 * k + 3, 2, 2 * n + 1, 2};
    }
}

static size_t extent(int rows, ptrdiff_t rs, int cols, ptrdiff_t cs)
{
    return rows && cols ? (size_t)((rows - 1) * rs + (cols - 1) * cs + 1) : 0;
}

/* One product: bits of the plain chain; the gaps between rows of C untouched. */
static void check_gemm(int m, int n, int k, int which, bool accumulate, enum place where)
{
    struct strides s = layout(which, m, n, k);
    ptrdiff_t ldc = n + (which == 4 ? 5 : 0);
    size_t nc = extent(m, ldc, n, 1);
    const float *a = floats(0, extent(m, s.a_rs, k, s.a_cs), where),
                *b = floats(1, extent(k, s.b_rs, n, s.b_cs), where);
    float *c = accumulate ? floats(2, nc, where) : outputs(2, nc, where), *work = outputs(3, FM_GEMM_WORK, AT_END);
    float *want = outputs(4, nc, AT_END);
    memcpy(want, c, nc * sizeof *c);
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            float acc = accumulate ? want[i * ldc + j] : 0;
            for (int p = 0; p < k; p++) acc = fmaf(a[i * s.a_rs + p * s.a_cs], b[p * s.b_rs + j * s.b_cs], acc);
            want[i * ldc + j] = acc;
        }
    tier->gemm_f32(m, n, k, a, s.a_rs, s.a_cs, b, s.b_rs, s.b_cs, c, ldc, accumulate, work);
    same_bits(c, want, nc, "%s gemm_f32 %d×%d×%d layout %d%s", tier->tier, m, n, k, which, accumulate ? " +=" : "");
    check_around(2, "gemm_f32");
    check_around(3, "gemm_f32 work");
}

static void test_gemm(void)
{
    static const int big[][3] = {
        {7, 33, 600},   {150, 20, 270}, {6, 900, 260}, {100, 7, 2100}, {129, 40, 300}, {40, 300, 40}, {17, 65, 384},
        {130, 70, 256}, {64, 64, 64},   {12, 1, 77},   {4, 130, 515},  {2, 67, 33},    {1, 1, 1},     {3, 5, 0},
    };
    for (int m = 1; m <= 17; m++)
        for (int w = 0; w < LAYOUTS; w++) check_gemm(m, 11 + m * 2, 30 + m, w, m & 1, (enum place)(m % PLACES));
    for (size_t i = 0; i < sizeof big / sizeof *big; i++)
        for (int w = 0; w < LAYOUTS; w++) {
            if (g.quick && (w + i) % LAYOUTS) continue;
            for (int acc = 0; acc < 2; acc++)
                check_gemm(big[i][0], big[i][1], big[i][2], w, acc, (enum place)((i + w) % PLACES));
        }
}

/* Small powers of two: every sum is exact, so the answer is known without any reference. */
static void test_gemm_exact(void)
{
    enum { M = 9, N = 35, K = 64 };
    float a[M * K], b[K * N], c[M * N], *work = outputs(3, FM_GEMM_WORK, AT_END);
    for (int i = 0; i < M * K; i++) a[i] = (float)(1 << i % 4);
    for (int i = 0; i < K * N; i++) b[i] = i % 3 ? 0.5f : -0.25f;
    tier->gemm_f32(M, N, K, a, K, 1, b, N, 1, c, N, false, work);
    for (int i = 0; i < M * N; i++) {
        double want = 0;
        for (int p = 0; p < K; p++) want += (double)a[i / N * K + p] * (double)b[p * N + i % N];
        if (!check((double)c[i] == want, "%s gemm_f32: exact sum %d", tier->tier, i)) return;
    }
}

/* ---- weights ---- */

static size_t row_bytes(enum fm_fmt f, int k)
{
    return (size_t)(k + (int)fm_formats[f].block - 1) / fm_formats[f].block * fm_formats[f].block_bytes;
}

/* n random values: encoded, or where there is no encoder random bytes of ordinary values (the bounds count no
 * underflow). */
static void random_weights(unsigned char *w, enum fm_fmt f, float *v, size_t n)
{
    const struct fm_format *fmt = &fm_formats[f];
    fill_random(v, n);
    if (fmt->encode) {
        fmt->encode(w, v, n);
        return;
    }
    for (size_t b = 0; b < n / fmt->block; b++, w += fmt->block_bytes) {
        bool fine = false;
        while (!fine) {
            for (size_t i = 0; i < fmt->block_bytes; i++) w[i] = (unsigned char)fm_rng_u64(&g.rng);
            fmt->decode(v, w, fmt->block);
            fine = true;
            for (size_t i = 0; i < fmt->block; i++) {
                double a = fabs((double)v[i]);
                fine &= a == 0 || (a > 1e-20 && a < 1e6);
            }
        }
    }
}

/* n rows of k random weights in buffer i, rows apart bytes beyond each other; returns the distance. */
static size_t weights(int i, enum fm_fmt f, int n, int k, size_t apart, enum place where, unsigned char **w)
{
    size_t row = row_bytes(f, k), step = row + apart;
    float *v = floats(9, (size_t)k, AT_START);
    *w = place(i, step * (size_t)(n - 1) + row, where, 1);
    memset(*w, 0xFF, step * (size_t)(n - 1) + row);
    for (int j = 0; j < n; j++) random_weights(*w + (size_t)j * step, f, v, (size_t)k);
    return step;
}

/* gemv: bits of the chain over decoded weights, hence of gemm_f32's rows for any M; within the bound of a double sum. */
static void check_gemv(enum fm_fmt f, int n, int k, size_t apart, enum place where)
{
    unsigned char *w;
    size_t step = weights(0, f, n, k, apart, where, &w);
    const float *x = floats(1, (size_t)k, where);
    float *y = outputs(2, (size_t)n, where), *v = outputs(3, (size_t)k, AT_END), *want = outputs(4, (size_t)n, AT_END);
    bool close = true;
    tier->gemv[f](y, w, step, x, n, k);
    for (int i = 0; i < n; i++) {
        double sum = 0, size = 0;
        fm_formats[f].decode(v, w + (size_t)i * step, (size_t)k);
        want[i] = 0;
        for (int p = 0; p < k; p++) {
            want[i] = fmaf(v[p], x[p], want[i]);
            sum += (double)v[p] * (double)x[p];
            size += fabs((double)v[p] * (double)x[p]);
        }
        close &= fabs((double)y[i] - sum) <= k * EPS * size;
    }
    same_bits(y, want, (size_t)n, "%s gemv %s %d×%d", tier->tier, fm_formats[f].name, n, k);
    check(close, "%s gemv %s %d×%d: outside the bound", tier->tier, fm_formats[f].name, n, k);
    check_around(2, "gemv");
}

/* Rows of x one by one through gemv, and all M of them through gemm_f32. */
static void check_rows_agree(enum fm_fmt f, int m, int n, int k)
{
    unsigned char *w;
    size_t step = weights(0, f, n, k, 0, AT_END, &w);
    const float *x = floats(1, (size_t)m * (size_t)k, AT_END);
    float *y = outputs(2, (size_t)m * (size_t)n, AT_END), *c = outputs(4, (size_t)m * (size_t)n, AT_END);
    float *dense = outputs(5, (size_t)n * (size_t)k, AT_END), *work = outputs(3, FM_GEMM_WORK, AT_END);
    for (int j = 0; j < n; j++) tier->decode[f](dense + (ptrdiff_t)j * k, w + (size_t)j * step, (size_t)k);
    for (int i = 0; i < m; i++) tier->gemv[f](y + i * n, w, step, x + (ptrdiff_t)i * k, n, k);
    tier->gemm_f32(m, n, k, x, k, 1, dense, 1, k, c, n, false, work);
    same_bits(c, y, (size_t)m * (size_t)n, "%s %s: %d rows at once and one by one", tier->tier, fm_formats[f].name, m);
}

/* gemm_few: the chain over decoded weights, times the scales of cols columns each (0: none).  Rows of x, of y and of the
 * scales lie further apart than they are long. */
static void check_few(enum fm_fmt f, int m, int n, int k, int cols, size_t apart, enum place where)
{
    const int per_row = cols ? (k + cols - 1) / cols : 1, ldx = k + 3, ldy = n + 2;
    unsigned char *w;
    size_t step = weights(0, f, n, k, apart, where, &w);
    const float *x = floats(1, (size_t)(m - 1) * (size_t)ldx + (size_t)k, where);
    const float *s = floats(6, (size_t)(n - 1) * (size_t)(per_row + 1) + (size_t)per_row, where);
    const size_t y_n = (size_t)(m - 1) * (size_t)ldy + (size_t)n;
    float *y = outputs(2, y_n, where), *want = outputs(4, y_n, AT_END), *v = outputs(5, (size_t)k, AT_END);
    float *work = outputs(3, FM_GEMM_WORK, AT_END);
    memcpy(want, y, y_n * sizeof *y); /* what lies between the rows stays */
    for (int j = 0; j < n; j++) {
        fm_formats[f].decode(v, w + (size_t)j * step, (size_t)k);
        for (int p = 0; cols && p < k; p++) v[p] *= s[j * (per_row + 1) + p / cols];
        for (int i = 0; i < m; i++) {
            float acc = 0;
            for (int p = 0; p < k; p++) acc = fmaf(v[p], x[i * ldx + p], acc);
            want[i * ldy + j] = acc;
        }
    }
    tier->gemm_few[f](y, ldy, x, ldx, m, w, step, n, k, cols ? &(struct fm_scaling){s, per_row + 1, cols} : NULL, work);
    same_bits(y, want, y_n, "%s few %s %d×%d×%d, scales of %d", tier->tier, fm_formats[f].name, m, n, k, cols);
    check_around(2, "few");
}

/* k, or the next number of elements that is whole blocks. */
static int whole(enum fm_fmt f, int k)
{
    int block = (int)fm_formats[f].block;
    return (k + block - 1) / block * block;
}

static void test_gemv(void)
{
    for (int i = 0; i < FM_FMT_COUNT; i++) {
        enum fm_fmt f = (enum fm_fmt)i;
        if (!fm_formats[f].decode) continue;
        for (int n = 1; n <= 70; n += n < 18 ? 1 : 13)
            check_gemv(f, n, whole(f, 96), (size_t)(n % 3), (enum place)(n % PLACES));
        for (int k = 1; fm_formats[f].block == 1 && k <= 70; k += k < 40 ? 1 : 7)
            check_gemv(f, 1 + k % 19, k, (size_t)(k % 2) * 3, (enum place)(k % PLACES));
        check_gemv(f, 67, 1024, 0, AT_END);
        for (int m = 1; m <= 17; m += fm_formats[f].block < 256 ? 1 : 4) check_rows_agree(f, m, 37, whole(f, 288));
    }
}

static void test_few(void)
{
    for (int i = 0; i < FM_FMT_COUNT; i++) {
        enum fm_fmt f = (enum fm_fmt)i;
        if (!tier->gemm_few[f]) continue;
        for (int m = 1; m <= FM_GEMM_FEW; m += m < 18 ? 1 : 37)
            check_few(f, m, 1 + m * 7 % 70, whole(f, 1 + m * 29 % 200), 0, (size_t)(m % 3), (enum place)(m % PLACES));
        for (int k = 1; fm_formats[f].block == 1 && k <= 70; k += k < 40 ? 1 : 7)
            check_few(f, 1 + k % 9, 1 + k % 67, k, 0, (size_t)(k % 2) * 3, (enum place)(k % PLACES));
        check_few(f, FM_GEMM_FEW, 3, whole(f, FM_GEMM_WORK / FM_GEMM_FEW * 2 + 99), 0, 0, AT_END); /* k in pieces */
        for (int m = 1; f == FM_F8_E4M3 && m <= 17; m++)
            for (int cols = 32; cols <= 512; cols *= 4)
                check_few(f, m, 1 + m * 5 % 40, 96 + m * 31, cols, (size_t)(m % 3), (enum place)(m % PLACES));
        if (f == FM_F8_E4M3) check_few(f, FM_GEMM_FEW, 3, FM_GEMM_WORK / FM_GEMM_FEW * 2 + 99, 128, 0, AT_END);
    }
}

static void check_decode(enum fm_fmt f, size_t n, enum place where)
{
    unsigned char *w;
    weights(0, f, 1, (int)n, 0, where, &w);
    float *got = outputs(1, n, where), *want = outputs(2, n, AT_END);
    tier->decode[f](got, w, n);
    fm_formats[f].decode(want, w, n);
    same_bits(got, want, n, "%s decode %s %zu", tier->tier, fm_formats[f].name, n);
    check_around(1, "decode");
}

/* All 65536 values of the 16-bit formats, NaN with their payloads. */
static void check_halves(enum fm_fmt f)
{
    uint16_t *h = place(0, 65536 * sizeof *h, AT_END, 1);
    float *got = outputs(1, 65536, AT_END), *want = outputs(2, 65536, AT_END);
    for (int i = 0; i < 65536; i++) h[i] = (uint16_t)i;
    tier->decode[f](got, h, 65536);
    fm_formats[f].decode(want, h, 65536);
    check(!memcmp(got, want, 65536 * sizeof *got), "%s decode: some %s differs", tier->tier, fm_formats[f].name);
}

/* Bytes of any kind: extreme scales, codes that no encoder writes, NaN. */
static void check_any_bytes(enum fm_fmt f)
{
    size_t n = fm_formats[f].block * (fm_formats[f].block == 1 ? 1027 : 64);
    unsigned char *w = place(0, row_bytes(f, (int)n), AT_END, 1);
    float *got = outputs(1, n, AT_END), *want = outputs(2, n, AT_END);
    for (size_t i = 0; i < g.bytes[0]; i++) w[i] = (unsigned char)fm_rng_u64(&g.rng);
    memset(w, 0xFF, fm_formats[f].block_bytes);
    tier->decode[f](got, w, n);
    fm_formats[f].decode(want, w, n);
    same_bits(got, want, n, "%s decode %s of any bytes", tier->tier, fm_formats[f].name);
}

static void test_decode(void)
{
    for (int f = 0; f < FM_FMT_COUNT; f++)
        for (int i = 0; i < 10 && fm_formats[f].decode; i++) check_any_bytes((enum fm_fmt)f);
    for (int f = 0; f < FM_FMT_COUNT; f++)
        for (size_t n = 1; fm_formats[f].decode && n <= 7; n++)
            check_decode((enum fm_fmt)f, fm_formats[f].block * (fm_formats[f].block == 1 ? n * 5 - 2 : n),
                         (enum place)(n % PLACES));
    check_halves(FM_F16);
    check_halves(FM_BF16);
}

/* ---- int8 blocks ---- */

static void check_quantise(const float *x, int k, const char *what)
{
    struct fm_q8x *q = place(5, (size_t)k / 32 * sizeof *q, AT_END, 4),
                  *want = place(6, (size_t)k / 32 * sizeof *q, AT_END, 4);
    memset(q, FILL, (size_t)k / 32 * sizeof *q);
    tier->quantise_q8x(q, x, k);
    scalar->quantise_q8x(want, x, k);
    for (int b = 0; b < k / 32; b++) {
        bool same = same1(q[b].d, want[b].d) && same1(q[b].s, want[b].s) && !memcmp(q[b].q, want[b].q, 32) &&
                    !memcmp(q[b].sum, want[b].sum, sizeof q[b].sum);
        check(same, "%s quantise_q8x %s: block %d", tier->tier, what, b);
        double worst = 0, d = (double)q[b].d; /* half a step; x/d is rounded once, d itself once */
        for (int j = 0; j < 32; j++) worst = fmax(worst, fabs((double)x[b * 32 + j] - d * q[b].q[j]));
        int sum[2] = {0, 0};
        for (int j = 0; j < 32; j++) sum[j / 16] += q[b].q[j];
        check(sum[0] == q[b].sum[0] && sum[1] == q[b].sum[1], "%s quantise_q8x %s: sums", tier->tier, what);
        if (d > 1e-30 && d < 1e30)
            check(worst <= d * (0.5 + 128 * 2 * EPS), "%s quantise_q8x %s: error", tier->tier, what);
    }
    check_around(5, "quantise_q8x");
}

static void test_quantise(void)
{
    float *x;
    for (int p = 0; p < PLACES; p++) check_quantise(floats(0, 256, (enum place)p), 256, "random");
    x = floats(0, 32, AT_END);
    memset(x, 0, 32 * sizeof *x);
    check_quantise(x, 32, "zeros");
    for (int j = 0; j < 32; j++) x[j] = (float)(j - 16) * 0x1p-149f;
    check_quantise(x, 32, "subnormal");
    for (int j = 0; j < 32; j++) x[j] = (float)j - 15.5f; /* d = 16.5/127: also negative ties */
    check_quantise(x, 32, "steps");
    for (int j = 0; j < 32; j++) x[j] = j == 31 ? 127 : (float)j + 0.5f; /* d = 1: every one a tie */
    check_quantise(x, 32, "ties");
    x[7] = -0x1.fffffep127f;
    check_quantise(x, 32, "largest");
    x[7] = -INFINITY;
    check_quantise(x, 32, "infinite");
    x[9] = NAN;
    check_quantise(x, 32, "NaN");
}

/* Σ over blocks of d_w·d_x·Σ w·q in double; the float side rounds a few times per block. */
static void check_close_q8(enum fm_fmt f, const float *y, const struct fm_q8x *xq, const unsigned char *w, size_t step,
                           int n, int k)
{
    float *v = outputs(7, (size_t)k, AT_END);
    for (int j = 0; j < n; j++) {
        double sum = 0, size = 0;
        fm_formats[f].decode(v, w + (size_t)j * step, (size_t)k);
        for (int p = 0; p < k; p++) {
            double t = (double)v[p] * (double)xq[p / 32].d * xq[p / 32].q[p % 32];
            sum += t;
            size += fabs(t);
        }
        /* minima split v into d·c and m, which may cancel: their sizes count, at most |v| + 2·|m| <= 16 times |v|'s range */
        if (!check(fabs((double)y[j] - sum) <= (2 * k / 32 + 16) * EPS * 16 * (size + 1),
                   "%s gemm_q8 %s %d×%d: %g, not %g", tier->tier, fm_formats[f].name, n, k, (double)y[j], sum))
            return;
    }
}

static void check_gemm_q8(enum fm_fmt f, int m, int n, int k, size_t apart, enum place where)
{
    unsigned char *w;
    size_t step = weights(0, f, n, k, apart, where, &w), nb = (size_t)k / 32;
    struct fm_q8x *xq = place(1, (size_t)m * nb * sizeof *xq, where, 4);
    float *x = floats(2, (size_t)m * (size_t)k, AT_END);
    ptrdiff_t ldy = n + 3;
    size_t ny = extent(m, ldy, n, 1);
    scalar->quantise_q8x(xq, x, m * k);
    float *y = outputs(3, ny, where), *want = outputs(4, ny, AT_END), *one = outputs(5, (size_t)n, AT_END);
    float *work = outputs(6, FM_GEMM_WORK, AT_END);
    tier->gemm_q8[f](y, ldy, xq, m, w, step, n, k, work);
    scalar->gemm_q8[f](want, ldy, xq, m, w, step, n, k, work);
    same_bits(y, want, ny, "%s gemm_q8 %s %d×%d×%d", tier->tier, fm_formats[f].name, m, n, k);
    check_around(3, "gemm_q8");
    check_around(6, "gemm_q8 work");
    for (int i = 0; i < m; i++) {
        tier->gemm_q8[f](one, n, xq + (size_t)i * nb, 1, w, step, n, k, work);
        same_bits(one, y + i * ldy, (size_t)n, "%s gemm_q8 %s: row %d of %d alone", tier->tier, fm_formats[f].name, i,
                  m);
    }
    check_close_q8(f, y, xq, w, step, n, k);
}

/* Where the f16 factors of a block lie, so that patterns of any bytes get the factor 1 (MXFP4: one byte, 128). */
static const struct {
    enum fm_fmt fmt;
    int at[2];
} factors[] = {
    {FM_Q8_0, {0, 0}},   {FM_Q4_0, {0, 0}},     {FM_Q4_1, {0, 2}},    {FM_Q5_0, {0, 0}}, {FM_Q5_1, {0, 2}},
    {FM_Q2_K, {80, 82}}, {FM_Q3_K, {108, 108}}, {FM_Q4_K, {0, 2}},    {FM_Q5_K, {0, 2}}, {FM_Q6_K, {208, 208}},
    {FM_IQ4_NL, {0, 0}}, {FM_IQ4_XS, {0, 0}},   {FM_MXFP4, {-1, -1}},
};

enum { N_FACTORS = sizeof factors / sizeof *factors };

static void set_factors(unsigned char *block, int which)
{
    for (int i = 0; i < 2; i++)
        if (factors[which].at[i] >= 0)
            memcpy(block + factors[which].at[i], (unsigned char[2]){0x00, 0x3C}, 2);
        else
            block[0] = 128;
}

/* The largest integers: all bytes of the codes and scales alike, |q| = 127, of one sign or of the weights' signs: what would
 * saturate or overflow shows against the scalar tier's plain int arithmetic, and against the sum in double. */
static void check_extremes(int which, int byte, int m)
{
    enum { N = 16, K = 256 };
    const enum fm_fmt f = factors[which].fmt;
    size_t row = row_bytes(f, K);
    unsigned char *w = place(0, N * row, AT_END, 1), *packed = place(5, N * row, AT_END, 1);
    struct fm_q8x *xq = place(1, (size_t)m * (K / 32) * sizeof *xq, AT_END, 4);
    float *y = outputs(3, (size_t)m * N, AT_END), *want = outputs(4, (size_t)m * N, AT_END), v[K];
    float *work = outputs(6, FM_GEMM_WORK, AT_END), *x = floats(2, (size_t)m * K, AT_END);
    memset(w, byte, N * row);
    for (size_t b = 0; b < N * row; b += fm_formats[f].block_bytes) set_factors(w + b, which);
    fm_formats[f].decode(v, w, K);
    for (int i = 0; i < m * K; i++) x[i] = i / K % 2 ? 127 : v[i % K] < 0 ? -127 : 127;
    scalar->quantise_q8x(xq, x, m * K);
    tier->gemm_q8[f](y, N, xq, m, w, row, N, K, work);
    scalar->gemm_q8[f](want, N, xq, m, w, row, N, K, work);
    same_bits(y, want, (size_t)m * N, "%s gemm_q8 %s: bytes %02x, %d rows", tier->tier, fm_formats[f].name, byte, m);
    fill_nan(y, (size_t)m * N);
    tier->pack[f](packed, w, row, N, K);
    tier->gemm_packed[f](y, N, xq, m, packed, row, N, K, work);
    same_bits(y, want, (size_t)m * N, "%s gemm_packed %s: bytes %02x, %d rows", tier->tier, fm_formats[f].name, byte,
              m);
    for (int i = 0; i < m; i++) {
        double sum = 0, size = 0;
        for (int p = 0; p < K; p++) {
            sum += (double)v[p] * (double)x[i * K + p];
            size += (fabs((double)v[p]) + 2 * 63) * 127; /* the minimum and what it is taken from */
        }
        check(fabs((double)y[i * N] - sum) <= 20 * EPS * size, "%s gemm_q8 %s: bytes %02x give %g, not %g", tier->tier,
              fm_formats[f].name, byte, (double)y[i * N], sum);
    }
}

static void test_q8(void)
{
    test_quantise();
    for (int i = 0; i < N_FACTORS; i++) {
        enum fm_fmt f = factors[i].fmt;
        for (int byte = 0; byte < 256; byte++)
            for (int m = 1; m <= 17; m += m < 5 ? 4 : 12)
                if (byte == 0x80 || byte == 0x7F || byte % 15 == 0) check_extremes(i, byte, m);
        for (int n = 1; n <= 18; n += n < 10 ? 1 : 4)
            for (int m = 1; m <= 9; m += m < 5 ? 1 : 4)
                check_gemm_q8(f, m, n, whole(f, 96), (size_t)(m % 3), (enum place)(n % PLACES));
        check_gemm_q8(f, 17, 85, 1024, 0, AT_END);
        check_gemm_q8(f, 6, 131, whole(f, 288), 1, AFTER_START);
        check_gemm_q8(f, 1, 33, whole(f, 32), 0, AT_START);
    }
    for (int f = 0; f < FM_FMT_COUNT; f++) {
        bool listed = false;
        for (int i = 0; i < N_FACTORS; i++) listed |= factors[i].fmt == (enum fm_fmt)f;
        check(listed == !!tier->gemm_q8[f], "gemm_q8 %s: not tested", fm_formats[f].name);
    }
}

/* ---- packed rows ---- */

/* n rows of any bytes there and back: the same size, every bit. */
static void check_pack(enum fm_fmt f, int groups, int k, size_t apart, enum place where)
{
    const int rows = tier->pack_rows, n = groups * rows;
    size_t row = row_bytes(f, k), step = row + apart, bytes = step * (size_t)(n - 1) + row;
    unsigned char *w = place(0, bytes, where, 1), *back = place(2, row, where, 1);
    size_t packed_bytes = (size_t)rows * (step * (size_t)(groups - 1) + row);
    unsigned char *packed = place(1, packed_bytes, where, 1);
    for (size_t i = 0; i < bytes; i++) w[i] = (unsigned char)fm_rng_u64(&g.rng);
    tier->pack[f](packed, w, step, n, k);
    check_around(1, "pack");
    bool same = true;
    for (int i = 0; i < n; i++) {
        memset(back, FILL, row);
        tier->unpack_row[f](back, packed + (size_t)(i / rows * rows) * step, step, i % rows, k);
        same &= !memcmp(back, w + (size_t)i * step, row);
    }
    check_around(2, "unpack_row");
    check(same, "%s pack %s: %d rows of %d do not come back", tier->tier, fm_formats[f].name, n, k);
}

/* Packed rows give the bits of the rows as they lie in the file, which check_gemm_q8 holds against the plain chain. */
static void check_packed(enum fm_fmt f, int m, int groups, int k, size_t apart, enum place where)
{
    const int n = groups * tier->pack_rows;
    unsigned char *w;
    size_t step = weights(0, f, n, k, apart, where, &w), nb = (size_t)k / 32, row = row_bytes(f, k);
    unsigned char *packed = place(7, (size_t)tier->pack_rows * (step * (size_t)(groups - 1) + row), where, 1);
    struct fm_q8x *xq = place(1, (size_t)m * nb * sizeof *xq, where, 4);
    float *x = floats(2, (size_t)m * (size_t)k, AT_END);
    ptrdiff_t ldy = n + 3;
    size_t ny = extent(m, ldy, n, 1);
    scalar->quantise_q8x(xq, x, m * k);
    float *y = outputs(3, ny, where), *want = outputs(4, ny, AT_END), *work = outputs(6, FM_GEMM_WORK, AT_END);
    tier->pack[f](packed, w, step, n, k);
    tier->gemm_packed[f](y, ldy, xq, m, packed, step, n, k, work);
    check_around(3, "gemm_packed");
    check_around(6, "gemm_packed work");
    check_around(7, "gemm_packed weights");
    tier->gemm_q8[f](want, ldy, xq, m, w, step, n, k, work);
    same_bits(y, want, ny, "%s gemm_packed %s %d×%d×%d", tier->tier, fm_formats[f].name, m, n, k);
}

static void test_packed(void)
{
    for (int i = 0; i < N_FACTORS; i++) {
        enum fm_fmt f = factors[i].fmt;
        for (int p = 0; p < PLACES; p++) check_pack(f, 2, whole(f, 32 * (p + 1)), (size_t)p, (enum place)p);
        for (int m = 1; m <= 17; m++)
            check_packed(f, m, 1 + m % 3, whole(f, 32 * (2 * (m % 4) + 1)), (size_t)(m % 3), (enum place)(m % PLACES));
        check_packed(f, 70, 5, whole(f, 608), 0, AT_END);
        check_packed(f, 35, 3, whole(f, 1056), 3, AFTER_START);
        check_packed(f, 133, 1, whole(f, 32), 0, AT_END);
    }
    for (int f = 0; f < FM_FMT_COUNT; f++)
        check(!tier->pack[f] == !(tier->gemm_q8[f] || tier->gemm_q14[f]) && !tier->unpack_row[f] == !tier->gemm_q8[f] &&
                  !tier->gemm_packed[f] == !tier->gemm_q8[f],
              "%s %s: packed and integer slots", tier->tier, fm_formats[f].name);
}

#include "kernel_q14.h"

/* ---- rows: every slot under one shape, so that one loop tests all ---- */

/* in[0..3] and out[0..2] have n elements (rope: 2·half rounded down); scalars come from the case. */
struct row_case {
    const char *name;
    int n_in, n_out;
    float (*run)(const struct fm_kernels *k, float *const out[3], float *const in[4], size_t n);
    bool in_place;                                                         /* out[0] may be in[0] */
    double (*want)(float *const in[4], size_t n, size_t i, double *bound); /* out[0][i] in double; NULL: bits only */
};

static const struct fm_adamw ADAM = {1e-3f, 0.9f, 0.95f, 1e-8f, 0.1f, 0.271f, 0.1426f};

#define RUN(name) static float run_##name(const struct fm_kernels *k, float *const out[3], float *const in[4], size_t n)
/* clang-format off */
RUN(dot) { (void)out; return k->dot(in[0], in[1], n); }
RUN(sumsq) { (void)out; return (float)k->sumsq(in[0], n); }
RUN(max) { (void)out; return k->max(in[0], n); }
RUN(exp_sum) { return k->exp_sum(out[0], in[0], n, 0.75f); }
RUN(sigmoid) { k->sigmoid(out[0], in[0], n); return 0; }
RUN(add) { k->add(out[0], in[0], in[1], n); return 0; }
RUN(mul) { k->mul(out[0], in[0], in[1], n); return 0; }
RUN(silu_mul) { k->silu_mul(out[0], in[0], in[1], n); return 0; }
RUN(rms_norm) { k->rms_norm(out[0], in[0], in[1], n, 1e-5f); return 0; }
RUN(rms_norm_plain) { k->rms_norm(out[0], in[0], NULL, n, 1e-5f); return 0; }
RUN(silu_mul_bwd) { k->silu_mul_bwd(out[0], out[1], in[2], in[0], in[1], n); return 0; }

/* These add to what is there: start from copies of inputs. */
static void start(float *out, const float *in, size_t n)
{
    if (out != in) memcpy(out, in, n * sizeof *out);
}
RUN(axpy) { start(out[0], in[0], n); k->axpy(out[0], -1.7f, in[1], n); return 0; }
RUN(scale) { start(out[0], in[0], n); k->scale(out[0], 0.3f, n); return 0; }
RUN(norm_bwd) { start(out[1], in[3], n); k->rms_norm_bwd(out[0], out[1], in[0], in[1], in[2], n, 1e-5f, false); return 0; }
RUN(norm_bwd_acc) { start(out[0], in[3], n); k->rms_norm_bwd(out[0], NULL, in[0], in[1], NULL, n, 1e-5f, true); return 0; }
RUN(rope) { start(out[0], in[0], n); k->rope(out[0], in[1], (int)n / 2, false, false); return 0; }
RUN(rope_pairs) { start(out[0], in[0], n); k->rope(out[0], in[1], (int)n / 2, true, false); return 0; }
RUN(rope_inverse) { start(out[0], in[0], n); k->rope(out[0], in[1], (int)n / 2, false, true); return 0; }
RUN(rope_pairs_inverse) { start(out[0], in[0], n); k->rope(out[0], in[1], (int)n / 2, true, true); return 0; }
/* clang-format on */
RUN(adamw)
{
    start(out[0], in[0], n);
    start(out[1], in[1], n);
    for (size_t i = 0; i < n; i++) out[2][i] = fabsf(in[2][i]);
    k->adamw(out[0], out[1], out[2], in[3], n, &ADAM, 0.5f);
    return 0;
}

#define WANT(name) static double want_##name(float *const in[4], size_t n, size_t i, double *bound)
static double sigma(double x) { return 1 / (1 + exp(-x)); }
WANT(exp_sum)
{
    (void)n;
    double v = exp((double)(in[0][i] - 0.75f));
    *bound = 2 * EPS * v;
    return v;
}
WANT(sigmoid)
{
    (void)n;
    double v = sigma((double)in[0][i]);
    *bound = 5 * EPS * v;
    return v;
}
WANT(add)
{
    (void)n;
    double v = (double)in[0][i] + (double)in[1][i];
    *bound = EPS * fabs(v);
    return v;
}
WANT(mul)
{
    (void)n;
    double v = (double)in[0][i] * (double)in[1][i];
    *bound = EPS * fabs(v) + 0x1p-149;
    return v;
}
WANT(axpy)
{
    (void)n;
    double v = (double)in[0][i] + (double)-1.7f * (double)in[1][i];
    *bound = EPS * fabs(v);
    return v;
}
WANT(scale)
{
    (void)n;
    double v = (double)in[0][i] * (double)0.3f;
    *bound = EPS * fabs(v) + 0x1p-149;
    return v;
}
WANT(silu_mul)
{
    (void)n;
    double x = (double)in[0][i], v = x * sigma(x) * (double)in[1][i];
    *bound = 8 * EPS * fabs(v) + 0x1p-149;
    return v;
}

/* dg = dy·u·σ(1 + g(1−σ)) */
WANT(silu_mul_bwd)
{
    (void)n;
    double x = (double)in[0][i], s = sigma(x), f = (double)in[1][i] * (double)in[2][i] * s;
    *bound = 20 * EPS * fabs(f) * (1 + fabs(x));
    return f * (1 + x * (1 - s));
}

static double inverse_rms(const float *x, size_t n)
{
    double ss = 0;
    for (size_t i = 0; i < n; i++) ss += (double)x[i] * (double)x[i];
    return 1 / sqrt(ss / (double)n + (double)1e-5f);
}

/* the sum errs by n·eps relative (all terms positive), its root by half of that; then five roundings */
static double norm(float *const in[4], size_t n, size_t i, double w, double *bound)
{
    double v = (double)in[0][i] * inverse_rms(in[0], n) * w;
    *bound = ((double)n / 2 + 6) * EPS * fabs(v);
    return v;
}
WANT(rms_norm) { return norm(in, n, i, (double)in[1][i], bound); }
WANT(rms_norm_plain) { return norm(in, n, i, 1, bound); }

/* dx = r·w·dy − x·r³/n·Σ(w·dy·x) */
static double norm_back(const float *dy, const float *x, const float *w, size_t n, size_t i, double *bound)
{
    double r = inverse_rms(x, n), s = 0, size = 0;
    for (size_t j = 0; j < n; j++) {
        double t = (double)dy[j] * (double)x[j] * (w ? (double)w[j] : 1);
        s += t;
        size += fabs(t);
    }
    double a = r * (double)dy[i] * (w ? (double)w[i] : 1), c = r * r * r / (double)n;
    *bound = (2.5 * (double)n + 20) * EPS * (fabs(a) + c * size * fabs((double)x[i]));
    return a - c * s * (double)x[i];
}
WANT(norm_bwd) { return norm_back(in[0], in[1], in[2], n, i, bound); }
WANT(norm_bwd_acc)
{
    double v = (double)in[3][i] + norm_back(in[0], in[1], NULL, n, i, bound);
    *bound += EPS * fabs(v);
    return v;
}

static double turned(float *const in[4], size_t n, size_t i, bool pairs, double sign, double *bound)
{
    size_t half = n / 2, p = pairs ? i / 2 : i % (half ? half : 1);
    if (i >= 2 * half) return (double)in[0][i];
    bool second = pairs ? i % 2 : i >= half;
    double a = (double)in[0][pairs ? 2 * p : p], b = (double)in[0][pairs ? 2 * p + 1 : p + half];
    double c = (double)in[1][2 * p], s = sign * (double)in[1][2 * p + 1];
    *bound = 2 * EPS * (fabs(a) + fabs(b)) * (fabs(c) + fabs(s));
    return second ? b * c + a * s : a * c - b * s;
}
WANT(rope) { return turned(in, n, i, false, 1, bound); }
WANT(rope_pairs) { return turned(in, n, i, true, 1, bound); }
WANT(rope_inverse) { return turned(in, n, i, false, -1, bound); }
WANT(rope_pairs_inverse) { return turned(in, n, i, true, -1, bound); }
WANT(adamw)
{
    (void)n;
    double gr = (double)in[3][i] * 0.5, m = (double)ADAM.beta1 * (double)in[1][i] + (1 - (double)ADAM.beta1) * gr;
    double v = (double)ADAM.beta2 * fabs((double)in[2][i]) + (1 - (double)ADAM.beta2) * gr * gr;
    double step = (double)ADAM.lr * (m / (double)ADAM.bias1) / (sqrt(v / (double)ADAM.bias2) + (double)ADAM.eps);
    double size = fabs((double)in[1][i]) + fabs(gr), p = (double)in[0][i];
    /* p: the factor, the product and the difference are rounded; 1 − beta is known to 20 eps or better; m may cancel, v not */
    *bound =
        3 * EPS * fabs(p) + 60 * EPS * (double)ADAM.lr * (size / (double)ADAM.bias1) / sqrt(v / (double)ADAM.bias2);
    return p * (1 - (double)(ADAM.lr * ADAM.weight_decay)) - step;
}

static const struct row_case ROWS[] = {
    {"dot", 2, 0, run_dot, false, NULL},
    {"sumsq", 1, 0, run_sumsq, false, NULL},
    {"max", 1, 0, run_max, false, NULL},
    {"exp_sum", 1, 1, run_exp_sum, true, want_exp_sum},
    {"sigmoid", 1, 1, run_sigmoid, true, want_sigmoid},
    {"axpy", 2, 1, run_axpy, true, want_axpy},
    {"scale", 1, 1, run_scale, true, want_scale},
    {"add", 2, 1, run_add, true, want_add},
    {"mul", 2, 1, run_mul, true, want_mul},
    {"silu_mul", 2, 1, run_silu_mul, true, want_silu_mul},
    {"silu_mul_bwd", 3, 2, run_silu_mul_bwd, true, want_silu_mul_bwd},
    {"rms_norm", 2, 1, run_rms_norm, true, want_rms_norm},
    {"rms_norm plain", 1, 1, run_rms_norm_plain, true, want_rms_norm_plain},
    {"rms_norm_bwd", 4, 2, run_norm_bwd, true, want_norm_bwd},
    {"rms_norm_bwd +=", 4, 1, run_norm_bwd_acc, false, want_norm_bwd_acc},
    {"rope", 2, 1, run_rope, true, want_rope},
    {"rope interleaved", 2, 1, run_rope_pairs, true, want_rope_pairs},
    {"rope inverse", 2, 1, run_rope_inverse, true, want_rope_inverse},
    {"rope interleaved inverse", 2, 1, run_rope_pairs_inverse, true, want_rope_pairs_inverse},
    {"adamw", 4, 3, run_adamw, true, want_adamw},
};
enum { N_ROWS = sizeof ROWS / sizeof *ROWS };

static void check_close_row(const struct row_case *c, float *const in[4], const float *out, size_t n)
{
    for (size_t i = 0; c->want && i < n; i++) {
        double bound = 0, want = c->want(in, n, i, &bound);
        if (!check(fabs((double)out[i] - want) <= bound * 1.01, "%s %s n %zu: element %zu is %a, not %a ± %g",
                   tier->tier, c->name, n, i, (double)out[i], want, bound))
            return;
    }
}

static void check_row(const struct row_case *c, size_t n, enum place where, const float *special)
{
    float *in[4], *out[3], *want[3];
    for (int i = 0; i < c->n_in; i++) in[i] = floats(i, n, where);
    if (special) memcpy(in[0], special, n * sizeof *special);
    for (int i = 0; i < c->n_out; i++) {
        out[i] = outputs(4 + i, n, where);
        want[i] = outputs(7 + i, n, AT_END);
    }
    float r = c->run(tier, out, in, n), s = c->run(scalar, want, in, n);
    same_bits(&r, &s, 1, "%s %s n %zu: result", tier->tier, c->name, n);
    for (int i = 0; i < c->n_out; i++) {
        same_bits(out[i], want[i], n, "%s %s n %zu: output %d", tier->tier, c->name, n, i);
        check_around(4 + i, c->name);
    }
    if (c->n_out && !special) check_close_row(c, in, out[0], n);
    if (!c->in_place) return;
    out[0] = in[0];
    c->run(tier, out, in, n);
    same_bits(in[0], want[0], n, "%s %s n %zu: in place", tier->tier, c->name, n);
}

/* dot, sumsq, exp_sum's sum, max against double. */
static void check_sums(size_t n)
{
    const float *a = floats(0, n, AT_END), *b = floats(1, n, AT_END);
    float *e = outputs(2, n, AT_END), total = tier->exp_sum(e, a, n, 0.5f);
    double sum = 0, size = 0, sq = 0, ex = 0, best = (double)a[0];
    for (size_t i = 0; i < n; i++) {
        sum += (double)a[i] * (double)b[i];
        size += fabs((double)a[i] * (double)b[i]);
        sq += (double)a[i] * (double)a[i];
        ex += (double)e[i];
        best = fmax(best, (double)a[i]);
    }
    check(fabs((double)tier->dot(a, b, n) - sum) <= (double)n * EPS * size, "%s dot %zu", tier->tier, n);
    check(relative(tier->sumsq(a, n), sq) <= (double)n * 0x1p-53, "%s sumsq %zu", tier->tier, n);
    check(relative((double)total, ex) <= (double)n * EPS, "%s exp_sum %zu", tier->tier, n);
    check((double)tier->max(a, n) == best, "%s max %zu", tier->tier, n);
}

static const float EXTREMES[] = {
    0,       -0.0f, INFINITY, -INFINITY, NAN, 0x1p-149f,        -0x1p-140f,      88.72283f,  88.72284f, -87.33f,
    -87.34f, 1e30f, -1e30f,   -104,      1,   -0x1.fffffep127f, 0x1.fffffep127f, -0x1p-126f, 89.4f};

static void test_rows(void)
{
    enum { N_EXTREMES = sizeof EXTREMES / sizeof *EXTREMES };
    for (int i = 0; i < N_ROWS; i++) {
        for (size_t n = 1; n <= 40; n++) check_row(&ROWS[i], n, (enum place)(n % PLACES), NULL);
        for (size_t n = 63; n <= 65; n++)
            for (int p = 0; p < PLACES; p++) check_row(&ROWS[i], n, (enum place)p, NULL);
        check_row(&ROWS[i], 1000, AT_END, NULL);
        for (size_t n = 1; n <= N_EXTREMES; n++) check_row(&ROWS[i], n, AT_END, EXTREMES + (N_EXTREMES - n));
    }
    for (size_t n = 1; n < 300; n += n < 20 ? 1 : 31) check_sums(n);
    float none[3] = {-INFINITY, -INFINITY, -INFINITY}, y[3], *p = floats(0, 1, AT_END);
    check(tier->max(none, 3) == -INFINITY, "%s max of -inf", tier->tier);
    check(tier->exp_sum(y, none, 3, 0) == 0 && y[2] == 0, "%s exp_sum of -inf", tier->tier);
    check(tier->dot(p + 1, p + 1, 0) == 0 && tier->exp_sum(p + 1, p + 1, 0, 0) == 0, "%s empty sums", tier->tier);
}

/* The vector exp is fm_expf, bit for bit: floats of every exponent. */
static void test_exp_bits(void)
{
    enum { N = 4096 };
    float *x = floats(0, N, AT_END), *y = outputs(1, N, AT_END), *want = outputs(2, N, AT_END);
    for (int round = 0; round < (g.quick ? 20 : 300); round++) {
        for (int i = 0; i < N; i++) {
            uint32_t u = (uint32_t)fm_rng_u64(&g.rng);
            memcpy(&x[i], &u, sizeof u);
            if (i % 2) x[i] = (float)(fm_rng_uniform(&g.rng) * 180 - 90);
            want[i] = fm_expf(x[i]);
        }
        tier->exp_sum(y, x, N, 0);
        for (int i = 0; i < N; i++) want[i] = x[i] - 0.0f == x[i] || x[i] != x[i] ? want[i] : 0;
        same_bits(y, want, N, "%s exp of random bits", tier->tier);
    }
}

/* ---- the table ---- */

static void test_table(void)
{
    const char *warning = "";
    check(fm_kernels_tier("nonsense") == NULL, "an unknown tier exists");
    check(!strcmp(fm_kernel_tiers[0], "scalar"), "the first tier is not scalar");
    setenv("FATHOM_CPU", "scalar", 1);
    check(fm_kernels_get(&warning) == scalar && !warning, "FATHOM_CPU=scalar is not obeyed");
    setenv("FATHOM_CPU", "nonsense", 1);
    const struct fm_kernels *k = fm_kernels_get(&warning);
    check(k && warning, "FATHOM_CPU=nonsense gives no warning");
    unsetenv("FATHOM_CPU");
    check(fm_kernels_get(&warning) == k && !warning && fm_kernels_get(NULL) == k, "the best tier is not the default");
    for (int i = 0; i < fm_n_kernel_tiers; i++) {
        const struct fm_kernels *t = fm_kernels_tier(fm_kernel_tiers[i]);
        if (!t) {
            printf("SKIP tier %s: this CPU cannot run it\n", fm_kernel_tiers[i]);
            continue;
        }
        check(!strcmp(t->tier, fm_kernel_tiers[i]), "tier %s calls itself %s", fm_kernel_tiers[i], t->tier);
        for (int f = 0; f < FM_FMT_COUNT; f++)
            check((t->decode[f] != NULL) == (fm_formats[f].decode != NULL) &&
                      (t->gemv[f] != NULL) == (t->decode[f] != NULL),
                  "%s: decode and gemv of format %d", t->tier, f);
        check(t->gemm_f32 && t->quantise_q8x && t->dot && t->sumsq && t->max && t->exp_sum && t->axpy && t->scale &&
                  t->add && t->mul && t->sigmoid && t->rms_norm && t->rms_norm_bwd && t->silu_mul && t->silu_mul_bwd &&
                  t->rope && t->adamw,
              "%s: an empty slot", t->tier);
    }
}

/* ---- --bench: each row slot on 1024 elements in the L1 cache ---- */

static double time_row(const struct row_case *c, const struct fm_kernels *k)
{
    enum { N = 1024, REPS = 2000 };
    float *in[4], *out[3];
    double best = 1;
    for (int i = 0; i < 4; i++) in[i] = floats(i, N, AT_END);
    for (int i = 0; i < 3; i++) out[i] = outputs(4 + i, N, AT_END);
    for (int r = 0; r < 5; r++) {
        int reps = k == scalar ? REPS / 50 : REPS;
        double t = seconds();
        for (int q = 0; q < reps; q++) c->run(k, out, in, N);
        best = fmin(best, (seconds() - t) / reps / N);
    }
    return best * 1e9;
}

static int bench(void)
{
    printf("%-26s", "ns per element, n = 1024");
    for (int t = 0; t < fm_n_kernel_tiers; t++) printf("%10s", fm_kernel_tiers[t]);
    for (int i = 0; i < N_ROWS; i++) {
        printf("\n%-26s", ROWS[i].name);
        for (int t = 0; t < fm_n_kernel_tiers; t++) {
            const struct fm_kernels *k = fm_kernels_tier(fm_kernel_tiers[t]);
            if (k) printf("%10.3f", time_row(&ROWS[i], k));
        }
    }
    printf("\n(with a copy where the slot works in place; matrices: bench/bench_kernel.c)\n");
    return 0;
}

int main(int argc, char **argv)
{
    g.quick = argc > 1 && !strcmp(argv[1], "--quick");
    fm_rng_init(&g.rng, 1);
    open_rooms();
    scalar = fm_kernels_tier("scalar");
    if (argc > 1 && !strcmp(argv[1], "--bench")) return bench();
    if (argc > 1 && !strcmp(argv[1], "--best")) return puts(fm_kernels_get(NULL)->tier) < 0;
    test_math();
    test_table();
    for (int i = 0; i < fm_n_kernel_tiers; i++) {
        if (!(tier = fm_kernels_tier(fm_kernel_tiers[i]))) continue;
        test_gemm();
        test_gemm_exact();
        test_gemv();
        test_few();
        test_decode();
        test_q8();
        test_packed();
        test_attention();
        test_rows();
        test_exp_bits();
        test_q14();
    }
    printf("%ld passed, %ld failed\n", g.passed, g.failed);
    return g.failed != 0;
}
