/* Cross-entropy of next-token logits, a row at a time: loss = m + log Σ e^(z−m) − z_target with m = max z.
 * Σ is taken in chunks of 8192 (fixed lanes, kernel.h) that are added in double: good for vocabularies of 150,000. */
#include <string.h>

#include "kernel/math.h"
#include "op/cpu/backend.h"

enum { CHUNK = 8192 };

struct job {
    struct fm_ctx *c;
    float *loss, *dlogits;
    const float *logits;
    const int32_t *target;
    size_t V;
    float scale;
};

/* e[V] = exp(z − m) (all chunks into the same 8192 floats when keep is false); returns the sum. */
static double exp_row(const struct fm_kernels *k, float *e, const float *z, size_t V, float m, bool keep)
{
    double sum = 0;
    for (size_t at = 0; at < V; at += CHUNK)
        sum += k->exp_sum(keep ? e + at : e, z + at, V - at < CHUNK ? V - at : CHUNK, m);
    return sum;
}

static void loss_row(const struct job *j, int t, float *scratch)
{
    const struct fm_kernels *k = fm_cpu_kernels(j->c);
    const float *z = j->logits + t * j->V;
    float *dz = j->dlogits ? j->dlogits + t * j->V : NULL;
    int target = j->target[t];
    if (target < 0) {
        j->loss[t] = 0;
        if (dz) memset(dz, 0, j->V * sizeof *dz);
        return;
    }
    float m = k->max(z, j->V), zt = z[target]; /* read before dz, which may be z, is written */
    double sum = exp_row(k, dz ? dz : scratch, z, j->V, m, dz != NULL);
    j->loss[t] = (float)((double)m - zt + fm_logd(sum));
    if (!dz) return;
    k->scale(dz, (float)(j->scale / sum), j->V);
    dz[target] -= j->scale;
}

static void loss_rows(void *arg, int begin, int end, int thread)
{
    const struct job *j = arg;
    for (int t = begin; t < end; t++) loss_row(j, t, fm_cpu_tile(j->c, thread));
}

void fm_cpu_cross_entropy(struct fm_ctx *c, float *loss, float *dlogits, const float *logits, const int32_t *target,
                          int T, int V, float scale)
{
    if (c->status) return;
    struct job j = {c, loss, dlogits, logits, target, (size_t)V, scale};
    fm_cpu_for(c, T, fm_cpu_grain((size_t)V * 2), loss_rows, &j);
}
