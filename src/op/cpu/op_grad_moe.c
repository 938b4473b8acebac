/* Backward of the mixture's ops: combine and router.  Each choice, each token is computed by itself. */
#include <string.h>

#include "op/cpu/backend.h"

struct spread_job {
    const struct fm_kernels *k;
    float *y;
    const float *x, *w;
    const int32_t *map;
    int K, D;
};

static void spread_rows(void *arg, int begin, int end, int thread)
{
    const struct spread_job *j = arg;
    (void)thread;
    size_t D = (size_t)j->D;
    for (int i = begin; i < end; i++) {
        const float *dy = j->x + i / j->K * D;
        float *dx = j->y + j->map[i] * D;
        memcpy(dx, dy, D * sizeof(float));
        if (j->w) j->k->scale(dx, j->w[i], D);
    }
}

struct dot_job {
    const struct fm_kernels *k;
    float *dw;
    const float *dy, *x;
    const int32_t *slot;
    int K, D;
};

static void dot_rows(void *arg, int begin, int end, int thread)
{
    const struct dot_job *j = arg;
    (void)thread;
    size_t D = (size_t)j->D;
    for (int i = begin; i < end; i++) j->dw[i] = j->k->dot(j->dy + i / j->K * D, j->x + j->slot[i] * D, D);
}

void fm_cpu_moe_combine_bwd(struct fm_ctx *c, float *dx, float *dw, const float *dy, const float *x, const float *w,
                            const int32_t *slot, int T, int K, int D)
{
    if (c->status) return;
    struct spread_job j = {.k = fm_cpu_kernels(c), .y = dx, .x = dy, .w = w, .map = slot, .K = K, .D = D};
    struct dot_job d = {j.k, dw, dy, x, slot, K, D};
    if (dw) fm_cpu_for(c, T * K, fm_cpu_grain((size_t)D), dot_rows, &d);
    fm_cpu_for(c, T * K, fm_cpu_grain((size_t)D), spread_rows, &j);
}

struct router_bwd_job {
    const struct fm_kernels *k;
    float *dz;
    const float *dw, *dscores, *scores;
    const int32_t *idx;
    const struct fm_router *r;
};

/* ds_j += scale·dw_j, or with norm_topk scale·(dw_j − Σ_i dw_i·s_i/W)/W, W = Σ s + 1e-20 */
static void weights_bwd(float *ds, const float *dw, const float *s, const int32_t *idx, const struct fm_router *r)
{
    float sum = 1e-20f, dot = 0;
    for (int j = 0; j < r->K; j++) {
        sum += s[idx[j]];
        dot += dw[j] * s[idx[j]];
    }
    for (int j = 0; j < r->K; j++) ds[idx[j]] += r->norm_topk ? r->scale * (dw[j] - dot / sum) / sum : r->scale * dw[j];
}

static void router_bwd_rows(void *arg, int begin, int end, int thread)
{
    const struct router_bwd_job *j = arg;
    const struct fm_router *r = j->r;
    size_t E = (size_t)r->E;
    (void)thread;
    for (int t = begin; t < end; t++) {
        const float *s = j->scores + t * E;
        float *dz = j->dz + t * E;
        if (j->dscores)
            memcpy(dz, j->dscores + t * E, E * sizeof(float));
        else
            memset(dz, 0, E * sizeof(float));
        weights_bwd(dz, j->dw + (size_t)t * r->K, s, j->idx + (size_t)t * r->K, r);
        float dot = r->sigmoid ? 0 : j->k->dot(dz, s, E);
        for (size_t e = 0; e < E; e++) dz[e] = r->sigmoid ? dz[e] * s[e] * (1 - s[e]) : s[e] * (dz[e] - dot);
    }
}

void fm_cpu_router_bwd(struct fm_ctx *c, float *dlogits, const float *dw, const float *dscores, const int32_t *idx,
                       const float *w, const float *scores, const struct fm_router *r, int T)
{
    (void)w; /* the scores say the same */
    if (c->status) return;
    struct router_bwd_job j = {fm_cpu_kernels(c), dlogits, dw, dscores, scores, idx, r};
    fm_cpu_for(c, T, fm_cpu_grain((size_t)r->E * 4), router_bwd_rows, &j);
}
