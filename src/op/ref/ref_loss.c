/* Cross-entropy of next-token logits: loss = log Σ e^z − z_target, dz = (softmax − onehot)·scale. */
#include <math.h>
#include <string.h>

#include "op/ref/ref.h"

static void row(fm_real *loss, fm_real *dz, const fm_real *z, int target, int V, double scale)
{
    double m = z[0], sum = 0, zt = z[target];
    for (int i = 1; i < V; i++) m = z[i] > m ? z[i] : m;
    for (int i = 0; i < V; i++) sum += exp(z[i] - m);
    *loss = (fm_real)(m + log(sum) - zt);
    if (!dz) return;
    for (int i = 0; i < V; i++) dz[i] = (fm_real)((exp(z[i] - m) / sum - (i == target)) * scale);
}

void fm_ref_cross_entropy(struct fm_ctx *c, fm_real *loss, fm_real *dlogits, const fm_real *logits,
                          const int32_t *target, int T, int V, fm_real scale)
{
    if (c->status) return;
    for (int t = 0; t < T; t++) {
        fm_real *dz = dlogits ? dlogits + (size_t)t * V : NULL;
        if (target[t] >= 0) {
            row(&loss[t], dz, logits + (size_t)t * V, target[t], V, scale);
            continue;
        }
        loss[t] = 0;
        if (dz) memset(dz, 0, (size_t)V * sizeof *dz);
    }
}
