/* Products with weight matrices.  Three ways, chosen by format and c->exact, never by T:
 *   exact   F32, FP8, and every format when c->exact: float32, one chain over k (kernel.h)
 *   int8    formats with an integer kernel: x is rounded once to int8 blocks of 32 with a float scale
 *   int14   F16, BF16: x is rounded to blocks of 14-bit integers, W to such with a power of two */
#include <assert.h>

#include "op/cpu/backend.h"

enum way { EXACT, INT8, INT14, WAYS };

/* Bytes of a block of x. */
static const size_t block_bytes[WAYS] = {[INT8] = sizeof(struct fm_q8x), [INT14] = sizeof(struct fm_q14x)};

static enum way way_of(const struct fm_ctx *c, const struct fm_mat *w)
{
    const struct fm_kernels *k = fm_cpu_kernels(c);
    if (c->exact || w->cols % 32 || w->scale.at) return EXACT;
    return k->gemm_q8[w->fmt] ? INT8 : k->gemm_q14[w->fmt] ? INT14 : EXACT;
}

/* Rows of x to quantise: row r of n is x + r/T·x_h + r%T·x_t, k long. */
struct quant_job {
    const struct fm_kernels *k;
    enum way way;
    void *dst;
    const float *x;
    size_t x_t, x_h;
    int T, K;
};

static void quantise_rows(void *arg, int begin, int end, int thread)
{
    const struct quant_job *j = arg;
    (void)thread;
    for (int r = begin; r < end; r++) {
        const float *x = j->x + r / j->T * j->x_h + r % j->T * j->x_t;
        const size_t at = (size_t)r * (j->K / 32);
        if (j->way == INT8)
            j->k->quantise_q8x((struct fm_q8x *)j->dst + at, x, j->K);
        else
            j->k->quantise_q14x((struct fm_q14x *)j->dst + at, x, j->K);
    }
}

static void quantise(struct fm_ctx *c, enum way way, const float *x, size_t x_t, size_t x_h, int H, int T, int K)
{
    struct fm_cpu_backend *be = fm_cpu_backend(c);
    struct quant_job j = {be->k, way, be->rows, x, x_t, x_h, T, K};
    fm_cpu_for(c, H * T, fm_cpu_grain((size_t)K), quantise_rows, &j);
}

/* T rows in about equal parts: rows of H times K whose blocks fit the scratch. */
static int rows_at_once(enum way way, int H, int K, int T)
{
    if (way == EXACT) return T;
    const int most = (int)(FM_CPU_ROWS_BYTES / ((size_t)K / 32 * block_bytes[way])) / H;
    assert(most > 0);
    const int parts = (T + most - 1) / most;
    return (T + parts - 1) / parts;
}

_Static_assert(FM_OP_INPUTS / 32 * sizeof(struct fm_q14x) <= FM_CPU_ROWS_BYTES, "one row at least");

/* The product's x is what was quantised, from row `row` on. */
static void set_blocks(const struct fm_cpu_backend *be, struct fm_cpu_product *p, enum way way, size_t row)
{
    const size_t at = row * (size_t)(p->k / 32);
    if (way == INT8) p->xq = (const struct fm_q8x *)be->rows + at;
    if (way == INT14) p->xq14 = (const struct fm_q14x *)be->rows + at;
}

static struct fm_cpu_product forward(float *y, size_t ldy, const float *x, size_t ldx, const struct fm_mat *w, int T)
{
    return (struct fm_cpu_product){.m = T,
                                   .n = w->rows,
                                   .k = w->cols,
                                   .a = x,
                                   .a_rs = (ptrdiff_t)ldx,
                                   .a_cs = 1,
                                   .w = *w,
                                   .c = y,
                                   .ldc = (ptrdiff_t)ldy};
}

/* The matrices whose way is `way`, over T rows that fit the scratch. */
static void multiply_n(struct fm_ctx *c, int n, float *const *y, const size_t *ldy, const float *x, size_t ldx,
                       const struct fm_mat *const *w, int row0, int T, enum way way)
{
    struct fm_cpu_backend *be = fm_cpu_backend(c);
    int count = 0;
    for (int i = 0; i < n; i++) {
        if (way_of(c, w[i]) != way) continue;
        size_t ld = ldy ? *ldy : (size_t)w[i]->rows;
        be->products[count] = forward(y[i] + row0 * ld, ld, x + row0 * ldx, ldx, w[i], T);
        set_blocks(be, &be->products[count++], way, 0);
    }
    if (count) fm_cpu_products(c, count);
}

/* ldy NULL: each y packed. */
static void matmul_n(struct fm_ctx *c, int n, float *const *y, const size_t *ldy, const float *x, size_t ldx,
                     const struct fm_mat *const *w, int T)
{
    bool any[WAYS] = {0};
    if (c->status || T <= 0) return;
    assert(n <= FM_CPU_PRODUCTS);
    for (int i = 0; i < n; i++) any[way_of(c, w[i])] = true;
    for (enum way way = EXACT; way < WAYS; way++) {
        const int K = w[0]->cols, step = any[way] ? rows_at_once(way, 1, K, T) : 0;
        for (int t = 0; step && t < T && !c->status; t += step) {
            const int rows = T - t < step ? T - t : step;
            if (way != EXACT) quantise(c, way, x + t * ldx, ldx, 0, 1, rows, K);
            multiply_n(c, n, y, ldy, x, ldx, w, t, rows, way);
        }
    }
}

void fm_cpu_matmul(struct fm_ctx *c, float *y, size_t ldy, const float *x, size_t ldx, const struct fm_mat *w, int T)
{
    matmul_n(c, 1, &y, &ldy, x, ldx, &w, T);
}

void fm_cpu_matmul_n(struct fm_ctx *c, int n, float *const *y, const float *x, size_t ldx,
                     const struct fm_mat *const *w, int T)
{
    matmul_n(c, n, y, NULL, x, ldx, w, T);
}

void fm_cpu_matmul_heads(struct fm_ctx *c, float *y, size_t y_t, size_t y_h, const float *x, size_t x_t, size_t x_h,
                         const struct fm_mat *w, int head_rows, int row0, int n, int H, int T)
{
    if (c->status || T <= 0) return;
    struct fm_cpu_backend *be = fm_cpu_backend(c);
    const enum way way = way_of(c, w);
    const int step = rows_at_once(way, H, w->cols, T);
    assert(H <= FM_CPU_PRODUCTS);
    for (int t = 0; t < T && !c->status; t += step) {
        int rows = T - t < step ? T - t : step;
        if (way != EXACT) quantise(c, way, x + t * x_t, x_t, x_h, H, rows, w->cols);
        for (int h = 0; h < H; h++) {
            const struct fm_mat part = fm_mat_rows(w, h * head_rows + row0, n);
            be->products[h] = forward(y + t * y_t + h * y_h, y_t, x + t * x_t + h * x_h, x_t, &part, rows);
            set_blocks(be, &be->products[h], way, (size_t)h * rows);
        }
        fm_cpu_products(c, H);
    }
}

struct grouped {
    int n; /* matrices of a group */
    float *const *y;
    const float *x;
    const struct fm_mat *const *w;
    const int32_t *start;
    int E;
    enum way way;
};

/* What lies of groups e0 … e1 − 1 in rows [row0, row0 + rows): a group's matrices one after the other. */
static int group_products(struct fm_cpu_backend *be, const struct grouped *g, int e0, int e1, int row0, int rows)
{
    int count = 0;
    for (int e = e0; e < e1; e++) {
        const int begin = fm_max_int(g->start[e], row0), end = fm_min_int(g->start[e + 1], row0 + rows);
        for (int i = 0; i < g->n && begin < end; i++) {
            const struct fm_mat *w = &g->w[i][e];
            const size_t N = (size_t)w->rows, K = (size_t)w->cols;
            struct fm_cpu_product *p = &be->products[count++];
            *p = forward(g->y[i] + begin * N, N, g->x + begin * K, K, w, end - begin);
            set_blocks(be, p, g->way, (size_t)(begin - row0));
        }
    }
    return count;
}

/* All of one way and shape. */
static void multiply_grouped(struct fm_ctx *c, const struct grouped *g)
{
    const int K = g->w[0]->cols, T = g->start[g->E], step = rows_at_once(g->way, 1, K, T);
    const int groups = FM_CPU_PRODUCTS / g->n;
    for (int t = 0; t < T && !c->status; t += step) {
        const int rows = fm_min_int(T - t, step);
        if (g->way != EXACT) quantise(c, g->way, g->x + (size_t)t * K, (size_t)K, 0, 1, rows, K);
        for (int e = 0; e < g->E && !c->status; e += groups) {
            const int count = group_products(fm_cpu_backend(c), g, e, fm_min_int(e + groups, g->E), t, rows);
            if (count) fm_cpu_products(c, count);
        }
    }
}

void fm_cpu_matmul_grouped(struct fm_ctx *c, int n, float *const *y, const float *x, const struct fm_mat *const *w,
                           const int32_t *start, int E)
{
    if (c->status || start[E] <= 0) return;
    for (int i = 0, end; i < n; i = end) { /* neighbours of one way */
        const enum way way = way_of(c, w[i]);
        for (end = i + 1; end < n && way_of(c, w[end]) == way; end++) {
        }
        multiply_grouped(c, &(struct grouped){end - i, y + i, x, w + i, start, E, way});
    }
}
