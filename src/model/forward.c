/* The only loop over layers: embedding, blocks, final norm, head.  The same lines serve prompts, decode and training;
 * what differs is whether a batch carries a cache and whether intermediates are kept. */
#include "model/model.h"

void fm_block_forward(struct fm_ctx *c, const struct fm_config *cfg, const struct fm_layer *w, bool moe,
                      const struct fm_batch *b, int layer, const struct fm_rope *rope, fm_real *y, fm_real *x,
                      struct fm_layer_saved *saved)
{
    const int T = b->T, D = cfg->D;
    const size_t d = (size_t)D, n = (size_t)T * d, mark = fm_arena_mark(c->arena);
    struct fm_layer_saved scratch, *s = saved ? saved : &scratch;
    s->x = x;
    s->u1 = fm_ctx_reals(c, n, "block norm");
    s->u2 = saved ? fm_ctx_reals(c, n, "block norm") : s->u1;
    s->h = saved ? fm_ctx_reals(c, n, "residual") : x;
    fm_real *branch = saved ? y : fm_ctx_reals(c, n, "block branch");

    c->op->rms_norm(c, s->u1, d, x, d, fm_vec(&w->attn_norm), T, D, cfg->eps);
    if (cfg->mla.Rkv)
        fm_mla_forward(c, &cfg->mla, &w->mla, b, layer, rope, branch, s->u1, saved ? &saved->mla : NULL);
    else
        fm_mha_forward(c, &cfg->mha, &w->mha, b, layer, rope, branch, s->u1, saved ? &saved->mha : NULL);
    c->op->add(c, s->h, x, branch, n); /* h = x + attention(norm(x)) */

    c->op->rms_norm(c, s->u2, d, s->h, d, fm_vec(&w->ffn_norm), T, D, cfg->eps);
    if (moe)
        fm_moe_forward(c, &cfg->moe, &w->moe, T, D, branch, s->u2, saved ? &saved->moe : NULL);
    else
        fm_mlp_forward(c, &w->mlp, T, branch, s->u2, saved ? &saved->mlp : NULL);
    c->op->add(c, y, s->h, branch, n); /* y = h + ffn(norm(h))       */
    if (!saved) fm_arena_reset(c->arena, mark);
}

void fm_block_backward(struct fm_ctx *c, const struct fm_config *cfg, const struct fm_layer *w, struct fm_layer *dw,
                       bool moe, const struct fm_batch *b, const struct fm_rope *rope, fm_real *dy,
                       const struct fm_layer_saved *s)
{
    const int T = b->T, D = cfg->D;
    const size_t d = (size_t)D, mark = fm_arena_mark(c->arena);
    fm_real *du = fm_ctx_reals(c, (size_t)T * d, "block grad");

    if (moe)
        fm_moe_backward(c, &cfg->moe, &w->moe, &dw->moe, T, D, du, dy, s->u2, &s->moe);
    else
        fm_mlp_backward(c, &w->mlp, &dw->mlp, T, du, dy, s->u2, &s->mlp, false);
    c->grad->rms_norm(c, dy, d, fm_vec(&dw->ffn_norm), du, d, s->h, d, fm_vec(&w->ffn_norm), T, D, cfg->eps,
                      true); /* dh */

    if (cfg->mla.Rkv)
        fm_mla_backward(c, &cfg->mla, &w->mla, &dw->mla, b, rope, du, dy, s->u1, &s->mla);
    else
        fm_mha_backward(c, &cfg->mha, &w->mha, &dw->mha, b, rope, du, dy, s->u1, &s->mha);
    c->grad->rms_norm(c, dy, d, fm_vec(&dw->attn_norm), du, d, s->x, d, fm_vec(&w->attn_norm), T, D, cfg->eps,
                      true); /* dx */
    fm_arena_reset(c->arena, mark);
}

struct fm_rope fm_rope_build(struct fm_ctx *c, const struct fm_config *cfg, const double *freq,
                             const struct fm_batch *b)
{
    struct fm_rope r = {.half = cfg->rope_dim / 2, .interleaved = cfg->rope_interleaved};
    r.cs = fm_ctx_reals(c, (size_t)b->T * (size_t)cfg->rope_dim, "rope table");
    c->op->rope_table(c, r.cs, b->pos, b->T, freq, r.half);
    return r;
}

void fm_model_forward(struct fm_ctx *c, const struct fm_config *cfg, const struct fm_weights *w,
                      const double *rope_freq, const struct fm_batch *b, fm_real *hidden, fm_real *const *taps)
{
    const size_t d = (size_t)cfg->D, n = (size_t)b->T * d, mark = fm_arena_mark(c->arena);
    fm_real *x = fm_ctx_reals(c, n, "residual");
    const struct fm_rope rope = fm_rope_build(c, cfg, rope_freq, b);

    c->op->embed(c, x, &w->embed, b->ids, b->T); /* x[T,D] */
    for (int l = 0; l < cfg->L; l++) {
        if (taps) c->op->copy(c, taps[l], d, x, d, 1, b->T, cfg->D);
        fm_block_forward(c, cfg, &w->layers[l], fm_layer_is_moe(cfg, l), b, l, &rope, x, x, NULL);
    }
    c->op->rms_norm(c, hidden, d, x, d, fm_vec(&w->norm), b->T, cfg->D, cfg->eps);
    if (taps) c->op->copy(c, taps[cfg->L], d, hidden, d, 1, b->T, cfg->D);
    fm_arena_reset(c->arena, mark);
}

void fm_model_logits(struct fm_ctx *c, const struct fm_weights *w, fm_real *logits, const fm_real *hidden, int n)
{
    c->op->matmul(c, logits, (size_t)w->head.rows, hidden, (size_t)w->head.cols, &w->head, n);
}

fm_real *fm_mtp_input(struct fm_ctx *c, const struct fm_config *cfg, const struct fm_weights *w, const struct fm_mtp *m,
                      int T, const int32_t *next, const fm_real *hidden, struct fm_mtp_saved *s)
{
    const size_t d = (size_t)cfg->D, n = (size_t)T * d;
    s->emb = fm_ctx_reals(c, n, "mtp input");
    s->both = fm_ctx_reals(c, 2 * n, "mtp input");
    fm_real *x = fm_ctx_reals(c, n, "residual");
    c->op->embed(c, s->emb, &w->embed, next, T);
    c->op->rms_norm(c, s->both, 2 * d, s->emb, d, fm_vec(&m->enorm), T, cfg->D, cfg->eps); /* embedding first */
    c->op->rms_norm(c, s->both + d, 2 * d, hidden, d, fm_vec(&m->hnorm), T, cfg->D, cfg->eps);
    c->op->matmul(c, x, d, s->both, 2 * d, &m->eh_proj, T); /* x = eh_proj·[e|h] */
    return x;
}

void fm_mtp_forward(struct fm_ctx *c, const struct fm_config *cfg, const struct fm_weights *w, const double *rope_freq,
                    int i, const struct fm_batch *b, const int32_t *ids_next, const fm_real *hidden, fm_real *out)
{
    const size_t d = (size_t)cfg->D, mark = fm_arena_mark(c->arena);
    const struct fm_mtp *m = &w->mtp[i];
    struct fm_mtp_saved s;
    fm_real *x = fm_mtp_input(c, cfg, w, m, b->T, ids_next, hidden, &s);
    const struct fm_rope rope = fm_rope_build(c, cfg, rope_freq, b);
    fm_block_forward(c, cfg, &m->layer, fm_layer_is_moe(cfg, cfg->L + i), b, cfg->L + i, &rope, x, x, NULL);
    c->op->rms_norm(c, out, d, x, d, fm_vec(&m->norm), b->T, cfg->D, cfg->eps);
    fm_arena_reset(c->arena, mark);
}

void fm_mtp_append(struct fm_ctx *c, const struct fm_config *cfg, const struct fm_weights *w, const double *rope_freq,
                   int i, const struct fm_batch *b, const int32_t *ids_next, const fm_real *hidden)
{
    const size_t d = (size_t)cfg->D, mark = fm_arena_mark(c->arena);
    const struct fm_mtp *m = &w->mtp[i];
    struct fm_mtp_saved s;
    fm_real *x = fm_mtp_input(c, cfg, w, m, b->T, ids_next, hidden, &s);
    const struct fm_rope rope = fm_rope_build(c, cfg, rope_freq, b);
    c->op->rms_norm(c, x, d, x, d, fm_vec(&m->layer.attn_norm), b->T, cfg->D, cfg->eps);
    fm_mla_append(c, &cfg->mla, &m->layer.mla, b, cfg->L + i, &rope, x); /* no family with MTP has dense attention */
    fm_arena_reset(c->arena, mark);
}

/* Which form a token at this position takes by itself; dense attention has one. */
static bool single_is_absorbed(const struct fm_config *cfg, int pos)
{
    return cfg->mla.Rkv && fm_mla_absorbed_is_cheaper(&cfg->mla, pos, 1);
}

int fm_seqs_of_single(const struct fm_config *cfg, struct fm_kv *kv, int pos0, int n, struct fm_seq *seqs)
{
    int count = 0;
    for (int i = 0; i < n; i++) {
        if (i && single_is_absorbed(cfg, pos0 + i) == single_is_absorbed(cfg, pos0 + i - 1))
            seqs[count - 1].n++;
        else
            seqs[count++] = (struct fm_seq){
                .row0 = i, .n = 1, .pos0 = pos0 + i, .segment_pos0 = pos0 + i, .segment_n = 1, .kv = kv};
    }
    return count;
}
