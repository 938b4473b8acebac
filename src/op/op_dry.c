/* The ops that do nothing: over a dry arena they let the real code of a step size its memory. */
#include "op/slots.h"

/* A no-op has no use for its arguments. */
#pragma GCC diagnostic ignored "-Wunused-parameter"

static void dry_embed(struct fm_ctx *c, fm_real *y, const struct fm_mat *w, const int32_t *ids, int T) {}
static void dry_matmul(struct fm_ctx *c, fm_real *y, size_t ldy, const fm_real *x, size_t ldx, const struct fm_mat *w,
                       int T)
{
}
static void dry_matmul_n(struct fm_ctx *c, int n, fm_real *const *y, const fm_real *x, size_t ldx,
                         const struct fm_mat *const *w, int T)
{
}
static void dry_matmul_heads(struct fm_ctx *c, fm_real *y, size_t y_t, size_t y_h, const fm_real *x, size_t x_t,
                             size_t x_h, const struct fm_mat *w, int head_rows, int row0, int n, int H, int T)
{
}
static void dry_matmul_grouped(struct fm_ctx *c, int n, fm_real *const *y, const fm_real *x,
                               const struct fm_mat *const *w, const int32_t *start, int E)
{
}
static void dry_add(struct fm_ctx *c, fm_real *y, const fm_real *a, const fm_real *b, size_t n) {}
static void dry_add_bias(struct fm_ctx *c, fm_real *y, const fm_real *bias, int T, int N) {}
static void dry_copy(struct fm_ctx *c, fm_real *dst, size_t dst_ld, const fm_real *src, size_t src_ld, int repeat,
                     int rows, int cols)
{
}
static void dry_rms_norm(struct fm_ctx *c, fm_real *y, size_t ldy, const fm_real *x, size_t ldx, const fm_real *w,
                         int rows, int D, fm_real eps)
{
}
static void dry_rope_table(struct fm_ctx *c, fm_real *cs, const int32_t *pos, int T, const double *freq, int half) {}
static void dry_rope(struct fm_ctx *c, fm_real *x, size_t x_t, size_t x_h, int H, int T, const fm_real *cs, int half,
                     bool interleaved, bool inverse)
{
}
static void dry_swiglu(struct fm_ctx *c, fm_real *y, const fm_real *g, const fm_real *u, size_t n) {}
static void dry_store(struct fm_ctx *c, const struct fm_rows *dst, const fm_real *src, size_t ld, int cols,
                      const struct fm_batch *b)
{
}
static void dry_fetch(struct fm_ctx *c, fm_real *dst, const struct fm_rows *src, int n, int cols) {}
static void dry_attn(struct fm_ctx *c, fm_real *y, fm_real *lse, const fm_real *q, const struct fm_rows *k,
                     const struct fm_rows *v, const struct fm_attn *a, const struct fm_batch *b)
{
}
static void dry_router(struct fm_ctx *c, int32_t *idx, fm_real *w, fm_real *scores, const fm_real *logits,
                       const fm_real *bias, const struct fm_router *r, int T)
{
}
static void dry_moe_sort(struct fm_ctx *c, int32_t *order, int32_t *slot, int32_t *start, const int32_t *idx, int T,
                         int K, int E)
{
}
static void dry_moe_gather(struct fm_ctx *c, fm_real *y, const fm_real *x, const int32_t *order, int K, int n, int D) {}
static void dry_moe_combine(struct fm_ctx *c, fm_real *y, const fm_real *x, const fm_real *w, const int32_t *slot,
                            int T, int K, int D, bool accumulate)
{
}
static void dry_embed_bwd(struct fm_ctx *c, struct fm_mat *dw, const fm_real *dy, const int32_t *ids, int T) {}
static void dry_matmul_dx(struct fm_ctx *c, fm_real *dx, size_t lddx, const fm_real *dy, size_t lddy,
                          const struct fm_mat *w, int T, bool accumulate)
{
}
static void dry_matmul_dw(struct fm_ctx *c, struct fm_mat *dw, const fm_real *dy, size_t lddy, const fm_real *x,
                          size_t ldx, int T)
{
}
static void dry_matmul_grouped_dx(struct fm_ctx *c, fm_real *dx, const fm_real *dy, const struct fm_mat *w,
                                  const int32_t *start, int E, bool accumulate)
{
}
static void dry_matmul_grouped_dw(struct fm_ctx *c, struct fm_mat *dw, const fm_real *dy, const fm_real *x,
                                  const int32_t *start, int E)
{
}
static void dry_bias_bwd(struct fm_ctx *c, fm_real *db, const fm_real *dy, int T, int N) {}
static void dry_rms_norm_bwd(struct fm_ctx *c, fm_real *dx, size_t lddx, fm_real *dw, const fm_real *dy, size_t lddy,
                             const fm_real *x, size_t ldx, const fm_real *w, int rows, int D, fm_real eps,
                             bool accumulate)
{
}
static void dry_swiglu_bwd(struct fm_ctx *c, fm_real *dg, fm_real *du, const fm_real *dy, const fm_real *g,
                           const fm_real *u, size_t n)
{
}
static void dry_sum_repeat(struct fm_ctx *c, fm_real *dst, size_t dst_ld, const fm_real *src, size_t src_ld, int repeat,
                           int rows, int cols)
{
}
static void dry_attn_bwd(struct fm_ctx *c, fm_real *dq, const struct fm_rows *dk, const struct fm_rows *dv,
                         const fm_real *dy, const fm_real *y, const fm_real *lse, const fm_real *q,
                         const struct fm_rows *k, const struct fm_rows *v, const struct fm_attn *a,
                         const struct fm_batch *b)
{
}
static void dry_router_bwd(struct fm_ctx *c, fm_real *dlogits, const fm_real *dw, const fm_real *dscores,
                           const int32_t *idx, const fm_real *w, const fm_real *scores, const struct fm_router *r,
                           int T)
{
}
static void dry_moe_combine_bwd(struct fm_ctx *c, fm_real *dx, fm_real *dw, const fm_real *dy, const fm_real *x,
                                const fm_real *w, const int32_t *slot, int T, int K, int D)
{
}
static void dry_cross_entropy(struct fm_ctx *c, fm_real *loss, fm_real *dlogits, const fm_real *logits,
                              const int32_t *target, int T, int V, fm_real scale)
{
}

const struct fm_ops fm_ops_dry = {.name = "dry", FM_OP_ROWS(dry_)};
const struct fm_ops_grad fm_ops_grad_dry = {.name = "dry", FM_OP_GRAD_ROWS(dry_)};
