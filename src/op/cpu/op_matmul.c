/* Products with weight matrices.  Two ways, chosen by format and c->exact, never by T:
 *   exact   F32, F16, BF16, and every format when c->exact: float32, one chain over k (kernel.h)
 *   int8    formats with an integer kernel: x is rounded once to int8 blocks of 32 with a float scale */
#include <assert.h>

#include "op/cpu/backend.h"

/* Rows of x to quantise: row r of n is x + r/T·x_h + r%T·x_t, k long. */
struct quant_job {
    const struct fm_kernels *k;
    struct fm_q8x *dst;
    const float *x;
    size_t x_t, x_h;
    int T, K;
};

static void quantise_rows(void *arg, int begin, int end, int thread)
{
    const struct quant_job *j = arg;
    (void)thread;
    for (int r = begin; r < end; r++)
        j->k->quantise_q8x(j->dst + (size_t)r * (j->K / 32), j->x + r / j->T * j->x_h + r % j->T * j->x_t, j->K);
}

static void quantise(struct fm_ctx *c, const float *x, size_t x_t, size_t x_h, int H, int T, int K)
{
    struct fm_cpu_backend *be = fm_cpu_backend(c);
    struct quant_job j = {be->k, be->rows, x, x_t, x_h, T, K};
    fm_cpu_for(c, H * T, fm_cpu_grain((size_t)K), quantise_rows, &j);
}

/* Rows of K that fit the scratch as int8 blocks. */
static int rows_at_once(int K) { return (int)(FM_CPU_ROWS_BYTES / ((size_t)K / 32 * sizeof(struct fm_q8x))); }

_Static_assert(FM_OP_INPUTS / 32 * sizeof(struct fm_q8x) <= FM_CPU_ROWS_BYTES, "one row at least");

static bool in_int8(const struct fm_ctx *c, const struct fm_mat *w)
{
    return !c->exact && fm_cpu_kernels(c)->gemm_q8[w->fmt] && w->cols % 32 == 0;
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

/* The matrices whose int8 way is `int8`, over T rows that fit the scratch. */
static void multiply_n(struct fm_ctx *c, int n, float *const *y, const size_t *ldy, const float *x, size_t ldx,
                       const struct fm_mat *const *w, int row0, int T, bool int8)
{
    struct fm_cpu_backend *be = fm_cpu_backend(c);
    int count = 0;
    for (int i = 0; i < n; i++) {
        if (in_int8(c, w[i]) != int8) continue;
        size_t ld = ldy ? *ldy : (size_t)w[i]->rows;
        be->products[count] = forward(y[i] + row0 * ld, ld, x + row0 * ldx, ldx, w[i], T);
        if (int8) be->products[count].xq = be->rows;
        count++;
    }
    if (count) fm_cpu_products(c, count);
}

/* ldy NULL: each y packed. */
static void matmul_n(struct fm_ctx *c, int n, float *const *y, const size_t *ldy, const float *x, size_t ldx,
                     const struct fm_mat *const *w, int T)
{
    bool any = false;
    if (c->status || T <= 0) return;
    assert(n <= FM_CPU_PRODUCTS);
    for (int i = 0; i < n; i++) any |= in_int8(c, w[i]);
    multiply_n(c, n, y, ldy, x, ldx, w, 0, T, false);
    if (!any) return;
    int K = w[0]->cols, step = rows_at_once(K);
    for (int t = 0; t < T && !c->status; t += step) {
        int rows = T - t < step ? T - t : step;
        quantise(c, x + t * ldx, ldx, 0, 1, rows, K);
        multiply_n(c, n, y, ldy, x, ldx, w, t, rows, true);
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
    bool int8 = in_int8(c, w);
    int step = int8 ? rows_at_once(w->cols) / H : T;
    assert(H <= FM_CPU_PRODUCTS && step > 0);
    for (int t = 0; t < T && !c->status; t += step) {
        int rows = T - t < step ? T - t : step;
        if (int8) quantise(c, x + t * x_t, x_t, x_h, H, rows, w->cols);
        for (int h = 0; h < H; h++) {
            const struct fm_mat part = fm_mat_rows(w, h * head_rows + row0, n);
            be->products[h] = forward(y + t * y_t + h * y_h, y_t, x + t * x_t + h * x_h, x_t, &part, rows);
            if (int8) be->products[h].xq = (struct fm_q8x *)be->rows + (size_t)h * rows * (w->cols / 32);
        }
        fm_cpu_products(c, H);
    }
}

/* The parts of the groups that lie in rows [row0, row0 + rows). */
static int group_products(struct fm_cpu_backend *be, float *y, const float *x, const struct fm_mat *w,
                          const int32_t *start, int E, int row0, int rows, bool int8)
{
    int count = 0;
    for (int e = 0; e < E; e++) {
        int begin = start[e] > row0 ? start[e] : row0, end = start[e + 1] < row0 + rows ? start[e + 1] : row0 + rows;
        if (begin >= end) continue;
        size_t N = (size_t)w[e].rows, K = (size_t)w[e].cols;
        struct fm_cpu_product *p = &be->products[count++];
        *p = forward(y + begin * N, N, x + begin * K, K, &w[e], end - begin);
        if (int8) p->xq = (struct fm_q8x *)be->rows + (size_t)(begin - row0) * (K / 32);
    }
    return count;
}

void fm_cpu_matmul_grouped(struct fm_ctx *c, float *y, const float *x, const struct fm_mat *w, const int32_t *start,
                           int E)
{
    if (c->status || start[E] <= 0) return;
    bool int8 = in_int8(c, w); /* all of one format and shape */
    int K = w->cols, T = start[E], step = int8 ? rows_at_once(K) : T;
    assert(E <= FM_CPU_PRODUCTS);
    for (int t = 0; t < T && !c->status; t += step) {
        int rows = T - t < step ? T - t : step;
        if (int8) quantise(c, x + (size_t)t * K, (size_t)K, 0, 1, rows, K);
        fm_cpu_products(c, group_products(fm_cpu_backend(c), y, x, w, start, E, t, rows, int8));
    }
}
