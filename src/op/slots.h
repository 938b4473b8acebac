/* Prototypes of every slot of fm_ops and fm_ops_grad, once for all backends: FM_OP_SLOTS(fm_ref_) declares fm_ref_embed, …
 * and FM_OP_GRAD_SLOTS(fm_ref_) declares fm_ref_embed_bwd, ….  Contracts: op.h.  Private to this folder. */
#ifndef FM_OP_SLOTS_H
#define FM_OP_SLOTS_H

#include "op/op.h"

#define FM_OP_SLOTS(P)                                                                                                \
    void P##embed(struct fm_ctx *c, fm_real *y, const struct fm_mat *w, const int32_t *ids, int T);                   \
    void P##matmul(struct fm_ctx *c, fm_real *y, size_t ldy, const fm_real *x, size_t ldx, const struct fm_mat *w,    \
                   int T);                                                                                            \
    void P##matmul_n(struct fm_ctx *c, int n, fm_real *const *y, const fm_real *x, size_t ldx,                        \
                     const struct fm_mat *const *w, int T);                                                           \
    void P##matmul_heads(struct fm_ctx *c, fm_real *y, size_t y_t, size_t y_h, const fm_real *x, size_t x_t,          \
                         size_t x_h, const struct fm_mat *w, int head_rows, int row0, int n, int H, int T);           \
    void P##matmul_grouped(struct fm_ctx *c, int n, fm_real *const *y, const fm_real *x,                              \
                           const struct fm_mat *const *w, const int32_t *start, int E);                               \
    void P##add(struct fm_ctx *c, fm_real *y, const fm_real *a, const fm_real *b, size_t n);                          \
    void P##add_bias(struct fm_ctx *c, fm_real *y, const fm_real *bias, int T, int N);                                \
    void P##copy(struct fm_ctx *c, fm_real *dst, size_t dst_ld, const fm_real *src, size_t src_ld, int repeat,        \
                 int rows, int cols);                                                                                 \
    void P##rms_norm(struct fm_ctx *c, fm_real *y, size_t ldy, const fm_real *x, size_t ldx, const fm_real *w,        \
                     int rows, int D, fm_real eps);                                                                   \
    void P##rope_table(struct fm_ctx *c, fm_real *cs, const int32_t *pos, int T, const double *freq, int half);       \
    void P##rope(struct fm_ctx *c, fm_real *x, size_t x_t, size_t x_h, int H, int T, const fm_real *cs, int half,     \
                 bool interleaved, bool inverse);                                                                     \
    void P##swiglu(struct fm_ctx *c, fm_real *y, const fm_real *g, const fm_real *u, size_t n);                       \
    void P##store(struct fm_ctx *c, const struct fm_rows *dst, const fm_real *src, size_t ld, int cols,               \
                  const struct fm_batch *b);                                                                          \
    void P##fetch(struct fm_ctx *c, fm_real *dst, const struct fm_rows *src, int n, int cols);                        \
    void P##attn(struct fm_ctx *c, fm_real *y, fm_real *lse, const fm_real *q, const struct fm_rows *k,               \
                 const struct fm_rows *v, const struct fm_attn *a, const struct fm_batch *b);                         \
    void P##router(struct fm_ctx *c, int32_t *idx, fm_real *w, fm_real *scores, const fm_real *logits,                \
                   const fm_real *bias, const struct fm_router *r, int T);                                            \
    void P##moe_sort(struct fm_ctx *c, int32_t *order, int32_t *slot, int32_t *start, const int32_t *idx, int T,      \
                     int K, int E);                                                                                   \
    void P##moe_gather(struct fm_ctx *c, fm_real *y, const fm_real *x, const int32_t *order, int K, int n, int D);    \
    void P##moe_combine(struct fm_ctx *c, fm_real *y, const fm_real *x, const fm_real *w, const int32_t *slot, int T, \
                        int K, int D, bool accumulate)

#define FM_OP_GRAD_SLOTS(P)                                                                                            \
    void P##embed_bwd(struct fm_ctx *c, struct fm_mat *dw, const fm_real *dy, const int32_t *ids, int T);              \
    void P##matmul_dx(struct fm_ctx *c, fm_real *dx, size_t lddx, const fm_real *dy, size_t lddy,                      \
                      const struct fm_mat *w, int T, bool accumulate);                                                 \
    void P##matmul_dw(struct fm_ctx *c, struct fm_mat *dw, const fm_real *dy, size_t lddy, const fm_real *x,           \
                      size_t ldx, int T);                                                                              \
    void P##matmul_grouped_dx(struct fm_ctx *c, fm_real *dx, const fm_real *dy, const struct fm_mat *w,                \
                              const int32_t *start, int E, bool accumulate);                                           \
    void P##matmul_grouped_dw(struct fm_ctx *c, struct fm_mat *dw, const fm_real *dy, const fm_real *x,                \
                              const int32_t *start, int E);                                                            \
    void P##bias_bwd(struct fm_ctx *c, fm_real *db, const fm_real *dy, int T, int N);                                  \
    void P##rms_norm_bwd(struct fm_ctx *c, fm_real *dx, size_t lddx, fm_real *dw, const fm_real *dy, size_t lddy,      \
                         const fm_real *x, size_t ldx, const fm_real *w, int rows, int D, fm_real eps,                 \
                         bool accumulate);                                                                             \
    void P##swiglu_bwd(struct fm_ctx *c, fm_real *dg, fm_real *du, const fm_real *dy, const fm_real *g,                \
                       const fm_real *u, size_t n);                                                                    \
    void P##sum_repeat(struct fm_ctx *c, fm_real *dst, size_t dst_ld, const fm_real *src, size_t src_ld, int repeat,   \
                       int rows, int cols);                                                                            \
    void P##attn_bwd(struct fm_ctx *c, fm_real *dq, const struct fm_rows *dk, const struct fm_rows *dv,                \
                     const fm_real *dy, const fm_real *y, const fm_real *lse, const fm_real *q,                        \
                     const struct fm_rows *k, const struct fm_rows *v, const struct fm_attn *a,                        \
                     const struct fm_batch *b);                                                                        \
    void P##router_bwd(struct fm_ctx *c, fm_real *dlogits, const fm_real *dw, const fm_real *dscores,                  \
                       const int32_t *idx, const fm_real *w, const fm_real *scores, const struct fm_router *r, int T); \
    void P##moe_combine_bwd(struct fm_ctx *c, fm_real *dx, fm_real *dw, const fm_real *dy, const fm_real *x,           \
                            const fm_real *w, const int32_t *slot, int T, int K, int D);                               \
    void P##cross_entropy(struct fm_ctx *c, fm_real *loss, fm_real *dlogits, const fm_real *logits,                    \
                          const int32_t *target, int T, int V, fm_real scale)

/* The table rows of a backend: `const struct fm_ops fm_ops_ref = {.name = "ref", FM_OP_ROWS(fm_ref_)};` */
#define FM_OP_ROWS(P)                                                                                              \
    .embed = P##embed, .matmul = P##matmul, .matmul_n = P##matmul_n, .matmul_heads = P##matmul_heads,              \
    .matmul_grouped = P##matmul_grouped, .add = P##add, .add_bias = P##add_bias, .copy = P##copy,                  \
    .rms_norm = P##rms_norm, .rope_table = P##rope_table, .rope = P##rope, .swiglu = P##swiglu, .store = P##store, \
    .fetch = P##fetch, .attn = P##attn, .router = P##router, .moe_sort = P##moe_sort, .moe_gather = P##moe_gather, \
    .moe_combine = P##moe_combine

#define FM_OP_GRAD_ROWS(P)                                                                                     \
    .embed = P##embed_bwd, .matmul_dx = P##matmul_dx, .matmul_dw = P##matmul_dw,                               \
    .matmul_grouped_dx = P##matmul_grouped_dx, .matmul_grouped_dw = P##matmul_grouped_dw, .bias = P##bias_bwd, \
    .rms_norm = P##rms_norm_bwd, .swiglu = P##swiglu_bwd, .sum_repeat = P##sum_repeat, .attn = P##attn_bwd,    \
    .router = P##router_bwd, .moe_combine = P##moe_combine_bwd, .cross_entropy = P##cross_entropy

#endif
