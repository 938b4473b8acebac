/* Output head and cross-entropy, a chunk of rows at a time so that [T,V] logits never exist in training. */
#include "nn/nn.h"

void fm_head_loss(struct fm_ctx *c, const struct fm_mat *w, struct fm_mat *dw, int T, fm_real *loss, fm_real *dx,
                  const fm_real *x, const int32_t *target, fm_real scale)
{
    const size_t V = (size_t)w->rows, D = (size_t)w->cols, mark = fm_arena_mark(c->arena);
    const int rows = T < FM_HEAD_CHUNK ? T : FM_HEAD_CHUNK;
    fm_real *logits = fm_ctx_reals(c, (size_t)rows * V, "logits");
    for (int t = 0; t < T; t += rows) {
        const int n = T - t < rows ? T - t : rows;
        const size_t at = (size_t)t * D;
        c->op->matmul(c, logits, V, x + at, D, w, n);
        c->grad->cross_entropy(c, loss + t, logits, logits, target + t, n, (int)V, scale); /* logits → dlogits */
        if (!dx) continue;
        if (dw) fm_grad_weight(c, dw, logits, V, x + at, D, n);
        c->grad->matmul_dx(c, dx + at, D, logits, V, w, n, false);
    }
    fm_arena_reset(c->arena, mark);
}
