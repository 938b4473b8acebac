/* One training step of a micro-batch: forward with everything kept, losses, backward.  Gradients are added to dw. */
#include "model/model.h"

/* What the main model keeps for backward. */
struct trunk {
    struct fm_layer_saved *layers; /* L */
    struct fm_rope rope;
    fm_real *x, *hidden; /* [T,D] before and after the final norm */
};

/* Loads and the balance loss of one MoE layer (index: its row in step->load). */
static void note_moe(struct fm_ctx *c, const struct fm_config *cfg, const struct fm_batch *b, int index,
                     struct fm_moe_saved *m, struct fm_step *s)
{
    const int E = cfg->moe.router.E;
    m->dscores = NULL;
    if (s->balance_alpha > 0)
        s->balance_sum += fm_moe_balance(c, &cfg->moe, b, s->balance_alpha, s->balance_seq_weight, m);
    if (!s->load || c->arena->dry || c->status) return;
    for (int e = 0; e < E; e++) s->load[(size_t)index * (size_t)E + (size_t)e] += m->start[e + 1] - m->start[e];
}

static void trunk_forward(struct fm_ctx *c, const struct fm_config *cfg, const struct fm_weights *w, const double *freq,
                          const struct fm_batch *b, struct fm_step *s, struct trunk *t)
{
    const size_t d = (size_t)cfg->D, n = (size_t)b->T * d;
    t->rope = fm_rope_build(c, cfg, freq, b);
    t->hidden = fm_ctx_reals(c, n, "residual");
    t->x = fm_ctx_reals(c, n, "residual");
    c->op->embed(c, t->x, &w->embed, b->ids, b->T);
    for (int l = 0; l < cfg->L; l++) {
        fm_real *y = fm_ctx_reals(c, n, "residual");
        const bool moe = fm_layer_is_moe(cfg, l);
        fm_block_forward(c, cfg, &w->layers[l], moe, b, l, &t->rope, y, t->x, &t->layers[l]);
        if (moe) note_moe(c, cfg, b, l, &t->layers[l].moe, s);
        t->x = y;
    }
    c->op->rms_norm(c, t->hidden, d, t->x, d, fm_vec(&w->norm), b->T, cfg->D, cfg->eps);
}

/* d: gradient at the hidden state (after the final norm) in, destroyed. */
static void trunk_backward(struct fm_ctx *c, const struct fm_config *cfg, const struct fm_weights *w,
                           struct fm_weights *dw, const struct fm_batch *b, const struct trunk *t, fm_real *d)
{
    const size_t n = (size_t)cfg->D;
    c->grad->rms_norm(c, d, n, fm_vec(&dw->norm), d, n, t->x, n, fm_vec(&w->norm), b->T, cfg->D, cfg->eps, false);
    for (int l = cfg->L - 1; l >= 0; l--)
        fm_block_backward(c, cfg, &w->layers[l], &dw->layers[l], fm_layer_is_moe(cfg, l), b, &t->rope, d,
                          &t->layers[l]);
    if (dw->embed.data) c->grad->embed(c, &dw->embed, d, b->ids, b->T);
}

static double sum(struct fm_ctx *c, const fm_real *x, int n)
{
    double s = 0;
    if (c->arena->dry || c->status) return 0;
    for (int i = 0; i < n; i++) s += (double)x[i];
    return s;
}

/* The first MTP module: adds its gradient into dhidden[T,D] (NULL: loss only).  DeepSeek-V3 report §2.2. */
static void mtp_step(struct fm_ctx *c, const struct fm_config *cfg, const struct fm_weights *w, struct fm_weights *dw,
                     const struct fm_batch *b, struct fm_step *s, const struct trunk *t, fm_real *dhidden)
{
    const int T = b->T, D = cfg->D, layer = cfg->L;
    const size_t d = (size_t)D, n = (size_t)T * d, mark = fm_arena_mark(c->arena);
    const struct fm_mtp *m = &w->mtp[0];
    const bool moe = fm_layer_is_moe(cfg, layer);
    struct fm_mtp_saved in;
    struct fm_layer_saved block;
    fm_real *x = fm_mtp_input(c, cfg, w, m, T, s->next, t->hidden, &in);
    fm_real *y = fm_ctx_reals(c, n, "residual"), *out = fm_ctx_reals(c, n, "residual");
    fm_real *loss = fm_ctx_reals(c, (size_t)T, "loss"), *dy = dw ? fm_ctx_reals(c, n, "block grad") : NULL;
    fm_block_forward(c, cfg, &m->layer, moe, b, layer, &t->rope, y, x, &block);
    if (moe) note_moe(c, cfg, b, layer, &block.moe, s);
    c->op->rms_norm(c, out, d, y, d, fm_vec(&m->norm), T, D, cfg->eps);
    fm_head_loss(c, &w->head, dw ? &dw->head : NULL, T, loss, dy, out, s->target2, (fm_real)s->scale_mtp);
    s->mtp_loss_sum += sum(c, loss, T);
    if (dw) {
        struct fm_mtp *dm = &dw->mtp[0];
        fm_real *dboth = fm_ctx_reals(c, 2 * n, "block grad"), *demb = fm_ctx_reals(c, n, "block grad");
        c->grad->rms_norm(c, dy, d, fm_vec(&dm->norm), dy, d, y, d, fm_vec(&m->norm), T, D, cfg->eps, false);
        fm_block_backward(c, cfg, &m->layer, &dm->layer, moe, b, &t->rope, dy, &block);
        fm_grad_weight(c, &dm->eh_proj, dy, d, in.both, 2 * d, T);
        c->grad->matmul_dx(c, dboth, 2 * d, dy, d, &m->eh_proj, T, false);
        c->grad->rms_norm(c, demb, d, fm_vec(&dm->enorm), dboth, 2 * d, in.emb, d, fm_vec(&m->enorm), T, D, cfg->eps,
                          false);
        if (dw->embed.data) c->grad->embed(c, &dw->embed, demb, s->next, T);
        c->grad->rms_norm(c, dhidden, d, fm_vec(&dm->hnorm), dboth + d, 2 * d, t->hidden, d, fm_vec(&m->hnorm), T, D,
                          cfg->eps, true);
    }
    fm_arena_reset(c->arena, mark);
}

void fm_model_step(struct fm_ctx *c, const struct fm_config *cfg, const struct fm_weights *w, struct fm_weights *dw,
                   const double *rope_freq, const struct fm_batch *b, struct fm_step *s)
{
    const size_t n = (size_t)b->T * (size_t)cfg->D, mark = fm_arena_mark(c->arena);
    struct fm_layer_saved layers[FM_MAX_LAYERS];
    struct trunk t = {.layers = layers};
    s->loss_sum = s->mtp_loss_sum = s->balance_sum = 0;
    trunk_forward(c, cfg, w, rope_freq, b, s, &t);

    fm_real *loss = fm_ctx_reals(c, (size_t)b->T, "loss"), *d = dw ? fm_ctx_reals(c, n, "block grad") : NULL;
    fm_head_loss(c, &w->head, dw ? &dw->head : NULL, b->T, loss, d, t.hidden, s->target, (fm_real)s->scale);
    s->loss_sum = sum(c, loss, b->T);
    if (s->next && cfg->n_mtp > 0) mtp_step(c, cfg, w, dw, b, s, &t, d);
    if (dw) trunk_backward(c, cfg, w, dw, b, &t, d);
    fm_arena_reset(c->arena, mark);
}
