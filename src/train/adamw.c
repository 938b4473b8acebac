/* See adamw.h. */
#include "train/adamw.h"

#include <math.h>
#include <string.h>

enum { ZERO_FLOATS = 1 << 18 };

static void zero_chunk(void *arg, int begin, int end, int thread)
{
    struct fm_params *a = arg;
    (void)thread;
    for (int i = begin; i < end; i++) {
        const size_t at = (size_t)i * ZERO_FLOATS, left = a->n_all - at;
        memset(a->g + at, 0, (left < ZERO_FLOATS ? left : ZERO_FLOATS) * sizeof *a->g);
    }
}

void fm_adamw_zero(struct fm_ctx *c, struct fm_params *a)
{
    fm_parallel_for(c->pool, (int)((a->n_all + ZERO_FLOATS - 1) / ZERO_FLOATS), 1, zero_chunk, a);
}

double fm_adamw_norm(struct fm_ctx *c, const struct fm_params *a) { return sqrt(fm_cpu_sumsq(c, a->g, a->n_trained)); }

/* b^n by squaring: additions of rounding are the same on every machine, unlike pow's. */
static double power(double b, int64_t n)
{
    double r = 1;
    for (; n; n >>= 1, b *= b)
        if (n & 1) r *= b;
    return r;
}

void fm_adamw_step(struct fm_ctx *c, struct fm_params *a, const struct fm_adamw_rule *r, int64_t t, double norm)
{
    struct fm_adamw_step s = {
        .lr = (float)r->lr,
        .beta1 = r->beta1,
        .beta2 = r->beta2,
        .eps = r->eps,
        .weight_decay = r->weight_decay,
        .bias1 = (float)(1 - power((double)r->beta1, t)),
        .bias2 = (float)(1 - power((double)r->beta2, t)),
        .grad_scale = r->clip > 0 && norm > (double)r->clip ? (float)((double)r->clip / norm) : 1,
    };
    fm_cpu_adamw(c, a->p, a->m, a->v, a->g, a->n_decay, &s);
    s.weight_decay = 0;
    const size_t k = a->n_decay;
    fm_cpu_adamw(c, a->p + k, a->m + k, a->v + k, a->g + k, a->n_trained - k, &s);
}

static void update_bias(struct fm_moe *moe, int E, const int64_t *load, double rate)
{
    float *bias = fm_vec(&moe->bias);
    int64_t total = 0;
    for (int e = 0; e < E; e++) total += load[e];
    for (int e = 0; e < E; e++) {
        const int64_t under = total - load[e] * E; /* E·(mean − load): exact */
        bias[e] += (float)(under > 0 ? rate : under < 0 ? -rate : 0);
    }
}

void fm_router_bias_update(const struct fm_config *cfg, struct fm_weights *w, const int64_t *load, double rate)
{
    const int E = cfg->moe.router.E;
    if (!cfg->router_bias || rate <= 0) return;
    for (int l = 0; l < cfg->L + cfg->n_mtp; l++) {
        struct fm_layer *layer = l < cfg->L ? &w->layers[l] : &w->mtp[l - cfg->L].layer;
        if (fm_layer_is_moe(cfg, l) && layer->moe.bias.data)
            update_bias(&layer->moe, E, load + (size_t)l * (size_t)E, rate);
    }
}
