/* Router and experts: rows are sorted by expert once, then each matrix is one grouped product.
 * DeepSeekMoE (arXiv 2401.06066), DeepSeek-V3 report §2.1.2; models.md §3.3, §4.1; tools/ref/deepseek.py. */
#include "nn/nn.h"

static void alloc(struct fm_ctx *c, const struct fm_moe_shape *s, int T, int D, struct fm_moe_saved *p, bool keep)
{
    const size_t t = (size_t)T, E = (size_t)s->router.E, n = t * (size_t)s->router.K, nF = n * (size_t)s->F;
    p->scores = fm_ctx_reals(c, t * E, "router");
    p->weight = fm_ctx_reals(c, n, "router");
    p->idx = fm_ctx_alloc(c, n * sizeof *p->idx, "router");
    p->order = fm_ctx_alloc(c, n * sizeof *p->order, "router");
    p->slot = fm_ctx_alloc(c, n * sizeof *p->slot, "router");
    p->start = fm_ctx_alloc(c, (E + 1) * sizeof *p->start, "router");
    p->xs = fm_ctx_reals(c, n * (size_t)D, "expert rows");
    p->g = fm_ctx_reals(c, nF, "expert act");
    p->u = fm_ctx_reals(c, nF, "expert act");
    p->a = keep ? fm_ctx_reals(c, nF, "expert act") : p->g;
    p->ys = keep ? fm_ctx_reals(c, n * (size_t)D, "expert rows") : p->xs;
    p->dscores = NULL;
}

void fm_moe_forward(struct fm_ctx *c, const struct fm_moe_shape *s, const struct fm_moe *w, int T, int D, fm_real *y,
                    const fm_real *x, struct fm_moe_saved *saved)
{
    const int E = s->router.E, K = s->router.K, n = T * K;
    const size_t d = (size_t)D, mark = fm_arena_mark(c->arena);
    struct fm_moe_saved scratch, *p = saved ? saved : &scratch;
    alloc(c, s, T, D, p, saved != NULL);

    c->op->matmul(c, p->scores, (size_t)E, x, d, &w->router, T); /* logits, in place */
    c->op->router(c, p->idx, p->weight, p->scores, p->scores, fm_vec(&w->bias), &s->router, T);
    c->op->moe_sort(c, p->order, p->slot, p->start, p->idx, T, K, E);
    c->op->moe_gather(c, p->xs, x, p->order, K, n, D); /* xs[TK,D]         */
    c->op->matmul_grouped(c, 2, (fm_real *const[]){p->g, p->u}, p->xs, (const struct fm_mat *const[]){w->gate, w->up},
                          p->start, E);
    c->op->swiglu(c, p->a, p->g, p->u, (size_t)n * (size_t)s->F);
    c->op->matmul_grouped(c, 1, &p->ys, p->a, (const struct fm_mat *const[]){w->down}, p->start, E); /* ys[TK,D] */
    if (s->Fs) fm_mlp_forward(c, &w->shared, T, y, x, saved ? &saved->shared : NULL);
    c->op->moe_combine(c, y, p->ys, p->weight, p->slot, T, K, D, s->Fs > 0); /* y += Σ w·ys      */
    if (!saved) fm_arena_reset(c->arena, mark);
}

void fm_moe_backward(struct fm_ctx *c, const struct fm_moe_shape *s, const struct fm_moe *w, struct fm_moe *dw, int T,
                     int D, fm_real *dx, const fm_real *dy, const fm_real *x, const struct fm_moe_saved *p)
{
    const int E = s->router.E, K = s->router.K, n = T * K;
    const size_t d = (size_t)D, nD = (size_t)n * d, nF = (size_t)n * (size_t)s->F, mark = fm_arena_mark(c->arena);
    fm_real *dys = fm_ctx_reals(c, nD, "expert grad"), *dweight = fm_ctx_reals(c, (size_t)n, "router grad");
    fm_real *dg = fm_ctx_reals(c, nF, "expert grad"), *du = fm_ctx_reals(c, nF, "expert grad");
    fm_real *dlogits = fm_ctx_reals(c, (size_t)T * (size_t)E, "router grad");

    c->grad->moe_combine(c, dys, dweight, dy, p->ys, p->weight, p->slot, T, K, D);
    if (dw->down) c->grad->matmul_grouped_dw(c, dw->down, dys, p->a, p->start, E);
    c->grad->matmul_grouped_dx(c, dg, dys, w->down, p->start, E, false); /* da, in dg's place */
    c->grad->swiglu(c, dg, du, dg, p->g, p->u, nF);
    if (dw->gate) c->grad->matmul_grouped_dw(c, dw->gate, dg, p->xs, p->start, E);
    if (dw->up) c->grad->matmul_grouped_dw(c, dw->up, du, p->xs, p->start, E);
    c->grad->matmul_grouped_dx(c, dys, dg, w->gate, p->start, E, false); /* dxs               */
    c->grad->matmul_grouped_dx(c, dys, du, w->up, p->start, E, true);
    if (s->Fs) fm_mlp_backward(c, &w->shared, &dw->shared, T, dx, dy, x, &p->shared, false);
    c->op->moe_combine(c, dx, dys, NULL, p->slot, T, K, D, s->Fs > 0);

    c->grad->router(c, dlogits, dweight, p->dscores, p->idx, p->weight, p->scores, &s->router, T);
    fm_grad_weight(c, &dw->router, dlogits, (size_t)E, x, d, T);
    c->grad->matmul_dx(c, dx, d, dlogits, (size_t)E, &w->router, T, true);
    fm_arena_reset(c->arena, mark);
}

/* Per sequence of n rows, with s' = s/Σs:  f_i = E/(K·n)·count_i,  P_i = Σ_t s'_i/n,  L = α·Σ_i f_i·P_i.
 * d s_j = α/n·(f_j − Σ_i f_i·s'_i)/Σs: the counts are constants. */
static double balance_one(const struct fm_moe_shape *s, const struct fm_moe_saved *p, int row0, int n, double alpha,
                          fm_real *f)
{
    const int E = s->router.E, K = s->router.K;
    double loss = 0;
    for (int e = 0; e < E; e++) f[e] = 0;
    for (int i = row0 * K; i < (row0 + n) * K; i++) f[p->idx[i]] += (fm_real)((double)E / ((double)K * n));
    for (int t = row0; t < row0 + n; t++) {
        const fm_real *sc = p->scores + (size_t)t * (size_t)E;
        fm_real *ds = p->dscores + (size_t)t * (size_t)E;
        double sum = 0, dot = 0;
        for (int e = 0; e < E; e++) {
            sum += (double)sc[e];
            dot += (double)f[e] * (double)sc[e];
        }
        sum = sum > 0 ? sum : 1;
        loss += dot / sum;
        for (int e = 0; e < E; e++) ds[e] = (fm_real)(alpha / n * ((double)f[e] - dot / sum) / sum);
    }
    return alpha * loss / n;
}

double fm_moe_balance(struct fm_ctx *c, const struct fm_moe_shape *s, const struct fm_batch *b, double alpha,
                      double seq_weight, struct fm_moe_saved *saved)
{
    const size_t E = (size_t)s->router.E;
    saved->dscores = fm_ctx_reals(c, (size_t)b->T * E, "router");
    fm_real *f = fm_ctx_reals(c, E, "router");
    double loss = 0;
    if (c->arena->dry || c->status) return 0;
    for (int i = 0; i < b->n_seqs; i++)
        loss += balance_one(s, saved, b->seqs[i].row0, b->seqs[i].n, alpha * seq_weight, f);
    return loss;
}
