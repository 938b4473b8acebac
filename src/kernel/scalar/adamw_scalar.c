/* One AdamW step with decoupled weight decay.  Source: Loshchilov and Hutter 2019, algorithm 2. */
#include <math.h>

#include "kernel/scalar/scalar.h"

static void adamw(float *p, float *m, float *v, const float *g, size_t n, const struct fm_adamw *o, float grad_scale)
{
    float keep = 1 - o->lr * o->weight_decay, c1 = 1 - o->beta1, c2 = 1 - o->beta2;
    for (size_t i = 0; i < n; i++) {
        float gi = g[i] * grad_scale;
        m[i] = fmaf(o->beta1, m[i], c1 * gi);
        v[i] = fmaf(o->beta2, v[i], c2 * (gi * gi));
        float step = m[i] / o->bias1 / (sqrtf(v[i] / o->bias2) + o->eps);
        p[i] = fmaf(-o->lr, step, p[i] * keep);
    }
}

void fm_scalar_fill_adamw(struct fm_kernels *k) { k->adamw = adamw; }
