/* Mixture of experts: scores, choice, and moving rows to their experts and back.
 * Source: spec models.md §3.3 (DeepSeek-V2), §4.1 (DeepSeek-V3), §1.4 (ties take the lower index).
 * Every token is computed by itself, in order of its choices. */
#include <assert.h>
#include <string.h>

#include "op/cpu/backend.h"

struct router_job {
    const struct fm_kernels *k;
    int32_t *idx;
    float *w, *scores;
    const float *logits, *bias;
    const struct fm_router *r;
};

static void score_row(const struct fm_kernels *k, float *s, const float *z, const struct fm_router *r)
{
    size_t E = (size_t)r->E;
    if (r->sigmoid) {
        k->sigmoid(s, z, E);
        return;
    }
    float sum = k->exp_sum(s, z, E, k->max(z, E));
    k->scale(s, 1 / sum, E);
}

/* The n best of key[0 … count−1], best first, among those whose group (i / size) is kept; ties: the lower index. */
static void best(int32_t *out, int n, const float *key, int count, int size, uint64_t kept)
{
    int found = 0;
    for (int i = 0; i < count; i++) {
        if (!(kept >> (i / size) & 1)) continue;
        int at = found < n ? found++ : n;
        for (; at > 0 && key[i] > key[out[at - 1]]; at--)
            if (at < n) out[at] = out[at - 1];
        if (at < n) out[at] = i;
    }
    assert(found == n);
}

_Static_assert(FM_OP_GROUPS <= 64, "a bit for each group");

/* A bit for each group that may be chosen from: the topk_group best by their best, or two best, experts. */
static uint64_t keep_groups(const float *key, const struct fm_router *r)
{
    int size = r->E / r->n_group, top = r->group_top2 && size > 1 ? 2 : 1;
    float score[FM_OP_GROUPS];
    int32_t list[FM_OP_GROUPS];
    uint64_t kept = 0;
    assert(r->n_group <= FM_OP_GROUPS);
    for (int g = 0; g < r->n_group; g++) {
        best(list, top, key + g * size, size, size, 1);
        score[g] = key[g * size + list[0]] + (top > 1 ? key[g * size + list[1]] : 0);
    }
    best(list, r->topk_group, score, r->n_group, r->n_group, 1);
    for (int i = 0; i < r->topk_group; i++) kept |= (uint64_t)1 << list[i];
    return kept;
}

static void weights(float *w, const float *s, const int32_t *idx, const struct fm_router *r)
{
    float sum = 0;
    for (int j = 0; j < r->K; j++) sum += s[idx[j]];
    float factor = r->norm_topk ? r->scale / (sum + 1e-20f) : r->scale;
    for (int j = 0; j < r->K; j++) w[j] = s[idx[j]] * factor;
}

static void route_rows(struct router_job *j, int begin, int end, float *biased)
{
    const struct fm_router *r = j->r;
    for (int t = begin; t < end; t++) {
        float *s = j->scores + (size_t)t * r->E, *key = s;
        int32_t *idx = j->idx + (size_t)t * r->K;
        score_row(j->k, s, j->logits + (size_t)t * r->E, r);
        if (j->bias) j->k->add(key = biased, s, j->bias, (size_t)r->E);
        best(idx, r->K, key, r->E, r->E / r->n_group, r->n_group > 1 ? keep_groups(key, r) : 1);
        weights(j->w + (size_t)t * r->K, s, idx, r);
    }
}

struct router_call {
    struct fm_ctx *c;
    struct router_job j;
};

static void router_rows(void *arg, int begin, int end, int thread)
{
    struct router_call *call = arg;
    route_rows(&call->j, begin, end, fm_cpu_tile(call->c, thread));
}

void fm_cpu_router(struct fm_ctx *c, int32_t *idx, float *w, float *scores, const float *logits, const float *bias,
                   const struct fm_router *r, int T)
{
    if (c->status) return;
    assert(r->E <= FM_CPU_TILE && r->E % r->n_group == 0 && r->K <= r->E / r->n_group * r->topk_group);
    struct router_call call = {c, {fm_cpu_kernels(c), idx, w, scores, logits, bias, r}};
    fm_cpu_for(c, T, fm_cpu_grain((size_t)r->E * 8), router_rows, &call);
}

/* Counting sort; start counts, then marks where each expert's next choice goes. */
void fm_cpu_moe_sort(struct fm_ctx *c, int32_t *order, int32_t *slot, int32_t *start, const int32_t *idx, int T, int K,
                     int E)
{
    if (c->status) return;
    memset(start, 0, ((size_t)E + 1) * sizeof *start);
    for (int i = 0; i < T * K; i++) start[idx[i] + 1]++;
    for (int e = 0; e < E; e++) start[e + 1] += start[e];
    for (int i = 0; i < T * K; i++) {
        slot[i] = start[idx[i]]++;
        order[slot[i]] = i;
    }
    memmove(start + 1, start, (size_t)E * sizeof *start); /* start[e] has become the end of e */
    start[0] = 0;
}

struct rows_job {
    const struct fm_kernels *k;
    float *y;
    const float *x, *w;
    const int32_t *map;
    int K, D;
    bool accumulate;
};

static void gather_rows(void *arg, int begin, int end, int thread)
{
    const struct rows_job *j = arg;
    (void)thread;
    size_t D = (size_t)j->D;
    for (int i = begin; i < end; i++) memcpy(j->y + i * D, j->x + j->map[i] / j->K * D, D * sizeof(float));
}

void fm_cpu_moe_gather(struct fm_ctx *c, float *y, const float *x, const int32_t *order, int K, int n, int D)
{
    if (c->status) return;
    struct rows_job j = {.y = y, .x = x, .map = order, .K = K, .D = D};
    fm_cpu_for(c, n, fm_cpu_grain((size_t)D), gather_rows, &j);
}

static void combine_rows(void *arg, int begin, int end, int thread)
{
    const struct rows_job *j = arg;
    (void)thread;
    size_t D = (size_t)j->D;
    for (int t = begin; t < end; t++) {
        float *y = j->y + t * D;
        if (!j->accumulate) memset(y, 0, D * sizeof(float));
        for (size_t i = (size_t)t * j->K; i < (size_t)(t + 1) * j->K; i++)
            j->k->axpy(y, j->w ? j->w[i] : 1, j->x + j->map[i] * D, D);
    }
}

void fm_cpu_moe_combine(struct fm_ctx *c, float *y, const float *x, const float *w, const int32_t *slot, int T, int K,
                        int D, bool accumulate)
{
    if (c->status) return;
    struct rows_job j = {
        .k = fm_cpu_kernels(c), .y = y, .x = x, .w = w, .map = slot, .K = K, .D = D, .accumulate = accumulate};
    fm_cpu_for(c, T, fm_cpu_grain((size_t)K * D), combine_rows, &j);
}
