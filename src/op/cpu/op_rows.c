/* Ops on rows and elements: embedding, sums, copies, RMSNorm, RoPE, SwiGLU.  Each row or element is
 * computed by itself, so threads may cut anywhere. */
#include <string.h>

#include "kernel/math.h"
#include "op/cpu/backend.h"

/* Arguments of the loops below, named as in op.h. */
struct job {
    const struct fm_kernels *k;
    float *y;
    const float *a, *b;
    size_t ldy, lda, lda_h;
    int n, heads, repeat;
    float eps;
    bool interleaved, inverse;
    fm_decode_fn decode;
    const struct fm_mat *w;
    const int32_t *ids;
    struct fm_ctx *c;
    const double *freq;
    size_t total;
};

static void embed_rows(void *arg, int begin, int end, int thread)
{
    const struct job *j = arg;
    const struct fm_mat *w = j->w;
    for (int t = begin; t < end; t++) {
        float *y = j->y + (size_t)t * j->n;
        if (w->packed && w->packed->ready && fm_cpu_kernels(j->c)->unpack_row[w->fmt])
            j->decode(y, fm_cpu_unpack(j->c, w, j->ids[t], thread), (size_t)j->n);
        else
            fm_mat_decode(y, w, j->ids[t], 0, j->n, j->decode);
    }
}

void fm_cpu_embed(struct fm_ctx *c, float *y, const struct fm_mat *w, const int32_t *ids, int T)
{
    if (c->status) return;
    struct job j = {.decode = fm_cpu_decoder(c, w->fmt), .y = y, .w = w, .ids = ids, .n = w->cols, .c = c};
    if (j.decode) fm_cpu_for(c, T, fm_cpu_grain((size_t)w->cols), embed_rows, &j);
}

/* Flat arrays go in chunks of this many elements. */
enum { CHUNK = FM_CPU_GRAIN };

static int chunks(size_t n) { return (int)((n + CHUNK - 1) / CHUNK); }

/* Elements [*at, *at + returned) of chunks begin … end−1. */
static size_t span(const struct job *j, int begin, int end, size_t *at)
{
    *at = (size_t)begin * CHUNK;
    size_t stop = (size_t)end * CHUNK;
    return (stop < j->total ? stop : j->total) - *at;
}

static void add_chunks(void *arg, int begin, int end, int thread)
{
    const struct job *j = arg;
    (void)thread;
    size_t at, n = span(j, begin, end, &at);
    j->k->add(j->y + at, j->a + at, j->b + at, n);
}

void fm_cpu_add(struct fm_ctx *c, float *y, const float *a, const float *b, size_t n)
{
    if (c->status) return;
    struct job j = {.k = fm_cpu_kernels(c), .y = y, .a = a, .b = b, .total = n};
    fm_cpu_for(c, chunks(n), 1, add_chunks, &j);
}

static void swiglu_chunks(void *arg, int begin, int end, int thread)
{
    const struct job *j = arg;
    (void)thread;
    size_t at, n = span(j, begin, end, &at);
    j->k->silu_mul(j->y + at, j->a + at, j->b + at, n);
}

void fm_cpu_swiglu(struct fm_ctx *c, float *y, const float *g, const float *u, size_t n)
{
    if (c->status) return;
    struct job j = {.k = fm_cpu_kernels(c), .y = y, .a = g, .b = u, .total = n};
    fm_cpu_for(c, chunks(n), 1, swiglu_chunks, &j);
}

static void bias_rows(void *arg, int begin, int end, int thread)
{
    const struct job *j = arg;
    (void)thread;
    for (int t = begin; t < end; t++) {
        float *y = j->y + (size_t)t * j->n;
        j->k->add(y, y, j->a, (size_t)j->n);
    }
}

void fm_cpu_add_bias(struct fm_ctx *c, float *y, const float *bias, int T, int N)
{
    if (c->status) return;
    struct job j = {.k = fm_cpu_kernels(c), .y = y, .a = bias, .n = N};
    fm_cpu_for(c, T, fm_cpu_grain((size_t)N), bias_rows, &j);
}

static void copy_rows(void *arg, int begin, int end, int thread)
{
    const struct job *j = arg;
    (void)thread;
    for (int r = begin; r < end; r++)
        memcpy(j->y + r * j->ldy, j->a + r / j->repeat * j->lda, (size_t)j->n * sizeof(float));
}

void fm_cpu_copy(struct fm_ctx *c, float *dst, size_t dst_ld, const float *src, size_t src_ld, int repeat, int rows,
                 int cols)
{
    if (c->status) return;
    struct job j = {.y = dst, .a = src, .ldy = dst_ld, .lda = src_ld, .repeat = repeat, .n = cols};
    fm_cpu_for(c, rows, fm_cpu_grain((size_t)cols), copy_rows, &j);
}

static void norm_rows(void *arg, int begin, int end, int thread)
{
    const struct job *j = arg;
    (void)thread;
    for (int r = begin; r < end; r++) j->k->rms_norm(j->y + r * j->ldy, j->a + r * j->lda, j->b, (size_t)j->n, j->eps);
}

void fm_cpu_rms_norm(struct fm_ctx *c, float *y, size_t ldy, const float *x, size_t ldx, const float *w, int rows,
                     int D, float eps)
{
    if (c->status) return;
    struct job j = {.k = fm_cpu_kernels(c), .y = y, .a = x, .b = w, .ldy = ldy, .lda = ldx, .n = D, .eps = eps};
    fm_cpu_for(c, rows, fm_cpu_grain((size_t)D), norm_rows, &j);
}

static void table_rows(void *arg, int begin, int end, int thread)
{
    const struct job *j = arg;
    (void)thread;
    for (int t = begin; t < end; t++)
        for (int i = 0; i < j->n; i++) {
            double si, co;
            fm_sincos(j->ids[t] * j->freq[i], &si, &co);
            float *p = j->y + ((size_t)t * j->n + i) * 2;
            p[0] = (float)co;
            p[1] = (float)si;
        }
}

void fm_cpu_rope_table(struct fm_ctx *c, float *cs, const int32_t *pos, int T, const double *freq, int half)
{
    enum { SINCOS = 32 }; /* element operations per angle */
    if (c->status) return;
    struct job j = {.y = cs, .ids = pos, .freq = freq, .n = half};
    fm_cpu_for(c, T, fm_cpu_grain((size_t)half * SINCOS), table_rows, &j);
}

static void rope_rows(void *arg, int begin, int end, int thread)
{
    const struct job *j = arg;
    (void)thread;
    for (int t = begin; t < end; t++)
        for (int h = 0; h < j->heads; h++)
            j->k->rope(j->y + t * j->lda + h * j->lda_h, j->a + (size_t)t * j->n * 2, j->n, j->interleaved, j->inverse);
}

void fm_cpu_rope(struct fm_ctx *c, float *x, size_t x_t, size_t x_h, int H, int T, const float *cs, int half,
                 bool interleaved, bool inverse)
{
    if (c->status) return;
    struct job j = {.k = fm_cpu_kernels(c),
                    .y = x,
                    .lda = x_t,
                    .lda_h = x_h,
                    .a = cs,
                    .n = half,
                    .heads = H,
                    .interleaved = interleaved,
                    .inverse = inverse};
    fm_cpu_for(c, T, fm_cpu_grain((size_t)H * half * 2), rope_rows, &j);
}
