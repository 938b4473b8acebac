/* Ops on rows and elements.  Part of check_op. */
#ifndef TESTS_OP_ROWS_H
#define TESTS_OP_ROWS_H

#include "op_harness.h"

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
    struct fm_mat dw = fm_mat_of(FM_F32, a->mat.rows, a->D, out[0]);
    c->grad->embed(c, &dw, a->a, a->ids, a->rows);
}

static void test_embed(void)
{
    enum { V = 50, T = 300, D = 256 };
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

/* The gradient may take the place of dy. */
static void check_norm_in_place(struct rows *a, size_t n)
{
    float *apart[OUTS], *in_place[OUTS];
    struct call k = {run_norm_bwd, a, {n, (size_t)a->D}, {a->b, rnd((size_t)a->D)}};
    a->flag = true;
    a->inverse = false;
    run_call(&k, &g.cpu[1], apart);
    float *dy = copy_of(a->b, n), *dw = copy_of(k.init[1], (size_t)a->D);
    g.cpu[1].grad->rms_norm(&g.cpu[1], dy, a->ld, dw, dy, a->ld, a->a, a->ld, a->w, a->rows, a->D, 1e-6f, false);
    in_place[0] = dy;
    in_place[1] = dw;
    for (int o = 0; o < 2; o++) same_bits("rms_norm gradient in place", in_place[o], apart[o], k.n[o]);
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
    check_norm_in_place(&a, n);
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

#endif
