/* How close the kernels come to the machine: FMA peak and memory bandwidth first, then matrix products against them.
 * Usage: bench_kernel [--csv] [--quick] [--tier NAME].  Each number is the best of several runs, on 1 and 2 threads; threads
 * work on disjoint rows of W, as op/cpu does. */
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

enum { MAX_THREADS = 2, STREAM_BYTES = 256 << 20 };

static struct {
    const struct fm_kernels *k;
    bool csv, quick;
    double peak[MAX_THREADS + 1], read[MAX_THREADS + 1]; /* GFLOP/s, GB/s */
    struct fm_pool *pool[MAX_THREADS + 1];
    float *work[MAX_THREADS];
    unsigned char *stream;
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

#if defined(__x86_64__)
typedef float v8 __attribute__((vector_size(32)));
enum { FMA_ROUNDS = 400000, FMA_FLOPS = 12 * 8 * 2 };

/* Twelve independent chains of 256-bit FMAs: more than latency times units (4 to 5 cycles, 2 units). */
__attribute__((target("avx2,fma"))) static void fma_chains(void)
{
    v8 a[12], x = {0}, y = {0};
    for (int i = 0; i < 12; i++) a[i] = x;
    for (int r = 0; r < FMA_ROUNDS; r++)
        __asm__ volatile("vfmadd231ps %12, %13, %0\n vfmadd231ps %12, %13, %1\n vfmadd231ps %12, %13, %2\n"
                         "vfmadd231ps %12, %13, %3\n vfmadd231ps %12, %13, %4\n vfmadd231ps %12, %13, %5\n"
                         "vfmadd231ps %12, %13, %6\n vfmadd231ps %12, %13, %7\n vfmadd231ps %12, %13, %8\n"
                         "vfmadd231ps %12, %13, %9\n vfmadd231ps %12, %13, %10\n vfmadd231ps %12, %13, %11"
                         : "+x"(a[0]), "+x"(a[1]), "+x"(a[2]), "+x"(a[3]), "+x"(a[4]), "+x"(a[5]), "+x"(a[6]),
                           "+x"(a[7]), "+x"(a[8]), "+x"(a[9]), "+x"(a[10]), "+x"(a[11])
                         : "x"(x), "x"(y));
}
#else
enum { FMA_ROUNDS = 400000, FMA_FLOPS = 0 };
static void fma_chains(void) {}
#endif

static void run_peak(void *arg, int begin, int end, int thread)
{
    (void)arg, (void)thread;
    for (int i = begin; i < end; i++) fma_chains();
}

static void run_read(void *arg, int begin, int end, int thread)
{
    (void)arg, (void)thread;
    uint64_t a = 0, b = 0, c = 0, d = 0;
    const uint64_t *p = (const uint64_t *)(const void *)(g.stream + ((size_t)begin << 20));
    for (size_t i = 0, n = (size_t)(end - begin) << 17; i < n; i += 8) {
        a ^= p[i] ^ p[i + 4];
        b ^= p[i + 1] ^ p[i + 5];
        c ^= p[i + 2] ^ p[i + 6];
        d ^= p[i + 3] ^ p[i + 7];
    }
    __asm__ volatile("" ::"r"(a ^ b ^ c ^ d));
}

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
    for (int t = 1; t <= MAX_THREADS; t++) {
        g.peak[t] = NAN; /* where this program knows no peak, the fractions say so */
        if (FMA_FLOPS > 0 && fm_kernels_tier("avx2"))
            g.peak[t] = (double)t * FMA_ROUNDS * FMA_FLOPS / best_time(t, t, run_peak, NULL) * 1e-9;
        g.read[t] = STREAM_BYTES / best_time(t, STREAM_BYTES >> 20, run_read, NULL) * 1e-9;
        row("fma peak", "", t, g.peak[t], "GFLOP/s", g.peak[t]);
        row("memory read", "256 MiB", t, g.read[t], "GB/s", g.read[t]);
    }
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
    (void)thread;
    g.k->gemm_q8[p->fmt](p->y + begin, p->n, p->xq, p->m, (const char *)p->w + (size_t)begin * p->row_bytes,
                         p->row_bytes, end - begin, p->k);
}

static void run_gemv(void *arg, int begin, int end, int thread)
{
    const struct product *p = arg;
    (void)thread;
    g.k->gemv[p->fmt](p->y + begin, (const char *)p->w + (size_t)begin * p->row_bytes, p->row_bytes, p->x, end - begin,
                      p->k);
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

/* W encoded row by row from random floats; NULL pointers only when memory is short. */
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
    for (int j = 0; j < p->n; j++) fm_formats[p->fmt].encode(w + (size_t)j * p->row_bytes, row, (size_t)p->k);
    g.k->quantise_q8x(xq, p->x, p->m * p->k);
    fm_pages_free(row, (size_t)p->k * sizeof *row);
    return true;
}

enum kind { GEMM_WT, GEMM_W, GEMM_Q8, GEMV };

static void product(enum kind kind, enum fm_fmt fmt, int m, int n, int k)
{
    static const fm_pool_fn run[] = {run_gemm, run_gemm, run_gemm_q8, run_gemv};
    static const char *const names[] = {"gemm x.W'", "gemm dy.W", "q8", "gemv"};
    struct product p = {.fmt = fmt, .m = m, .n = n, .k = k, .w_transposed = kind == GEMM_WT};
    char what[32], shape[32];
    snprintf(what, sizeof what, "%s%s%s", names[kind], kind <= GEMM_W ? "" : " ",
             kind <= GEMM_W ? "" : fm_formats[fmt].name);
    snprintf(shape, sizeof shape, "%dx%dx%d", m, n, k);
    if (!prepare(&p)) exit(1);
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
    static const enum fm_fmt formats[] = {FM_F32, FM_F16, FM_BF16, FM_Q8_0, FM_Q4_0, FM_Q4_1};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        product(GEMM_WT, FM_F32, shapes[i][0], shapes[i][1], shapes[i][2]);
        product(GEMM_W, FM_F32, shapes[i][0], shapes[i][1], shapes[i][2]);
    }
    for (size_t i = 0; i < 6; i++) product(GEMV, formats[i], 1, 16384, 3072);
    for (size_t i = 3; i < 6; i++) product(GEMM_Q8, formats[i], 1, 32768, 4096);
    for (size_t i = 3; i < 6; i++) product(GEMM_Q8, formats[i], 64, 1024, 1024);
}

int main(int argc, char **argv)
{
    g.k = fm_kernels_get(NULL);
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--csv"))
            g.csv = true;
        else if (!strcmp(argv[i], "--quick"))
            g.quick = true;
        else if (!strcmp(argv[i], "--tier") && i + 1 < argc)
            g.k = fm_kernels_tier(argv[++i]);
        else
            return fprintf(stderr, "usage: bench_kernel [--csv] [--quick] [--tier NAME]\n"), 2;
    }
    if (!g.k) return fprintf(stderr, "bench_kernel: this CPU has no such tier\n"), 2;
    g.stream = fm_pages_alloc(STREAM_BYTES);
    for (int t = 1; t <= MAX_THREADS; t++) {
        g.work[t - 1] = fm_pages_alloc(FM_GEMM_WORK * sizeof(float));
        if (fm_pool_new(t, &g.pool[t], NULL) || !g.work[t - 1] || !g.stream) return 1;
    }
    memset(g.stream, 1, STREAM_BYTES);
    if (!g.csv) printf("tier %s\n", g.k->tier);
    limits();
    products();
    return 0;
}
