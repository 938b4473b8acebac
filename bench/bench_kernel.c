/* How close the kernels come to the machine: FMA peak and memory bandwidth first, then matrix products against them.
 * Usage: bench_kernel [--csv] [--quick] [--int8] [--format NAME] [--tier NAME]; --int8 leaves out the float products,
 * --format all but the int8 products of one.
 * Each number is the best of several runs, on 1 and 2 threads; threads work on disjoint rows of W, as op/cpu does.  GFLOP/s
 * of the int8 products are twice their multiply-adds; their limit, too, is the fp32 peak. */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/pool.h"
#include "base/rng.h"
#include "kernel/kernel.h"
#include "op/cpu/limits.h"

enum { MAX_THREADS = 2, STREAM_BYTES = 256 << 20 };

static struct {
    const struct fm_kernels *k;
    bool csv, quick, int8;
    enum fm_fmt fmt;                                     /* FM_FMT_COUNT: all */
    double peak[MAX_THREADS + 1], read[MAX_THREADS + 1]; /* GFLOP/s, GB/s */
    struct fm_pool *pool[MAX_THREADS + 1];
    float *work[MAX_THREADS];
} g;

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Best seconds of one pass of fn over n items by the given number of threads. */
static double best_time(int threads, int n, fm_pool_fn fn, void *arg)
{
    double best = INFINITY, stop = seconds() + (g.quick ? 0.05 : 0.6);
    for (int r = 0; r < 3 || (seconds() < stop && r < 1000); r++) {
        double t = seconds();
        fm_parallel_for(g.pool[threads], n, (n + threads - 1) / threads, fn, arg);
        best = fmin(best, seconds() - t);
    }
    return best;
}

/* ---- limits ---- */

static void row(const char *what, const char *shape, int threads, double value, const char *unit, double limit)
{
    if (g.csv)
        printf("%s,%s,%d,%.2f,%s,%.3f\n", what, shape, threads, value, unit, value / limit);
    else
        printf("%-14s %-16s %7d %10.2f %-8s %6.1f %%\n", what, shape, threads, value, unit, 100 * value / limit);
    fflush(stdout);
}

static void limits(void)
{
    if (g.csv)
        printf("what,shape,threads,value,unit,fraction\n");
    else
        printf("%-14s %-16s %7s %10s %-8s %8s\n", "what", "shape", "threads", "best", "", "of limit");
    double read[2];
    struct fm_limits l;
    if (fm_limits_open(&l, MAX_THREADS, g.quick ? 0.05 : 0.6, NULL) ||
        fm_limits_read(&l, STREAM_BYTES, true, read, NULL, NULL))
        exit(1);
    for (int t = 1; t <= MAX_THREADS; t++) {
        const char *name;
        const double macs = fm_limits_peak(&l, false, t > 1, &name);
        g.peak[t] = macs > 0 ? 2e-9 * macs : NAN; /* where no peak is known, the fractions say so */
        g.read[t] = read[t - 1] * 1e-9;
        row("fma peak", name, t, g.peak[t], "GFLOP/s", g.peak[t]);
        row("memory read", "256 MiB", t, g.read[t], "GB/s", g.read[t]);
    }
    fm_limits_close(&l);
}

/* ---- products ---- */

struct product {
    enum fm_fmt fmt;
    int m, n, k;
    bool w_transposed; /* y = x·Wᵀ, else dx = dy·W */
    const float *x;
    const struct fm_q8x *xq;
    const void *w;
    size_t row_bytes;
    float *y;
};

/* Items: columns of y; the threads share x. */
static void run_gemm(void *arg, int begin, int end, int thread)
{
    const struct product *p = arg;
    const float *w = p->w;
    if (p->w_transposed)
        g.k->gemm_f32(p->m, end - begin, p->k, p->x, p->k, 1, w + (ptrdiff_t)begin * p->k, 1, p->k, p->y + begin, p->n,
                      false, g.work[thread]);
    else
        g.k->gemm_f32(p->m, end - begin, p->k, p->x, p->k, 1, w + begin, p->n, 1, p->y + begin, p->n, false,
                      g.work[thread]);
}

static void run_gemm_q8(void *arg, int begin, int end, int thread)
{
    const struct product *p = arg;
    g.k->gemm_q8[p->fmt](p->y + begin, p->n, p->xq, p->m, (const char *)p->w + (size_t)begin * p->row_bytes,
                         p->row_bytes, end - begin, p->k, g.work[thread]);
}

static void run_packed(void *arg, int begin, int end, int thread)
{
    const struct product *p = arg;
    const int rows = g.k->pack_rows;
    begin = begin / rows * rows;
    end = end / rows * rows;
    g.k->gemm_packed[p->fmt](p->y + begin, p->n, p->xq, p->m, (const char *)p->w + (size_t)begin * p->row_bytes,
                             p->row_bytes, end - begin, p->k, g.work[thread]);
}

static void run_gemv(void *arg, int begin, int end, int thread)
{
    const struct product *p = arg;
    (void)thread;
    g.k->gemv[p->fmt](p->y + begin, (const char *)p->w + (size_t)begin * p->row_bytes, p->row_bytes, p->x, end - begin,
                      p->k);
}

static void run_few(void *arg, int begin, int end, int thread)
{
    const struct product *p = arg;
    g.k->gemm_few[p->fmt](p->y + begin, p->n, p->x, p->k, p->m, (const char *)p->w + (size_t)begin * p->row_bytes,
                          p->row_bytes, end - begin, p->k, NULL, g.work[thread]);
}

static float *random_floats(size_t n)
{
    float *p = fm_pages_alloc(n * sizeof *p);
    struct fm_rng r;
    fm_rng_init(&r, n);
    for (size_t i = 0; p && i < n; i++) p[i] = (float)(fm_rng_uniform(&r) - 0.5);
    return p;
}

static void release(struct product *p)
{
    fm_pages_free((void *)(uintptr_t)p->x, (size_t)p->m * p->k * sizeof(float));
    fm_pages_free((void *)(uintptr_t)p->w, p->row_bytes * (size_t)p->n);
    fm_pages_free((void *)(uintptr_t)p->xq, (size_t)p->m * p->k / 32 * sizeof *p->xq);
    fm_pages_free(p->y, (size_t)p->m * p->n * sizeof *p->y);
}

/* W: a row of random floats, encoded, many times; NULL pointers only when memory is short. */
static bool prepare(struct product *p)
{
    struct fm_q8x *xq = fm_pages_alloc((size_t)p->m * p->k / 32 * sizeof *xq);
    float *row = random_floats((size_t)p->k);
    char *w;
    p->row_bytes = (size_t)fm_format_bytes(p->fmt, (uint64_t)p->k);
    p->w = w = fm_pages_alloc(p->row_bytes * (size_t)p->n);
    p->x = random_floats((size_t)p->m * p->k);
    p->y = fm_pages_alloc((size_t)p->m * p->n * sizeof *p->y);
    p->xq = xq;
    if (!w || !p->x || !p->y || !row || !xq) return false;
    fm_formats[p->fmt].encode(w, row, (size_t)p->k); /* encoders are slow: one row for all */
    for (int j = 1; j < p->n; j++) memcpy(w + (size_t)j * p->row_bytes, w, p->row_bytes);
    g.k->quantise_q8x(xq, p->x, p->m * p->k);
    fm_pages_free(row, (size_t)p->k * sizeof *row);
    return true;
}

enum kind { GEMM_WT, GEMM_W, GEMM_Q8, PACKED, GEMV, FEW };

static bool pack(struct product *p)
{
    char *w = fm_pages_alloc(p->row_bytes * (size_t)p->n);
    if (!w) return false;
    for (int r = 0; r < 2; r++) { /* the second time without page faults */
        const double t = seconds();
        g.k->pack[p->fmt](w, p->w, p->row_bytes, p->n, p->k);
        if (r && p->m == 1) {
            char what[32];
            snprintf(what, sizeof what, "pack %s", fm_formats[p->fmt].name);
            row(what, "", 1, 1e-9 * (double)p->row_bytes * p->n / (seconds() - t), "GB/s", g.read[1]);
        }
    }
    fm_pages_free((void *)(uintptr_t)p->w, p->row_bytes * (size_t)p->n);
    p->w = w;
    return true;
}

static void product(enum kind kind, enum fm_fmt fmt, int m, int n, int k)
{
    static const fm_pool_fn run[] = {run_gemm, run_gemm, run_gemm_q8, run_packed, run_gemv, run_few};
    static const char *const names[] = {"gemm x.W'", "gemm dy.W", "q8", "packed", "gemv", "few"};
    struct product p = {.fmt = fmt, .m = m, .n = n, .k = k, .w_transposed = kind == GEMM_WT};
    char what[32], shape[32];
    snprintf(what, sizeof what, "%s%s%s", names[kind], kind <= GEMM_W ? "" : " ",
             kind <= GEMM_W ? "" : fm_formats[fmt].name);
    snprintf(shape, sizeof shape, "%dx%dx%d", m, n, k);
    if (!prepare(&p) || (kind == PACKED && !pack(&p))) exit(1);
    for (int t = 1; t <= MAX_THREADS; t++) {
        double s = best_time(t, n, run[kind], &p);
        if (m > 1)
            row(what, shape, t, 2e-9 * m * n * k / s, "GFLOP/s", g.peak[t]);
        else
            row(what, shape, t, 1e-9 * (double)p.row_bytes * n / s, "GB/s", g.read[t]);
    }
    release(&p);
}

static void products(void)
{
    static const int shapes[][3] = {{64, 64, 64},       {256, 256, 64},   {256, 256, 256},  {512, 512, 512},
                                    {1024, 1024, 1024}, {2048, 768, 256}, {2048, 256, 768}, {4096, 4096, 64},
                                    {16, 1024, 1024},   {64, 1024, 1024}, {16, 512, 256},   {128, 512, 256}};
    static const enum fm_fmt exact[] = {FM_F32, FM_F16, FM_BF16, FM_Q8_0, FM_Q4_0, FM_Q4_1};
    static const enum fm_fmt int8[] = {FM_Q8_0, FM_Q6_K, FM_Q5_K, FM_Q5_1,   FM_Q5_0,   FM_Q4_K, FM_Q4_1,
                                       FM_Q4_0, FM_Q3_K, FM_Q2_K, FM_IQ4_NL, FM_IQ4_XS, FM_MXFP4};
    static const int rows_of_x[] = {1, 4, 8, 48, 512};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes && !g.int8; i++) {
        product(GEMM_WT, FM_F32, shapes[i][0], shapes[i][1], shapes[i][2]);
        product(GEMM_W, FM_F32, shapes[i][0], shapes[i][1], shapes[i][2]);
    }
    for (size_t i = 0; i < sizeof exact / sizeof *exact && !g.int8; i++) product(GEMV, exact[i], 1, 16384, 3072);
    for (int m = 2; m <= FM_GEMM_FEW && !g.int8; m *= 2)
        for (size_t i = 0; i < sizeof exact / sizeof *exact; i++)
            if (g.k->gemm_few[exact[i]]) product(FEW, exact[i], m, 1024, 2048);
    for (int i = 0; i < (int)(sizeof rows_of_x / sizeof *rows_of_x); i++)
        for (size_t f = 0; f < sizeof int8 / sizeof *int8; f++) {
            const int m = rows_of_x[i], n = m == 1 ? 32768 : 1024, k = m == 1 ? 4096 : 2048;
            if (g.fmt != FM_FMT_COUNT && g.fmt != int8[f]) continue;
            product(GEMM_Q8, int8[f], m, n, k);
            product(PACKED, int8[f], m, n, k);
        }
}

int main(int argc, char **argv)
{
    g.k = fm_kernels_get(NULL);
    g.fmt = FM_FMT_COUNT;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--csv"))
            g.csv = true;
        else if (!strcmp(argv[i], "--quick"))
            g.quick = true;
        else if (!strcmp(argv[i], "--int8"))
            g.int8 = true;
        else if (!strcmp(argv[i], "--format") && i + 1 < argc)
            g.int8 = true, g.fmt = fm_format_by_name(argv[++i]);
        else if (!strcmp(argv[i], "--tier") && i + 1 < argc)
            g.k = fm_kernels_tier(argv[++i]);
        else
            return fprintf(stderr, "usage: bench_kernel [--csv] [--quick] [--int8] [--format NAME] [--tier NAME]\n"), 2;
    }
    if (!g.k) return fprintf(stderr, "bench_kernel: this CPU has no such tier\n"), 2;
    for (int t = 1; t <= MAX_THREADS; t++) {
        g.work[t - 1] = fm_pages_alloc(FM_GEMM_WORK * sizeof(float));
        if (fm_pool_new(t, &g.pool[t], NULL) || !g.work[t - 1]) return 1;
    }
    if (!g.csv) printf("tier %s\n", g.k->tier);
    limits();
    products();
    return 0;
}
