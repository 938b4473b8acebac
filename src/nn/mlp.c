/* SwiGLU feed-forward: y = (silu(x·Wgᵀ) ⊙ x·Wuᵀ)·Wdᵀ.  models.md §2.1; tools/ref/llama.py. */
#include "nn/nn.h"

void fm_mlp_forward(struct fm_ctx *c, const struct fm_mlp *w, int T, fm_real *y, const fm_real *x,
                    struct fm_mlp_saved *saved)
{
    const int D = w->gate.cols, F = w->gate.rows;
    const size_t TF = (size_t)T * (size_t)F, mark = fm_arena_mark(c->arena);
    struct fm_mlp_saved scratch, *s = saved ? saved : &scratch;
    s->g = fm_ctx_reals(c, TF, "ffn gate");
    s->u = fm_ctx_reals(c, TF, "ffn up");
    s->a = saved ? fm_ctx_reals(c, TF, "ffn act") : s->g;

    c->op->matmul_n(c, 2, (fm_real *[]){s->g, s->u}, x, (size_t)D, (const struct fm_mat *[]){&w->gate, &w->up}, T);
    c->op->swiglu(c, s->a, s->g, s->u, TF);                       /* a[T,F] = silu(g) ⊙ u */
    c->op->matmul(c, y, (size_t)D, s->a, (size_t)F, &w->down, T); /* y[T,D] = a·Wdᵀ        */
    if (!saved) fm_arena_reset(c->arena, mark);
}

void fm_mlp_backward(struct fm_ctx *c, const struct fm_mlp *w, struct fm_mlp *dw, int T, fm_real *dx, const fm_real *dy,
                     const fm_real *x, const struct fm_mlp_saved *s, bool accumulate_dx)
{
    const size_t D = (size_t)w->gate.cols, F = (size_t)w->gate.rows, TF = (size_t)T * F, mark = fm_arena_mark(c->arena);
    fm_real *dg = fm_ctx_reals(c, TF, "ffn grad"), *du = fm_ctx_reals(c, TF, "ffn grad");

    fm_grad_weight(c, &dw->down, dy, D, s->a, F, T);
    c->grad->matmul_dx(c, dg, F, dy, D, &w->down, T, false); /* da, in dg's place      */
    c->grad->swiglu(c, dg, du, dg, s->g, s->u, TF);
    fm_grad_weight(c, &dw->gate, dg, F, x, D, T);
    fm_grad_weight(c, &dw->up, du, F, x, D, T);
    c->grad->matmul_dx(c, dx, D, dg, F, &w->gate, T, accumulate_dx);
    c->grad->matmul_dx(c, dx, D, du, F, &w->up, T, true);
    fm_arena_reset(c->arena, mark);
}
