/* Multi-head latent attention.  DeepSeek-V2 report §2.1, models.md §3.2; tools/ref/deepseek.py.
 *
 *   latent[t] = [ c = RMSNorm(x·Wkv_a[:Rkv]) | k_pe = RoPE(x·Wkv_a[Rkv:]) ]     the only thing that is cached
 *   naive     k_h = [W_UK,h·c | k_pe], v_h = W_UV,h·c: expands the latents; training and long prompts
 *   absorbed  q̃_h = [W_UK,hᵀ·q_nope | q_pe] attends over the latents themselves, o_h = W_UV,h·Σ p·c: decode
 *
 * Both give the same function with different rounding; which one runs follows from the submitted segment alone. */
#include "nn/nn.h"
#include "op/kv_tile.h"

static struct fm_attn naive_shape(const struct fm_mla_shape *s)
{
    return (struct fm_attn){s->H, s->H, s->Dn + s->Dr, s->Dv, s->scale};
}

/* q[T,H,Dn+Dr] after RoPE; leaves cq, cqn for backward. */
static void queries(struct fm_ctx *c, const struct fm_mla_shape *s, const struct fm_mla *w, int T,
                    const struct fm_rope *rope, const fm_real *x, struct fm_mla_saved *p)
{
    const size_t Dk = (size_t)(s->Dn + s->Dr), Nq = (size_t)s->H * Dk, t = (size_t)T, Rq = (size_t)s->Rq;
    p->q = fm_ctx_reals(c, t * Nq, "q");
    if (s->Rq) {
        const size_t D = (size_t)w->wq_a.cols;
        p->cq = fm_ctx_reals(c, t * Rq, "q latent");
        p->cqn = fm_ctx_reals(c, t * Rq, "q latent");
        c->op->matmul(c, p->cq, Rq, x, D, &w->wq_a, T);
        c->op->rms_norm(c, p->cqn, Rq, p->cq, Rq, fm_vec(&w->q_a_norm), T, s->Rq, s->eps);
        c->op->matmul(c, p->q, Nq, p->cqn, Rq, &w->wq_b, T);
    } else {
        c->op->matmul(c, p->q, Nq, x, (size_t)w->wq.cols, &w->wq, T);
    }
    c->op->rope(c, p->q + s->Dn, Nq, Dk, s->H, T, rope->cs, rope->half, rope->interleaved, false);
}

/* latent[T,Rkv+Dr]: what the cache holds. */
static void latents(struct fm_ctx *c, const struct fm_mla_shape *s, const struct fm_mla *w, int T,
                    const struct fm_rope *rope, const fm_real *x, struct fm_mla_saved *p)
{
    const size_t R = (size_t)(s->Rkv + s->Dr), t = (size_t)T;
    p->ckv = fm_ctx_reals(c, t * R, "kv latent");
    p->latent = fm_ctx_reals(c, t * R, "kv latent");
    c->op->matmul(c, p->ckv, R, x, (size_t)w->wkv_a.cols, &w->wkv_a, T);
    c->op->rms_norm(c, p->latent, R, p->ckv, R, fm_vec(&w->kv_a_norm), T, s->Rkv, s->eps);
    c->op->copy(c, p->latent + s->Rkv, R, p->ckv + s->Rkv, R, 1, T, s->Dr);
    c->op->rope(c, p->latent + s->Rkv, R, 0, 1, T, rope->cs, rope->half, rope->interleaved, false);
}

/* kvb[n,heads,Dn+Dv] and k[n,heads,Dn+Dr] of n latents; w: these heads' rows of wkv_b. */
static void expand(struct fm_ctx *c, const struct fm_mla_shape *s, const struct fm_mat *w, int heads, int n,
                   const fm_real *latent, fm_real *kvb, fm_real *k)
{
    const size_t R = (size_t)(s->Rkv + s->Dr), Dk = (size_t)(s->Dn + s->Dr), Db = (size_t)(s->Dn + s->Dv);
    c->op->matmul(c, kvb, (size_t)heads * Db, latent, R, w, n);
    c->op->copy(c, k, Dk, kvb, Db, 1, n * heads, s->Dn);
    c->op->copy(c, k + s->Dn, Dk, latent + s->Rkv, R, heads, n * heads, s->Dr);
}

/* ---- naive over a cache: some heads at a time, their expanded rows rounded as the cache's own are ---- */

enum {
    PIECE = 2 * FM_KV_BLOCK,   /* latents expanded at a time                  */
    EXPANDED_BYTES = 16 << 20, /* of keys and values, unless one head has more */
};

struct expanded {
    int heads; /* at a time */
    struct fm_kv k, v;
    fm_real *latent, *kvb, *key, *value; /* of a piece */
};

/* Where the blocks of n rows begin in memory. */
static void **blocks_of(struct fm_ctx *c, char *at, size_t each, int n)
{
    void **list = fm_ctx_alloc(c, (size_t)n * sizeof *list, "kv expanded");
    for (int i = 0; i < n && !c->arena->dry && !c->status; i++) list[i] = at + (size_t)i * each;
    return list;
}

/* All heads of plain floats: whoever observes what goes into a matrix (op/observe.h) sees wkv_b whole.  A dry run takes what
 * the greediest number of heads would: fewer rows than planned allow more heads. */
static struct expanded expanded_new(struct fm_ctx *c, const struct fm_mla_shape *s, enum fm_kv_type type, int n)
{
    const int blocks = (n + FM_KV_BLOCK - 1) / FM_KV_BLOCK;
    struct expanded e = {.heads = s->H,
                         .k.shape = {type, 1, 1, s->Dn + s->Dr}, /* keys only … */
                         .v.shape = {type, 1, 0, s->Dv}};        /* … and values only */
    const size_t key = fm_kv_layer_bytes(&e.k.shape), value = fm_kv_layer_bytes(&e.v.shape),
                 head = (size_t)blocks * (key + value), most = head > EXPANDED_BYTES ? head : EXPANDED_BYTES;
    size_t bytes = head * (size_t)s->H;
    if (type == FM_KV_Q8_0 && c->arena->dry)
        bytes = bytes < most ? bytes : most;
    else if (type == FM_KV_Q8_0)
        for (; bytes > most || s->H % e.heads; bytes = head * (size_t)e.heads) e.heads--;
    const size_t heads = (size_t)e.heads, rows = n < PIECE ? (size_t)n : PIECE;
    char *at = fm_ctx_alloc(c, bytes, "kv expanded");
    e.k.shape.heads = e.k.shape.keys = e.v.shape.heads = e.heads;
    e.k.blocks = blocks_of(c, at, heads * key, blocks);
    e.v.blocks = blocks_of(c, at + (size_t)blocks * heads * key, heads * value, blocks);
    e.latent = fm_ctx_reals(c, rows * (size_t)(s->Rkv + s->Dr), "kv expanded");
    e.kvb = fm_ctx_reals(c, rows * heads * (size_t)(s->Dn + s->Dv), "kv expanded");
    e.key = fm_ctx_reals(c, rows * heads * (size_t)(s->Dn + s->Dr), "kv expanded");
    e.value = fm_ctx_reals(c, rows * heads * (size_t)s->Dv, "kv expanded");
    return e;
}

/* Rows 0 … n−1 of the cache as keys and values of heads h0 … */
static void expand_cached(struct fm_ctx *c, const struct fm_mla_shape *s, const struct fm_mla *w, struct expanded *e,
                          const struct fm_rows *keys, const struct fm_rows *values, struct fm_rows cache, int h0, int n)
{
    const size_t Dk = (size_t)(s->Dn + s->Dr), Db = (size_t)(s->Dn + s->Dv), heads = (size_t)e->heads;
    const struct fm_mat part = fm_mat_rows(&w->wkv_b, h0 * (int)Db, e->heads * (int)Db),
                        *heads_kvb = e->heads == s->H ? &w->wkv_b : &part;
    for (int s0 = 0; s0 < n; s0 += PIECE, cache.blocks += PIECE / FM_KV_BLOCK) {
        const int m = n - s0 < PIECE ? n - s0 : PIECE;
        const struct fm_seq piece = {.n = m, .pos0 = s0};
        const struct fm_batch b = {.T = m, .n_seqs = 1, .seqs = &piece};
        c->op->fetch(c, e->latent, &cache, m, s->Rkv + s->Dr);
        expand(c, s, heads_kvb, e->heads, m, e->latent, e->kvb, e->key);
        c->op->copy(c, e->value, (size_t)s->Dv, e->kvb + s->Dn, Db, 1, m * e->heads, s->Dv);
        c->op->store(c, keys, e->key, heads * Dk, e->heads * (int)Dk, &b);
        c->op->store(c, values, e->value, heads * (size_t)s->Dv, e->heads * s->Dv, &b);
        if (c->arena->dry || c->status) return; /* there is no list of blocks to go on in */
    }
}

static void attend_naive_cached(struct fm_ctx *c, const struct fm_mla_shape *s, const struct fm_mla *w,
                                const struct fm_rows *cache, const struct fm_batch *b, const fm_real *q, fm_real *o)
{
    const int T = b->T, n = b->seqs[0].pos0 + b->seqs[0].n;
    const size_t Dk = (size_t)(s->Dn + s->Dr), Dv = (size_t)s->Dv, H = (size_t)s->H;
    struct expanded e = expanded_new(c, s, b->seqs[0].kv->shape.type, n);
    const size_t heads = (size_t)e.heads;
    fm_real *qh = fm_ctx_reals(c, (size_t)T * heads * Dk, "kv expanded"),
            *oh = fm_ctx_reals(c, (size_t)T * heads * Dv, "kv expanded");
    const struct fm_rows none = {0}, keys = fm_rows_of_kv(&e.k, 0, 0), values = fm_rows_of_kv(&e.v, 0, 0);
    const struct fm_attn a = {e.heads, e.heads, s->Dn + s->Dr, s->Dv, s->scale};
    for (int h0 = 0; h0 < s->H; h0 += e.heads) {
        expand_cached(c, s, w, &e, &keys, &values, c->arena->dry || c->status ? none : *cache, h0, n);
        c->op->copy(c, qh, heads * Dk, q + (size_t)h0 * Dk, H * Dk, 1, T, (int)(heads * Dk));
        c->op->attn(c, oh, NULL, qh, &keys, &values, &a, b);
        c->op->copy(c, o + (size_t)h0 * Dv, H * Dv, oh, heads * Dv, 1, T, (int)(heads * Dv));
    }
}

/* One cached sequence, absorbed: every head reads the same latent rows. */
static void attend_absorbed(struct fm_ctx *c, const struct fm_mla_shape *s, const struct fm_mla *w,
                            const struct fm_rows *cache, const struct fm_batch *b, const fm_real *q, fm_real *o)
{
    const int T = b->T, H = s->H;
    const size_t R = (size_t)(s->Rkv + s->Dr), Dk = (size_t)(s->Dn + s->Dr), h = (size_t)H, Rkv = (size_t)s->Rkv,
                 Dv = (size_t)s->Dv;
    fm_real *qt = fm_ctx_reals(c, (size_t)T * h * R, "q absorbed");
    fm_real *yl = fm_ctx_reals(c, (size_t)T * h * Rkv, "latent out");
    c->op->matmul_heads(c, qt, h * R, R, q, h * Dk, Dk, &w->wk_b, s->Rkv, 0, s->Rkv, H, T); /* q̃ = W_UKᵀ·q_nope */
    c->op->copy(c, qt + Rkv, R, q + s->Dn, Dk, 1, T * H, s->Dr);
    const struct fm_attn a = {H, 1, s->Rkv + s->Dr, s->Rkv, s->scale};
    c->op->attn(c, yl, NULL, qt, cache, cache, &a, b); /* values: first Rkv */
    if (w->wv_b.data)
        c->op->matmul_heads(c, o, h * Dv, Dv, yl, h * Rkv, Rkv, &w->wv_b, s->Dv, 0, s->Dv, H, T);
    else
        c->op->matmul_heads(c, o, h * Dv, Dv, yl, h * Rkv, Rkv, &w->wkv_b, s->Dn + s->Dv, s->Dn, s->Dv, H, T);
}

/* Multiply-accumulates of the whole submitted segment in either form; models.md §3.2.
 * naive: expand every row up to the segment's end; absorbed: two more small matrices per row and wider attention. */
bool fm_mla_absorbed_is_cheaper(const struct fm_mla_shape *s, int segment_pos0, int segment_n)
{
    const double n = segment_n, end = segment_pos0 + n, pairs = n * (segment_pos0 + (n + 1) / 2);
    const double expand_row = (double)s->Rkv * (s->Dn + s->Dv);
    const double naive = end * expand_row + pairs * (s->Dn + s->Dr + s->Dv);
    const double absorbed = n * expand_row + pairs * (2.0 * s->Rkv + s->Dr);
    return absorbed <= naive;
}

static void attend_cached(struct fm_ctx *c, const struct fm_mla_shape *s, const struct fm_mla *w,
                          const struct fm_batch *b, int layer, const struct fm_mla_saved *p)
{
    const size_t R = (size_t)(s->Rkv + s->Dr), Nq = (size_t)(s->H * (s->Dn + s->Dr)), No = (size_t)(s->H * s->Dv);
    struct fm_rows *cache = fm_rows_cached(c, layer, 0, b);
    c->op->store(c, cache, p->latent, R, (int)R, b);
    for (int i = 0; i < b->n_seqs; i++) {
        struct fm_seq one = b->seqs[i];
        const size_t row0 = (size_t)one.row0, mark = fm_arena_mark(c->arena);
        one.row0 = 0;
        const struct fm_batch sub = {one.n, 1, &one, b->ids + row0, b->pos + row0};
        const bool absorbed = w->wk_b.data && (c->deterministic || c->exact || !w->wkv_b.data ||
                                               fm_mla_absorbed_is_cheaper(s, one.segment_pos0, one.segment_n));
        (absorbed ? attend_absorbed : attend_naive_cached)(c, s, w, cache + i, &sub, p->q + row0 * Nq,
                                                           p->o + row0 * No);
        fm_arena_reset(c->arena, mark);
    }
}

static void attend_own_rows(struct fm_ctx *c, const struct fm_mla_shape *s, const struct fm_mla *w,
                            const struct fm_batch *b, struct fm_mla_saved *p)
{
    const size_t t = (size_t)b->T, H = (size_t)s->H, Dk = (size_t)(s->Dn + s->Dr), Db = (size_t)(s->Dn + s->Dv);
    p->kvb = fm_ctx_reals(c, t * H * Db, "kv expanded");
    p->k = fm_ctx_reals(c, t * H * Dk, "kv expanded");
    p->lse = fm_ctx_reals(c, t * H, "attention lse");
    expand(c, s, &w->wkv_b, s->H, b->T, p->latent, p->kvb, p->k);
    const struct fm_attn a = naive_shape(s);
    c->op->attn(c, p->o, p->lse, p->q, fm_rows_flat(c, p->k, H * Dk, Dk, b),
                fm_rows_flat(c, p->kvb + s->Dn, H * Db, Db, b), &a, b);
}

void fm_mla_forward(struct fm_ctx *c, const struct fm_mla_shape *s, const struct fm_mla *w, const struct fm_batch *b,
                    int layer, const struct fm_rope *rope, fm_real *y, const fm_real *x, struct fm_mla_saved *saved)
{
    const size_t No = (size_t)(s->H * s->Dv), mark = fm_arena_mark(c->arena);
    struct fm_mla_saved scratch, *p = saved ? saved : &scratch;
    queries(c, s, w, b->T, rope, x, p);
    latents(c, s, w, b->T, rope, x, p);
    p->o = fm_ctx_reals(c, (size_t)b->T * No, "attention out");
    if (fm_batch_is_cached(b))
        attend_cached(c, s, w, b, layer, p);
    else
        attend_own_rows(c, s, w, b, p);
    c->op->matmul(c, y, (size_t)w->wo.rows, p->o, No, &w->wo, b->T); /* y[T,D] = o[T,H·Dv]·Woᵀ */
    if (!saved) fm_arena_reset(c->arena, mark);
}

void fm_mla_append(struct fm_ctx *c, const struct fm_mla_shape *s, const struct fm_mla *w, const struct fm_batch *b,
                   int layer, const struct fm_rope *rope, const fm_real *x)
{
    const size_t R = (size_t)(s->Rkv + s->Dr), mark = fm_arena_mark(c->arena);
    struct fm_mla_saved p;
    latents(c, s, w, b->T, rope, x, &p);
    c->op->store(c, fm_rows_cached(c, layer, 0, b), p.latent, R, (int)R, b);
    fm_arena_reset(c->arena, mark);
}

static void queries_backward(struct fm_ctx *c, const struct fm_mla_shape *s, const struct fm_mla *w, struct fm_mla *dw,
                             int T, fm_real *dx, fm_real *dq, const fm_real *x, const struct fm_mla_saved *p)
{
    const size_t Nq = (size_t)(s->H * (s->Dn + s->Dr)), Rq = (size_t)s->Rq;
    if (!s->Rq) {
        const size_t D = (size_t)w->wq.cols;
        fm_grad_weight(c, &dw->wq, dq, Nq, x, D, T);
        c->grad->matmul_dx(c, dx, D, dq, Nq, &w->wq, T, false);
        return;
    }
    const size_t D = (size_t)w->wq_a.cols;
    fm_real *dcq = fm_ctx_reals(c, (size_t)T * Rq, "attention grad");
    fm_grad_weight(c, &dw->wq_b, dq, Nq, p->cqn, Rq, T);
    c->grad->matmul_dx(c, dcq, Rq, dq, Nq, &w->wq_b, T, false);
    c->grad->rms_norm(c, dcq, Rq, fm_vec(&dw->q_a_norm), dcq, Rq, p->cq, Rq, fm_vec(&w->q_a_norm), T, s->Rq, s->eps,
                      false);
    fm_grad_weight(c, &dw->wq_a, dcq, Rq, x, D, T);
    c->grad->matmul_dx(c, dx, D, dcq, Rq, &w->wq_a, T, false);
}

void fm_mla_backward(struct fm_ctx *c, const struct fm_mla_shape *s, const struct fm_mla *w, struct fm_mla *dw,
                     const struct fm_batch *b, const struct fm_rope *rope, fm_real *dx, const fm_real *dy,
                     const fm_real *x, const struct fm_mla_saved *p)
{
    const int T = b->T;
    const size_t t = (size_t)T, H = (size_t)s->H, Dk = (size_t)(s->Dn + s->Dr), Db = (size_t)(s->Dn + s->Dv);
    const size_t R = (size_t)(s->Rkv + s->Dr), D = (size_t)w->wo.rows, No = H * (size_t)s->Dv,
                 mark = fm_arena_mark(c->arena);
    fm_real *d_o = fm_ctx_reals(c, t * No, "attention grad"), *dq = fm_ctx_reals(c, t * H * Dk, "attention grad");
    fm_real *dk = fm_ctx_reals(c, t * H * Dk, "attention grad"), *dkvb = fm_ctx_reals(c, t * H * Db, "attention grad");
    fm_real *dlat = fm_ctx_reals(c, t * R, "attention grad");

    fm_grad_weight(c, &dw->wo, dy, D, p->o, No, T);
    c->grad->matmul_dx(c, d_o, No, dy, D, &w->wo, T, false);
    const struct fm_attn a = naive_shape(s);
    c->grad->attn(c, dq, fm_rows_flat(c, dk, H * Dk, Dk, b), fm_rows_flat(c, dkvb + s->Dn, H * Db, Db, b), d_o, p->o,
                  p->lse, p->q, fm_rows_flat(c, p->k, H * Dk, Dk, b), fm_rows_flat(c, p->kvb + s->Dn, H * Db, Db, b),
                  &a, b);
    c->op->rope(c, dq + s->Dn, H * Dk, Dk, s->H, T, rope->cs, rope->half, rope->interleaved, true);
    queries_backward(c, s, w, dw, T, dx, dq, x, p);

    c->op->copy(c, dkvb, Db, dk, Dk, 1, T * s->H, s->Dn); /* k_nope: part of kvb */
    fm_grad_weight(c, &dw->wkv_b, dkvb, H * Db, p->latent, R, T);
    c->grad->matmul_dx(c, dlat, R, dkvb, H * Db, &w->wkv_b, T, false);
    c->grad->rms_norm(c, dlat, R, fm_vec(&dw->kv_a_norm), dlat, R, p->ckv, R, fm_vec(&w->kv_a_norm), T, s->Rkv, s->eps,
                      false);
    c->grad->sum_repeat(c, dlat + s->Rkv, R, dk + s->Dn, Dk, s->H, T, s->Dr); /* k_pe: all heads     */
    c->op->rope(c, dlat + s->Rkv, R, 0, 1, T, rope->cs, rope->half, rope->interleaved, true);
    fm_grad_weight(c, &dw->wkv_a, dlat, R, x, D, T);
    c->grad->matmul_dx(c, dx, D, dlat, R, &w->wkv_a, T, true);
    fm_arena_reset(c->arena, mark);
}
