/* Speed of the encoders on one core: millions of values a second, by tier, with and without importance; CPU time, the median
 * of five.  Values are normal, σ 0.02, as weights are; rows of 4096 share their importance.
 *
 * usage: bench_encode [FORMAT...]      every format with a kernel if none is named */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

#include "base/rng.h"
#include "kernel/kernel.h"

enum { N = 1 << 18, COLS = 4096, REPS = 5 };

static float x[N], w[N];
static unsigned char out[N * 4];

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
    const double p = *(const double *)a, q = *(const double *)b;
    return (p > q) - (p < q);
}

/* The portable encoder when kernel is NULL. */
static double measure(const struct fm_format *f, fm_encode_weighted_fn kernel, const float *weights)
{
    double t[REPS];
    for (int i = 0; i < REPS; i++) {
        const double start = cpu_seconds();
        if (kernel)
            kernel(out, x, weights, N);
        else if (weights)
            f->encode_weighted(out, x, weights, N);
        else
            f->encode(out, x, N);
        t[i] = cpu_seconds() - start;
    }
    qsort(t, REPS, sizeof *t, by_size);
    return N / t[REPS / 2] * 1e-6;
}

static void bench(const struct fm_format *f, const char *tier, fm_encode_weighted_fn kernel)
{
    printf("%s,%s,%.1f,", f->name, tier, measure(f, kernel, NULL));
    if (f->encode_weighted) printf("%.1f", measure(f, kernel, w));
    printf("\n");
    fflush(stdout);
}

static bool wanted(int argc, char **argv, const char *name)
{
    for (int i = 1; i < argc; i++)
        if (!strcasecmp(argv[i], name)) return true;
    return argc < 2;
}

int main(int argc, char **argv)
{
    struct fm_rng r;
    fm_rng_init(&r, 1);
    for (int i = 0; i < N; i++) x[i] = 0.02f * (float)fm_rng_normal(&r);
    for (int i = 0; i < N; i++) w[i] = i < COLS ? (float)pow(fm_rng_normal(&r), 2) + 0.05f : w[i - COLS];
    printf("format,tier,plain_mvalues_per_s,weighted_mvalues_per_s\n");
    for (int i = 0; i < FM_FMT_COUNT; i++) {
        const struct fm_format *f = &fm_formats[i];
        if (!f->encode || f->block == 1 || !wanted(argc, argv, f->name)) continue;
        bench(f, "portable", NULL);
        for (int t = 0; t < fm_n_kernel_tiers; t++) {
            const struct fm_kernels *k = fm_kernels_tier(fm_kernel_tiers[t]);
            if (k && k->encode[i]) bench(f, k->tier, k->encode[i]);
        }
    }
    return 0;
}
