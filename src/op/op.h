/* The device border: tensors in, tensors out.
 *
 * Outputs first.  Ops return void: the first failure sticks in fm_ctx, later ops become no-ops, the step checks once.
 * All activations are fm_real (float; double in the gradient referee), row-major; T counts rows of this step.
 * Activations are assigned (=) unless a flag says accumulate; gradients of parameters are added (+=).
 * Nothing allocates but from the context's arena; no op's bits depend on threads, on other rows, or on chunking. */
#ifndef FM_OP_OP_H
#define FM_OP_OP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/pool.h"
#include "base/status.h"
#include "quant/format.h"

#ifdef FM_REAL_DOUBLE
typedef double fm_real;
#define FM_REAL_FMT FM_F64
#else
typedef float fm_real;
#define FM_REAL_FMT FM_F32
#endif

/* Scales beside a matrix, left where they lie: element [r, k] counts s[(row0 + r)/block_rows·ld + k/block_cols] times, s
 * being the values of `at` in format fmt (of single elements; need not be aligned), and, if two_levels, `whole` times that.
 * at NULL: there are none. */
struct fm_scales {
    const void *at;
    enum fm_fmt fmt;
    int block_rows, block_cols, ld, row0;
    bool two_levels;
    float whole;
};

struct fm_packed;

/* A weight matrix [rows, cols] in any format, rows row_bytes apart.  y = x·Wᵀ has cols inputs and rows outputs. */
struct fm_mat {
    enum fm_fmt fmt;
    int rows, cols;
    size_t row_bytes;
    void *data; /* NULL: absent */
    struct fm_scales scale;
    struct fm_packed *packed; /* where op/cpu reads it in int8 instead; NULL: nowhere */
};

static inline struct fm_mat fm_mat_of(enum fm_fmt fmt, int rows, int cols, void *data)
{
    return (struct fm_mat){.fmt = fmt,
                           .rows = rows,
                           .cols = cols,
                           .row_bytes = (size_t)fm_format_bytes(fmt, (uint64_t)cols),
                           .data = data};
}

/* Rows row0 … row0+n−1 of w, where they lie. */
static inline struct fm_mat fm_mat_rows(const struct fm_mat *w, int row0, int n)
{
    struct fm_mat part = *w;
    part.rows = n;
    part.data = (char *)w->data + (size_t)row0 * w->row_bytes;
    part.scale.row0 += row0;
    return part;
}

/* dst[n] = columns col … col+n−1 of a row, by the format's decoder (or a kernel with the same bits), times the scales:
 * one more rounding each.  col and n are multiples of the format's block. */
void fm_mat_decode(float *dst, const struct fm_mat *w, int row, int col, int n, fm_decode_fn decode);

enum { FM_KV_BLOCK = 64 }; /* cached rows per block; attention folds keys at these absolute positions */

/* How a cache keeps its values: as they are; rounded to bfloat16; as int8 with a scale for every 64 values of a head, in
 * tiles (op/kv_tile.h). */
enum fm_kv_type { FM_KV_F32, FM_KV_BF16, FM_KV_Q8_0, FM_KV_TYPE_COUNT, FM_KV_DEFAULT = FM_KV_Q8_0 };

/* Rows by position.  Flat, or F32 blocks: row s starts at (flat ? flat + s·stride : blocks[s/64] + (s%64)·stride) + offset,
 * head h at + h·head.  BF16 blocks: the same, counted in uint16_t.  Q8_0 blocks: head h's tiles start at byte
 * offset + h·head of the block. */
struct fm_rows {
    fm_real *flat;
    void *const *blocks;
    size_t offset, stride, head;
    enum fm_kv_type type; /* of the blocks                                          */
    int width;            /* Q8_0: values of a head                                 */
    bool by_value;        /* Q8_0: its tiles are those of values, not those of keys */
};

/* Row s, head 0, of plain values. */
static inline fm_real *fm_rows_at(const struct fm_rows *r, int s)
{
    fm_real *row = r->flat ? r->flat + (size_t)s * r->stride
                           : (fm_real *)r->blocks[s / FM_KV_BLOCK] + (size_t)(s % FM_KV_BLOCK) * r->stride;
    return row + r->offset;
}

/* One run of rows of one sequence: rows row0 … row0+n−1 of the step are positions pos0 … pos0+n−1. */
struct fm_seq {
    int row0, n, pos0;
    /* the submitted segment this is a chunk of: decides the MLA form, nothing else.  n > segment_n: every row is a segment
     * of its own, and the described one speaks for all (fm_seqs_of_single) */
    int segment_pos0, segment_n;
    struct fm_kv *kv; /* cache; NULL in training: the keys are this step's own rows, pos0 = 0          */
};

struct fm_batch {
    int T, n_seqs;
    const struct fm_seq *seqs;
    const int32_t *ids; /* [T] */
    const int32_t *pos; /* [T] */
};

struct fm_attn {
    int H, Hkv, Dk, Dv; /* query head h reads key head h·Hkv/H */
    fm_real scale;
};

/* What shapes must keep to, so that a backend's fixed scratch serves them; model/ checks files against it.  The largest
 * published models stay far below. */
enum {
    FM_OP_HEADS = 4096,         /* heads; experts                                        */
    FM_OP_GROUPS = 64,          /* of a router                                           */
    FM_OP_INPUTS = 1 << 21,     /* of a matrix; in matmul_heads, of all heads together   */
    FM_OP_HEAD_WIDTH = 1 << 16, /* attn: Dk + 2·Dv                                       */
};

/* The router's rule; models.md §3.3, §4.1. */
struct fm_router {
    int E, K;
    int n_group, topk_group; /* 1, 1: no groups; n_group <= FM_OP_GROUPS                     */
    bool sigmoid;            /* else softmax over all E                                       */
    bool group_top2;         /* group score: sum of the two best (V3), else the best (V2)     */
    bool norm_topk;          /* w /= Σw (+1e-20) */
    fm_real scale;           /* routed_scaling_factor, after that                             */
};

struct fm_ctx;
struct fm_observer;

struct fm_ops {
    const char *name;
    /* y[T,D] = rows of W[V,D] */
    void (*embed)(struct fm_ctx *c, fm_real *y, const struct fm_mat *w, const int32_t *ids, int T);
    /* y[T,N] = x[T,K]·W[N,K]ᵀ; rows of y are ldy apart, rows of x ldx apart */
    void (*matmul)(struct fm_ctx *c, fm_real *y, size_t ldy, const fm_real *x, size_t ldx, const struct fm_mat *w,
                   int T);
    /* n matrices, one x (quantised once): y[i][T,rows_i] packed */
    void (*matmul_n)(struct fm_ctx *c, int n, fm_real *const *y, const fm_real *x, size_t ldx,
                     const struct fm_mat *const *w, int T);
    /* per head h: y[t·y_t + h·y_h + j] = Σ_k x[t·x_t + h·x_h + k]·W[h·head_rows + row0 + j, k], j < n */
    void (*matmul_heads)(struct fm_ctx *c, fm_real *y, size_t y_t, size_t y_h, const fm_real *x, size_t x_t, size_t x_h,
                         const struct fm_mat *w, int head_rows, int row0, int n, int H, int T);
    /* rows start[e] … start[e+1]−1 of x[start[E],K] (quantised once) by matrices w[i][e], i < n, all of one shape;
     * y[i][start[E],N] packed */
    void (*matmul_grouped)(struct fm_ctx *c, int n, fm_real *const *y, const fm_real *x, const struct fm_mat *const *w,
                           const int32_t *start, int E);
    void (*add)(struct fm_ctx *c, fm_real *y, const fm_real *a, const fm_real *b, size_t n); /* y may be a or b */
    void (*add_bias)(struct fm_ctx *c, fm_real *y, const fm_real *bias, int T, int N);       /* y[T,N] += bias  */
    /* copies cols of each row; src row r is r/repeat (broadcast over heads) */
    void (*copy)(struct fm_ctx *c, fm_real *dst, size_t dst_ld, const fm_real *src, size_t src_ld, int repeat, int rows,
                 int cols);
    /* rows rows of D values, ld apart; w[D] or NULL; y may be x with equal strides */
    void (*rms_norm)(struct fm_ctx *c, fm_real *y, size_t ldy, const fm_real *x, size_t ldx, const fm_real *w, int rows,
                     int D, fm_real eps);
    /* cs[T, half, 2] = cos, sin of pos[t]·freq[i] (computed in double by base/kernel maths) */
    void (*rope_table)(struct fm_ctx *c, fm_real *cs, const int32_t *pos, int T, const double *freq, int half);
    /* rotate in place heads h < H of row t: x + t·x_t + h·x_h, width 2·half */
    void (*rope)(struct fm_ctx *c, fm_real *x, size_t x_t, size_t x_h, int H, int T, const fm_real *cs, int half,
                 bool interleaved, bool inverse);
    void (*swiglu)(struct fm_ctx *c, fm_real *y, const fm_real *g, const fm_real *u, size_t n); /* silu(g)·u */
    /* copy this step's rows src[T, cols] (ld apart) into the cache rows of their positions (dst per sequence) */
    void (*store)(struct fm_ctx *c, const struct fm_rows *dst, const fm_real *src, size_t ld, int cols,
                  const struct fm_batch *b);
    /* copy cached rows 0 … n−1 of one sequence out: dst[n, cols] packed */
    void (*fetch)(struct fm_ctx *c, fm_real *dst, const struct fm_rows *src, int n, int cols);
    /* y[T,H,Dv] = softmax(scale·q·kᵀ, s <= pos)·v; q[T,H,Dk]; k, v per sequence.  lse[T,H] (may be NULL) = log Σ exp.
     * Flash style: keys folded in blocks and spans at fixed absolute positions, in order: a row's bits depend on nothing
     * but its position and keys. */
    void (*attn)(struct fm_ctx *c, fm_real *y, fm_real *lse, const fm_real *q, const struct fm_rows *k,
                 const struct fm_rows *v, const struct fm_attn *a, const struct fm_batch *b);
    /* scores[T,E] = sigmoid or softmax of logits[T,E]; idx[T,K] chosen experts in falling order of the selection score
     * (ties: lower index), w[T,K] their weights.  bias[E] (may be NULL) enters the selection only.  scores may be logits. */
    void (*router)(struct fm_ctx *c, int32_t *idx, fm_real *w, fm_real *scores, const fm_real *logits,
                   const fm_real *bias, const struct fm_router *r, int T);
    /* group the T·K choices by expert: order[i] = choice t·K+j at sorted place i, slot[t·K+j] = its place,
     * start[E+1]; stable: within an expert by choice number */
    void (*moe_sort)(struct fm_ctx *c, int32_t *order, int32_t *slot, int32_t *start, const int32_t *idx, int T, int K,
                     int E);
    /* y[i,:] = x[order[i]/K,:], i < n */
    void (*moe_gather)(struct fm_ctx *c, fm_real *y, const fm_real *x, const int32_t *order, int K, int n, int D);
    /* y[t,:] (+)= Σ_j w[t,j]·x[slot[t·K+j],:] in order of j; w NULL: ones */
    void (*moe_combine)(struct fm_ctx *c, fm_real *y, const fm_real *x, const fm_real *w, const int32_t *slot, int T,
                        int K, int D, bool accumulate);
};

struct fm_ops_grad {
    const char *name;
    void (*embed)(struct fm_ctx *c, struct fm_mat *dw, const fm_real *dy, const int32_t *ids, int T);
    /* dx[T,K] (+)= dy[T,N]·W[N,K] */
    void (*matmul_dx)(struct fm_ctx *c, fm_real *dx, size_t lddx, const fm_real *dy, size_t lddy,
                      const struct fm_mat *w, int T, bool accumulate);
    /* dW[N,K] += dyᵀ[N,T]·x[T,K]; dw is FM_REAL_FMT */
    void (*matmul_dw)(struct fm_ctx *c, struct fm_mat *dw, const fm_real *dy, size_t lddy, const fm_real *x, size_t ldx,
                      int T);
    void (*matmul_grouped_dx)(struct fm_ctx *c, fm_real *dx, const fm_real *dy, const struct fm_mat *w,
                              const int32_t *start, int E, bool accumulate);
    void (*matmul_grouped_dw)(struct fm_ctx *c, struct fm_mat *dw, const fm_real *dy, const fm_real *x,
                              const int32_t *start, int E);
    void (*bias)(struct fm_ctx *c, fm_real *db, const fm_real *dy, int T, int N); /* db[N] += Σ_t dy */
    /* of op rms_norm; dx may be dy with equal strides; dw or w may be NULL */
    void (*rms_norm)(struct fm_ctx *c, fm_real *dx, size_t lddx, fm_real *dw, const fm_real *dy, size_t lddy,
                     const fm_real *x, size_t ldx, const fm_real *w, int rows, int D, fm_real eps, bool accumulate);
    /* dg, du may be any of dy, g, u */
    void (*swiglu)(struct fm_ctx *c, fm_real *dg, fm_real *du, const fm_real *dy, const fm_real *g, const fm_real *u,
                   size_t n);
    /* backward of copy with repeat: dst[r] (cols, dst_ld) = Σ over its repeat rows of src; rows counts those of dst */
    void (*sum_repeat)(struct fm_ctx *c, fm_real *dst, size_t dst_ld, const fm_real *src, size_t src_ld, int repeat,
                       int rows, int cols);
    /* dq, dk, dv = ; flat rows only, pos0 = 0.  dk.head, dv.head may interleave with other data. y, lse from the forward. */
    void (*attn)(struct fm_ctx *c, fm_real *dq, const struct fm_rows *dk, const struct fm_rows *dv, const fm_real *dy,
                 const fm_real *y, const fm_real *lse, const fm_real *q, const struct fm_rows *k,
                 const struct fm_rows *v, const struct fm_attn *a, const struct fm_batch *b);
    /* dlogits[T,E] = from dw[T,K] and dscores[T,E] (may be NULL: balance loss); the choice is a constant */
    void (*router)(struct fm_ctx *c, fm_real *dlogits, const fm_real *dw, const fm_real *dscores, const int32_t *idx,
                   const fm_real *w, const fm_real *scores, const struct fm_router *r, int T);
    /* backward of moe_combine: dx[slot[t·K+j],:] = w[t,j]·dy[t,:];  dw[t,j] = dy[t,:]·x[slot[t·K+j],:];
     * w NULL: ones; dw may be NULL */
    void (*moe_combine)(struct fm_ctx *c, fm_real *dx, fm_real *dw, const fm_real *dy, const fm_real *x,
                        const fm_real *w, const int32_t *slot, int T, int K, int D);
    /* loss[T] = log Σ exp(logits) − logits[target]; dlogits = (softmax − onehot)·scale, may be logits or NULL;
     * target < 0: loss 0, gradient 0 */
    void (*cross_entropy)(struct fm_ctx *c, fm_real *loss, fm_real *dlogits, const fm_real *logits,
                          const int32_t *target, int T, int V, fm_real scale);
};

/* What a step needs around it.  One user thread at a time. */
struct fm_ctx {
    const struct fm_ops *op;
    const struct fm_ops_grad *grad; /* NULL outside training */
    struct fm_arena *arena;         /* step scratch and saved activations */
    struct fm_pool *pool;
    void *backend;                /* op/cpu: kernels and per-thread scratch */
    bool exact;                   /* quantised weights are decoded and computed with in float32 */
    bool deterministic;           /* same bits whatever the session's history: always absorbed MLA (implied by exact) */
    atomic_bool *cancel;          /* NULL or polled between tiles */
    struct fm_observer *observer; /* of op/observe.h; NULL elsewhere */
    enum fm_status status;        /* sticky */
    struct fm_error error;
};

/* Scratch for the step; NULL with a sticky FM_ERR_MEMORY when the plan does not hold it. */
void *fm_ctx_alloc(struct fm_ctx *c, size_t bytes, const char *tag);
static inline fm_real *fm_ctx_reals(struct fm_ctx *c, size_t n, const char *tag)
{
    return (fm_real *)fm_ctx_alloc(c, n * sizeof(fm_real), tag);
}
void fm_ctx_fail(struct fm_ctx *c, enum fm_status st, const char *what); /* first failure wins */

/* Every op a no-op: over a dry arena this runs the real code to size its memory. */
extern const struct fm_ops fm_ops_dry;
extern const struct fm_ops_grad fm_ops_grad_dry;

/* Naive, single-threaded, in fm_real: the referee (op/ref). */
extern const struct fm_ops fm_ops_ref;
extern const struct fm_ops_grad fm_ops_grad_ref;

#ifndef FM_REAL_DOUBLE
/* Tiled and threaded over the kernel table (op/cpu). */
extern const struct fm_ops fm_ops_cpu;
extern const struct fm_ops_grad fm_ops_grad_cpu;
/* Backend state for fm_ctx.backend: per-thread scratch for pool's size.  max_k: widest matmul input. */
enum fm_status fm_cpu_backend_new(struct fm_pool *pool, void **out, struct fm_error *err) FM_MUST_USE;
void fm_cpu_backend_free(void *backend);
/* Packed rows (kernel.h) have the size and, multiplied, the bits of those of the file; they are read faster.  How many lie side
 * by side here; 0 where rows of this format and number of columns are not packed. */
int fm_cpu_pack_rows(enum fm_fmt fmt, int cols);
/* Where a matrix goes when a product first wants it in int8, between steps of whoever shares it.  The rows that were packed are
 * handed to done, a few MiB at a time: they are hardly read there again (embeddings in F16 and BF16 are, a row at a time). */
struct fm_packed {
    const void *from; /* the whole matrix; fm_cpu_pack_rows rows at least */
    void *to;         /* as many bytes; the caller's                           */
    int rows;
    size_t row_bytes;
    bool ready;                                              /* it lies at `to` */
    void (*done)(void *arg, const void *from, size_t bytes); /* or NULL */
    void *arg;
};
/* Matrices that will lie in the `bytes` from at on, of which nothing is in memory yet: on the nodes of the threads that will read
 * them.  No-op on a machine with one. */
void fm_cpu_place(const struct fm_pool *pool, void *at, size_t bytes, const struct fm_packed *packed, int n);
size_t fm_cpu_backend_bytes(const struct fm_pool *pool); /* for the memory plan */
const char *fm_cpu_backend_tier(const void *backend);    /* "avx2" */
/* Optimiser and reductions on flat arrays, threaded (train/): see kernel.h for the formulas. */
struct fm_adamw_step {
    float lr, beta1, beta2, eps, weight_decay, bias1, bias2, grad_scale;
};
void fm_cpu_adamw(struct fm_ctx *c, float *p, float *m, float *v, const float *g, size_t n,
                  const struct fm_adamw_step *s);
/* n values (whole blocks) into a format that can be written, as fm_formats' encoders do, by the fastest kernel; weights
 * NULL: all the same.  On the caller's thread; any number at once. */
void fm_cpu_encode(enum fm_fmt fmt, void *dst, const float *src, const float *weights, size_t n);
/* y[i] = exp(x[i]), returns their sum; y may be x.  The same bits on every tier (kernel.h's exp_sum). */
float fm_cpu_exp_sum(float *y, const float *x, size_t n);
double fm_cpu_sumsq(struct fm_ctx *c, const float *x, size_t n); /* in fixed chunks: any thread count, same bits */
#endif

#endif
