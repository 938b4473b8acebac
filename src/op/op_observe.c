/* See observe.h. */
#include "op/observe.h"

#include <stdlib.h>

enum { COLUMNS = 512 }; /* at a time: 4 KiB of sums stay in the first cache */

static int by_address(const void *a, const void *b)
{
    const struct fm_mat *x = ((const struct fm_observed *)a)->w, *y = ((const struct fm_observed *)b)->w;
    return (x > y) - (x < y);
}

static const struct fm_observed *find(const struct fm_ctx *c, const struct fm_mat *w)
{
    const struct fm_observed key = {.w = w};
    const struct fm_observer *o = c->observer;
    return c->status ? NULL : bsearch(&key, o->list, (size_t)o->n, sizeof key, by_address);
}

/* Rows at x, T of them, ld apart. */
struct rows {
    const fm_real *x;
    size_t ld;
    int T, K;
    double *sums;
};

static void add_columns(void *arg, int begin, int end, int thread)
{
    const struct rows *r = arg;
    (void)thread;
    for (int k0 = begin * COLUMNS; k0 < r->K && k0 < end * COLUMNS; k0 += COLUMNS) {
        const int k1 = r->K - k0 < COLUMNS ? r->K : k0 + COLUMNS;
        for (int t = 0; t < r->T; t++) {
            const fm_real *x = r->x + (size_t)t * r->ld;
            for (int k = k0; k < k1; k++) r->sums[k] += (double)x[k] * (double)x[k];
        }
    }
}

static void add_rows(struct fm_ctx *c, const struct fm_observed *o, int mat, const fm_real *x, size_t ld, int T)
{
    const int K = o->w->cols;
    struct rows r = {x, ld, T, K, o->sums + (size_t)mat * (size_t)K};
    o->counts[mat] += T;
    fm_parallel_for(c->pool, (K + COLUMNS - 1) / COLUMNS, 1, add_columns, &r);
}

static const struct fm_ops *inner(const struct fm_ctx *c) { return c->observer->inner; }

static void observe_matmul(struct fm_ctx *c, fm_real *y, size_t ldy, const fm_real *x, size_t ldx,
                           const struct fm_mat *w, int T)
{
    const struct fm_observed *o = find(c, w);
    if (o) add_rows(c, o, 0, x, ldx, T);
    inner(c)->matmul(c, y, ldy, x, ldx, w, T);
}

static void observe_matmul_n(struct fm_ctx *c, int n, fm_real *const *y, const fm_real *x, size_t ldx,
                             const struct fm_mat *const *w, int T)
{
    for (int i = 0; i < n; i++) {
        const struct fm_observed *o = find(c, w[i]);
        if (o) add_rows(c, o, 0, x, ldx, T);
    }
    inner(c)->matmul_n(c, n, y, x, ldx, w, T);
}

static void observe_matmul_heads(struct fm_ctx *c, fm_real *y, size_t y_t, size_t y_h, const fm_real *x, size_t x_t,
                                 size_t x_h, const struct fm_mat *w, int head_rows, int row0, int n, int H, int T)
{
    const struct fm_observed *o = find(c, w);
    for (int h = 0; o && h < H; h++) add_rows(c, o, h % o->mats, x + (size_t)h * x_h, x_t, T);
    inner(c)->matmul_heads(c, y, y_t, y_h, x, x_t, x_h, w, head_rows, row0, n, H, T);
}

struct groups {
    struct fm_ctx *c;
    const fm_real *x;
    const struct fm_mat *w;
    const int32_t *start;
};

/* Groups are short and many: each is one thread's. */
static void add_groups(void *arg, int begin, int end, int thread)
{
    const struct groups *g = arg;
    for (int e = begin; e < end; e++) {
        const int T = g->start[e + 1] - g->start[e];
        const struct fm_observed *o = T > 0 ? find(g->c, &g->w[e]) : NULL;
        if (!o) continue;
        const size_t K = (size_t)o->w->cols;
        struct rows r = {g->x + (size_t)g->start[e] * K, K, T, (int)K, o->sums};
        *o->counts += T;
        add_columns(&r, 0, (r.K + COLUMNS - 1) / COLUMNS, thread);
    }
}

static void observe_matmul_grouped(struct fm_ctx *c, int n, fm_real *const *y, const fm_real *x,
                                   const struct fm_mat *const *w, const int32_t *start, int E)
{
    for (int i = 0; i < n; i++) fm_parallel_for(c->pool, E, 1, add_groups, &(struct groups){c, x, w[i], start});
    inner(c)->matmul_grouped(c, n, y, x, w, start, E);
}

void fm_observer_init(struct fm_observer *o, const struct fm_ops *ops, struct fm_observed *list, int n)
{
    qsort(list, (size_t)n, sizeof *list, by_address);
    *o = (struct fm_observer){.ops = *ops, .inner = ops, .list = list, .n = n};
    o->ops.name = "observe";
    o->ops.matmul = observe_matmul;
    o->ops.matmul_n = observe_matmul_n;
    o->ops.matmul_heads = observe_matmul_heads;
    o->ops.matmul_grouped = observe_matmul_grouped;
}
