/* Backward of the ops on rows.  Sums over rows are cut by columns, or into a number of parts that the shapes alone
 * decide, so that any number of threads gives the same bits. */
#include <string.h>

#include "op/cpu/backend.h"

struct columns_job {
    const struct fm_kernels *k;
    struct fm_mat *dw;
    float *db;
    const float *dy;
    const int32_t *ids;
    int T, N;
};

enum { COLUMNS = 64 }; /* of a piece: 256 bytes, so that pieces share no cache line */

static void embed_columns(void *arg, int begin, int end, int thread)
{
    const struct columns_job *j = arg;
    (void)thread;
    size_t at = (size_t)begin * COLUMNS, stop = (size_t)end * COLUMNS;
    size_t n = (stop < (size_t)j->N ? stop : (size_t)j->N) - at;
    for (int t = 0; t < j->T; t++) {
        float *row = (float *)((char *)j->dw->data + (size_t)j->ids[t] * j->dw->row_bytes) + at;
        j->k->add(row, row, j->dy + (size_t)t * j->N + at, n);
    }
}

static void bias_columns(void *arg, int begin, int end, int thread)
{
    const struct columns_job *j = arg;
    (void)thread;
    size_t at = (size_t)begin * COLUMNS, stop = (size_t)end * COLUMNS;
    size_t n = (stop < (size_t)j->N ? stop : (size_t)j->N) - at;
    for (int t = 0; t < j->T; t++) j->k->add(j->db + at, j->db + at, j->dy + (size_t)t * j->N + at, n);
}

/* In order of t for every column; at most 16 pieces, since narrow ones read rows badly. */
static void by_columns(struct fm_ctx *c, struct columns_job *j, fm_pool_fn fn)
{
    int n = (j->N + COLUMNS - 1) / COLUMNS, wide = (n + 15) / 16, grain = fm_cpu_grain((size_t)j->T * COLUMNS);
    fm_cpu_for(c, n, grain > wide ? grain : wide, fn, j);
}

void fm_cpu_embed_bwd(struct fm_ctx *c, struct fm_mat *dw, const float *dy, const int32_t *ids, int T)
{
    if (c->status) return;
    struct columns_job j = {.k = fm_cpu_kernels(c), .dw = dw, .dy = dy, .ids = ids, .T = T, .N = dw->cols};
    by_columns(c, &j, embed_columns);
}

void fm_cpu_bias_bwd(struct fm_ctx *c, float *db, const float *dy, int T, int N)
{
    if (c->status) return;
    struct columns_job j = {.k = fm_cpu_kernels(c), .db = db, .dy = dy, .T = T, .N = N};
    by_columns(c, &j, bias_columns);
}

struct norm_job {
    const struct fm_kernels *k;
    float *dx, *parts; /* parts[n_parts, D]: dw of each part, NULL without dw */
    const float *dy, *x, *w;
    size_t lddx, lddy, ldx;
    int rows, D, per_part;
    float eps;
    bool accumulate;
};

static void norm_parts(void *arg, int begin, int end, int thread)
{
    const struct norm_job *j = arg;
    size_t D = (size_t)j->D;
    (void)thread;
    for (int p = begin; p < end; p++) {
        float *dw = j->parts ? j->parts + p * D : NULL;
        int stop = (p + 1) * j->per_part < j->rows ? (p + 1) * j->per_part : j->rows;
        if (dw) memset(dw, 0, D * sizeof(float));
        for (int r = p * j->per_part; r < stop; r++)
            j->k->rms_norm_bwd(j->dx + r * j->lddx, dw, j->dy + r * j->lddy, j->x + r * j->ldx, j->w, D, j->eps,
                               j->accumulate);
    }
}

/* dw is summed in at most 16 parts of at least 16 rows, added in order. */
void fm_cpu_rms_norm_bwd(struct fm_ctx *c, float *dx, size_t lddx, float *dw, const float *dy, size_t lddy,
                         const float *x, size_t ldx, const float *w, int rows, int D, float eps, bool accumulate)
{
    enum { PARTS = 16, PART_ROWS = 16 };
    if (c->status || rows <= 0) return;
    struct norm_job j = {
        fm_cpu_kernels(c), dx, dw ? fm_cpu_backend(c)->rows : NULL, dy, x, w, lddx, lddy, ldx, rows, D, 0, eps,
        accumulate};
    int most = (int)(FM_CPU_ROWS_BYTES / sizeof(float)) / D, parts = (rows + PART_ROWS - 1) / PART_ROWS;
    parts = parts < PARTS ? parts : PARTS;
    parts = parts < most ? parts : most;
    j.per_part = (rows + parts - 1) / parts;
    parts = (rows + j.per_part - 1) / j.per_part;
    fm_cpu_for(c, parts, fm_cpu_grain((size_t)j.per_part * D * 2), norm_parts, &j);
    if (dw)
        for (int p = 0; p < parts; p++) j.k->add(dw, dw, j.parts + (size_t)p * D, (size_t)D);
}

struct swiglu_job {
    const struct fm_kernels *k;
    float *dg, *du;
    const float *dy, *g, *u;
    size_t n;
};

enum { CHUNK = FM_CPU_GRAIN / 4 };

static void swiglu_chunks(void *arg, int begin, int end, int thread)
{
    const struct swiglu_job *j = arg;
    (void)thread;
    size_t at = (size_t)begin * CHUNK, stop = (size_t)end * CHUNK;
    j->k->silu_mul_bwd(j->dg + at, j->du + at, j->dy + at, j->g + at, j->u + at, (stop < j->n ? stop : j->n) - at);
}

void fm_cpu_swiglu_bwd(struct fm_ctx *c, float *dg, float *du, const float *dy, const float *g, const float *u,
                       size_t n)
{
    if (c->status) return;
    struct swiglu_job j = {fm_cpu_kernels(c), dg, du, dy, g, u, n};
    fm_cpu_for(c, (int)((n + CHUNK - 1) / CHUNK), 1, swiglu_chunks, &j);
}

struct sum_job {
    const struct fm_kernels *k;
    float *dst;
    const float *src;
    size_t dst_ld, src_ld;
    int repeat, cols;
};

static void sum_rows(void *arg, int begin, int end, int thread)
{
    const struct sum_job *j = arg;
    (void)thread;
    for (int r = begin; r < end; r++) {
        float *dst = j->dst + r * j->dst_ld;
        const float *src = j->src + (size_t)r * j->repeat * j->src_ld;
        memcpy(dst, src, (size_t)j->cols * sizeof(float));
        for (int i = 1; i < j->repeat; i++) j->k->add(dst, dst, src + i * j->src_ld, (size_t)j->cols);
    }
}

void fm_cpu_sum_repeat(struct fm_ctx *c, float *dst, size_t dst_ld, const float *src, size_t src_ld, int repeat,
                       int rows, int cols)
{
    if (c->status) return;
    struct sum_job j = {fm_cpu_kernels(c), dst, src, dst_ld, src_ld, repeat, cols};
    fm_cpu_for(c, rows, fm_cpu_grain((size_t)repeat * cols), sum_rows, &j);
}
