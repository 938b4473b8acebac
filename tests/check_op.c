/* op/cpu against op/ref, slot by slot, and the promises of op.h: the same bits for any number of threads, any cut into
 * chunks, flat or blocked rows.  Usage: check_op [--quick].  Exit 1 on a failure.  FATHOM_CPU chooses the tier.
 *
 * op/ref sums in double, so it is exact to a rounding; tolerances come from the float side:
 *   a chain of K fused multiply-adds   |err| <= K·eps·Σ|a·b|          (Higham 2002, §3.1), eps = 2^-24
 *   attention                          |err| <= (2·|δz| + (S + 64)·eps)·Σ p|v|, |δz| <= (Dk + 2)·eps·scale·Σ|q·k|
 *   exp, log                           a few eps relative (check_kernel proves it) */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
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
    struct fm_mat w = {f, rows, cols, (size_t)fm_format_bytes(f, (uint64_t)cols), NULL};
    float *x = rnd((size_t)rows * cols);
    w.data = keep((size_t)rows * w.row_bytes);
    for (int r = 0; r < rows; r++)
        fm_formats[f].encode((char *)w.data + (size_t)r * w.row_bytes, x + (size_t)r * cols, (size_t)cols);
    return w;
}

/* |decode(W)| as F32. */
static struct fm_mat mat_magnitude(const struct fm_mat *w)
{
    struct fm_mat m = {FM_F32, w->rows, w->cols, (size_t)w->cols * 4, keep((size_t)w->rows * w->cols * 4)};
    for (int r = 0; r < w->rows; r++)
        fm_formats[w->fmt].decode((float *)m.data + (size_t)r * w->cols, (char *)w->data + (size_t)r * w->row_bytes,
                                  (size_t)w->cols);
    float *x = m.data;
    for (size_t i = 0; i < (size_t)w->rows * w->cols; i++) x[i] = fabsf(x[i]);
    return m;
}

static bool computable(enum fm_fmt f) { return fm_formats[f].decode && fm_formats[f].encode; }

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

/* ---- products ---- */

struct mm {
    struct fm_mat w;
    const float *x;
    size_t ldx, ldy;
    int T;
};

static void run_mm(struct fm_ctx *c, float *const *out, const void *arg)
{
    const struct mm *a = arg;
    c->op->matmul(c, out[0], a->ldy, a->x, a->ldx, &a->w, a->T);
}

/* Rows one at a time, then in uneven chunks, against all at once. */
static void check_chunks(const char *what, const struct mm *a, const float *whole)
{
    float *y = filled(a->T * a->ldy, 0);
    static const int steps[] = {1, 3, 5, 28};
    for (int s = 0; s < 4; s++) {
        for (int t = 0; t < a->T; t += steps[s]) {
            int n = a->T - t < steps[s] ? a->T - t : steps[s];
            g.cpu[1].op->matmul(&g.cpu[1], y + t * a->ldy, a->ldy, a->x + t * a->ldx, a->ldx, &a->w, n);
        }
        for (int t = 0; t < a->T; t++) same_bits(what, y + t * a->ldy, whole + t * a->ldy, (size_t)a->w.rows);
    }
}

/* What rounding x to int8 blocks may do: Σ_k |w|·max|x of the block|/254, on top of the float error: a few roundings per
 * block and one addition each, of parts up to 3·|w| where a minimum is added (Q4_1). */
static float *int8_bound(const struct mm *a, const struct fm_mat *wabs, const float *float_scale, double float_rel)
{
    float *bound = keep((size_t)a->T * a->w.rows * sizeof *bound);
    for (int t = 0; t < a->T; t++)
        for (int n = 0; n < a->w.rows; n++) {
            double sum = 0;
            for (int b = 0; b < a->w.cols; b += 32) {
                double big = 0, w = 0;
                for (int k = b; k < b + 32; k++) {
                    big = fmax(big, fabs((double)a->x[t * a->ldx + k]));
                    w += ((const float *)wabs->data)[(size_t)n * a->w.cols + k];
                }
                sum += w * big / 254;
            }
            bound[t * a->w.rows + n] = (float)(1.001 * sum + float_rel * float_scale[t * a->w.rows + n]);
        }
    return bound;
}

static void check_matmul(enum fm_fmt f, int T, int N, int K, bool exact)
{
    char what[96];
    snprintf(what, sizeof what, "matmul %s %s T=%d N=%d K=%d", fm_formats[f].name, exact ? "exact" : "fast", T, N, K);
    struct mm a = {mat(f, N, K), rnd((size_t)T * (K + 5)), (size_t)K + 5, (size_t)N, T};
    struct mm mag = {mat_magnitude(&a.w), magnitude(a.x, (size_t)T * (K + 5)), a.ldx, (size_t)N, T};
    struct call k = {run_mm, &a, {(size_t)T * N}, {NULL}};
    float *got[OUTS], *want[OUTS], *scale = filled((size_t)T * N, 0);
    float *const out[] = {scale};
    set_exact(exact);
    run_mm(&g.ref, out, &mag);
    run_all(what, &k, got, want);
    if (exact || fm_formats[f].block == 1)
        close_to(what, got[0], want[0], scale, (size_t)T * N, (K + 2) * EPS);
    else
        close_to(what, got[0], want[0], int8_bound(&a, &mag.w, scale, 3 * (2 * K / 32 + 40) * EPS), (size_t)T * N, 1);
    check_chunks(what, &a, got[0]);
    set_exact(false);
    release_all();
}

static void test_matmul(void)
{
    for (int f = 0; f < FM_FMT_COUNT; f++) {
        if (!computable((enum fm_fmt)f)) continue;
        for (int exact = 0; exact < 2; exact++) {
            check_matmul((enum fm_fmt)f, 37, 130, 288, exact);
            check_matmul((enum fm_fmt)f, 2, 7, 32, exact);
            if (g.quick) continue;
            check_matmul((enum fm_fmt)f, 600, 70, 64, exact);
            check_matmul((enum fm_fmt)f, 29, 600, 1056, exact);
        }
    }
    for (int k = 1; k < 20; k += 3) check_matmul(FM_F32, 31, 33, k, false);
    check_matmul(FM_F16, 31, 33, 7, false);
    check_matmul(FM_BF16, 5, 65, 301, false);
}

/* A double product written down here, so that op/ref is not its own judge. */
static void test_matmul_double(void)
{
    enum { T = 9, N = 11, K = 100 };
    struct mm a = {mat(FM_F32, N, K), rnd(T * K), K, N, T};
    float *y = filled(T * N, NAN), *want = filled(T * N, 0), *scale = filled(T * N, 0);
    float *const out[] = {y};
    for (int t = 0; t < T; t++)
        for (int n = 0; n < N; n++) {
            double sum = 0, mag = 0;
            for (int k = 0; k < K; k++) {
                double p = (double)a.x[t * K + k] * ((float *)a.w.data)[n * K + k];
                sum += p;
                mag += fabs(p);
            }
            want[t * N + n] = (float)sum;
            scale[t * N + n] = (float)mag;
        }
    run_mm(&g.cpu[0], out, &a);
    close_to("cpu matmul against double", y, want, scale, T * N, (K + 2) * EPS);
    run_mm(&g.ref, out, &a);
    close_to("ref matmul against double", y, want, scale, T * N, 2 * EPS);
    release_all();
}

struct mm_n {
    struct fm_mat w[3];
    const float *x;
    int T;
};

static void run_mm_n(struct fm_ctx *c, float *const *out, const void *arg)
{
    const struct mm_n *a = arg;
    const struct fm_mat *w[] = {&a->w[0], &a->w[1], &a->w[2]};
    c->op->matmul_n(c, 3, out, a->x, 96, w, a->T);
}

/* Three matrices of three formats at once give the bits of three calls. */
static void test_matmul_n(void)
{
    struct mm_n a = {{mat(FM_F32, 65, 96), mat(FM_Q8_0, 200, 96), mat(FM_Q4_0, 33, 96)}, NULL, 21};
    a.x = rnd(21 * 96);
    struct call k = {run_mm_n, &a, {21 * 65, 21 * 200, 21 * 33}, {NULL}};
    float *got[OUTS], *want[OUTS];
    run_all("matmul_n", &k, got, want);
    for (int i = 0; i < 3; i++) {
        float *y = filled(k.n[i], NAN);
        g.cpu[0].op->matmul(&g.cpu[0], y, (size_t)a.w[i].rows, a.x, 96, &a.w[i], a.T);
        same_bits("matmul_n equals matmul", got[i], y, k.n[i]);
    }
    release_all();
}

struct mm_heads {
    struct fm_mat w;
    const float *x;
    int H, T;
};

enum { HEAD_ROWS = 20, HEAD_ROW0 = 8, HEAD_N = 12, HEAD_K = 64 };

/* x[T,H,K+3] → y[T,H,N] */
static void run_heads(struct fm_ctx *c, float *const *out, const void *arg)
{
    const struct mm_heads *a = arg;
    c->op->matmul_heads(c, out[0], (size_t)a->H * HEAD_N, HEAD_N, a->x, (size_t)a->H * (HEAD_K + 3), HEAD_K + 3, &a->w,
                        HEAD_ROWS, HEAD_ROW0, HEAD_N, a->H, a->T);
}

static void test_matmul_heads(void)
{
    enum { H = 24, T = 17 };
    for (int f = 0; f < FM_FMT_COUNT; f++) {
        if (!computable((enum fm_fmt)f)) continue;
        struct mm_heads a = {mat((enum fm_fmt)f, H * HEAD_ROWS, HEAD_K), rnd(T * H * (HEAD_K + 3)), H, T};
        struct call k = {run_heads, &a, {T * H * HEAD_N}, {NULL}};
        float *got[OUTS], *want[OUTS], *y = filled(T * H * HEAD_N, NAN);
        run_all("matmul_heads", &k, got, want);
        for (int t = 0; t < T; t++)
            for (int h = 0; h < H; h++) {
                struct fm_mat part = a.w;
                part.rows = HEAD_N;
                part.data = (char *)a.w.data + (size_t)(h * HEAD_ROWS + HEAD_ROW0) * a.w.row_bytes;
                g.cpu[0].op->matmul(&g.cpu[0], y + (t * H + h) * HEAD_N, HEAD_N, a.x + (t * H + h) * (HEAD_K + 3), 0,
                                    &part, 1);
            }
        same_bits("matmul_heads equals matmul", got[0], y, k.n[0]);
        /* |x|, |w| < 1.1, so Σ|x·w| < 1.3·K */
        close_to("matmul_heads", got[0], want[0], filled(k.n[0], 1.3f * HEAD_K), k.n[0],
                 fm_formats[f].block == 1 ? (HEAD_K + 2) * EPS : 1.0 / 254);
        release_all();
    }
}

struct grouped {
    struct fm_mat *w, *dw; /* dw: views of out[0], [E,N,K] */
    const float *x, *dy;
    const int32_t *start;
    int E, N, K;
    bool accumulate;
};

static void run_grouped(struct fm_ctx *c, float *const *out, const void *arg)
{
    const struct grouped *a = arg;
    c->op->matmul_grouped(c, out[0], a->x, a->w, a->start, a->E);
}

static void run_grouped_dx(struct fm_ctx *c, float *const *out, const void *arg)
{
    const struct grouped *a = arg;
    c->grad->matmul_grouped_dx(c, out[0], a->dy, a->w, a->start, a->E, a->accumulate);
}

static void run_grouped_dw(struct fm_ctx *c, float *const *out, const void *arg)
{
    const struct grouped *a = arg;
    struct fm_mat dw[16];
    for (int e = 0; e < a->E; e++)
        dw[e] = (struct fm_mat){FM_F32, a->N, a->K, (size_t)a->K * 4, out[0] + (size_t)e * a->N * a->K};
    c->grad->matmul_grouped_dw(c, dw, a->dy, a->x, a->start, a->E);
}

/* Each group alone must give the same bits; |x|, |w|, |dy| < 1.1 bounds the sums. */
static void check_grouped(enum fm_fmt f, const int32_t *start, int E, int N, int K, bool exact)
{
    struct fm_mat w[16];
    int n = start[E];
    for (int e = 0; e < E; e++) w[e] = mat(f, N, K);
    struct grouped a = {w, NULL, rnd((size_t)n * K), rnd((size_t)n * N), start, E, N, K, false};
    struct call k = {run_grouped, &a, {(size_t)n * N}, {NULL}};
    float *got[OUTS], *want[OUTS], *y = filled((size_t)n * N, NAN);
    bool fast = !exact && fm_formats[f].block > 1;
    set_exact(exact);
    run_all("matmul_grouped", &k, got, want);
    close_to("matmul_grouped", got[0], want[0], filled(k.n[0], 1.3f * (float)K), k.n[0],
             fast ? 1.0 / 254 : (K + 2) * EPS);
    for (int e = 0; e < E; e++)
        g.cpu[0].op->matmul(&g.cpu[0], y + (size_t)start[e] * N, (size_t)N, a.x + (size_t)start[e] * K, (size_t)K,
                            &w[e], start[e + 1] - start[e]);
    same_bits("matmul_grouped equals matmul", got[0], y, k.n[0]);
    struct call dx = {run_grouped_dx, &a, {(size_t)n * K}, {rnd((size_t)n * K)}};
    for (int i = 0; i < 2; i++, a.accumulate = true) {
        run_all("matmul_grouped_dx", &dx, got, want);
        close_to("matmul_grouped_dx", got[0], want[0], filled(dx.n[0], 1.3f * (float)N + 1), dx.n[0], (N + 3) * EPS);
    }
    struct call dw = {run_grouped_dw, &a, {(size_t)E * N * K}, {rnd((size_t)E * N * K)}};
    run_all("matmul_grouped_dw", &dw, got, want);
    close_to("matmul_grouped_dw", got[0], want[0], filled(dw.n[0], 1.3f * (float)n + 1), dw.n[0], (n + 3) * EPS);
    set_exact(false);
    release_all();
}

static void test_grouped(void)
{
    static const int32_t mixed[] = {0, 0, 1, 1, 4, 40, 40, 61}, skewed[] = {0, 0, 300, 300}, none[] = {0, 0, 0};
    for (int f = 0; f < FM_FMT_COUNT; f++)
        for (int exact = 0; exact < 2 && computable((enum fm_fmt)f); exact++) {
            check_grouped((enum fm_fmt)f, mixed, 7, 40, 96, exact);
            if (!g.quick || f == FM_F32) check_grouped((enum fm_fmt)f, skewed, 3, 30, 64, exact);
        }
    check_grouped(FM_F32, none, 2, 8, 8, false);
    check_grouped(FM_F32, mixed, 7, 5, 3, false);
}

struct grad_mm {
    struct fm_mat w;
    const float *x, *dy;
    size_t ldx, lddy;
    int T;
    bool accumulate;
};

static void run_dx(struct fm_ctx *c, float *const *out, const void *arg)
{
    const struct grad_mm *a = arg;
    c->grad->matmul_dx(c, out[0], a->ldx, a->dy, a->lddy, &a->w, a->T, a->accumulate);
}

static void run_dw(struct fm_ctx *c, float *const *out, const void *arg)
{
    const struct grad_mm *a = arg;
    struct fm_mat dw = {FM_F32, a->w.rows, a->w.cols, (size_t)a->w.cols * 4, out[0]};
    c->grad->matmul_dw(c, &dw, a->dy, a->lddy, a->x, a->ldx, a->T);
}

static void check_grad_mm(enum fm_fmt f, int T, int N, int K)
{
    size_t nx = (size_t)T * (K + 3), nw = (size_t)N * K;
    struct grad_mm a = {mat(f, N, K), rnd(nx), rnd((size_t)T * (N + 2)), (size_t)K + 3, (size_t)N + 2, T, false};
    struct grad_mm mag = a;
    mag.w = mat_magnitude(&a.w);
    mag.x = magnitude(a.x, nx);
    mag.dy = magnitude(a.dy, (size_t)T * (N + 2));
    float *got[OUTS], *want[OUTS], *start = rnd(nx), *scale[OUTS];
    struct call k = {run_dx, &a, {nx}, {start}}, m = {run_dx, &mag, {nx}, {magnitude(start, nx)}};
    for (int i = 0; i < 2; i++, mag.accumulate = a.accumulate = true) {
        run_all("matmul_dx", &k, got, want);
        run_call(&m, &g.ref, scale);
        close_to("matmul_dx", got[0], want[0], scale[0], nx, (N + 3) * EPS);
    }
    start = rnd(nw);
    struct call kw = {run_dw, &a, {nw}, {start}}, mw = {run_dw, &mag, {nw}, {magnitude(start, nw)}};
    run_all("matmul_dw", &kw, got, want);
    run_call(&mw, &g.ref, scale);
    close_to("matmul_dw", got[0], want[0], scale[0], nw, (T + 3) * EPS);
    release_all();
}

static void test_grad_matmul(void)
{
    for (int f = 0; f < FM_FMT_COUNT; f++)
        if (computable((enum fm_fmt)f)) check_grad_mm((enum fm_fmt)f, 37, 75, 288);
    check_grad_mm(FM_F32, 1, 1, 1);
    check_grad_mm(FM_F32, 70, 131, 65);
    if (!g.quick) check_grad_mm(FM_Q8_0, 520, 300, 544);
}

/* ---- rows ---- */

struct rows {
    const float *a, *b, *w;
    const int32_t *ids;
    struct fm_mat mat;
    int rows, D, repeat;
    size_t ld;
    bool flag, inverse;
};

static void run_embed(struct fm_ctx *c, float *const *out, const void *arg)
{
    const struct rows *a = arg;
    c->op->embed(c, out[0], &a->mat, a->ids, a->rows);
}

static void run_embed_bwd(struct fm_ctx *c, float *const *out, const void *arg)
{
    const struct rows *a = arg;
    struct fm_mat dw = {FM_F32, a->mat.rows, a->D, (size_t)a->D * 4, out[0]};
    c->grad->embed(c, &dw, a->a, a->ids, a->rows);
}

static void test_embed(void)
{
    enum { V = 50, T = 300, D = 160 };
    int32_t *ids = keep(T * sizeof *ids);
    for (int t = 0; t < T; t++) ids[t] = (int32_t)fm_rng_below(&g.rng, V);
    float *got[OUTS], *want[OUTS];
    for (int f = 0; f < FM_FMT_COUNT; f++) {
        if (!computable((enum fm_fmt)f)) continue;
        struct rows a = {.mat = mat((enum fm_fmt)f, V, D), .ids = ids, .rows = T, .D = D};
        struct call k = {run_embed, &a, {T * D}, {NULL}};
        run_all("embed", &k, got, want);
        same_bits("embed equals decode", got[0], want[0], T * D);
    }
    struct rows a = {.mat = {.rows = V}, .a = rnd(T * D), .ids = ids, .rows = T, .D = D};
    struct call k = {run_embed_bwd, &a, {V * D}, {rnd(V * D)}};
    run_all("embed gradient", &k, got, want);
    same_bits("embed gradient in order of t", got[0], want[0], V * D);
    release_all();
}

static void run_add(struct fm_ctx *c, float *const *out, const void *arg)
{
    const struct rows *a = arg;
    c->op->add(c, out[0], a->flag ? out[0] : a->a, a->b, (size_t)a->rows);
}

static void run_bias(struct fm_ctx *c, float *const *out, const void *arg)
{
    const struct rows *a = arg;
    c->op->add_bias(c, out[0], a->a, a->rows, a->D);
}

static void run_bias_bwd(struct fm_ctx *c, float *const *out, const void *arg)
{
    const struct rows *a = arg;
    c->grad->bias(c, out[0], a->a, a->rows, a->D);
}

static void run_copy(struct fm_ctx *c, float *const *out, const void *arg)
{
    const struct rows *a = arg;
    c->op->copy(c, out[0], a->ld, a->a, (size_t)a->D + 1, a->repeat, a->rows, a->D);
}

static void run_sum_repeat(struct fm_ctx *c, float *const *out, const void *arg)
{
    const struct rows *a = arg;
    c->grad->sum_repeat(c, out[0], (size_t)a->D + 1, a->a, a->ld, a->repeat, a->rows, a->D);
}

static void test_sums(void)
{
    enum { N = 40001, T = 150, D = 131 };
    float *got[OUTS], *want[OUTS];
    struct rows a = {.a = rnd(N), .b = rnd(N), .rows = N};
    struct call k = {run_add, &a, {N}, {rnd(N)}};
    for (int alias = 0; alias < 2; alias++, a.flag = true) {
        run_all("add", &k, got, want);
        same_bits("add", got[0], want[0], N);
    }
    struct rows b = {.a = rnd(T * D), .rows = T, .D = D, .repeat = 3, .ld = D + 4};
    struct call kb = {run_bias, &b, {T * D}, {rnd(T * D)}};
    run_all("add_bias", &kb, got, want);
    same_bits("add_bias", got[0], want[0], T * D);
    struct call kg = {run_bias_bwd, &b, {D}, {rnd(D)}};
    run_all("bias gradient", &kg, got, want);
    close_to("bias gradient", got[0], want[0], filled(D, T), D, T * EPS);
    b.a = rnd((size_t)T * (D + 4));
    struct call kc = {run_copy, &b, {(size_t)T * (D + 4)}, {filled((size_t)T * (D + 4), 7)}};
    run_all("copy", &kc, got, want);
    same_bits("copy", got[0], want[0], kc.n[0]);
    b.rows = T / 3;
    struct call ks = {run_sum_repeat, &b, {(size_t)T / 3 * (D + 1)}, {filled((size_t)T / 3 * (D + 1), 7)}};
    run_all("sum_repeat", &ks, got, want);
    close_to("sum_repeat", got[0], want[0], filled(ks.n[0], 7), ks.n[0], 3 * EPS);
    release_all();
}

static void run_norm(struct fm_ctx *c, float *const *out, const void *arg)
{
    const struct rows *a = arg;
    c->op->rms_norm(c, out[0], a->ld, a->flag ? out[0] : a->a, a->ld, a->w, a->rows, a->D, 1e-6f);
}

static void run_norm_bwd(struct fm_ctx *c, float *const *out, const void *arg)
{
    const struct rows *a = arg;
    c->grad->rms_norm(c, out[0], a->ld, a->flag ? out[1] : NULL, a->b, a->ld, a->a, a->ld, a->w, a->rows, a->D, 1e-6f,
                      a->inverse);
}

/* Sums of D squares in 8 lanes: relative error (D/8 + 4)·eps, half of it after the root; products add a few eps. */
static void check_norm(int rows, int D)
{
    size_t ld = (size_t)D + 3, n = (size_t)rows * ld;
    struct rows a = {.a = rnd(n), .b = rnd(n), .w = rnd((size_t)D), .rows = rows, .D = D, .ld = ld};
    struct call k = {run_norm, &a, {n}, {a.a}};
    float *got[OUTS], *want[OUTS];
    double rel = (D / 8.0 + 8) * EPS;
    for (int i = 0; i < 3; i++) {
        a.flag = i == 1; /* in place */
        if (i == 2) a.w = NULL;
        run_all("rms_norm", &k, got, want);
        close_to("rms_norm", got[0], want[0], NULL, n, rel);
    }
    /* |x̂| <= sqrt(D), so every term of dx is at most 2·r·max|w·dy|·sqrt(D); r > 1 comes from small rows: bound by r <= 4 */
    struct call kb = {run_norm_bwd, &a, {n, (size_t)D}, {rnd(n), rnd((size_t)D)}};
    for (int i = 0; i < 4; i++) {
        a.flag = i & 1;
        a.inverse = i >> 1;
        a.w = i & 1 ? rnd((size_t)D) : NULL;
        run_all("rms_norm gradient", &kb, got, want);
        close_to("rms_norm gradient x", got[0], want[0], filled(n, 8 * sqrtf((float)D) + 1), n, 4 * rel);
        close_to("rms_norm gradient w", got[1], want[1], filled((size_t)D, 2 * (float)rows + 1), (size_t)D,
                 (rows + D / 8.0 + 8) * EPS);
    }
    release_all();
}

static void test_norm(void)
{
    check_norm(1, 64);
    check_norm(3, 100);
    check_norm(700, 48);
    check_norm(130, 257);
}

static void run_rope_table(struct fm_ctx *c, float *const *out, const void *arg)
{
    const struct rows *a = arg;
    double freq[32];
    for (int i = 0; i < a->D; i++) freq[i] = pow(10000, -(double)i / a->D);
    c->op->rope_table(c, out[0], a->ids, a->rows, freq, a->D);
}

static void run_rope(struct fm_ctx *c, float *const *out, const void *arg)
{
    const struct rows *a = arg;
    c->op->rope(c, out[0], a->ld, (size_t)2 * a->D + 1, a->repeat, a->rows, a->a, a->D, a->flag, a->inverse);
}

static void test_rope(void)
{
    enum { T = 60, HALF = 12, H = 5, LD = H * (2 * HALF + 1) + 2 };
    int32_t *pos = keep(T * sizeof *pos);
    for (int t = 0; t < T; t++) pos[t] = t * t * 300;
    struct rows a = {.ids = pos, .rows = T, .D = HALF, .repeat = H, .ld = LD};
    struct call k = {run_rope_table, &a, {T * HALF * 2}, {NULL}};
    float *got[OUTS], *want[OUTS];
    run_all("rope_table", &k, got, want);
    close_to("rope_table", got[0], want[0], filled(k.n[0], 1), k.n[0], EPS);
    a.a = got[0];
    struct call kr = {run_rope, &a, {T * LD}, {rnd(T * LD)}};
    for (int i = 0; i < 4; i++) {
        a.flag = i & 1;
        a.inverse = i >> 1;
        run_all("rope", &kr, got, want);
        close_to("rope", got[0], want[0], filled(kr.n[0], 2), kr.n[0], 3 * EPS);
    }
    release_all();
}

static void run_swiglu(struct fm_ctx *c, float *const *out, const void *arg)
{
    const struct rows *a = arg;
    c->op->swiglu(c, out[0], a->flag ? out[0] : a->a, a->b, (size_t)a->rows);
}

static void run_swiglu_bwd(struct fm_ctx *c, float *const *out, const void *arg)
{
    const struct rows *a = arg;
    c->grad->swiglu(c, out[0], out[1], a->w, a->a, a->b, (size_t)a->rows);
}

static void test_swiglu(void)
{
    enum { N = 50003 };
    struct rows a = {.a = rnd(N), .b = rnd(N), .w = rnd(N), .rows = N};
    float *g10 = copy_of(a.a, N), *got[OUTS], *want[OUTS];
    for (int i = 0; i < N; i++) g10[i] *= 100; /* the tails as well */
    a.a = g10;
    struct call k = {run_swiglu, &a, {N}, {g10}};
    for (int i = 0; i < 2; i++, a.flag = true) {
        run_all("swiglu", &k, got, want);
        close_to("swiglu", got[0], want[0], filled(N, 100), N, 16 * EPS);
    }
    struct call kb = {run_swiglu_bwd, &a, {N, N}, {NULL}};
    run_all("swiglu gradient", &kb, got, want);
    close_to("swiglu gradient g", got[0], want[0], filled(N, 2), N, 128 * EPS); /* 1 + g(1−σ): g up to 100 */
    close_to("swiglu gradient u", got[1], want[1], filled(N, 100), N, 16 * EPS);
    release_all();
}

/* ---- attention ---- */

enum { SEQS = 3 };

/* Up to three sequences with keys and values of their own, flat or in blocks; rows after the last position are NaN. */
struct attn {
    struct fm_attn a;
    struct fm_seq seqs[SEQS];
    int n_seqs, T;
    struct fm_rows k[SEQS], v[SEQS];
    const float *q;
};

static struct fm_batch batch_of(const struct attn *x)
{
    return (struct fm_batch){.T = x->T, .n_seqs = x->n_seqs, .seqs = x->seqs};
}

static void run_attn(struct fm_ctx *c, float *const *out, const void *arg)
{
    const struct attn *x = arg;
    struct fm_batch b = batch_of(x);
    c->op->attn(c, out[0], out[1], x->q, x->k, x->v, &x->a, &b);
}

/* Rows of n positions, NaN after them, with a gap between heads and rows and an offset. */
static struct fm_rows flat_rows(int n, int heads, int width)
{
    struct fm_rows r = {.offset = 3, .head = (size_t)width + 1, .stride = (size_t)heads * (width + 1) + 5};
    size_t used = (size_t)n * r.stride, all = (size_t)(n + FM_KV_BLOCK) * r.stride + r.offset;
    r.flat = rnd(all);
    for (size_t i = used; i < all; i++) r.flat[i] = NAN;
    return r;
}

/* The same rows in blocks that lie apart, last rows uninitialised (NaN). */
static struct fm_rows block_rows(const struct fm_rows *flat, int n)
{
    int blocks = (n + FM_KV_BLOCK - 1) / FM_KV_BLOCK;
    size_t floats = FM_KV_BLOCK * flat->stride;
    fm_real **list = keep((size_t)blocks * sizeof *list);
    for (int i = blocks - 1; i >= 0; i--) {
        int rows = n - i * FM_KV_BLOCK < FM_KV_BLOCK ? n - i * FM_KV_BLOCK : FM_KV_BLOCK;
        list[i] = filled(floats, NAN);
        memcpy(list[i], flat->flat + i * floats, (size_t)rows * flat->stride * sizeof(float));
    }
    return (struct fm_rows){.blocks = list, .offset = 0, .stride = flat->stride, .head = flat->head};
}

static struct attn attn_case(int H, int Hkv, int Dk, int Dv, const int *pos0, const int *n, int n_seqs)
{
    struct attn x = {.a = {H, Hkv, Dk, Dv, 1 / sqrtf((float)Dk)}, .n_seqs = n_seqs};
    for (int s = 0; s < n_seqs; s++) {
        x.seqs[s] =
            (struct fm_seq){.row0 = x.T, .n = n[s], .pos0 = pos0[s], .segment_pos0 = pos0[s], .segment_n = n[s]};
        x.T += n[s];
        x.k[s] = flat_rows(pos0[s] + n[s], Hkv, Dk);
        x.v[s] = flat_rows(pos0[s] + n[s], Hkv, Dv);
    }
    x.q = rnd((size_t)x.T * H * Dk);
    return x;
}

/* |z| <= sqrt(Dk) here, its error (Dk + 2)·eps·sqrt(Dk); Σ p|v| <= 1 */
static double attn_bound(const struct attn *x)
{
    double z = sqrt(x->a.Dk), S = 0;
    for (int s = 0; s < x->n_seqs; s++) S = fmax(S, x->seqs[s].pos0 + x->seqs[s].n);
    return (2 * (x->a.Dk + 2) * z + S + 64) * EPS;
}

/* Rows [t, t+n) of sequence s alone. */
static struct attn attn_part(const struct attn *x, int s, int t, int n)
{
    struct attn p = *x;
    p.n_seqs = 1;
    p.T = n;
    p.seqs[0] = x->seqs[s];
    p.seqs[0].row0 = 0;
    p.seqs[0].pos0 += t;
    p.seqs[0].n = n;
    p.k[0] = x->k[s];
    p.v[0] = x->v[s];
    p.q = x->q + (size_t)(x->seqs[s].row0 + t) * x->a.H * x->a.Dk;
    return p;
}

/* Each sequence by itself, in chunks of 1, 7, 64 and 100 rows. */
static void check_attn_chunks(const struct attn *x, const float *y, const float *lse)
{
    static const int steps[] = {1, 7, 64, 100};
    size_t wy = (size_t)x->a.H * x->a.Dv, wl = (size_t)x->a.H;
    for (int i = 0; i < 4; i++)
        for (int s = 0; s < x->n_seqs; s++)
            for (int t = 0; t < x->seqs[s].n; t += steps[i]) {
                if (steps[i] == 1 && g.quick && t % 13) continue;
                int n = x->seqs[s].n - t < steps[i] ? x->seqs[s].n - t : steps[i], row = x->seqs[s].row0 + t;
                struct attn p = attn_part(x, s, t, n);
                struct call k = {run_attn, &p, {n * wy, n * wl}, {NULL}};
                float *out[OUTS];
                run_call(&k, &g.cpu[i % 3], out);
                same_bits("attn chunks", out[0], y + row * wy, n * wy);
                same_bits("attn chunks lse", out[1], lse + row * wl, n * wl);
            }
}

static void check_attn(int H, int Hkv, int Dk, int Dv, const int *pos0, const int *n, int n_seqs)
{
    struct attn x = attn_case(H, Hkv, Dk, Dv, pos0, n, n_seqs), blocks = x;
    size_t ny = (size_t)x.T * H * Dv, nl = (size_t)x.T * H;
    struct call k = {run_attn, &x, {ny, nl}, {NULL}};
    float *got[OUTS], *want[OUTS], *out[OUTS];
    run_all("attn", &k, got, want);
    close_to("attn", got[0], want[0], filled(ny, 1), ny, attn_bound(&x));
    close_to("attn lse", got[1], want[1], filled(nl, 1), nl, attn_bound(&x) + 16 * EPS);
    for (int s = 0; s < n_seqs; s++) {
        x.k[s].flat += x.k[s].offset; /* blocks carry the offset inside, to vary it */
        x.v[s].flat += x.v[s].offset;
        blocks.k[s] = block_rows(&x.k[s], pos0[s] + n[s]);
        blocks.v[s] = block_rows(&x.v[s], pos0[s] + n[s]);
        x.k[s].offset = x.v[s].offset = 0;
    }
    k.arg = &blocks;
    run_call(&k, &g.cpu[1], out);
    same_bits("attn blocks", out[0], got[0], ny);
    check_attn_chunks(&blocks, got[0], got[1]);
    release_all();
}

static void test_attn(void)
{
    check_attn(4, 2, 24, 16, (int[]){0, 70, 5}, (int[]){150, 3, 1}, 3);
    check_attn(6, 1, 40, 33, (int[]){127, 0}, (int[]){2, 65}, 2);
    check_attn(16, 1, 72, 64, (int[]){200}, (int[]){1}, 1);
    check_attn(2, 2, 7, 5, (int[]){0}, (int[]){1}, 1);
    if (g.quick) return;
    check_attn(16, 1, 576, 512, (int[]){300, 90}, (int[]){1, 40}, 2);
    check_attn(8, 8, 64, 64, (int[]){0, 64, 63}, (int[]){400, 64, 66}, 3);
    check_attn(12, 3, 32, 32, (int[]){1000}, (int[]){1}, 1);
}

/* Large scores and a rising maximum: the rescaling must not lose or overflow anything. */
static void test_attn_extremes(void)
{
    struct attn x = attn_case(2, 1, 8, 8, (int[]){0}, (int[]){200}, 1);
    for (int s = 0; s < 200; s++)
        for (int i = 0; i < 8; i++) fm_rows_at(&x.k[0], s)[i] *= (float)s;
    size_t n = (size_t)x.T * 2 * 8;
    struct call k = {run_attn, &x, {n, (size_t)x.T * 2}, {NULL}};
    float *got[OUTS], *want[OUTS];
    run_all("attn extremes", &k, got, want);
    close_to("attn extremes", got[0], want[0], filled(n, 1), n, attn_bound(&x) * 200);
    release_all();
}

/* Attention in double, written down here: loss = Σ dy·y, for finite differences. */
static double attn_loss(const double *q, const double *k, const double *v, const float *dy, int T, int Dk, int Dv,
                        double scale)
{
    double loss = 0;
    for (int t = 0; t < T; t++) {
        double z[64], m = -1e300, l = 0;
        for (int s = 0; s <= t; s++) {
            z[s] = 0;
            for (int i = 0; i < Dk; i++) z[s] += q[t * Dk + i] * k[s * Dk + i] * scale;
            m = fmax(m, z[s]);
        }
        for (int s = 0; s <= t; s++) l += exp(z[s] - m);
        for (int s = 0; s <= t; s++)
            for (int j = 0; j < Dv; j++) loss += exp(z[s] - m) / l * v[s * Dv + j] * dy[t * Dv + j];
    }
    return loss;
}

/* d loss / d x[i] by central differences. */
static void differences(float *dx, double *x, int n, const double *q, const double *k, const double *v, const float *dy,
                        int T, int Dk, int Dv, double scale)
{
    const double h = 1e-5;
    for (int i = 0; i < n; i++) {
        double x0 = x[i];
        x[i] = x0 + h;
        double up = attn_loss(q, k, v, dy, T, Dk, Dv, scale);
        x[i] = x0 - h;
        double down = attn_loss(q, k, v, dy, T, Dk, Dv, scale);
        x[i] = x0;
        dx[i] = (float)((up - down) / (2 * h));
    }
}

static double *widened(const float *x, int n)
{
    double *d = keep((size_t)n * sizeof *d);
    for (int i = 0; i < n; i++) d[i] = x[i];
    return d;
}

struct attn_grad {
    struct attn x;
    const float *dy, *y, *lse;
    size_t k_ld, v_ld; /* dk, dv rows: [T, Hkv, …] with gaps */
    size_t k_head, v_head;
};

static void run_attn_bwd(struct fm_ctx *c, float *const *out, const void *arg)
{
    const struct attn_grad *a = arg;
    struct fm_batch b = batch_of(&a->x);
    struct fm_rows dk[SEQS], dv[SEQS];
    for (int s = 0; s < a->x.n_seqs; s++) {
        size_t row = (size_t)a->x.seqs[s].row0;
        dk[s] = (struct fm_rows){.flat = out[1] + row * a->k_ld, .stride = a->k_ld, .head = a->k_head};
        dv[s] = (struct fm_rows){.flat = out[2] + row * a->v_ld, .stride = a->v_ld, .head = a->v_head};
    }
    c->grad->attn(c, out[0], dk, dv, a->dy, a->y, a->lse, a->x.q, a->x.k, a->x.v, &a->x.a, &b);
}

static void test_attn_grad_double(void)
{
    enum { T = 20, DK = 6, DV = 4 };
    struct attn_grad a = {.x = attn_case(1, 1, DK, DV, (int[]){0}, (int[]){T}, 1), .k_ld = DK, .v_ld = DV};
    a.x.k[0] = (struct fm_rows){.flat = rnd(T * DK), .stride = DK};
    a.x.v[0] = (struct fm_rows){.flat = rnd(T * DV), .stride = DV};
    a.dy = rnd(T * DV);
    struct call f = {run_attn, &a.x, {T * DV, T}, {NULL}}, k = {run_attn_bwd, &a, {T * DK, T * DK, T * DV}, {NULL}};
    float *y[OUTS], *got[OUTS], *want[OUTS] = {rnd(T * DK), rnd(T * DK), rnd(T * DV)};
    double *q = widened(a.x.q, T * DK), *kd = widened(a.x.k[0].flat, T * DK), *v = widened(a.x.v[0].flat, T * DV);
    double scale = (double)a.x.a.scale;
    differences(want[0], q, T * DK, q, kd, v, a.dy, T, DK, DV, scale);
    differences(want[1], kd, T * DK, q, kd, v, a.dy, T, DK, DV, scale);
    differences(want[2], v, T * DV, q, kd, v, a.dy, T, DK, DV, scale);
    for (int i = 0; i < 2; i++) {
        struct fm_ctx *c = i ? &g.cpu[0] : &g.ref;
        run_call(&f, c, y);
        a.y = y[0];
        a.lse = y[1];
        run_call(&k, c, got);
        for (int o = 0; o < OUTS; o++)
            close_to("attn gradient against differences", got[o], want[o], filled(k.n[o], T), k.n[o], 200 * EPS);
    }
    release_all();
}

static void check_attn_grad(int H, int Hkv, int Dk, int Dv, const int *n, int n_seqs)
{
    struct attn_grad a = {.x = attn_case(H, Hkv, Dk, Dv, (int[]){0, 0, 0}, n, n_seqs)};
    size_t nq = (size_t)a.x.T * H * Dk, ny = (size_t)a.x.T * H * Dv;
    a.k_head = (size_t)Dk + 2;
    a.v_head = (size_t)Dv + 1;
    a.k_ld = Hkv * a.k_head;
    a.v_ld = Hkv * a.v_head;
    a.dy = rnd(ny);
    struct call f = {run_attn, &a.x, {ny, (size_t)a.x.T * H}, {NULL}};
    struct call k = {run_attn_bwd, &a, {nq, a.x.T * a.k_ld, a.x.T * a.v_ld}, {NULL}};
    float *y[OUTS], *got[OUTS], *want[OUTS];
    for (int o = 0; o < OUTS; o++) k.init[o] = filled(k.n[o], 7); /* also the gaps, which stay */
    run_call(&f, &g.cpu[0], y);
    a.y = y[0];
    a.lse = y[1];
    run_all("attn gradient", &k, got, want);
    /* |dy·v|, |dy·y| <= Dv; Σ_t p <= T/… : every output is a sum of at most T·H/Hkv terms below 2·Dv */
    double rel = attn_bound(&a.x) + (Dv + n[0]) * EPS;
    for (int o = 0; o < OUTS; o++)
        close_to("attn gradient", got[o], want[o], filled(k.n[o], (float)(2 * Dv * H / Hkv)), k.n[o], rel);
    release_all();
}

static void test_attn_grad(void)
{
    test_attn_grad_double();
    check_attn_grad(4, 2, 24, 16, (int[]){150, 3, 70}, 3);
    check_attn_grad(2, 2, 7, 5, (int[]){1}, 1);
    check_attn_grad(3, 1, 32, 48, (int[]){65, 64}, 2);
    if (!g.quick) check_attn_grad(8, 4, 96, 64, (int[]){512, 257}, 2);
}

struct cache {
    struct fm_rows *rows;
    const float *src;
    struct fm_batch *b;
    int n, cols;
    size_t ld;
};

static void run_store_fetch(struct fm_ctx *c, float *const *out, const void *arg)
{
    const struct cache *a = arg;
    c->op->store(c, a->rows, a->src, a->ld, a->cols, a->b);
    c->op->fetch(c, out[0], &a->rows[1], a->n, a->cols);
}

static void test_cache(void)
{
    enum { COLS = 90, N = 200, LD = COLS + 3 };
    struct fm_rows rows[2] = {flat_rows(40, 1, COLS), flat_rows(N, 1, COLS)};
    struct fm_seq seqs[2] = {{.row0 = 0, .n = 2, .pos0 = 30}, {.row0 = 2, .n = N, .pos0 = 0}};
    struct fm_batch b = {.T = N + 2, .n_seqs = 2, .seqs = seqs};
    float *src = rnd((N + 2) * LD), *got[OUTS], *want[OUTS], *packed = filled(N * COLS, 0);
    for (int i = 0; i < N; i++) memcpy(packed + i * COLS, src + (i + 2) * LD, COLS * sizeof(float));
    rows[1] = block_rows(&rows[1], N);
    struct cache a = {rows, src, &b, N, COLS, LD};
    struct call k = {run_store_fetch, &a, {N * COLS}, {NULL}};
    run_all("store, fetch", &k, got, want);
    same_bits("store, fetch", got[0], packed, N * COLS);
    same_bits("store, fetch ref", want[0], packed, N * COLS);
    same_bits("store at a position", fm_rows_at(&rows[0], 31), src + LD, COLS);
    release_all();
}

/* ---- mixture of experts ---- */

struct route {
    struct fm_router r;
    const float *logits, *bias, *dw, *dscores;
    const int32_t *idx;
    const float *w, *scores;
    int T;
};

/* idx leaves through out[2] as bits, so that all outputs are compared alike. */
static void run_router(struct fm_ctx *c, float *const *out, const void *arg)
{
    const struct route *a = arg;
    c->op->router(c, (int32_t *)(void *)out[2], out[0], out[1], a->logits, a->bias, &a->r, a->T);
}

static void run_router_bwd(struct fm_ctx *c, float *const *out, const void *arg)
{
    const struct route *a = arg;
    c->grad->router(c, out[0], a->dw, a->dscores, a->idx, a->w, a->scores, &a->r, a->T);
}

static void check_router(struct fm_router r, int T, bool bias)
{
    size_t ne = (size_t)T * r.E, nk = (size_t)T * r.K;
    struct route a = {.r = r, .logits = rnd(ne), .bias = bias ? rnd((size_t)r.E) : NULL, .dw = rnd(nk), .T = T};
    struct call k = {run_router, &a, {nk, ne, nk}, {NULL}};
    float *got[OUTS], *want[OUTS];
    run_all("router", &k, got, want);
    same_bits("router's choice", got[2], want[2], nk);
    close_to("router scores", got[1], want[1], NULL, ne, (r.E / 8.0 + 24) * EPS);
    close_to("router weights", got[0], want[0], NULL, nk, (r.E / 8.0 + 32 + r.K) * EPS);
    a.idx = (const int32_t *)(const void *)got[2];
    a.w = got[0];
    a.scores = got[1];
    struct call kb = {run_router_bwd, &a, {ne}, {NULL}};
    for (int i = 0; i < 2; i++, a.dscores = rnd(ne)) {
        float *dgot[OUTS], *dwant[OUTS];
        run_all("router gradient", &kb, dgot, dwant);
        /* |dw| < 1, Σs > K·min s: norm_topk divides by Σs once */
        close_to("router gradient", dgot[0], dwant[0], filled(ne, 2 * r.scale * (float)r.K + 2), ne,
                 (r.E + 32) * EPS * (r.norm_topk ? 8 : 1));
    }
    release_all();
}

/* Equal scores: the lower expert first, the lower group first; a bias that only moves the choice. */
static void test_router_ties(void)
{
    static const float logits[8] = {0, 0, 0, 0, 0, 0, 0, 0}, bias[8] = {0, 0, 0, 0.5f, 0, 0, 0, 0.25f};
    struct route a = {.r = {8, 4, 4, 2, true, true, true, 2}, .logits = logits, .T = 1};
    struct call k = {run_router, &a, {4, 8, 4}, {NULL}};
    static const int32_t even[4] = {0, 1, 2, 3}, biased[4] = {3, 7, 2, 6};
    float *got[OUTS], *want[OUTS];
    run_all("router ties", &k, got, want);
    report(!memcmp(got[2], even, sizeof even) && !memcmp(want[2], even, sizeof even), "router ties", "wrong order");
    a.bias = bias;
    run_all("router bias", &k, got, want);
    report(!memcmp(got[2], biased, sizeof biased) && !memcmp(want[2], biased, sizeof biased), "router bias",
           "wrong order");
    close_to("router weights of equal scores", got[0], filled(4, 0.5f), NULL, 4, 4 * EPS);
    release_all();
}

static void test_router(void)
{
    test_router_ties();
    check_router((struct fm_router){64, 6, 1, 1, false, false, false, 1}, 50, false);
    check_router((struct fm_router){160, 6, 8, 3, false, false, false, 16}, 30, false);
    check_router((struct fm_router){256, 8, 8, 4, true, true, true, 2.5f}, 70, true);
    check_router((struct fm_router){8, 2, 1, 1, true, false, true, 1}, 900, true);
    check_router((struct fm_router){3, 3, 3, 3, true, true, false, 1}, 5, false);
}

struct moe {
    const int32_t *idx, *order, *slot;
    const float *x, *w, *dy;
    int T, K, E, D;
    bool accumulate;
};

static void run_sort(struct fm_ctx *c, float *const *out, const void *arg)
{
    const struct moe *a = arg;
    c->op->moe_sort(c, (int32_t *)(void *)out[0], (int32_t *)(void *)out[1], (int32_t *)(void *)out[2], a->idx, a->T,
                    a->K, a->E);
}

static void run_gather(struct fm_ctx *c, float *const *out, const void *arg)
{
    const struct moe *a = arg;
    c->op->moe_gather(c, out[0], a->x, a->order, a->K, a->T * a->K, a->D);
}

static void run_combine(struct fm_ctx *c, float *const *out, const void *arg)
{
    const struct moe *a = arg;
    c->op->moe_combine(c, out[0], a->x, a->w, a->slot, a->T, a->K, a->D, a->accumulate);
}

static void run_combine_bwd(struct fm_ctx *c, float *const *out, const void *arg)
{
    const struct moe *a = arg;
    c->grad->moe_combine(c, out[0], out[1], a->dy, a->x, a->w, a->slot, a->T, a->K, a->D);
}

static void test_moe(void)
{
    enum { T = 70, K = 3, E = 9, D = 131, N = T * K };
    int32_t *idx = keep(N * sizeof *idx);
    for (int i = 0; i < N; i++) idx[i] = (int32_t)((fm_rng_below(&g.rng, 4) * 2 + (uint64_t)(i % K) * 4) % E);
    struct moe a = {.idx = idx, .x = rnd(N * D), .w = rnd(N), .dy = rnd(T * D), .T = T, .K = K, .E = E, .D = D};
    float *sorted[OUTS], *got[OUTS], *want[OUTS];
    struct call ks = {run_sort, &a, {N, N, E + 1}, {NULL}};
    run_all("moe_sort", &ks, sorted, want);
    for (int o = 0; o < OUTS; o++) same_bits("moe_sort", sorted[o], want[o], ks.n[o]);
    a.order = (const int32_t *)(const void *)sorted[0];
    a.slot = (const int32_t *)(const void *)sorted[1];
    struct call kg = {run_gather, &a, {N * D}, {NULL}}, kc = {run_combine, &a, {T * D}, {rnd(T * D)}};
    run_all("moe_gather", &kg, got, want);
    same_bits("moe_gather", got[0], want[0], N * D);
    for (int i = 0; i < 3; i++) {
        a.accumulate = i == 1;
        if (i == 2) a.w = NULL;
        run_all("moe_combine", &kc, got, want);
        close_to("moe_combine", got[0], want[0], filled(T * D, K + 1), T * D, (K + 2) * EPS);
    }
    for (int i = 0; i < 2; i++, a.w = rnd(N)) {
        struct call kb = {run_combine_bwd, &a, {N * D, N}, {NULL}};
        run_all("moe_combine gradient", &kb, got, want);
        close_to("moe_combine gradient x", got[0], want[0], NULL, N * D, EPS * 1.01);
        close_to("moe_combine gradient w", got[1], want[1], filled(N, D), N, (D / 8.0 + 4) * EPS);
    }
    release_all();
}

/* ---- loss, optimiser ---- */

struct loss {
    const float *logits;
    const int32_t *target;
    int T, V, mode; /* 0: dlogits apart; 1: in place; 2: no gradient */
};

static void run_loss(struct fm_ctx *c, float *const *out, const void *arg)
{
    const struct loss *a = arg;
    c->grad->cross_entropy(c, out[0], a->mode == 2 ? NULL : out[1], a->mode == 1 ? out[1] : a->logits, a->target, a->T,
                           a->V, 0.25f);
}

static void check_loss(int T, int V)
{
    size_t n = (size_t)T * V;
    float *logits = rnd(n), *got[OUTS], *want[OUTS], *first = NULL;
    int32_t *target = keep((size_t)T * sizeof *target);
    for (size_t i = 0; i < n; i++) logits[i] *= 10;
    for (int t = 0; t < T; t++) target[t] = t % 7 == 3 ? -1 : (int32_t)fm_rng_below(&g.rng, (uint64_t)V);
    struct loss a = {logits, target, T, V, 0};
    struct call k = {run_loss, &a, {(size_t)T, n}, {NULL, logits}};
    for (; a.mode < 3; a.mode++) {
        run_all("cross_entropy", &k, got, want);
        /* sums of at most 8192/8 terms in a lane, then double; |log Σ| <= 10 + log V */
        close_to("cross_entropy loss", got[0], want[0], filled((size_t)T, 25), (size_t)T, (1024 + 16) * EPS / 20);
        close_to("cross_entropy gradient", got[1], want[1], filled(n, 0.25f), n, (1024 + 16) * EPS);
        if (first) same_bits("cross_entropy whatever the output", got[0], first, (size_t)T);
        first = got[0];
    }
    release_all();
}

static void test_loss(void)
{
    check_loss(11, 1000);
    check_loss(2, 20011);
    check_loss(40, 257);
    if (!g.quick) check_loss(5, 150000);
}

static void test_optim(void)
{
    enum { N = 200001 };
    const struct fm_adamw_step s = {1e-2f, 0.9f, 0.95f, 1e-8f, 0.1f, 0.1f, 0.05f, 0.5f};
    float *p = rnd(N), *m = rnd(N), *v = magnitude(rnd(N), N), *gr = rnd(N), *first[3] = {NULL};
    for (int t = 0; t < 3; t++) {
        float *out[3] = {copy_of(p, N), copy_of(m, N), copy_of(v, N)};
        fm_cpu_adamw(&g.cpu[t], out[0], out[1], out[2], gr, N, &s);
        for (int o = 0; o < 3; o++) {
            if (first[o]) same_bits("adamw", out[o], first[o], N);
            first[o] = out[o];
        }
    }
    float *want = keep(N * sizeof *want);
    double sum = 0, abs_sum = 0;
    for (int i = 0; i < N; i++) {
        double gi = (double)gr[i] * 0.5, mi = 0.9 * m[i] + 0.1 * gi, vi = 0.95 * v[i] + 0.05 * gi * gi;
        want[i] = (float)(p[i] * (1 - 1e-3) - 1e-2 * (mi / 0.1) / (sqrt(vi / 0.05) + 1e-8));
        sum += (double)gr[i] * gr[i];
        abs_sum += 1;
    }
    /* 0.9f and the like are off by eps; where v is small the step is large: |m̂|/sqrt(v̂) <= 1e2 here */
    close_to("adamw against double", first[0], want, filled(N, 2), N, 64 * EPS);
    double got[3];
    for (int t = 0; t < 3; t++) got[t] = fm_cpu_sumsq(&g.cpu[t], gr, N);
    report(fabs(got[0] - sum) <= 1e-12 * abs_sum, "sumsq", "off");
    report(got[0] == got[1] && got[1] == got[2], "sumsq", "depends on threads");
    release_all();
}

/* ---- contexts and failures ---- */

/* Every member of a table of pointers (the name is one as well) is filled. */
static void check_table(const char *what, const void *table, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += sizeof(void *)) {
        void *p;
        memcpy(&p, (const char *)table + at, sizeof p);
        report(p != NULL, what, "a slot is NULL");
    }
}

static void test_tables(void)
{
    check_table("fm_ops_dry", &fm_ops_dry, sizeof fm_ops_dry);
    check_table("fm_ops_grad_dry", &fm_ops_grad_dry, sizeof fm_ops_grad_dry);
    check_table("fm_ops_ref", &fm_ops_ref, sizeof fm_ops_ref);
    check_table("fm_ops_grad_ref", &fm_ops_grad_ref, sizeof fm_ops_grad_ref);
    check_table("fm_ops_cpu", &fm_ops_cpu, sizeof fm_ops_cpu);
    check_table("fm_ops_grad_cpu", &fm_ops_grad_cpu, sizeof fm_ops_grad_cpu);
}

/* Plan dry, run on the planned arena; one byte more is a sticky failure and later ops do nothing. */
static void test_context(void)
{
    struct fm_arena dry, arena;
    struct fm_error err;
    struct fm_ctx c = {.op = &fm_ops_dry, .grad = &fm_ops_grad_dry, .arena = &dry};
    fm_arena_init_dry(&dry, "plan");
    float *x = fm_ctx_reals(&c, 100, "x"), *y = fm_ctx_reals(&c, 100, "y");
    c.op->add(&c, y, x, x, 100);
    c.grad->swiglu(&c, x, y, x, y, x, 100);
    report(c.status == FM_OK && x && y, "dry context", "failed");
    if (fm_arena_init(&arena, "step", dry.peak, &err)) {
        report(false, "arena", err.message);
        return;
    }
    c = g.cpu[1];
    c.arena = &arena;
    x = fm_ctx_reals(&c, 100, "x");
    y = fm_ctx_reals(&c, 100, "y");
    report(x && y && c.status == FM_OK, "planned context", "does not fit its plan");
    for (int i = 0; i < 100; i++) x[i] = y[i] = 1;
    report(!fm_ctx_alloc(&c, 1, "more") && c.status == FM_ERR_MEMORY, "full arena", "no sticky failure");
    c.op->add(&c, y, x, x, 100);
    report(y[0] == 1, "failed context", "an op ran");
    fm_ctx_fail(&c, FM_ERR_FAILED, "later");
    report(c.status == FM_ERR_MEMORY && c.error.code == FM_ERR_MEMORY, "first failure", "did not win");
    fm_arena_release(&arena);
}

static void test_failures(void)
{
    atomic_bool cancel = true;
    struct fm_ctx c = g.cpu[1];
    float *x = rnd(100 * 100), *y = filled(100 * 100, 7);
    c.cancel = &cancel;
    c.op->add(&c, y, x, x, 100 * 100);
    report(c.status == FM_ERR_CANCELLED && y[0] == 7, "cancelled context", "an op ran on");
    struct fm_mat w = {FM_I8, 10, 10, 10, x};
    c = g.cpu[0];
    c.op->matmul(&c, y, 10, x, 10, &w, 3);
    report(c.status == FM_ERR_INPUT, "matmul of I8", "no sticky failure");
    release_all();
}

static void open_contexts(void)
{
    struct fm_error err;
    g.ref = (struct fm_ctx){.op = &fm_ops_ref, .grad = &fm_ops_grad_ref};
    for (int i = 0; i < 3; i++) {
        struct fm_ctx *c = &g.cpu[i];
        *c = (struct fm_ctx){.op = &fm_ops_cpu, .grad = &fm_ops_grad_cpu};
        if (fm_pool_new(i + 1, &c->pool, &err) || fm_cpu_backend_new(c->pool, &c->backend, &err)) {
            printf("check_op: %s\n", err.message);
            exit(2);
        }
    }
    printf("check_op: tier %s, %.1f MiB of scratch for 3 threads\n", fm_cpu_backend_tier(g.cpu[0].backend),
           (double)fm_cpu_backend_bytes(g.cpu[2].pool) / 0x1p20);
}

static void close_contexts(void)
{
    for (int i = 0; i < 3; i++) {
        fm_cpu_backend_free(g.cpu[i].backend);
        fm_pool_free(g.cpu[i].pool);
    }
}

int main(int argc, char **argv)
{
    static void (*const tests[])(void) = {
        test_tables,       test_context, test_failures,    test_matmul_double, test_matmul,    test_matmul_n,
        test_matmul_heads, test_grouped, test_grad_matmul, test_embed,         test_sums,      test_norm,
        test_rope,         test_swiglu,  test_attn,        test_attn_extremes, test_attn_grad, test_cache,
        test_router,       test_moe,     test_loss,        test_optim,
    };
    g.quick = argc > 1 && !strcmp(argv[1], "--quick");
    fm_rng_init(&g.rng, 1);
    open_contexts();
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) tests[i]();
    close_contexts();
    printf("%d passed, %d failed\n", g.passed, g.failed);
    return g.failed ? 1 : 0;
}
