/* Each hot kernel once, on one thread: bench/count.py runs this under callgrind and keeps how many instructions it took.
 * Usage: count_kernel --tier NAME; prints a line KERNEL,FORMAT,WORK before each kernel, WORK being multiply-adds or elements.
 * Everything outside of counted() is left out of the counts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "kernel/kernel.h"

/* X rows of activations, N rows of weights, K elements of either; a cache's block is 64 rows of 64 values. */
enum { X = 16, N = 64, K = 2048, TILE = 64 };

static struct {
    const struct fm_kernels *k;
    float *x, *y, *z, *work; /* [X·K] each, FM_GEMM_WORK */
    struct fm_q8x *xq;       /* [X·K/32] */
    struct fm_q14x *xq14;    /* [X·K/32] */
    char *w, *packed;        /* [N rows] of any format */
    uint8_t *u8;             /* [X·K] */
    int8_t *q8, *turned;     /* [X·K] each */
    enum fm_fmt fmt;
    int m;
    size_t row_bytes;
} g;

/* ---- what is counted ------------------------------------------------------------------------------------------- */

static void gemm_q8(void) { g.k->gemm_q8[g.fmt](g.y, N, g.xq, g.m, g.w, g.row_bytes, N, K, g.work); }
static void gemm_packed(void) { g.k->gemm_packed[g.fmt](g.y, N, g.xq, g.m, g.packed, g.row_bytes, N, K, g.work); }
static void gemm_q14(void) { g.k->gemm_q14[g.fmt](g.y, N, g.xq14, g.m, g.w, g.row_bytes, N, K, g.work); }
static void gemm_packed_q14(void) { g.k->gemm_packed_q14(g.y, N, g.xq14, g.m, g.packed, g.row_bytes, N, K, g.work); }
static void pack(void) { g.k->pack[g.fmt](g.packed, g.w, g.row_bytes, N, K); }
static void gemv(void) { g.k->gemv[g.fmt](g.y, g.w, g.row_bytes, g.x, N, K); }
static void decode(void) { g.k->decode[g.fmt](g.y, g.w, K); }
static void gemm_f32(void) { g.k->gemm_f32(X, X, K, g.x, K, 1, g.z, 1, K, g.y, X, false, g.work); }
static void quantise_q8x(void) { g.k->quantise_q8x(g.xq, g.x, K); }
static void quantise_q14x(void) { g.k->quantise_q14x(g.xq14, g.x, K); }
static void quantise_kv(void) { (void)g.k->quantise_kv(g.q8, g.x, TILE); }
static void turn(void) { g.k->turn(g.turned, g.q8, TILE); }
static void spread(void) { g.k->spread(g.y, TILE); }
static void weigh_u8(void) { g.k->weigh_u8(g.u8, g.y, g.z, g.x, X); }
static void gemm_u8(void) { g.k->gemm_u8(g.y, TILE, g.u8, TILE, 128, g.q8, g.x, g.z, X, TILE, TILE / 4); }
static void soften(void) { g.k->soften(g.y, g.z, g.z + X, X, TILE); }
static void join(void) { g.k->join(g.y, g.y + K, g.y + 2 * K, g.y + 3 * K, g.x, g.z, K); }
static void dot(void) { g.y[0] = g.k->dot(g.x, g.z, K); }
static void exp_sum(void) { (void)g.k->exp_sum(g.y, g.x, K, 1); }
static void max(void) { g.y[0] = g.k->max(g.x, K); }
static void rms_norm(void) { g.k->rms_norm(g.y, g.x, g.z, K, 1e-6f); }
static void silu_mul(void) { g.k->silu_mul(g.y, g.x, g.z, K); }
static void rope(void) { g.k->rope(g.y, g.x, K / 2, true, false); }

/* callgrind collects inside of this function only, and writes what it has when it returns. */
__attribute__((noinline)) void counted(void (*run)(void));
void counted(void (*run)(void)) { run(); }

static void count(const char *kernel, const char *format, double work, void (*run)(void))
{
    printf("%s,%s,%.0f\n", kernel, format, work);
    counted(run);
}

/* ---- the list -------------------------------------------------------------------------------------------------- */

static void prepare(enum fm_fmt f)
{
    g.fmt = f;
    g.row_bytes = (size_t)fm_format_bytes(f, K);
    fm_formats[f].encode(g.w, g.x, K); /* encoders are slow: one row for all */
    for (size_t r = 1; r < N; r++) memcpy(g.w + r * g.row_bytes, g.w, g.row_bytes);
    g.k->quantise_q8x(g.xq, g.x, X * K);
    g.k->quantise_q14x(g.xq14, g.x, X * K);
}

static void products(void)
{
    static const enum fm_fmt floats[] = {FM_F32, FM_F16, FM_BF16, FM_F8_E4M3};
    for (enum fm_fmt f = 0; f < FM_FMT_COUNT; f++) {
        const char *name = fm_formats[f].name;
        if (!g.k->gemm_q8[f] || !fm_formats[f].encode) continue;
        prepare(f);
        if (g.k->pack[f]) count("pack", name, N * K, pack);
        for (g.m = 1; g.m <= X; g.m += X - 1) {
            count(g.m == 1 ? "gemm_q8 of 1" : "gemm_q8 of 16", name, (double)g.m * N * K, gemm_q8);
            if (g.k->gemm_packed[f])
                count(g.m == 1 ? "gemm_packed of 1" : "gemm_packed of 16", name, (double)g.m * N * K, gemm_packed);
        }
    }
    for (int i = 0; i < (int)(sizeof floats / sizeof *floats); i++) {
        if (!fm_formats[floats[i]].encode || !g.k->gemv[floats[i]]) continue;
        prepare(floats[i]);
        count("gemv", fm_formats[floats[i]].name, N * K, gemv);
        count("decode", fm_formats[floats[i]].name, K, decode);
        if (!g.k->gemm_q14[floats[i]]) continue;
        count("pack", fm_formats[floats[i]].name, N * K, pack);
        for (g.m = 1; g.m <= X; g.m += X - 1) {
            const double work = (double)g.m * N * K;
            count(g.m == 1 ? "gemm_q14 of 1" : "gemm_q14 of 16", fm_formats[floats[i]].name, work, gemm_q14);
            count(g.m == 1 ? "gemm_packed of 1" : "gemm_packed of 16", fm_formats[floats[i]].name, work,
                  gemm_packed_q14);
        }
    }
    count("gemm_f32", "F32", X * X * K, gemm_f32);
}

static void rows(void)
{
    count("quantise_q8x", "", K, quantise_q8x);
    count("quantise_q14x", "", K, quantise_q14x);
    count("quantise_kv", "", TILE, quantise_kv);
    count("spread", "", TILE, spread);
    count("turn", "", TILE * TILE, turn);
    count("weigh_u8", "", X * TILE, weigh_u8);
    count("soften", "", X * TILE, soften);
    count("join", "", K, join);
    count("gemm_u8", "", X * TILE * TILE, gemm_u8);
    count("dot", "", K, dot);
    count("exp_sum", "", K, exp_sum);
    count("max", "", K, max);
    count("rms_norm", "", K, rms_norm);
    count("silu_mul", "", K, silu_mul);
    count("rope", "", K, rope);
}

static void *zeros(size_t bytes)
{
    void *p = fm_pages_alloc(bytes);
    if (!p) exit(1);
    return p;
}

int main(int argc, char **argv)
{
    struct fm_rng r;
    if (argc == 3 && !strcmp(argv[1], "--tier")) g.k = fm_kernels_tier(argv[2]);
    if (!g.k) return fprintf(stderr, "usage: count_kernel --tier NAME, one that this CPU has\n"), 2;
    g.x = zeros(X * K * sizeof *g.x);
    g.y = zeros(X * K * sizeof *g.y);
    g.z = zeros(X * K * sizeof *g.z);
    g.work = zeros(FM_GEMM_WORK * sizeof *g.work);
    g.xq = zeros(X * K / 32 * sizeof *g.xq);
    g.xq14 = zeros(X * K / 32 * sizeof *g.xq14);
    g.w = zeros(N * K * sizeof(float));
    g.packed = zeros(N * K * sizeof(float));
    g.u8 = zeros(X * K);
    g.q8 = zeros(X * K);
    g.turned = zeros(X * K);
    fm_rng_init(&r, 1);
    for (int i = 0; i < X * K; i++) {
        g.x[i] = (float)fm_rng_uniform(&r);
        g.z[i] = (float)fm_rng_uniform(&r);
        g.q8[i] = (int8_t)(fm_rng_below(&r, 255) - 127);
        g.u8[i] = (uint8_t)(g.q8[i] + 128);
    }
    products();
    rows();
    return 0;
}
