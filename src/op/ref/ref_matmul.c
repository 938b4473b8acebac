/* Products with weight matrices, forward and backward.  y = x·Wᵀ, dx = dy·W, dW = dyᵀ·x. */
#include <assert.h>
#include <string.h>

#include "op/ref/ref.h"

void fm_ref_weights(fm_real *dst, const struct fm_mat *w, int row, int k, int n)
{
    const struct fm_format *f = &fm_formats[w->fmt];
    float tmp[FM_REF_CHUNK];
    assert(f->decode && k % (int)f->block == 0 && n % (int)f->block == 0 && n <= FM_REF_CHUNK);
    if (w->fmt == FM_REAL_FMT) { /* in the double build decode would round to float */
        memcpy(dst, (const char *)w->data + (size_t)row * w->row_bytes + (size_t)k * sizeof *dst,
               (size_t)n * sizeof *dst);
        return;
    }
    fm_mat_decode(tmp, w, row, k, n, f->decode);
    for (int i = 0; i < n; i++) dst[i] = tmp[i];
}

static inline int chunk_end(int k, int n) { return n - k < FM_REF_CHUNK ? n - k : FM_REF_CHUNK; }

static double dot_row(const struct fm_mat *w, int row, const fm_real *x)
{
    fm_real wk[FM_REF_CHUNK];
    double acc = 0;
    for (int k = 0; k < w->cols; k += FM_REF_CHUNK) {
        int n = chunk_end(k, w->cols);
        fm_ref_weights(wk, w, row, k, n);
        for (int i = 0; i < n; i++) acc += (double)wk[i] * x[k + i];
    }
    return acc;
}

void fm_ref_embed(struct fm_ctx *c, fm_real *y, const struct fm_mat *w, const int32_t *ids, int T)
{
    if (c->status) return;
    for (int t = 0; t < T; t++)
        for (int k = 0; k < w->cols; k += FM_REF_CHUNK)
            fm_ref_weights(y + (size_t)t * w->cols + k, w, ids[t], k, chunk_end(k, w->cols));
}

void fm_ref_embed_bwd(struct fm_ctx *c, struct fm_mat *dw, const fm_real *dy, const int32_t *ids, int T)
{
    if (c->status) return;
    for (int t = 0; t < T; t++) {
        fm_real *row = (fm_real *)((char *)dw->data + (size_t)ids[t] * dw->row_bytes);
        for (int k = 0; k < dw->cols; k++) row[k] += dy[(size_t)t * dw->cols + k];
    }
}

void fm_ref_matmul(struct fm_ctx *c, fm_real *y, size_t ldy, const fm_real *x, size_t ldx, const struct fm_mat *w,
                   int T)
{
    if (c->status) return;
    for (int t = 0; t < T; t++)
        for (int n = 0; n < w->rows; n++) y[t * ldy + n] = (fm_real)dot_row(w, n, x + t * ldx);
}

void fm_ref_matmul_n(struct fm_ctx *c, int n, fm_real *const *y, const fm_real *x, size_t ldx,
                     const struct fm_mat *const *w, int T)
{
    for (int i = 0; i < n; i++) fm_ref_matmul(c, y[i], (size_t)w[i]->rows, x, ldx, w[i], T);
}

void fm_ref_matmul_heads(struct fm_ctx *c, fm_real *y, size_t y_t, size_t y_h, const fm_real *x, size_t x_t, size_t x_h,
                         const struct fm_mat *w, int head_rows, int row0, int n, int H, int T)
{
    if (c->status) return;
    for (int t = 0; t < T; t++)
        for (int h = 0; h < H; h++)
            for (int j = 0; j < n; j++)
                y[t * y_t + h * y_h + j] = (fm_real)dot_row(w, h * head_rows + row0 + j, x + t * x_t + h * x_h);
}

void fm_ref_matmul_grouped(struct fm_ctx *c, int n, fm_real *const *y, const fm_real *x, const struct fm_mat *const *w,
                           const int32_t *start, int E)
{
    for (int i = 0; i < n; i++)
        for (int e = 0; e < E; e++) {
            size_t N = (size_t)w[i][e].rows, K = (size_t)w[i][e].cols;
            fm_ref_matmul(c, y[i] + start[e] * N, N, x + start[e] * K, K, &w[i][e], start[e + 1] - start[e]);
        }
}

void fm_ref_matmul_dx(struct fm_ctx *c, fm_real *dx, size_t lddx, const fm_real *dy, size_t lddy,
                      const struct fm_mat *w, int T, bool accumulate)
{
    if (c->status) return;
    fm_real wk[FM_REF_CHUNK];
    for (int t = 0; t < T; t++)
        for (int k = 0; k < w->cols; k += FM_REF_CHUNK) {
            int n = chunk_end(k, w->cols);
            double acc[FM_REF_CHUNK] = {0};
            for (int row = 0; row < w->rows; row++) {
                fm_ref_weights(wk, w, row, k, n);
                for (int i = 0; i < n; i++) acc[i] += (double)dy[t * lddy + row] * wk[i];
            }
            fm_real *out = dx + t * lddx + k;
            for (int i = 0; i < n; i++) out[i] = (fm_real)(acc[i] + (accumulate ? out[i] : 0));
        }
}

void fm_ref_matmul_dw(struct fm_ctx *c, struct fm_mat *dw, const fm_real *dy, size_t lddy, const fm_real *x, size_t ldx,
                      int T)
{
    if (c->status) return;
    for (int n = 0; n < dw->rows; n++) {
        fm_real *row = (fm_real *)((char *)dw->data + (size_t)n * dw->row_bytes);
        for (int k = 0; k < dw->cols; k++) {
            double acc = row[k];
            for (int t = 0; t < T; t++) acc += (double)dy[t * lddy + n] * x[t * ldx + k];
            row[k] = (fm_real)acc;
        }
    }
}

void fm_ref_matmul_grouped_dx(struct fm_ctx *c, fm_real *dx, const fm_real *dy, const struct fm_mat *w,
                              const int32_t *start, int E, bool accumulate)
{
    for (int e = 0; e < E; e++) {
        size_t N = (size_t)w[e].rows, K = (size_t)w[e].cols;
        fm_ref_matmul_dx(c, dx + start[e] * K, K, dy + start[e] * N, N, &w[e], start[e + 1] - start[e], accumulate);
    }
}

void fm_ref_matmul_grouped_dw(struct fm_ctx *c, struct fm_mat *dw, const fm_real *dy, const fm_real *x,
                              const int32_t *start, int E)
{
    for (int e = 0; e < E; e++) {
        size_t N = (size_t)dw[e].rows, K = (size_t)dw[e].cols;
        fm_ref_matmul_dw(c, &dw[e], dy + start[e] * N, N, x + start[e] * K, K, start[e + 1] - start[e]);
    }
}
