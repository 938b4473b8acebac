/* What the parts of check_op share: contexts, random data, comparing, running an op on every number of threads. */
#ifndef TESTS_OP_HARNESS_H
#define TESTS_OP_HARNESS_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "kernel/kernel.h"
#include "op/op.h"

#define EPS 0x1p-24

static struct {
    int passed, failed;
    bool quick;
    struct fm_rng rng;
    struct fm_ctx ref, cpu[3]; /* cpu[i]: i+1 threads */
    void *keep[4096];          /* freed after each test */
    int n_keep;
} g;

static void report(bool ok, const char *what, const char *why)
{
    if (ok) {
        g.passed++;
        return;
    }
    g.failed++;
    printf("FAIL %s: %s\n", what, why);
}

/* ---- data ---- */

static void *keep(size_t bytes)
{
    void *p = malloc(bytes ? bytes : 1);
    if (!p || g.n_keep == (int)(sizeof g.keep / sizeof *g.keep)) {
        printf("check_op: out of memory\n");
        exit(2);
    }
    return g.keep[g.n_keep++] = p;
}

static void release_all(void)
{
    while (g.n_keep) free(g.keep[--g.n_keep]);
}

/* Uniform in (−1, 1). */
static float *rnd(size_t n)
{
    float *x = keep(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = (float)(2 * fm_rng_uniform(&g.rng) - 1);
    return x;
}

static float *filled(size_t n, float v)
{
    float *x = keep(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = v;
    return x;
}

static float *copy_of(const float *src, size_t n)
{
    float *x = keep(n * sizeof *x);
    memcpy(x, src, n * sizeof *x);
    return x;
}

static float *magnitude(const float *src, size_t n)
{
    float *x = keep(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = fabsf(src[i]);
    return x;
}

static struct fm_mat mat(enum fm_fmt f, int rows, int cols)
{
    struct fm_mat w = fm_mat_of(f, rows, cols, NULL);
    float *x = rnd((size_t)rows * cols);
    w.data = keep((size_t)rows * w.row_bytes);
    for (int r = 0; r < rows; r++)
        fm_formats[f].encode((char *)w.data + (size_t)r * w.row_bytes, x + (size_t)r * cols, (size_t)cols);
    return w;
}

/* |decode(W)| as F32. */
static struct fm_mat mat_magnitude(const struct fm_mat *w)
{
    struct fm_mat m = fm_mat_of(FM_F32, w->rows, w->cols, keep((size_t)w->rows * w->cols * 4));
    for (int r = 0; r < w->rows; r++)
        fm_formats[w->fmt].decode((float *)m.data + (size_t)r * w->cols, (char *)w->data + (size_t)r * w->row_bytes,
                                  (size_t)w->cols);
    float *x = m.data;
    for (size_t i = 0; i < (size_t)w->rows * w->cols; i++) x[i] = fabsf(x[i]);
    return m;
}

static bool computable(enum fm_fmt f) { return fm_formats[f].decode && fm_formats[f].encode; }

/* Does op/cpu round activations to int8 blocks for this format, unless told to be exact? */
static bool in_int8(enum fm_fmt f) { return fm_kernels_get(NULL)->gemm_q8[f] != NULL; }
/* To blocks of 14-bit integers, and the weights as well? */
static bool in_int14(enum fm_fmt f) { return fm_kernels_get(NULL)->gemm_q14[f] != NULL; }

/* The most that rounding may add to a product of k values |x|, |w| < 1.1 as a part of 1.3·k: half a step of x's 127 or 8191, and of
 * w's 2^12 for the power of two within the largest; or the chain's own. */
static double rounding_of(enum fm_fmt f, int k)
{
    return in_int8(f) ? 1.0 / 254 : in_int14(f) && k % 32 == 0 ? 1.0 / 16382 + 1.0 / 8192 + k * EPS : (k + 2) * EPS;
}

/* k, or the next number of columns that is whole blocks. */
static int whole(enum fm_fmt f, int k)
{
    int block = (int)fm_formats[f].block;
    return (k + block - 1) / block * block;
}

/* ---- comparing ---- */

static void same_bits(const char *what, const float *a, const float *b, size_t n)
{
    char why[128] = "";
    for (size_t i = 0; i < n; i++)
        if (memcmp(&a[i], &b[i], sizeof *a)) {
            snprintf(why, sizeof why, "bits differ at %zu of %zu: %.9g and %.9g", i, n, (double)a[i], (double)b[i]);
            report(false, what, why);
            return;
        }
    report(true, what, why);
}

/* |got − want| <= rel·scale[i] (scale NULL: |want| + 1e-30) */
static void close_to(const char *what, const float *got, const float *want, const float *scale, size_t n, double rel)
{
    char why[160] = "";
    for (size_t i = 0; i < n; i++) {
        double s = scale ? (double)scale[i] : fabs((double)want[i]) + 1e-30, err = fabs((double)got[i] - want[i]);
        if (err <= rel * s) continue; /* false for NaN */
        snprintf(why, sizeof why, "at %zu of %zu: got %.9g, want %.9g, allowed error %.3g", i, n, (double)got[i],
                 (double)want[i], rel * s);
        report(false, what, why);
        return;
    }
    report(true, what, why);
}

/* One call of an op: outputs in out[0 … ], whose sizes are n[]; every output starts as a copy of init (NULL: NaN). */
enum { OUTS = 3 };
struct call {
    void (*run)(struct fm_ctx *c, float *const *out, const void *arg);
    const void *arg;
    size_t n[OUTS];
    const float *init[OUTS];
};

static void run_call(const struct call *k, struct fm_ctx *c, float **out)
{
    for (int o = 0; o < OUTS && k->n[o]; o++) out[o] = k->init[o] ? copy_of(k->init[o], k->n[o]) : filled(k->n[o], NAN);
    c->status = FM_OK;
    k->run(c, out, k->arg);
    report(c->status == FM_OK, c->op->name, c->error.message);
}

/* Runs on 1, 2 and 3 threads (same bits) and on the reference: got, want. */
static void run_all(const char *what, const struct call *k, float **got, float **want)
{
    float *more[OUTS];
    run_call(k, &g.ref, want);
    run_call(k, &g.cpu[0], got);
    for (int t = 1; t < 3; t++) {
        run_call(k, &g.cpu[t], more);
        for (int o = 0; o < OUTS && k->n[o]; o++) same_bits(what, got[o], more[o], k->n[o]);
    }
}

static void set_exact(bool exact)
{
    for (int i = 0; i < 3; i++) g.cpu[i].exact = exact;
}

#endif
