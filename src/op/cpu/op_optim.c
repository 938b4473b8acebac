/* Optimiser step and norm over flat arrays, in fixed chunks whatever the number of threads. */
#include <assert.h>

#include "op/cpu/backend.h"

enum { CHUNK = 1 << 16 };

struct adamw_job {
    const struct fm_kernels *k;
    float *p, *m, *v;
    const float *g;
    size_t n;
    struct fm_adamw o;
    float grad_scale;
};

static void adamw_chunks(void *arg, int begin, int end, int thread)
{
    const struct adamw_job *j = arg;
    (void)thread;
    size_t at = (size_t)begin * CHUNK, stop = (size_t)end * CHUNK;
    j->k->adamw(j->p + at, j->m + at, j->v + at, j->g + at, (stop < j->n ? stop : j->n) - at, &j->o, j->grad_scale);
}

void fm_cpu_adamw(struct fm_ctx *c, float *p, float *m, float *v, const float *g, size_t n,
                  const struct fm_adamw_step *s)
{
    if (c->status) return;
    struct adamw_job j = {
        fm_cpu_kernels(c), p, m, v, g, n, {s->lr, s->beta1, s->beta2, s->eps, s->weight_decay, s->bias1, s->bias2},
        s->grad_scale};
    fm_cpu_for(c, (int)((n + CHUNK - 1) / CHUNK), 1, adamw_chunks, &j);
}

struct sumsq_job {
    const struct fm_kernels *k;
    const float *x;
    size_t n;
    double *sums;
};

static void sumsq_chunks(void *arg, int begin, int end, int thread)
{
    const struct sumsq_job *j = arg;
    (void)thread;
    for (int i = begin; i < end; i++) {
        size_t at = (size_t)i * CHUNK;
        j->sums[i] = j->k->sumsq(j->x + at, j->n - at < CHUNK ? j->n - at : CHUNK);
    }
}

double fm_cpu_sumsq(struct fm_ctx *c, const float *x, size_t n)
{
    enum { AT_ONCE = FM_CPU_ROWS_BYTES / sizeof(double) }; /* chunks whose sums fit the scratch: 2^35 elements */
    struct sumsq_job j = {fm_cpu_kernels(c), x, n, fm_cpu_backend(c)->rows};
    double sum = 0;
    if (c->status) return 0;
    assert((n + CHUNK - 1) / CHUNK <= AT_ONCE);
    int chunks = (int)((n + CHUNK - 1) / CHUNK);
    fm_cpu_for(c, chunks, 1, sumsq_chunks, &j);
    for (int i = 0; i < chunks && !c->status; i++) sum += j.sums[i];
    return sum;
}
