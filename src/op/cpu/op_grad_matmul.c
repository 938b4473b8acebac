/* Backward of products with weights: dx = dy·W (one chain over the rows of W), dW += dyᵀ·x (one chain over T, continued
 * from dW).  T is never split between threads; the tiles of dW are. */
#include <assert.h>

#include "op/cpu/backend.h"

static struct fm_cpu_product to_x(float *dx, size_t lddx, const float *dy, size_t lddy, const struct fm_mat *w, int T,
                                  bool accumulate)
{
    return (struct fm_cpu_product){.m = T,
                                   .n = w->cols,
                                   .k = w->rows,
                                   .a = dy,
                                   .a_rs = (ptrdiff_t)lddy,
                                   .a_cs = 1,
                                   .w = *w,
                                   .turned = true,
                                   .c = dx,
                                   .ldc = (ptrdiff_t)lddx,
                                   .accumulate = accumulate};
}

static struct fm_cpu_product to_w(struct fm_mat *dw, const float *dy, size_t lddy, const float *x, size_t ldx, int T)
{
    assert(dw->fmt == FM_F32);
    return (struct fm_cpu_product){.m = dw->rows,
                                   .n = dw->cols,
                                   .k = T,
                                   .a = dy,
                                   .a_rs = 1,
                                   .a_cs = (ptrdiff_t)lddy,
                                   .b = x,
                                   .b_rs = (ptrdiff_t)ldx,
                                   .b_cs = 1,
                                   .c = dw->data,
                                   .ldc = (ptrdiff_t)(dw->row_bytes / sizeof(float)),
                                   .accumulate = true};
}

void fm_cpu_matmul_dx(struct fm_ctx *c, float *dx, size_t lddx, const float *dy, size_t lddy, const struct fm_mat *w,
                      int T, bool accumulate)
{
    if (c->status || T <= 0) return;
    fm_cpu_backend(c)->products[0] = to_x(dx, lddx, dy, lddy, w, T, accumulate);
    fm_cpu_products(c, 1);
}

void fm_cpu_matmul_dw(struct fm_ctx *c, struct fm_mat *dw, const float *dy, size_t lddy, const float *x, size_t ldx,
                      int T)
{
    if (c->status || T <= 0) return;
    fm_cpu_backend(c)->products[0] = to_w(dw, dy, lddy, x, ldx, T);
    fm_cpu_products(c, 1);
}

void fm_cpu_matmul_grouped_dx(struct fm_ctx *c, float *dx, const float *dy, const struct fm_mat *w,
                              const int32_t *start, int E, bool accumulate)
{
    if (c->status) return;
    struct fm_cpu_product *p = fm_cpu_backend(c)->products;
    int n = 0;
    assert(E <= FM_CPU_PRODUCTS);
    for (int e = 0; e < E; e++) {
        size_t N = (size_t)w[e].rows, K = (size_t)w[e].cols;
        int T = start[e + 1] - start[e];
        if (T > 0) p[n++] = to_x(dx + start[e] * K, K, dy + start[e] * N, N, &w[e], T, accumulate);
    }
    fm_cpu_products(c, n);
}

void fm_cpu_matmul_grouped_dw(struct fm_ctx *c, struct fm_mat *dw, const float *dy, const float *x,
                              const int32_t *start, int E)
{
    if (c->status) return;
    struct fm_cpu_product *p = fm_cpu_backend(c)->products;
    int n = 0;
    assert(E <= FM_CPU_PRODUCTS);
    for (int e = 0; e < E; e++) {
        size_t N = (size_t)dw[e].rows, K = (size_t)dw[e].cols;
        int T = start[e + 1] - start[e];
        if (T > 0) p[n++] = to_w(&dw[e], dy + start[e] * N, N, x + start[e] * K, K, T);
    }
    fm_cpu_products(c, n);
}
