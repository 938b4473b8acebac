/* Mixture of experts.  Part of check_op. */
#ifndef TESTS_OP_MOE_H
#define TESTS_OP_MOE_H

#include "op_harness.h"

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
    float *in_place = copy_of(a.logits, ne), *w = filled(nk, NAN), *idx = filled(nk, NAN);
    g.cpu[0].op->router(&g.cpu[0], (int32_t *)(void *)idx, w, in_place, in_place, a.bias, &r, T);
    same_bits("router in place", in_place, got[1], ne);
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

#endif
