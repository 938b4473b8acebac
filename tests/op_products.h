/* Products with weight matrices, forward and backward.  Part of check_op. */
#ifndef TESTS_OP_PRODUCTS_H
#define TESTS_OP_PRODUCTS_H

#include "op_harness.h"

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

/* What rounding to blocks of integers may do: of x Σ_k |w|·max|x of the block|/(2·steps), on top of the float error: a few roundings
 * per block and one addition each, of parts up to 3·|w| where a minimum is added (Q4_1).  Where w is rounded as well, to
 * multiples of 2^-12 of the power of two within the largest: Σ_k |x|·max|w of the block|/2^13 (and of both products of errors one). */
static float *blocks_bound(const struct mm *a, const struct fm_mat *wabs, const float *float_scale, double float_rel,
                           bool int14)
{
    const double steps = int14 ? 8191 : 127;
    float *bound = keep((size_t)a->T * a->w.rows * sizeof *bound);
    for (int t = 0; t < a->T; t++)
        for (int n = 0; n < a->w.rows; n++) {
            double sum = 0;
            for (int b = 0; b < a->w.cols; b += 32) {
                double big = 0, big_w = 0, w = 0, x = 0;
                for (int k = b; k < b + 32; k++) {
                    const double xk = fabs((double)a->x[t * a->ldx + k]),
                                 wk = ((const float *)wabs->data)[(size_t)n * a->w.cols + k];
                    big = fmax(big, xk);
                    big_w = fmax(big_w, wk);
                    w += wk;
                    x += xk;
                }
                sum += w * big / (2 * steps) + (int14 ? (x + 32 * big / (2 * steps)) * big_w / 8192 : 0);
            }
            bound[t * a->w.rows + n] = (float)(1.001 * sum + float_rel * float_scale[t * a->w.rows + n]);
        }
    return bound;
}

static void check_matmul(enum fm_fmt f, int T, int N, int k_min, bool exact)
{
    const int K = whole(f, k_min);
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
    const bool int14 = in_int14(f) && K % 32 == 0;
    if (exact || !(in_int8(f) || int14))
        close_to(what, got[0], want[0], scale, (size_t)T * N, (K + 2) * EPS);
    else
        close_to(what, got[0], want[0], blocks_bound(&a, &mag.w, scale, 3 * (2 * K / 32 + 40) * EPS, int14),
                 (size_t)T * N, 1);
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
    if (!g.quick) check_matmul(FM_Q8_0, 110, 3, 32768, false); /* more rows than the scratch quantises at once */
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
    size_t K;
};

enum { HEAD_ROWS = 20, HEAD_ROW0 = 8, HEAD_N = 12 };

/* x[T,H,K+3] → y[T,H,N] */
static void run_heads(struct fm_ctx *c, float *const *out, const void *arg)
{
    const struct mm_heads *a = arg;
    c->op->matmul_heads(c, out[0], (size_t)a->H * HEAD_N, HEAD_N, a->x, (size_t)a->H * (a->K + 3), a->K + 3, &a->w,
                        HEAD_ROWS, HEAD_ROW0, HEAD_N, a->H, a->T);
}

static void check_heads(enum fm_fmt f, int T, int k_min)
{
    enum { H = 24 };
    const int K = whole(f, k_min);
    struct mm_heads a = {mat(f, H * HEAD_ROWS, K), rnd((size_t)T * H * (K + 3)), H, T, (size_t)K};
    struct call k = {run_heads, &a, {(size_t)T * H * HEAD_N}, {NULL}};
    float *got[OUTS], *want[OUTS], *y = filled(k.n[0], NAN);
    run_all("matmul_heads", &k, got, want);
    for (int t = 0; t < T; t++)
        for (int h = 0; h < H; h++) {
            struct fm_mat part = a.w;
            part.rows = HEAD_N;
            part.data = (char *)a.w.data + (size_t)(h * HEAD_ROWS + HEAD_ROW0) * a.w.row_bytes;
            g.cpu[0].op->matmul(&g.cpu[0], y + (t * H + h) * HEAD_N, HEAD_N, a.x + (t * H + h) * (a.K + 3), 0, &part,
                                1);
        }
    same_bits("matmul_heads equals matmul", got[0], y, k.n[0]);
    /* |x|, |w| < 1.1, so Σ|x·w| < 1.3·K */
    close_to("matmul_heads", got[0], want[0], filled(k.n[0], 1.3f * (float)K), k.n[0], rounding_of(f, K));
    release_all();
}

static void test_matmul_heads(void)
{
    for (int f = 0; f < FM_FMT_COUNT; f++)
        if (computable((enum fm_fmt)f)) check_heads((enum fm_fmt)f, 17, 64);
    if (!g.quick) check_heads(FM_Q8_0, 20, 8192); /* more rows than the scratch quantises at once */
}

/* FP8 with a scale per block of 32 × 32, odd blocks at the edges; rows of heads begin inside a block. */
static struct fm_mat scaled(int rows, int cols)
{
    int ld = (cols + 31) / 32, n = (rows + 31) / 32 * ld;
    uint8_t *codes = keep((size_t)rows * cols);
    float *at = rnd((size_t)n);
    for (int i = 0; i < rows * cols; i++)
        codes[i] = (uint8_t)(fm_rng_below(&g.rng, 0x30) | fm_rng_below(&g.rng, 2) << 7);
    struct fm_mat w = fm_mat_of(FM_F8_E4M3, rows, cols, codes);
    w.scale = (struct fm_scales){.at = at, .block_rows = 32, .block_cols = 32, .ld = ld};
    return w;
}

/* Its twin in F32, element by element from the formula. */
static struct fm_mat unscaled(const struct fm_mat *w)
{
    float *x = keep((size_t)w->rows * w->cols * sizeof *x);
    for (int r = 0; r < w->rows; r++)
        for (int k = 0; k < w->cols; k++)
            x[r * w->cols + k] = fm_e4m3_to_f32(((uint8_t *)w->data)[r * w->cols + k]) *
                                 ((const float *)w->scale.at)[r / 32 * w->scale.ld + k / 32];
    return fm_mat_of(FM_F32, w->rows, w->cols, x);
}

/* Scaled weights give the bits of their twin, in every product and as embedding, in both backends. */
static void test_scaled(void)
{
    enum { H = 3, N = 3 * HEAD_ROWS, K = 301, T = 9 };
    static const int rows[] = {1, T, 100};
    const struct fm_mat w = scaled(N, K), d = unscaled(&w);
    const float *x = rnd(100 * (K + 3)), *dy = rnd(T * N);
    const int32_t ids[T] = {0, 31, 32, 59, 5, 5, 40, 33, 1};
    for (int i = 0; i < 2; i++) {
        struct fm_ctx *c = i ? &g.ref : &g.cpu[1];
        float *y[2];
        for (int t = 0; t < 3; t++) {
            for (int j = 0; j < 2; j++) c->op->matmul(c, y[j] = filled(100 * N, 0), N, x, K, j ? &d : &w, rows[t]);
            same_bits("matmul of scaled weights", y[0], y[1], 100 * N);
        }
        for (int j = 0; j < 2; j++) {
            struct mm_heads a = {j ? d : w, x, H, T, K};
            run_heads(c, &(float *const){y[j] = filled(T * H * HEAD_N, 0)}, &a);
        }
        same_bits("matmul_heads of scaled weights", y[0], y[1], T * H * HEAD_N);
        for (int j = 0; j < 2; j++) c->op->embed(c, y[j] = filled(T * K, 0), j ? &d : &w, ids, T);
        same_bits("embed of scaled weights", y[0], y[1], T * K);
        for (int j = 0; j < 2; j++) c->grad->matmul_dx(c, y[j] = filled(T * K, 0), K, dy, N, j ? &d : &w, T, false);
        same_bits("matmul_dx of scaled weights", y[0], y[1], T * K);
    }
    release_all();
}

struct grouped {
    struct fm_mat *w, *w2, *dw; /* dw: views of out[0], [E,N,K] */
    const float *x, *dy;
    const int32_t *start;
    int E, N, K;
    bool accumulate;
};

static void run_grouped(struct fm_ctx *c, float *const *out, const void *arg)
{
    const struct grouped *a = arg;
    c->op->matmul_grouped(c, 2, out, a->x, (const struct fm_mat *const[]){a->w, a->w2}, a->start, a->E);
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
    for (int e = 0; e < a->E; e++) dw[e] = fm_mat_of(FM_F32, a->N, a->K, out[0] + (size_t)e * a->N * a->K);
    c->grad->matmul_grouped_dw(c, dw, a->dy, a->x, a->start, a->E);
}

/* Each group alone must give the same bits; |x|, |w|, |dy| < 1.1 bounds the sums. */
static void check_grouped(enum fm_fmt f, const int32_t *start, int E, int N, int k_min, bool exact)
{
    const int K = whole(f, k_min);
    struct fm_mat w[2][16];
    int n = start[E];
    for (int e = 0; e < E; e++) {
        w[0][e] = mat(f, N, K);
        w[1][e] = mat(f % 2 ? f : FM_F32, N, K);
    }
    struct grouped a = {w[0], w[1], NULL, rnd((size_t)n * K), rnd((size_t)n * N), start, E, N, K, false};
    struct call k = {run_grouped, &a, {(size_t)n * N, (size_t)n * N}, {NULL}};
    float *got[OUTS], *want[OUTS], *y = filled((size_t)n * N, NAN);
    set_exact(exact);
    run_all("matmul_grouped", &k, got, want);
    for (int i = 0; i < 2; i++) {
        close_to("matmul_grouped", got[i], want[i], filled(k.n[i], 1.3f * (float)K), k.n[i],
                 exact ? (K + 2) * EPS : rounding_of(w[i]->fmt, K));
        for (int e = 0; e < E; e++)
            g.cpu[0].op->matmul(&g.cpu[0], y + (size_t)start[e] * N, (size_t)N, a.x + (size_t)start[e] * K, (size_t)K,
                                &w[i][e], start[e + 1] - start[e]);
        same_bits("matmul_grouped equals matmul", got[i], y, k.n[i]);
    }
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
    static const int32_t mixed[] = {0, 0, 1, 1, 4, 40, 40, 61}, skewed[] = {0, 0, 300, 300}, none[] = {0, 0, 0},
                         wide[] = {0, 50, 150, 220};
    for (int f = 0; f < FM_FMT_COUNT; f++)
        for (int exact = 0; exact < 2 && computable((enum fm_fmt)f); exact++) {
            check_grouped((enum fm_fmt)f, mixed, 7, 40, 96, exact);
            if (!g.quick || f == FM_F32) check_grouped((enum fm_fmt)f, skewed, 3, 30, 64, exact);
        }
    if (!g.quick) check_grouped(FM_Q8_0, wide, 3, 3, 32768, false); /* more rows than the scratch quantises at once */
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
    struct fm_mat dw = fm_mat_of(FM_F32, a->w.rows, a->w.cols, out[0]);
    c->grad->matmul_dw(c, &dw, a->dy, a->lddy, a->x, a->ldx, a->T);
}

static void check_grad_mm(enum fm_fmt f, int T, int N, int k_min)
{
    const int K = whole(f, k_min);
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

#endif
