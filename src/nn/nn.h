/* Layers: forward and backward as neighbours, the same lines for inference and training.
 *
 * Shape letters, defined here once and never reused:
 *   B batch · T rows of this step · S cached tokens · L layers · D model width · H heads · Hkv key heads
 *   Dh head width · Dn, Dr, Dv no-rope, rope, value widths · Rq, Rkv low ranks · E experts · K active · F ffn width · V vocabulary
 *
 * forward(c, shape, w, batch, …, y, x, saved): saved NULL = inference, intermediates are scratch and are given back;
 * else they are allocated in the context's arena, recorded in *saved, and stay for backward.
 * backward(c, shape, w, dw, batch, dx, dy, x, saved): dx = (not +=); parameters of dw +=; a dw matrix whose data is NULL
 * is skipped (frozen).  x is the forward's input, unchanged. */
#ifndef FM_NN_NN_H
#define FM_NN_NN_H

#include "op/op.h"

/* A vector is a matrix of one row; its values are fm_real. */
static inline fm_real *fm_vec(const struct fm_mat *m) { return (fm_real *)m->data; }

/* dw += dyᵀ·x unless dw is absent (frozen or not trained). */
static inline void fm_grad_weight(struct fm_ctx *c, struct fm_mat *dw, const fm_real *dy, size_t lddy, const fm_real *x,
                                  size_t ldx, int T)
{
    if (dw->data) c->grad->matmul_dw(c, dw, dy, lddy, x, ldx, T);
}

/* ---- cache ---- */

/* What a cache keeps of a token in a layer: heads × width values; the first `keys` heads are read as keys (and, in latent
 * attention, as values too), the others as values. */
struct fm_kv_shape {
    enum fm_kv_type type;
    int heads, keys, width;
};
const char *fm_kv_type_name(enum fm_kv_type t);        /* "f32", "bf16", "q8_0"; NULL behind the last */
enum fm_kv_type fm_kv_type_named(const char *name);    /* FM_KV_TYPE_COUNT: there is none             */
size_t fm_kv_layer_bytes(const struct fm_kv_shape *s); /* of a block's 64 tokens in one layer         */
size_t fm_kv_row_bytes(const struct fm_kv_shape *s);   /* of one token in one layer                   */

/* One sequence's cache: blocks[b] holds positions 64b … 64b+63 of every layer, layer after layer, each of
 * fm_kv_layer_bytes, 64-byte aligned.  F32, BF16: [64][heads·width]; Q8_0: op/kv_tile.h.  The blocks belong to run/. */
struct fm_kv {
    void **blocks;
    struct fm_kv_shape shape;
};
/* The rows of a layer, head `head` being the views' first. */
struct fm_rows fm_rows_of_kv(const struct fm_kv *kv, int layer, int head);
/* What a layer keeps of position pos out to kept[fm_kv_row_bytes], or back. */
void fm_kv_keep(const struct fm_kv *kv, int layer, int pos, void *kept, bool back);
/* Keys come from caches, else from this step's own rows; a batch never mixes the two. */
static inline bool fm_batch_is_cached(const struct fm_batch *b) { return b->n_seqs > 0 && b->seqs[0].kv; }
/* Per-sequence row views, allocated in the arena: this step's own rows (head h at + h·head) … */
struct fm_rows *fm_rows_flat(struct fm_ctx *c, fm_real *x, size_t stride, size_t head, const struct fm_batch *b);
/* … or the cache's of this layer, from head `head` on. */
struct fm_rows *fm_rows_cached(struct fm_ctx *c, int layer, int head, const struct fm_batch *b);

/* cos and sin of this step's positions; built once per step, used by all layers. */
struct fm_rope {
    fm_real *cs; /* [T, half, 2] */
    int half;
    bool interleaved;
};

/* ---- dense feed-forward: y = (silu(x·Wgᵀ) ⊙ x·Wuᵀ)·Wdᵀ, models.md §2.1 ---- */
struct fm_mlp {
    struct fm_mat gate, up, down; /* [F,D] [F,D] [D,F] */
};
struct fm_mlp_saved {
    fm_real *g, *u, *a; /* [T,F] each */
};
void fm_mlp_forward(struct fm_ctx *c, const struct fm_mlp *w, int T, fm_real *y, const fm_real *x,
                    struct fm_mlp_saved *saved);
void fm_mlp_backward(struct fm_ctx *c, const struct fm_mlp *w, struct fm_mlp *dw, int T, fm_real *dx, const fm_real *dy,
                     const fm_real *x, const struct fm_mlp_saved *saved, bool accumulate_dx);

/* ---- grouped-query attention, models.md §2.1 ---- */
struct fm_mha_shape {
    int H, Hkv, Dh;
    fm_real eps;   /* of the head norms */
    fm_real scale; /* softmax scale, 1/√Dh but for YaRN's amplitude */
};
struct fm_mha {
    struct fm_mat wq, wk, wv, wo; /* [H·Dh,D] [Hkv·Dh,D] [Hkv·Dh,D] [D,H·Dh] */
    struct fm_mat bq, bk, bv;     /* Qwen2; absent elsewhere                  */
    struct fm_mat q_norm, k_norm; /* Qwen3: [Dh]; absent elsewhere            */
};
struct fm_mha_saved {
    fm_real *q_raw, *k_raw;       /* before the head norms (== q, k without)  */
    fm_real *q, *k, *v, *o, *lse; /* after RoPE; o [T,H,Dh]; lse [T,H]        */
};
void fm_mha_forward(struct fm_ctx *c, const struct fm_mha_shape *s, const struct fm_mha *w, const struct fm_batch *b,
                    int layer, const struct fm_rope *rope, fm_real *y, const fm_real *x, struct fm_mha_saved *saved);
void fm_mha_backward(struct fm_ctx *c, const struct fm_mha_shape *s, const struct fm_mha *w, struct fm_mha *dw,
                     const struct fm_batch *b, const struct fm_rope *rope, fm_real *dx, const fm_real *dy,
                     const fm_real *x, const struct fm_mha_saved *saved);

/* ---- multi-head latent attention, models.md §3.2 ---- */
struct fm_mla_shape {
    int H, Rq /* 0: plain q */, Rkv, Dn, Dr, Dv;
    fm_real eps;   /* of the two inner norms */
    fm_real scale; /* softmax scale, YaRN's m² included */
};
struct fm_mla {
    struct fm_mat wq;                   /* [H·(Dn+Dr), D], only when Rq == 0                     */
    struct fm_mat wq_a, q_a_norm, wq_b; /* [Rq,D] [Rq] [H·(Dn+Dr),Rq]                            */
    struct fm_mat wkv_a, kv_a_norm;     /* [Rkv+Dr,D] [Rkv]                                      */
    struct fm_mat wkv_b;                /* [H·(Dn+Dv),Rkv], per head Dn key rows, then Dv value rows; of split files
                                         * derived for the naive form */
    struct fm_mat wk_b; /* derived for the absorbed form: [H·Rkv,Dn] = W_UKᵀ per head; absent in training */
    struct fm_mat wv_b; /* split files: [H·Dv,Rkv]; else absent and read from wkv_b */
    struct fm_mat wo;   /* [D,H·Dv]                                              */
};
struct fm_mla_saved {
    fm_real *cq, *cqn;    /* [T,Rq] before and after its norm                    */
    fm_real *q;           /* [T,H,Dn+Dr] after RoPE                              */
    fm_real *ckv;         /* [T,Rkv+Dr] before norm and RoPE                     */
    fm_real *latent;      /* [T,Rkv+Dr] after: what the cache holds              */
    fm_real *kvb;         /* [T,H,Dn+Dv]                                         */
    fm_real *k, *o, *lse; /* [T,H,Dn+Dr] [T,H,Dv] [T,H]                          */
};
void fm_mla_forward(struct fm_ctx *c, const struct fm_mla_shape *s, const struct fm_mla *w, const struct fm_batch *b,
                    int layer, const struct fm_rope *rope, fm_real *y, const fm_real *x, struct fm_mla_saved *saved);
/* Only what the cache keeps of x[T,D]: later rows may then attend to these. */
void fm_mla_append(struct fm_ctx *c, const struct fm_mla_shape *s, const struct fm_mla *w, const struct fm_batch *b,
                   int layer, const struct fm_rope *rope, const fm_real *x);
/* The form of a segment where the context and the weights leave a choice. */
bool fm_mla_absorbed_is_cheaper(const struct fm_mla_shape *s, int segment_pos0, int segment_n);
void fm_mla_backward(struct fm_ctx *c, const struct fm_mla_shape *s, const struct fm_mla *w, struct fm_mla *dw,
                     const struct fm_batch *b, const struct fm_rope *rope, fm_real *dx, const fm_real *dy,
                     const fm_real *x, const struct fm_mla_saved *saved);

/* ---- mixture of experts, models.md §3.3, §4.1 ---- */
struct fm_moe_shape {
    struct fm_router router; /* E, K and the rule   */
    int F;                   /* width of one expert */
    int Fs;                  /* width of the shared expert, 0: none */
};
struct fm_moe {
    struct fm_mat router, bias;      /* [E,D]; [E] or absent (fm_real)      */
    struct fm_mat *gate, *up, *down; /* E matrices each: [F,D] [F,D] [D,F]  */
    struct fm_mlp shared;            /* absent when Fs == 0                 */
};
struct fm_moe_saved {
    fm_real *scores, *weight;            /* [T,E] [T,K]             */
    int32_t *idx, *order, *slot, *start; /* [T,K] [TK] [TK] [E+1]   */
    fm_real *xs, *g, *u, *a, *ys;        /* [TK,D] [TK,F]×3 [TK,D]  */
    struct fm_mlp_saved shared;
    fm_real *dscores; /* [T,E] of the balance loss, or NULL */
};
void fm_moe_forward(struct fm_ctx *c, const struct fm_moe_shape *s, const struct fm_moe *w, int T, int D, fm_real *y,
                    const fm_real *x, struct fm_moe_saved *saved);
void fm_moe_backward(struct fm_ctx *c, const struct fm_moe_shape *s, const struct fm_moe *w, struct fm_moe *dw, int T,
                     int D, fm_real *dx, const fm_real *dy, const fm_real *x, const struct fm_moe_saved *saved);
/* Sequence-wise balance loss (DeepSeek-V3 report §2.1.2, eq. 17-20): returns α·Σ_seq Σ_i f_i·P_i · seq_weight and allocates
 * saved->dscores for the backward. 0 in a dry run. */
double fm_moe_balance(struct fm_ctx *c, const struct fm_moe_shape *s, const struct fm_batch *b, double alpha,
                      double seq_weight, struct fm_moe_saved *saved);

/* ---- head: logits = x·Wᵀ and mean cross-entropy, in chunks of rows so that [T,V] never exists ---- */
enum { FM_HEAD_CHUNK = 512 };
/* loss[T] = per row (0 where target < 0); dx[T,D] = and dw += the gradient of scale·Σ loss; dx NULL: loss only. */
void fm_head_loss(struct fm_ctx *c, const struct fm_mat *w, struct fm_mat *dw, int T, fm_real *loss, fm_real *dx,
                  const fm_real *x, const int32_t *target, fm_real scale);

#endif
