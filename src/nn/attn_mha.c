/* Grouped-query attention with optional biases (Qwen2) and head norms (Qwen3).  models.md §2.1; tools/ref/llama.py. */
#include "nn/nn.h"

static struct fm_attn attn_shape(const struct fm_mha_shape *s)
{
    return (struct fm_attn){s->H, s->Hkv, s->Dh, s->Dh, s->scale};
}

/* q, k, v of this step: projections, biases, head norms, RoPE. */
static void project(struct fm_ctx *c, const struct fm_mha_shape *s, const struct fm_mha *w, int T,
                    const struct fm_rope *rope, const fm_real *x, const struct fm_mha_saved *p)
{
    const size_t Dh = (size_t)s->Dh, Nq = (size_t)s->H * Dh, Nk = (size_t)s->Hkv * Dh;
    c->op->matmul_n(c, 3, (fm_real *[]){p->q_raw, p->k_raw, p->v}, x, (size_t)w->wq.cols,
                    (const struct fm_mat *[]){&w->wq, &w->wk, &w->wv}, T);
    if (w->bq.data) {
        c->op->add_bias(c, p->q_raw, fm_vec(&w->bq), T, (int)Nq);
        c->op->add_bias(c, p->k_raw, fm_vec(&w->bk), T, (int)Nk);
        c->op->add_bias(c, p->v, fm_vec(&w->bv), T, (int)Nk);
    }
    if (w->q_norm.data) {
        c->op->rms_norm(c, p->q, Dh, p->q_raw, Dh, fm_vec(&w->q_norm), T * s->H, s->Dh, s->eps);
        c->op->rms_norm(c, p->k, Dh, p->k_raw, Dh, fm_vec(&w->k_norm), T * s->Hkv, s->Dh, s->eps);
    }
    c->op->rope(c, p->q, Nq, Dh, s->H, T, rope->cs, rope->half, rope->interleaved, false);
    c->op->rope(c, p->k, Nk, Dh, s->Hkv, T, rope->cs, rope->half, rope->interleaved, false);
}

void fm_mha_forward(struct fm_ctx *c, const struct fm_mha_shape *s, const struct fm_mha *w, const struct fm_batch *b,
                    int layer, const struct fm_rope *rope, fm_real *y, const fm_real *x, struct fm_mha_saved *saved)
{
    const int T = b->T;
    const size_t Dh = (size_t)s->Dh, Nq = (size_t)s->H * Dh, Nk = (size_t)s->Hkv * Dh, t = (size_t)T;
    const size_t mark = fm_arena_mark(c->arena);
    struct fm_mha_saved scratch, *p = saved ? saved : &scratch;
    const bool keep_raw = saved && w->q_norm.data;
    p->q = fm_ctx_reals(c, t * Nq, "q");
    p->k = fm_ctx_reals(c, t * Nk, "k");
    p->v = fm_ctx_reals(c, t * Nk, "v");
    p->o = fm_ctx_reals(c, t * Nq, "attention out");
    p->lse = saved ? fm_ctx_reals(c, t * (size_t)s->H, "attention lse") : NULL;
    p->q_raw = keep_raw ? fm_ctx_reals(c, t * Nq, "q") : p->q;
    p->k_raw = keep_raw ? fm_ctx_reals(c, t * Nk, "k") : p->k;
    project(c, s, w, T, rope, x, p);

    struct fm_rows *k, *v;
    if (fm_batch_is_cached(b)) { /* a cache row: keys of all heads, values of all heads */
        k = fm_rows_cached(c, layer, 0, b);
        v = fm_rows_cached(c, layer, s->Hkv, b);
        c->op->store(c, k, p->k, Nk, (int)Nk, b);
        c->op->store(c, v, p->v, Nk, (int)Nk, b);
    } else {
        k = fm_rows_flat(c, p->k, Nk, Dh, b);
        v = fm_rows_flat(c, p->v, Nk, Dh, b);
    }
    const struct fm_attn a = attn_shape(s);
    c->op->attn(c, p->o, p->lse, p->q, k, v, &a, b);              /* o[T,H,Dh]              */
    c->op->matmul(c, y, (size_t)w->wo.rows, p->o, Nq, &w->wo, T); /* y[T,D] = o·Woᵀ         */
    if (!saved) fm_arena_reset(c->arena, mark);
}

void fm_mha_backward(struct fm_ctx *c, const struct fm_mha_shape *s, const struct fm_mha *w, struct fm_mha *dw,
                     const struct fm_batch *b, const struct fm_rope *rope, fm_real *dx, const fm_real *dy,
                     const fm_real *x, const struct fm_mha_saved *p)
{
    const int T = b->T;
    const size_t Dh = (size_t)s->Dh, Nq = (size_t)s->H * Dh, Nk = (size_t)s->Hkv * Dh, D = (size_t)w->wo.rows,
                 t = (size_t)T;
    const size_t mark = fm_arena_mark(c->arena);
    fm_real *d_o = fm_ctx_reals(c, t * Nq, "attention grad"), *dq = fm_ctx_reals(c, t * Nq, "attention grad");
    fm_real *dk = fm_ctx_reals(c, t * Nk, "attention grad"), *dv = fm_ctx_reals(c, t * Nk, "attention grad");

    fm_grad_weight(c, &dw->wo, dy, D, p->o, Nq, T);
    c->grad->matmul_dx(c, d_o, Nq, dy, D, &w->wo, T, false);
    const struct fm_attn a = attn_shape(s);
    c->grad->attn(c, dq, fm_rows_flat(c, dk, Nk, Dh, b), fm_rows_flat(c, dv, Nk, Dh, b), d_o, p->o, p->lse, p->q,
                  fm_rows_flat(c, p->k, Nk, Dh, b), fm_rows_flat(c, p->v, Nk, Dh, b), &a, b);
    c->op->rope(c, dq, Nq, Dh, s->H, T, rope->cs, rope->half, rope->interleaved, true);
    c->op->rope(c, dk, Nk, Dh, s->Hkv, T, rope->cs, rope->half, rope->interleaved, true);
    if (w->q_norm.data) {
        c->grad->rms_norm(c, dq, Dh, fm_vec(&dw->q_norm), dq, Dh, p->q_raw, Dh, fm_vec(&w->q_norm), T * s->H, s->Dh,
                          s->eps, false);
        c->grad->rms_norm(c, dk, Dh, fm_vec(&dw->k_norm), dk, Dh, p->k_raw, Dh, fm_vec(&w->k_norm), T * s->Hkv, s->Dh,
                          s->eps, false);
    }
    if (dw->bq.data) {
        c->grad->bias(c, fm_vec(&dw->bq), dq, T, (int)Nq);
        c->grad->bias(c, fm_vec(&dw->bk), dk, T, (int)Nk);
        c->grad->bias(c, fm_vec(&dw->bv), dv, T, (int)Nk);
    }
    fm_grad_weight(c, &dw->wq, dq, Nq, x, D, T);
    fm_grad_weight(c, &dw->wk, dk, Nk, x, D, T);
    fm_grad_weight(c, &dw->wv, dv, Nk, x, D, T);
    c->grad->matmul_dx(c, dx, D, dq, Nq, &w->wq, T, false);
    c->grad->matmul_dx(c, dx, D, dk, Nk, &w->wk, T, true);
    c->grad->matmul_dx(c, dx, D, dv, Nk, &w->wv, T, true);
    fm_arena_reset(c->arena, mark);
}
