/* op/cpu against op/ref, slot by slot, and the promises of op.h: the same bits for any number of threads, any cut into
 * chunks, flat or blocked rows.  Usage: check_op [--quick].  Exit 1 on a failure.  FATHOM_CPU chooses the tier.
 *
 * op/ref sums in double, so it is exact to a rounding; tolerances come from the float side:
 *   a chain of K fused multiply-adds   |err| <= K·eps·Σ|a·b|          (Higham 2002, §3.1), eps = 2^-24
 *   attention                          |err| <= (2·|δz| + (S + 64)·eps)·Σ p|v|, |δz| <= (Dk + 2)·eps·scale·Σ|q·k|
 *   exp, log                           a few eps relative (check_kernel proves it) */
#include "op_attention.h"
#include "op_harness.h"
#include "op_kv.h"
#include "op_moe.h"
#include "op_products.h"
#include "op_rows.h"

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
    struct fm_mat w = fm_mat_of(FM_I8, 10, 10, x);
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
        test_kv_types,     test_router,  test_moe,         test_loss,          test_optim,     test_scaled,
    };
    g.quick = argc > 1 && !strcmp(argv[1], "--quick");
    fm_rng_init(&g.rng, 1);
    open_contexts();
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) tests[i]();
    close_contexts();
    printf("%d passed, %d failed\n", g.passed, g.failed);
    return g.failed ? 1 : 0;
}
