/* The backend's fixed scratch (no op allocates) and its parallel loop. */
#include <assert.h>

#include "base/log.h"
#include "base/mem.h"
#include "op/cpu/backend.h"

/* Sizes in bytes, each a multiple of 64. */
static const size_t PRODUCTS_BYTES = (FM_CPU_PRODUCTS * sizeof(struct fm_cpu_product) + 63) & ~(size_t)63;
static const size_t PANEL_FLOATS = FM_CPU_PANEL_SIDE * FM_CPU_PANEL_SIDE;
static const size_t THREAD_FLOATS = FM_GEMM_WORK + FM_CPU_PANEL_SIDE * FM_CPU_PANEL_SIDE + FM_CPU_TILE;

size_t fm_cpu_backend_bytes(const struct fm_pool *pool)
{
    return PRODUCTS_BYTES + FM_CPU_ROWS_BYTES + (size_t)fm_pool_size(pool) * THREAD_FLOATS * sizeof(float);
}

enum fm_status fm_cpu_backend_new(struct fm_pool *pool, void **out, struct fm_error *err)
{
    size_t bytes = fm_cpu_backend_bytes(pool);
    struct fm_cpu_backend *be = fm_malloc(sizeof *be);
    if (!be) return fm_fail_memory(err, "compute scratch", sizeof *be);
    char *base = fm_pages_alloc(bytes);
    if (!base) {
        fm_free(be);
        return fm_fail_memory(err, "compute scratch", bytes);
    }
    const char *warning = NULL;
    *be = (struct fm_cpu_backend){.k = fm_kernels_get(&warning), .n_threads = fm_pool_size(pool), .bytes = bytes};
    if (warning) fm_log(FM_LOG_WARN, "%s", warning);
    be->base = base;
    be->products = (struct fm_cpu_product *)base;
    be->rows = base + PRODUCTS_BYTES;
    be->threads = base + PRODUCTS_BYTES + FM_CPU_ROWS_BYTES;
    *out = be;
    return FM_OK;
}

void fm_cpu_backend_free(void *backend)
{
    struct fm_cpu_backend *be = backend;
    if (!be) return;
    fm_pages_free(be->base, be->bytes);
    fm_free(be);
}

const char *fm_cpu_backend_tier(const void *backend) { return ((const struct fm_cpu_backend *)backend)->k->tier; }

float *fm_cpu_work(const struct fm_ctx *c, int thread)
{
    assert(thread < fm_cpu_backend(c)->n_threads);
    return (float *)fm_cpu_backend(c)->threads + (size_t)thread * THREAD_FLOATS;
}

float *fm_cpu_panel(const struct fm_ctx *c, int thread) { return fm_cpu_work(c, thread) + FM_GEMM_WORK; }
float *fm_cpu_tile(const struct fm_ctx *c, int thread) { return fm_cpu_panel(c, thread) + PANEL_FLOATS; }

struct loop {
    struct fm_ctx *c;
    int grain;
    fm_pool_fn fn;
    void *arg;
};

static void pieces(void *arg, int begin, int end, int thread)
{
    const struct loop *l = arg;
    for (int i = begin; i < end && !fm_cpu_cancelled(l->c); i += l->grain)
        l->fn(l->arg, i, end - i < l->grain ? end : i + l->grain, thread);
}

void fm_cpu_for(struct fm_ctx *c, int n, int grain, fm_pool_fn fn, void *arg)
{
    struct loop l = {c, grain, fn, arg};
    fm_parallel_for(c->pool, n, grain, pieces, &l);
    if (fm_cpu_cancelled(c)) fm_ctx_fail(c, FM_ERR_CANCELLED, "stopped by the user");
}

float fm_cpu_exp_sum(float *y, const float *x, size_t n) { return fm_kernels_get(NULL)->exp_sum(y, x, n, 0); }

void fm_cpu_encode(enum fm_fmt fmt, void *dst, const float *src, const float *weights, size_t n)
{
    const struct fm_format *f = &fm_formats[fmt];
    const fm_encode_weighted_fn kernel = fm_kernels_get(NULL)->encode[fmt];
    if (kernel)
        kernel(dst, src, weights, n);
    else if (weights && f->encode_weighted)
        f->encode_weighted(dst, src, weights, n);
    else
        f->encode(dst, src, n);
}
