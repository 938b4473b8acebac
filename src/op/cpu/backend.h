/* Inside of op/cpu: the backend's scratch, the one parallel loop, and the product engine.
 *
 *   base ─┬─ shared: products │ rows ─┬─ thread 0: work │ panel │ tile ─┬─ thread 1 … ─┐
 *
 * Bits never depend on the number of threads: either an item's result does not depend on how items are grouped, or the
 * grouping is fixed by the shapes. */
#ifndef FM_OP_CPU_BACKEND_H
#define FM_OP_CPU_BACKEND_H

#include <stdatomic.h>

#include "kernel/kernel.h"
#include "op/slots.h"

FM_OP_SLOTS(fm_cpu_);
FM_OP_GRAD_SLOTS(fm_cpu_);

enum {
    FM_CPU_PRODUCTS =
        FM_OP_HEADS,             /* products of one call: experts or heads                                           */
    FM_CPU_ROWS_BYTES = 8 << 20, /* quantised activations of one pass, partial sums                                  */
    FM_CPU_PANEL_SIDE = 256,     /* decoded weights at a time: 256 × 256, 256 KiB: a quarter of a usual L2           */
    FM_CPU_TILE = 1 << 18,       /* floats of an attention tile                                                      */
    FM_CPU_GRAIN = 1 << 14,      /* element operations worth handing to another thread, about 5 µs                   */
    FM_CPU_MACS = 16,            /* multiply-adds that take the time of one element operation                        */
};

/* C[m,n] (= or +=) A[m,k]·B[k,n].  B is either plain floats (w.data NULL: b, b_rs, b_cs) or a weight matrix in its format:
 * Wᵀ (rows of W are columns of B: n = rows, k = cols) or, turned, W itself (n = cols, k = rows). */
struct fm_cpu_product {
    int m, n, k;
    const float *a;
    ptrdiff_t a_rs, a_cs;
    const float *b;
    ptrdiff_t b_rs, b_cs;
    struct fm_mat w;
    bool turned;
    const struct fm_q8x *xq;    /* A as int8 blocks: multiply in integers …                  */
    const struct fm_q14x *xq14; /* … or as those of 14 bits; both NULL: the exact order      */
    float *c;
    ptrdiff_t ldc;
    bool accumulate;
    /* filled by fm_cpu_products */
    int packed; /* w.data is where it lies packed: so many of its first rows in groups, the others as in the file */
    int tile_m, tile_n, first_tile;
};

struct fm_cpu_backend {
    const struct fm_kernels *k;
    int n_threads;
    size_t bytes;
    char *base;
    struct fm_cpu_product *products; /* [FM_CPU_PRODUCTS]                                        */
    void *rows;                      /* [FM_CPU_ROWS_BYTES], 64-byte aligned                     */
    char *threads;                   /* per thread: work, panel, tile; use the functions below   */
};

static inline struct fm_cpu_backend *fm_cpu_backend(const struct fm_ctx *c) { return c->backend; }
static inline const struct fm_kernels *fm_cpu_kernels(const struct fm_ctx *c) { return fm_cpu_backend(c)->k; }
float *fm_cpu_work(const struct fm_ctx *c, int thread);  /* FM_GEMM_WORK floats, for the kernels */
float *fm_cpu_panel(const struct fm_ctx *c, int thread); /* FM_CPU_PANEL_SIDE² floats              */
float *fm_cpu_tile(const struct fm_ctx *c, int thread);  /* FM_CPU_TILE floats                     */

static inline bool fm_cpu_cancelled(const struct fm_ctx *c)
{
    return c->cancel && atomic_load_explicit(c->cancel, memory_order_relaxed);
}

/* fn(arg, begin, end, thread) over [0, n) in pieces of at most grain items that start at multiples of grain; on this
 * thread alone when n <= grain.  Polls the cancel flag between pieces: then the rest is left out and c fails. */
void fm_cpu_for(struct fm_ctx *c, int n, int grain, fm_pool_fn fn, void *arg);

/* Items per piece when one item costs about that many element operations. */
static inline int fm_cpu_grain(size_t cost)
{
    size_t g = FM_CPU_GRAIN / (cost ? cost : 1);
    return g ? (int)g : 1;
}

/* All n products (fm_cpu_backend(c)->products[0 … n−1]), cut into tiles for the pool.  The bits of an element depend on
 * its own row of A and column of B only. */
void fm_cpu_products(struct fm_ctx *c, int n);

/* Machines with several memory nodes (nodes.c).  The list with every product cut into the nodes' parts, in their order; returns
 * its new length. */
int fm_cpu_by_node(const struct fm_pool *pool, struct fm_cpu_product *list, int n);
/* Where the rows of a packed matrix at address `at` should lie: out[FM_NODES_MAX]; returns how many, 0: pages in turn. */
struct fm_node_piece {
    size_t at, bytes;
    int node; /* 0 … fm_pool_nodes − 1 */
};
int fm_cpu_node_pieces(const struct fm_pool *pool, size_t at, int rows, size_t row_bytes, struct fm_node_piece *out);

/* How many rows of a matrix lie in whole groups, the first ones. */
int fm_cpu_grouped_rows(const struct fm_ctx *c, const struct fm_packed *p);
/* Packs the whole of the matrix that w, or its rows, are of; ready unless c failed. */
void fm_cpu_pack(struct fm_ctx *c, const struct fm_mat *w);
/* A row of a matrix that is ready, as in its file: in the thread's tile, or where it lies. */
const void *fm_cpu_unpack(const struct fm_ctx *c, const struct fm_mat *w, int row, int thread);

/* Decoder of a format, or NULL with a sticky failure. */
fm_decode_fn fm_cpu_decoder(struct fm_ctx *c, enum fm_fmt fmt);

#endif
